//! The command line.

#[cfg(feature = "dpdk")]
pub(crate) mod appliance;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Network-based flow mobility: a Proxy Mobile IPv6 LMA, MAG and mobile node.
#[derive(Debug, Parser)]
#[command(
    name = "flowmob",
    version,
    long_version = long_version(),
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Management socket of the process to speak to [default: the one in /run/flowmob, if there is one only].
    #[arg(short, long, global = true, env = "FLOWMOB_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What reports of faults should say: which DPDK, and whose drivers.
fn long_version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    #[cfg(feature = "dpdk")]
    let dpdk = match dpdk::linked_drivers() {
        Some(drivers) => format!("{}, linked in: {}", dpdk::version(), drivers.join(" ")),
        None => format!("{}, a shared library that loads drivers", dpdk::version()),
    };
    #[cfg(not(feature = "dpdk"))]
    let dpdk = "without DPDK";
    TEXT.get_or_init(|| format!("{}\n{dpdk}", env!("CARGO_PKG_VERSION")))
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an appliance or a mobile node until it is told to stop.
    Run {
        /// The process's configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Take the place of the process of this name that runs: get ready while it forwards, have it end, and go on from
        /// what it knew. If none runs, it is a start like any other.
        #[cfg(feature = "dpdk")]
        #[arg(long)]
        take_over: bool,
    },
    /// Check a configuration and report everything that is wrong with it.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask whether a process serves packets; fails if it does not. For what watches over containers and services.
    Health {
        /// Ask instead whether its threads turn: if not, it has to be started again.
        #[arg(long)]
        live: bool,
    },
    /// Show what a process knows and counts.
    Show {
        /// Which table.
        what: Show,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Show it again and again, until interrupted; with --json, one document a line.
        #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
        watch: Option<Duration>,
    },
    /// Look at a process on this terminal: packets and bits a second of ports, paths, mobiles and flows, workers,
    /// drops, events; move flows.
    #[command(after_help = crate::top::help())]
    Top {
        /// Time between two looks.
        #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
        interval: Duration,
    },
    /// Print what has happened in a process lately: attachments, handoffs, moves, peers.
    Events {
        /// Go on with what happens, until interrupted.
        #[arg(short, long)]
        follow: bool,
        /// Print JSON, one event a line.
        #[arg(long)]
        json: bool,
    },
    /// Serve the process's dashboard to browsers on this machine, until interrupted.
    Dashboard {
        /// Loopback address and port.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = crate::server::page_address)]
        listen: std::net::SocketAddr,
    },
    /// Say what would become of a packet, and why: which binding, which rule, which path and outer header, and
    /// what if an access were lost. Nothing is sent.
    Explain(Box<ExplainArgs>),
    /// Add, move or delete the flow rules of a mobile node (at its LMA).
    #[command(subcommand)]
    Flow(Flow),
    /// Revoke bindings (at an LMA): those of a mobile node, of one access, or all with a MAG.
    Revoke(RevokeArgs),
    /// Serve a mobile node, or no longer (at an LMA), until the process ends.
    Service {
        /// The mobile node's identifier.
        #[arg(long)]
        mn: String,
        /// Whether it is served; off also revokes its bindings.
        switch: Switch,
    },
    /// Take no new mobiles (at an LMA), and say how many sessions are left: those that it has are served on, until they
    /// leave; others go to the other LMAs of its pool, or are refused. Outlives the process.
    Drain {
        /// Take new mobiles again.
        #[arg(long, conflicts_with = "wait")]
        off: bool,
        /// Return when no session is left.
        #[arg(long)]
        wait: bool,
    },
    /// Have a mobile node registered again by its MAGs (at an LMA).
    Reregister(ReregisterArgs),
    /// Have a process read its configuration again and put it into force, whole or not at all. Bindings, flows and
    /// packets are not touched. SIGHUP does the same.
    Reload {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the configuration in force, or what its file would change by now.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what a process logs, or have it log more or less: all of it, or about one mobile node.
    Log {
        /// What is to change.
        #[command(subcommand)]
        change: Option<LogCommand>,
        /// Print JSON.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Attach a mobile node (at a MAG); one that is attached is registered once more.
    Attach {
        /// The mobile node and its access port.
        #[command(flatten)]
        mobile: Mobile,
        /// Where the attachment comes from, if that is known. Default: as configured.
        #[arg(long)]
        handoff: Option<crate::api::Handoff>,
    },
    /// Detach a mobile node (at a MAG).
    Detach(Mobile),
    /// What only the build with an appliance has.
    #[cfg(feature = "dpdk")]
    #[command(flatten)]
    Appliance(appliance::Command),
    /// Print what a shell needs to complete these commands: `source <(flowmob completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages of all commands.
    Man {
        /// Where to; made if it is not there.
        directory: PathBuf,
    },
}

/// A time that one can wait for.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=86_400.0).contains(s));
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected seconds, from 0.1 to 86400".to_owned())
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// Binding cache (LMA), binding update list (MAG).
    Bindings,
    /// Mobiles with the traffic of their prefixes.
    Mobiles,
    /// Flow mobility cache (LMA), flow state (MAG).
    Flows,
    /// Tunnels and links with their traffic.
    Paths,
    /// Home network prefixes and static routes.
    Routes,
    /// Configured LMAs and MAGs.
    Peers,
    /// Ports with their traffic.
    Ports,
    /// Poll-mode workers.
    Workers,
    /// Drop counters that are not zero.
    Drops,
    /// The accesses, prefixes and flows of a mobile node.
    Mn,
    /// Name, roles, readiness.
    Status,
}

/// `flowmob config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what is in force, in the words of a file, with nothing left to defaults.
    Show {
        /// Print JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
    /// Print what `flowmob reload` would change; fails if it would be refused. Changes nothing.
    Diff {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `flowmob log ...`
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Log this and everything above, until the process ends, or a reload brings another level.
    Level {
        /// The level.
        level: crate::api::log::LogLevel,
    },
    /// Log lines about a mobile node down to debug, whatever the level, or no longer. For any number of them.
    Mobile {
        /// The mobile node's identifier.
        mn: String,
        /// Whether to.
        switch: Switch,
    },
}

/// `flowmob flow ...`
#[derive(Debug, Subcommand)]
pub(crate) enum Flow {
    /// Add a flow rule; fields that are not given match everything. Source and destination are those of
    /// downlink packets.
    Add(Box<FlowAddArgs>),
    /// Move a flow to another access of its mobile node; returns when it has moved.
    Move {
        /// The mobile node's identifier.
        #[arg(long)]
        mn: String,
        /// The flow's identifier.
        #[arg(long)]
        fid: u16,
        /// Binding identifier of the access it moves to.
        #[arg(long, value_name = "BID")]
        to: u16,
    },
    /// Delete a flow rule.
    Del {
        /// The mobile node's identifier.
        #[arg(long)]
        mn: String,
        /// The flow's identifier.
        #[arg(long)]
        fid: u16,
    },
}

/// Arguments of `flowmob flow add`.
#[derive(Debug, Args)]
pub(crate) struct FlowAddArgs {
    /// The mobile node's identifier.
    #[arg(long)]
    pub(crate) mn: String,
    /// Binding identifier of the access it is put on.
    #[arg(long)]
    pub(crate) bid: u16,
    /// Flow identifier [default: the next free one].
    #[arg(long)]
    pub(crate) fid: Option<u16>,
    /// Priority, lower first [default: after all others].
    #[arg(long)]
    pub(crate) priority: Option<u16>,
    /// Source: address, prefix, or FIRST-LAST.
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) src: Option<String>,
    /// Destination: address, prefix, or FIRST-LAST.
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) dst: Option<String>,
    /// Upper-layer protocol: tcp, udp, icmpv6, sctp, esp, or a number.
    #[arg(long)]
    pub(crate) proto: Option<String>,
    /// Source port: number or FIRST-LAST.
    #[arg(long, value_name = "PORTS")]
    pub(crate) sport: Option<String>,
    /// Destination port: number or FIRST-LAST.
    #[arg(long, value_name = "PORTS")]
    pub(crate) dport: Option<String>,
    /// Flow label, 20 bits: number or FIRST-LAST.
    #[arg(long, value_name = "LABELS")]
    pub(crate) flow_label: Option<String>,
    /// Traffic class (ECN bits ignored): number or FIRST-LAST.
    #[arg(long, value_name = "CLASSES")]
    pub(crate) tc: Option<String>,
    /// IPsec security parameter index: number or FIRST-LAST.
    #[arg(long, value_name = "SPIS")]
    pub(crate) spi: Option<String>,
}

/// Arguments of `flowmob explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Source address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "hex")]
    pub(crate) src: Option<std::net::Ipv6Addr>,
    /// Destination address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "hex")]
    pub(crate) dst: Option<std::net::Ipv6Addr>,
    /// Upper-layer protocol: tcp, udp, icmpv6, sctp, esp, or a number [default: udp].
    #[arg(long)]
    pub(crate) proto: Option<String>,
    /// Source port.
    #[arg(long, value_name = "PORT")]
    pub(crate) sport: Option<u16>,
    /// Destination port.
    #[arg(long, value_name = "PORT")]
    pub(crate) dport: Option<u16>,
    /// Flow label, 20 bits.
    #[arg(long, value_name = "LABEL")]
    pub(crate) flow_label: Option<u32>,
    /// Traffic class.
    #[arg(long, value_name = "CLASS")]
    pub(crate) tc: Option<u8>,
    /// Instead: an IPv6 packet, or an Ethernet frame with one, in hexadecimal.
    #[arg(long, value_name = "OCTETS", conflicts_with_all = ["src", "dst", "proto", "sport", "dport", "flow_label", "tc"])]
    pub(crate) hex: Option<String>,
    /// Port that it arrives on [default: one that it may be expected on].
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// Peer whose tunnel it comes through [default: that of the mobile's prefix].
    #[arg(long, value_name = "PEER")]
    pub(crate) via: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct RevokeArgs {
    /// The mobile node's identifier.
    #[arg(long)]
    pub(crate) mn: Option<String>,
    /// Binding identifier of one of its accesses.
    #[arg(long, requires = "mn", conflicts_with = "mag")]
    pub(crate) bid: Option<u16>,
    /// MAG, by name or address: all bindings with it, or those of the mobile node.
    #[arg(long)]
    pub(crate) mag: Option<String>,
}

/// Arguments of `reregister`.
#[derive(Debug, Args)]
pub(crate) struct ReregisterArgs {
    /// The mobile node's identifier.
    #[arg(long)]
    pub(crate) mn: String,
    /// Binding identifier of one of its accesses [default: all].
    #[arg(long)]
    pub(crate) bid: Option<u16>,
    /// MAG, by name or address; asked even if it has no binding.
    #[arg(long)]
    pub(crate) mag: Option<String>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Arguments of `attach` and `detach`.
#[derive(Debug, Args)]
pub(crate) struct Mobile {
    /// The mobile node's identifier, as in the MAG's [[mag.mobile]] table.
    pub(crate) mn: String,
    /// Access port; needed only for a mobile with several.
    #[arg(long)]
    pub(crate) port: Option<String>,
}
