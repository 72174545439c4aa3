//! Two LMAs on links of their own: the routes to their mobiles go to the one that leads, by BGP, as docs/pair.md says.
//! etcd, zebra and bgpd are Debian's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::kernel::Namespace;
use common::process::{Appliance, FLOWMOB};
use common::{has_tool, is_root, leave_out, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);
const POOL: &str = "2001:db8:100::/48";
/// The LMA's address, and where etcd is: at the router, in this test.
const LMAA: &str = "2001:db8:f::1";
const ROUTER: &str = "2001:db8:d::9";
const FRR: &str = "/usr/lib/frr";

/// A process of another program, which ends with the test.
struct Other(Child);

impl Other {
    fn start(namespace: &Namespace, program: &str, words: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name(), program]);
        let child = command.args(words);
        let child = child.stdout(Stdio::null()).stderr(Stdio::null());
        Self(child.spawn().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// FRR's daemons of a host, in a directory of their own.
struct Frr {
    directory: PathBuf,
    _daemons: Vec<Other>,
}

impl Frr {
    fn start(namespace: &Namespace, directory: &Path, daemons: &[&str], config: &str) -> Self {
        std::fs::create_dir(directory).unwrap();
        // They are what their package makes them, and have to get there.
        let done = Command::new("chown").arg("frr:frr").arg(directory).status();
        assert!(done.unwrap().success());
        let parent = directory.parent().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(parent, open).unwrap();
        std::fs::write(directory.join("frr.conf"), config).unwrap();
        std::fs::write(directory.join("vtysh.conf"), "").unwrap();
        let at = |name: &str| directory.join(name).display().to_string();
        let start = |daemon: &&str| {
            let words = [
                &["-A", "127.0.0.1", "-P", "0"][..],
                &["--vty_socket", &at(""), "-z", &at("zserv.api")],
                &["-i", &at(&format!("{daemon}.pid")), "-f", &at("frr.conf")],
            ];
            Other::start(namespace, &format!("{FRR}/{daemon}"), &words.concat())
        };
        let mut started: Vec<Other> = Vec::new();
        for daemon in daemons {
            started.push(start(daemon));
            wait_for(daemon, PATIENCE, || {
                directory
                    .join(format!("{daemon}.vty"))
                    .exists()
                    .then_some(())
            });
        }
        Self {
            directory: directory.to_owned(),
            _daemons: started,
        }
    }

    /// How its vtysh is called.
    fn vtysh(&self) -> String {
        let at = self.directory.display();
        format!("vtysh --vty_socket {at} --config_dir {at}")
    }
}

/// The configuration of an LMA's bgpd, as on the page: `own` is its address, `hop` that of flowmob's port.
fn bgp(page: &str, own: &str, hop: &str) -> String {
    let from = page.find("router bgp 65001").unwrap();
    let block = page.get(from..).unwrap();
    let block = block.get(..block.find("```").unwrap()).unwrap();
    let last = own.bytes().last().unwrap();
    let block = block.replace("192.0.2.3", &format!("192.0.2.{last}"));
    block.replace("2001:db8:d::1\n", &format!("{hop}\n"))
}

fn router_config(owns: [&str; 2]) -> String {
    let neighbours = owns.map(|own| {
        format!(
            " neighbor {own} remote-as 65001\n neighbor {own} timers connect 1\n \
             address-family ipv6 unicast\n  neighbor {own} activate\n exit-address-family\n"
        )
    });
    format!(
        "router bgp 65000\n bgp router-id 192.0.2.9\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n{}",
        neighbours.concat()
    )
}

fn lma_config(own: &str, hop: &str) -> String {
    format!(
        "[process]\nmemory_mib = 64\nstore = \"etcd://[{ROUTER}]:2379\"\n\
         [process.pair]\naddress = \"[{own}]:7864\"\n\
         [[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{hop}/64\", \"{LMAA}/128\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"{POOL}\"]\n\
         [[lma.peer]]\nname = \"mag\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n"
    )
}

#[test]
fn routes_go_to_the_one_that_leads() {
    if !is_root() || !has_tool("etcd") {
        return;
    }
    if !Path::new(FRR).join("bgpd").exists() {
        leave_out(format_args!("frr is not installed"));
        return;
    }
    let page = include_str!("../../docs/pair.md");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let router = Namespace::new("bgp-router");
    let hosts = [Namespace::new("bgp-a"), Namespace::new("bgp-b")];
    router.ip("link add name lan type bridge stp_state 0 forward_delay 0\nlink set lo up\nlink set lan up");
    router.ip(&format!("addr add {ROUTER}/64 dev lan nodad"));
    // The addresses of the hosts, and of flowmob's ports on their links.
    let owns = ["2001:db8:d::a", "2001:db8:d::b"];
    let hops = ["2001:db8:d::1a", "2001:db8:d::1b"];
    for ((host, own), port) in hosts.iter().zip(owns).zip(["la", "lb"]) {
        router.ip(&format!(
            "link add name {port} type veth peer name eth0 netns {}\nlink set {port} master lan\nlink set {port} up",
            host.name()
        ));
        host.ip(&format!(
            "link set lo up\nlink set eth0 up\naddr add {own}/64 dev eth0 nodad"
        ));
    }
    let client = format!("http://[{ROUTER}]:2379");
    let data = at("etcd").display().to_string();
    let _etcd = Other::start(
        &router,
        "etcd",
        &[
            "--data-dir",
            &data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ],
    );
    let _router = Frr::start(
        &router,
        &at("router"),
        &["zebra", "bgpd"],
        &router_config(owns),
    );
    let mut lmas = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        let name = ["a", "b"][n];
        let config = bgp(page, owns[n], hops[n]);
        let frr = Frr::start(host, &at(&format!("frr-{name}")), &["bgpd"], &config);
        let config = lma_config(owns[n], hops[n]);
        let lma = Appliance::start(directory.path(), name, Some(host.name()), &config);
        if n == 0 {
            wait_for("a leader", PATIENCE, || {
                lma.command(["show", "status"])
                    .ok()
                    .contains(": leads,")
                    .then_some(())
            });
        }
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docker/frr/flowmob-announce"
        );
        let programs = Path::new(FLOWMOB).parent().unwrap().display().to_string();
        let path = format!("PATH={programs}:{}", std::env::var("PATH").unwrap());
        let vtysh = format!("VTYSH={}", frr.vtysh());
        let socket = lma.socket().display().to_string();
        let words = [
            &path,
            &vtysh,
            script,
            &socket,
            "65001",
            POOL,
            &format!("{LMAA}/128"),
        ];
        let announcer = Other::start(host, "env", &words.map(AsRef::as_ref));
        lmas.push((lma, frr, announcer));
    }
    let goes_to = |hop: &str| {
        wait_for(&format!("routes by {hop}"), PATIENCE, || {
            let routes = router.ip_says("-6 route show proto bgp");
            let by = |prefix: &str| {
                let mut lines = routes.lines();
                lines.any(|line| line.starts_with(prefix) && line.contains(&format!("via {hop} ")))
            };
            (by(POOL) && by(LMAA)).then_some(())
        });
    };
    goes_to(hops[0]);
    lmas[0].0.kill();
    goes_to(hops[1]);
}
