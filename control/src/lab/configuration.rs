//! The lab's configurations: what each process is started with.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use flow::MacAddr;

use super::nodes::{NODES, certificate};
use super::topology::{
    Host, LIF, LMA_CN_ADDRESS, LMAA, MN_ID, MN2_ID, Mag, POOL, Scenario, Setting, guest_id,
};

const INTERFACE_ID: &str = "::100";
const INTERFACE_ID_2: &str = "::200";

/// Otherwise the core link shows what registration and flow mobility need, and nothing else.
fn heartbeat(setting: Setting) -> &'static str {
    if setting.is_chaos() {
        "interval_ms = 300\n"
    } else {
        "enabled = false\n"
    }
}

/// Where what a process keeps is.
pub(crate) fn state(directory: &Path, host: Host) -> PathBuf {
    directory.join(format!("{}.state", host.name()))
}

/// The configuration of the process on `host`; `None` where none runs.
pub(crate) fn config(host: Host, setting: Setting, directory: &Path) -> Option<String> {
    let workers = setting.workers;
    let body = match host {
        Host::Lma | Host::Lma2 => lma_config(host, setting, directory),
        Host::Mag1 => mag_config(Mag::Mag1, setting, directory),
        Host::Mag2 => mag_config(Mag::Mag2, setting, directory),
        Host::Mn => mn_config(INTERFACE_ID),
        Host::Mn2 => mn_config(INTERFACE_ID_2),
        Host::Cn | Host::Store | Host::Core => return None,
    };
    let name = host.name();
    let socket = directory.join(format!("{name}.sock"));
    let process = if host.taps().is_empty() {
        String::new()
    } else {
        // Every worker has queues, and buffers for them, on every port.
        let memory = 64 + 64 * u32::from(workers);
        format!(
            "[process]\nmemory = \"anonymous\"\nmemory_mib = {memory}\nworkers = {workers}\n\
             idle = \"adaptive\"\nstate_directory = \"{}\"\n{}\n",
            state(directory, host).display(),
            pair_config(host, setting, directory)
        )
    };
    let socket = socket.display();
    Some(format!(
        "name = \"{name}\"\n\n{process}[management]\nsocket = \"{socket}\"\n\n{body}"
    ))
}

/// The keys of a gateway's signalling in a lab with a pair, for the LMAs and for itself.
pub(crate) fn keys(directory: &Path, mag: Mag) -> [PathBuf; 2] {
    ["lma", "mag"].map(|end| directory.join(format!("{}.{end}.keys", mag.name())))
}

/// How signalling is protected. Two LMAs must not use a number twice, so theirs is; otherwise everybody may read it.
fn protection(keys: Option<&PathBuf>) -> String {
    match keys {
        Some(keys) => format!("keys = \"{}\"", keys.display()),
        None => "protection = \"none\"".to_owned(),
    }
}

/// What makes an LMA one of two.
fn pair_config(host: Host, setting: Setting, directory: &Path) -> String {
    let Some(address) = host.store_address().filter(|_| setting.pair) else {
        return String::new();
    };
    let nodes: Vec<String> = NODES.iter().map(|node| node.client()).collect();
    let [ca, own, key] = ["ca.pem", "lma.pem", "lma.key"].map(|file| {
        let path = certificate(directory, file);
        path.display().to_string()
    });
    format!(
        "store = \"etcd://{}/lma\"\n\n[process.pair]\naddress = \"{address}:7864\"\n\
         addresses = [\"{LMA_CN_ADDRESS}\"]\n\n[process.pair.tls]\nca = \"{ca}\"\n\
         certificate = \"{own}\"\nkey = \"{key}\"\n",
        nodes.join(",")
    )
}

fn lma_config(host: Host, setting: Setting, directory: &Path) -> String {
    let number = u8::from(host == Host::Lma2) << 4;
    let mac = |port: u8| MacAddr([2, 0, 0, 0, port, number]).to_string();
    let mut out = port_config("core0", &mac(0xc), &format!("{LMAA}/64"));
    out += &port_config("cn0", &mac(0xd), &format!("{LMA_CN_ADDRESS}/64"));
    for mag in Mag::ALL {
        out += &route_config(mag.proxy_coa());
    }
    let _ = write!(
        out,
        "[lma]\naddress = \"{LMAA}\"\npools = [\"{POOL}\"]\nprefix_model = \"unique\"\n\
         signal_hosted_moves = true\n\n[lma.heartbeat]\n{}\n",
        heartbeat(setting)
    );
    for mag in Mag::ALL {
        let (name, address) = (mag.name(), mag.proxy_coa());
        let signalling = setting.dialect.signalling(mag);
        let [keys, _] = keys(directory, mag);
        let protection = protection(setting.pair.then_some(&keys));
        let _ = writeln!(
            out,
            "[[lma.peer]]\nname = \"{name}\"\naddress = \"{address}\"\n\
             signalling = \"{signalling}\"\n{protection}\n"
        );
    }
    out
}

fn mag_config(mag: Mag, setting: Setting, directory: &Path) -> String {
    let address = mag.proxy_coa();
    let mut out = port_config(
        "core0",
        &mag.core_mac().to_string(),
        &format!("{address}/64"),
    );
    out += &port_config("access0", &MacAddr::MAG.to_string(), "");
    out += &route_config(LMAA);
    let share = setting.scenario == Scenario::Shared && mag == Mag::Mag2;
    let signalling = setting.dialect.signalling(mag);
    let technology = mag.access_technology();
    let [_, keys] = keys(directory, mag);
    let protection = protection(setting.pair.then_some(&keys));
    let _ = write!(
        out,
        "[mag]\naddress = \"{address}\"\naccess_ports = [\"access0\"]\n\n\
         [mag.heartbeat]\n{}\n\
         [[mag.peer]]\nname = \"lma\"\naddress = \"{LMAA}\"\n\
         signalling = \"{signalling}\"\n{protection}\n\n",
        heartbeat(setting)
    );
    let mobiles = [(MN_ID, Host::Mn), (MN2_ID, Host::Mn2)].map(|(id, host)| (id, mag.mac_of(host)));
    for (id, mac) in mobiles.iter().take(if setting.is_chaos() { 2 } else { 1 }) {
        let _ = write!(
            out,
            "[[mag.mobile]]\nid = \"{id}\"\nlink_layer = \"{mac}\"\n\
             access_technology = \"{technology}\"\nport = \"access0\"\nshare_prefixes = {share}\n\n"
        );
    }
    for guest in 0..setting.guests {
        let (id, mac) = (guest_id(guest), mag.guest_mac(guest));
        let _ = write!(
            out,
            "[[mag.mobile]]\nid = \"{id}\"\nlink_layer = \"{mac}\"\n\
             access_technology = \"{technology}\"\nport = \"access0\"\n\n"
        );
    }
    out
}

fn mn_config(interface_id: &str) -> String {
    let mut out = format!("[mn]\ninterface = \"{LIF}\"\ninterface_id = \"{interface_id}\"\n\n");
    for mag in Mag::ALL {
        let (name, interface) = (mag.access_technology(), mag.mn_interface());
        let _ = writeln!(
            out,
            "[[mn.access]]\nname = \"{name}\"\ninterface = \"{interface}\"\n"
        );
    }
    out
}

fn port_config(device: &str, mac: &str, address: &str) -> String {
    let addresses = if address.is_empty() {
        String::new()
    } else {
        format!("addresses = [\"{address}\"]\n")
    };
    format!(
        "[[port]]\nname = \"{device}\"\ndevice = \"tap:{device}\"\nmac = \"{mac}\"\n{addresses}\n"
    )
}

/// The core is one link: what is not in the port's own prefix is a neighbour there all the same.
fn route_config(neighbour: Ipv6Addr) -> String {
    format!("[[route]]\nto = \"{neighbour}/128\"\nport = \"core0\"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::Dialect;

    #[test]
    fn every_configuration_is_accepted() {
        let directory = Path::new("/run/flowmob-lab/fm1");
        for (scenario, dialect, guests, pair) in [
            (Scenario::Unique, Dialect::Draft, 0, false),
            (Scenario::Shared, Dialect::Rfc7864, 0, false),
            (Scenario::Unique, Dialect::Mixed, 3, true),
        ] {
            let setting = Setting {
                scenario,
                dialect,
                workers: 1,
                guests,
                pair,
            };
            for host in setting.hosts() {
                let Some(text) = config(host, setting, directory) else {
                    assert!(host.taps().is_empty());
                    continue;
                };
                let config = match config::parse(host.name(), &text) {
                    Ok(config) => config,
                    Err(errors) => panic!("{text}\n{errors}"),
                };
                // The lab's messages are for everyone to read, and that is all.
                let about = |warning: &config::Report| warning.key.ends_with(".protection");
                assert!(config.warnings.iter().all(about), "{text}");
                assert_eq!(config.ports.len(), host.taps().len());
                let shares = config.mag.iter().flat_map(|m| &m.mobiles);
                let shares: Vec<bool> = shares.map(|m| m.share_prefixes).collect();
                let shared = scenario == Scenario::Shared && host == Host::Mag2;
                assert!(shares.iter().all(|s| *s == shared));
                let mobiles = usize::from(guests) + 1 + usize::from(guests > 0);
                assert_eq!(shares.len(), if config.mag.is_some() { mobiles } else { 0 });
            }
        }
    }
}
