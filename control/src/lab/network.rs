//! The lab's network brought to life: namespaces, links, appliances, and the mobile attached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use flow::Hnp;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{BindingRow, Status};
use crate::client::Client;

use super::configuration;
use super::instance::Instance;
use super::netns;
use super::process::Process;
use super::progress::Progress;
use super::topology::{self, Host, LIF, Mag, Scenario, Setting};

/// How long an appliance may take to be ready: DPDK prepares its memory first.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long an attachment may take.
const ATTACH_PATIENCE: Duration = Duration::from_secs(15);
/// The appliances, in the order they are started.
const APPLIANCES: [Host; 3] = [Host::Lma, Host::Mag1, Host::Mag2];

/// A running lab. Dropping it ends the processes and removes everything.
#[derive(Debug)]
pub(crate) struct Network {
    // Fields are dropped in this order: processes before the namespaces they are in.
    processes: BTreeMap<&'static str, Process>,
    instance: Instance,
}

impl Network {
    /// Builds the network and starts the three appliances, without the mobile.
    ///
    /// # Errors
    /// No rights, a missing tool, or an appliance that does not become ready.
    pub(crate) fn up(setting: Setting, progress: &Progress) -> anyhow::Result<Self> {
        let instance = Instance::create()?;
        progress.say(&format!("namespaces {}-*", instance.name()));
        let mut out = Self {
            processes: BTreeMap::new(),
            instance,
        };
        for host in Host::ALL {
            let commands = topology::link_commands(host, |h| out.namespace(h));
            netns::ip(&out.namespace(host), &commands)?;
        }
        for host in Host::ALL {
            netns::ip(&out.namespace(host), &topology::host_commands(host))?;
            let config = configuration::config(host, setting, out.instance.directory());
            if let Some(config) = config {
                let path = out.config_path(host);
                fs::write(&path, config).with_context(|| path.display().to_string())?;
            }
        }
        // The second access appears only when the first is attached: so BID 1 is at MAG1.
        let out_of_reach = topology::access_link_command(false);
        netns::ip(&out.namespace(Host::Mag2), &out_of_reach)?;
        progress.say("starting LMA, MAG1 and MAG2");
        for host in APPLIANCES {
            out.start(host)?;
        }
        for host in APPLIANCES {
            out.wait_ready(host, progress)?;
            for (number, tap) in host.taps().iter().enumerate() {
                netns::ip(&out.namespace(host), &tap.attach_commands(number))?;
            }
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
        self.start(Host::Mn)?;
        let one = self.wait_attached(Mag::Mag1, progress)?;
        let in_reach = topology::access_link_command(true);
        netns::ip(&self.namespace(Host::Mag2), &in_reach)?;
        let two = self.wait_attached(Mag::Mag2, progress)?;
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

    fn wait_attached(&mut self, mag: Mag, progress: &Progress) -> anyhow::Result<Hnp> {
        let (title, interface) = (mag.title(), mag.mn_interface());
        let prefix = progress.wait_for(
            &format!("attachment of {interface} at {title}"),
            ATTACH_PATIENCE,
            || {
                self.check()?;
                let rows: Vec<BindingRow> = self.read(Host::Lma, "/v1/bindings")?;
                let row = rows.iter().find(|r| r.peer == mag.name());
                let Some(prefix) = row.filter(|r| r.state == "active").and_then(own_prefix) else {
                    return Ok(Err(format!("the LMA has {}", states(&rows))));
                };
                let namespace = self.namespace(Host::Mn);
                // The kernel takes no packets to a tentative address, and is slow to end that while it
                // takes an earlier lab apart.
                let show = ["-6", "-o", "addr", "show", "dev", LIF, "-tentative"];
                // The interface does not exist until the mobile is ready.
                let addresses = netns::ip_output(&namespace, &show).unwrap_or_default();
                let mut words = addresses.split_whitespace().filter_map(|w| w.parse().ok());
                let held = words.any(|net: ipnet::Ipv6Net| prefix.contains(net.addr()));
                Ok(held
                    .then_some(prefix)
                    .ok_or_else(|| format!("{LIF} has no address from {prefix}")))
            },
        )?;
        progress.say(&format!("{interface} attached at {title}: {prefix}"));
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
        self.instance
            .directory()
            .join(format!("{}.sock", host.name()))
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
        let value = Client::new(&self.socket(host)).get(path)?;
        serde_json::from_value(value).with_context(|| format!("{path} of {}", host.name()))
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
        let value = Client::new(&self.socket(host))
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

    /// Starts a host's process once more, where it was.
    ///
    /// # Errors
    /// If it does not become ready.
    pub(crate) fn start_again(&mut self, host: Host, progress: &Progress) -> anyhow::Result<()> {
        self.start(host)?;
        self.wait_ready(host, progress)?;
        for (number, tap) in host.taps().iter().enumerate() {
            netns::ip(&self.namespace(host), &tap.attach_commands(number))?;
        }
        Ok(())
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

    fn start(&mut self, host: Host) -> anyhow::Result<()> {
        let name = host.name();
        let log = self.instance.directory().join(format!("{name}.log"));
        let process = Process::start(name, &self.namespace(host), &self.config_path(host), log)?;
        self.processes.insert(name, process);
        Ok(())
    }

    fn wait_ready(&mut self, host: Host, progress: &Progress) -> anyhow::Result<()> {
        let what = format!("readiness of {}", host.name());
        progress.wait_for(&what, READY_PATIENCE, || {
            self.check()?;
            // Until its socket is there, it does not answer.
            match self.read::<Status>(host, "/v1/status") {
                Ok(status) if status.ready => Ok(Ok(())),
                Ok(_) => Ok(Err("it says that it is not ready".to_owned())),
                Err(error) => Ok(Err(format!("{error:#}"))),
            }
        })
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
