//! The lab's network brought to life: namespaces, links, appliances, and the mobile attached.

mod pair;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use flow::Hnp;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{BindingRow, Status};
use crate::client::Client;
use crate::keys::{self, GenerateArgs};

use super::clocks::{self, Clock};
use super::configuration;
use super::instance::{self, Instance};
use super::netns;
use super::nodes::Cluster;
use super::process::{Process, Start};
use super::progress::Progress;
use super::topology::{self, Host, LIF, MN_ID, MN2_ID, Mag, Scenario, Setting};

pub(crate) use pair::other_lma;

/// How long an appliance may take to be ready: DPDK prepares its memory first.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long an attachment may take.
const ATTACH_PATIENCE: Duration = Duration::from_secs(15);
/// Octets of the last frame of a file, which says that what is before it counts.
const LAST_FRAME: u64 = 64;
/// The appliances, in the order they are started.
const APPLIANCES: [Host; 3] = [Host::Lma, Host::Mag1, Host::Mag2];

/// A running lab. Dropping it ends the processes and removes everything.
#[derive(Debug)]
pub(crate) struct Network {
    // Fields are dropped in this order: processes before the namespaces they are in.
    processes: BTreeMap<&'static str, Process>,
    /// Of a lab with a pair.
    cluster: Option<Cluster>,
    /// Whether the second LMA of a pair served last, as far as is known.
    second_leads: AtomicBool,
    setting: Setting,
    instance: Instance,
}

impl Network {
    /// Builds the network and starts the three appliances, without the mobile.
    ///
    /// # Errors
    /// No rights, a missing tool, or an appliance that does not become ready.
    pub(crate) fn up(setting: Setting, progress: &Progress) -> anyhow::Result<Self> {
        let instance = Instance::create(setting)?;
        progress.say(&format!("namespaces {}-*", instance.name()));
        let mut out = Self {
            processes: BTreeMap::new(),
            cluster: None,
            second_leads: AtomicBool::new(false),
            setting,
            instance,
        };
        let pair = setting.pair;
        for host in setting.hosts() {
            let commands = topology::link_commands(host, setting, |h| out.namespace(h));
            netns::ip(&out.namespace(host), &commands)?;
        }
        for host in setting.hosts() {
            netns::ip(
                &out.namespace(host),
                &topology::host_commands(host, setting),
            )?;
            let config = configuration::config(host, setting, out.instance.directory());
            if let Some(config) = config {
                if setting.is_chaos() && !host.taps().is_empty() {
                    let place = configuration::state(out.directory(), host);
                    instance::mount_small_disk(&place)?;
                }
                let path = out.config_path(host);
                fs::write(&path, config).with_context(|| path.display().to_string())?;
            }
        }
        // The second access appears only when the first is attached: so BID 1 is at MAG1.
        let out_of_reach = topology::access_link_command(false);
        netns::ip(&out.namespace(Host::Mag2), &out_of_reach)?;
        if pair {
            progress.say("starting etcd");
            for mag in Mag::ALL {
                let [lma, mag] = configuration::keys(out.directory(), mag);
                let standby = false;
                keys::generate(&GenerateArgs { lma, mag, standby })?;
            }
            let (store, directory) = (out.namespace(Host::Store), out.directory());
            out.cluster = Some(Cluster::start(store, directory, progress)?);
        }
        progress.say("starting LMA, MAG1 and MAG2");
        out.start_all(&APPLIANCES, progress)?;
        if pair {
            progress.say("starting another LMA");
            out.start_all(&[Host::Lma2], progress)?;
        }
        Ok(out)
    }

    /// Starts the mobile and attaches it, first at MAG1 and then at MAG2. Returns the prefixes of
    /// the two sessions.
    ///
    /// # Errors
    /// If it does not attach, or not to what the scenario says.
    pub(crate) fn attach(
        &mut self,
        scenario: Scenario,
        progress: &Progress,
    ) -> anyhow::Result<[Hnp; 2]> {
        progress.say("starting MN");
        self.start(Host::Mn, Start::Alone)?;
        let one = self.wait_attached((Host::Mn, MN_ID), Mag::Mag1, progress)?;
        let in_reach = topology::access_link_command(true);
        netns::ip(&self.namespace(Host::Mag2), &in_reach)?;
        let two = self.wait_attached((Host::Mn, MN_ID), Mag::Mag2, progress)?;
        let as_asked = match scenario {
            Scenario::Unique => one != two,
            Scenario::Shared => one == two,
        };
        let name = scenario.name();
        anyhow::ensure!(
            as_asked,
            "prefixes {one} and {two} are not those of \"{name}\""
        );
        Ok([one, two])
    }

    /// Starts the other mobile and attaches it to both, after the first. Returns the prefixes of its sessions.
    ///
    /// # Errors
    /// If it does not attach.
    pub(crate) fn attach_bystander(&mut self, progress: &Progress) -> anyhow::Result<[Hnp; 2]> {
        progress.say("starting MN2");
        self.start(Host::Mn2, Start::Alone)?;
        let [one, two] = Mag::ALL;
        let mobile = (Host::Mn2, MN2_ID);
        Ok([
            self.wait_attached(mobile, one, progress)?,
            self.wait_attached(mobile, two, progress)?,
        ])
    }

    fn wait_attached(
        &mut self,
        (host, mn_id): (Host, &str),
        mag: Mag,
        progress: &Progress,
    ) -> anyhow::Result<Hnp> {
        let (title, interface) = (mag.title(), mag.mn_interface());
        let prefix = progress.wait_for(
            &format!("attachment of {interface} at {title}"),
            ATTACH_PATIENCE,
            || {
                self.check()?;
                let rows: Vec<BindingRow> = self.read(Host::Lma, "/v1/bindings")?;
                let its = |row: &&BindingRow| row.mn.as_str() == mn_id && row.peer == mag.name();
                let row = rows.iter().find(its);
                let Some(prefix) = row.filter(|r| r.state == "active").and_then(own_prefix) else {
                    return Ok(Err(format!("the LMA has {}", states(&rows))));
                };
                let namespace = self.namespace(host);
                // The kernel takes no packets to a tentative address, and is slow to end that while it
                // takes an earlier lab apart.
                let show = ["-6", "-o", "addr", "show", "dev", LIF, "-tentative"];
                // The interface does not exist until the mobile is ready.
                let addresses = netns::ip_output(&namespace, &show).unwrap_or_default();
                let mut words = addresses.split_whitespace().filter_map(|w| w.parse().ok());
                let held = words.find(|net: &ipnet::Ipv6Net| prefix.contains(net.addr()));
                let Some(address) = held.map(|net| net.addr().to_string()) else {
                    return Ok(Err(format!("{LIF} has no address from {prefix}")));
                };
                // Nor to one that no longer is, until its route is there, a little later on a busy machine.
                let show = ["-6", "route", "show", "table", "local", &address];
                let routed = netns::ip_output(&namespace, &show).unwrap_or_default();
                Ok((!routed.is_empty())
                    .then_some(prefix)
                    .ok_or_else(|| format!("there is no route to {address} on {LIF}")))
            },
        )?;
        let of = if host == Host::Mn2 { " of MN2" } else { "" };
        progress.say(&format!("{interface}{of} attached at {title}: {prefix}"));
        Ok(prefix)
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: Host) -> String {
        self.instance.namespace(host)
    }

    /// Where the configurations, sockets and logs are.
    pub(crate) fn directory(&self) -> &Path {
        self.instance.directory()
    }

    /// The management socket of a host's process.
    pub(crate) fn socket(&self, host: Host) -> PathBuf {
        let name = format!("{}.sock", host.name());
        self.instance.directory().join(name)
    }

    /// Fails if one of the processes has ended.
    ///
    /// # Errors
    /// Which one, and its last words.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.processes.values_mut().try_for_each(Process::check)
    }

    /// Reads a resource of a host's process.
    ///
    /// # Errors
    /// If it does not answer, or with something else.
    pub(crate) fn read<T: DeserializeOwned>(&self, host: Host, path: &str) -> anyhow::Result<T> {
        let value = Client::new(&self.answers_at(host)).get(path)?;
        serde_json::from_value(value).with_context(|| format!("{path} of {}", host.name()))
    }

    /// A gauge without labels of a process, if it has one of that name.
    ///
    /// # Errors
    /// If the process does not answer.
    pub(crate) fn gauge(&self, process: &str, name: &str) -> anyhow::Result<Option<u64>> {
        let socket = self.directory().join(format!("{process}.sock"));
        let mut octets = Vec::new();
        Client::new(&socket).download("/metrics", &AtomicBool::new(false), |piece| {
            octets.extend_from_slice(piece);
            Ok(true)
        })?;
        let text = String::from_utf8_lossy(&octets);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| value.parse().ok()))
    }

    /// Asks a host's process for a change.
    ///
    /// # Errors
    /// If it does not answer, refuses, or answers something else.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        host: Host,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<T> {
        let body: Value = serde_json::to_value(body)?;
        let value = Client::new(&self.answers_at(host))
            .post(path, &body)
            .with_context(|| format!("{} refuses {path} {body}", host.name()))?;
        serde_json::from_value(value).with_context(|| format!("{path} of {}", host.name()))
    }

    /// Copies what the processes said to `directory`.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub(crate) fn copy_logs(&self, directory: &Path) -> anyhow::Result<()> {
        for (name, process) in &self.processes {
            let to = directory.join(format!("{name}.log"));
            fs::copy(process.log(), &to).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// Where a host's process has its configuration from.
    pub(crate) fn config_path(&self, host: Host) -> PathBuf {
        self.instance
            .directory()
            .join(format!("{}.toml", host.name()))
    }

    /// Ends a host's process without asking it.
    pub(crate) fn kill(&mut self, host: Host) {
        if let Some(mut process) = self.processes.remove(host.name()) {
            process.kill();
        }
    }

    /// Asks a host's process to end, and waits until it has.
    pub(crate) fn end(&mut self, host: Host) {
        if let Some(mut process) = self.processes.remove(host.name()) {
            process.stop();
        }
    }

    /// What a host's process has said since it was started last.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(crate) fn log(&self, host: Host) -> anyhow::Result<String> {
        let process = self.processes.get(host.name());
        let path = process.with_context(|| format!("{} does not run", host.name()))?;
        let path = path.log();
        fs::read_to_string(path).with_context(|| path.display().to_string())
    }

    /// Processes that run, and their numbers.
    pub(crate) fn pids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.processes
            .iter()
            .map(|(name, process)| (*name, process.id()))
    }

    /// Joins the LMA or a gateway to the core, or cuts it off.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn core_link(&self, host: Host, up: bool) -> anyhow::Result<()> {
        netns::ip(&self.namespace(host), &topology::core_link_command(up))
    }

    /// Takes the mobile's link to a gateway up or down.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn access_link(&self, mag: Mag, up: bool) -> anyhow::Result<()> {
        netns::ip(
            &self.namespace(mag.host()),
            &topology::access_link_command(up),
        )
    }

    /// Takes what is left of the room where a host's process keeps what it knows.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn fill_disk(&self, host: Host) -> anyhow::Result<()> {
        let path = self.ballast(host);
        let about = || path.display().to_string();
        let file = fs::File::create(&path).with_context(about)?;
        loop {
            let free = nix::sys::statvfs::fstatvfs(&file).with_context(about)?;
            let octets = free.blocks_available().saturating_mul(free.fragment_size());
            let octets = i64::try_from(octets).unwrap_or(i64::MAX);
            if octets == 0 {
                return Ok(());
            }
            match nix::fcntl::posix_fallocate(&file, 0, octets) {
                // The process was quicker, and has less to come.
                Err(nix::errno::Errno::ENOSPC) => {}
                done => return done.with_context(about),
            }
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn empty_disk(&self, host: Host) -> anyhow::Result<()> {
        let path = self.ballast(host);
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    fn ballast(&self, host: Host) -> PathBuf {
        configuration::state(self.directory(), host).join("ballast")
    }

    /// Changes an octet of the largest file that a host's process has written, behind so many thousandths of it; whether
    /// there is such a file. Not at its very end: what is wrong there is what a crash leaves, and no damage.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn damage(&self, host: Host, share: u16) -> anyhow::Result<bool> {
        let directory = configuration::state(self.directory(), host).join("records");
        let mut largest: Option<(u64, PathBuf)> = None;
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let size = fs::metadata(&path)?.len();
            if path
                .extension()
                .is_some_and(|extension| extension == "records")
            {
                largest = largest.max(Some((size, path)));
            }
        }
        let largest = largest.map(|(size, path)| (size.saturating_sub(LAST_FRAME), path));
        let Some((size, path)) = largest.filter(|(size, _)| *size > 0) else {
            return Ok(false);
        };
        let file = fs::File::options().read(true).write(true).open(&path)?;
        let at = (size * u64::from(share) / 1000).min(size - 1);
        let mut octet = [0];
        file.read_exact_at(&mut octet, at)?;
        file.write_all_at(&octet.map(|octet| octet ^ 0x10), at)?;
        Ok(true)
    }

    /// Starts processes, all at once, and joins each to its links when it is ready.
    ///
    /// # Errors
    /// If one does not become ready.
    pub(crate) fn start_all(&mut self, hosts: &[Host], progress: &Progress) -> anyhow::Result<()> {
        for host in hosts {
            self.start(*host, Start::Alone)?;
        }
        for host in hosts {
            self.wait_ready(*host, progress)?;
            self.join_links(*host)?;
        }
        Ok(())
    }

    /// Has another process take over from a host's.
    ///
    /// # Errors
    /// If one of them fails.
    pub(crate) fn take_over(&mut self, host: Host, progress: &Progress) -> anyhow::Result<()> {
        let former = self.processes.remove(host.name());
        let former = former.with_context(|| format!("{} does not run", host.name()))?;
        self.start(host, Start::TakingOver)?;
        let mut former = former;
        progress.wait_for("a take-over", READY_PATIENCE, || {
            self.check()?;
            // Both answer on one socket, one after the other.
            if former.has_ended() {
                Ok(self.is_ready(host))
            } else {
                Ok(Err("the former process goes on".to_owned()))
            }
        })?;
        former.wait()?;
        self.join_links(host)
    }

    fn join_links(&self, host: Host) -> anyhow::Result<()> {
        for (number, tap) in host.taps().iter().enumerate() {
            netns::ip(&self.namespace(host), &tap.attach_commands(number))?;
        }
        Ok(())
    }

    /// Has a host's process take it for so many seconds later than it is, and waits until it does.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn set_clock(
        &mut self,
        host: Host,
        seconds: i64,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        self.clocks(host).set(seconds)?;
        let what = format!("{} to take the time for another", host.name());
        progress.wait_for(&what, clocks::PATIENCE, || {
            self.check()?;
            let its = self.gauge(host.name(), "flowmob_clock_seconds")?;
            let its = its.context("it does not say what time it is")?;
            Ok(clocks::is_wrong_by(its, seconds))
        })
    }

    fn clocks(&self, host: Host) -> Clock {
        Clock::of(self.directory(), host)
    }

    /// Sends a signal to a host's process.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn signal(&self, host: Host, signal: Signal) -> anyhow::Result<()> {
        let process = self.processes.get(host.name());
        process
            .with_context(|| format!("{} does not run", host.name()))?
            .signal(signal)
    }

    fn start(&mut self, host: Host, how: Start) -> anyhow::Result<()> {
        let name = host.name();
        let log = self.instance.directory().join(format!("{name}.log"));
        let clock = self.clocks(host);
        let environment = if self.setting.is_chaos() && !host.taps().is_empty() {
            clock.environment()?
        } else {
            Vec::new()
        };
        let process = Process::start(
            name,
            &self.namespace(host),
            &self.config_path(host),
            log,
            how,
            &environment,
        )?;
        self.processes.insert(name, process);
        Ok(())
    }

    fn wait_ready(&mut self, host: Host, progress: &Progress) -> anyhow::Result<()> {
        let what = format!("readiness of {}", host.name());
        progress.wait_for(&what, READY_PATIENCE, || {
            self.check()?;
            Ok(self.is_ready(host))
        })
    }

    fn is_ready(&self, host: Host) -> Result<(), String> {
        // Until its socket is there, it does not answer.
        let status = Client::new(&self.socket(host)).get("/v1/status");
        let status = status.and_then(|it| Ok(serde_json::from_value::<Status>(it)?));
        match status {
            Ok(status) if status.ready => Ok(()),
            Ok(_) => Err("it says that it is not ready".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

fn own_prefix(row: &BindingRow) -> Option<Hnp> {
    row.prefixes.first().copied()
}

fn states(rows: &[BindingRow]) -> String {
    let texts: Vec<String> = rows
        .iter()
        .map(|r| format!("a binding at {} that is {}", r.peer, r.state))
        .collect();
    if texts.is_empty() {
        "no binding".to_owned()
    } else {
        texts.join(", ")
    }
}
