//! What arrives at the mobiles' interfaces: each gets what is for its own addresses, and nobody else's packets.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use flow::{Hnp, MacAddr};
use nd::packet::{Ipv6, ethernet_payload};
use netdev::{Options, PacketSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netns;

/// Octets of socket buffer: seconds of a mobile's traffic.
const BUFFER: usize = 16 << 20;
/// Longest frame: what segmentation offload may leave whole.
const MAX_FRAME: usize = 65_536 + 14;
/// Milliseconds between looks at whether to end.
const TURN_MS: u16 = 100;

/// An interface of a mobile.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    /// Its name, for people.
    pub(super) title: String,
    /// The mobile's namespace.
    pub(super) namespace: String,
    /// The interface there.
    pub(super) interface: &'static str,
    /// Its link-layer address.
    pub(super) mac: MacAddr,
    /// The mobile's prefixes.
    pub(super) own: [Hnp; 2],
}

/// What was heard and is nobody's there: frames, by interface and addresses.
type Strays = BTreeMap<String, u64>;

/// Listens at interfaces until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    stop: Arc<AtomicBool>,
    strays: Arc<Mutex<Strays>>,
    heard: Arc<AtomicU64>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// If a socket cannot be opened.
    pub(super) fn start(ears: Vec<Ear>) -> anyhow::Result<Self> {
        let mut out = Self {
            stop: Arc::default(),
            strays: Arc::default(),
            heard: Arc::default(),
            threads: Vec::new(),
        };
        for ear in ears {
            let options = Options {
                all_multicast: false,
                outgoing: false,
                timestamps: false,
                buffer: BUFFER,
            };
            let socket = netns::enter(&ear.namespace, || {
                PacketSocket::open(ear.interface, options)
                    .with_context(|| format!("cannot listen at {}", ear.title))
            })?;
            let (stop, strays) = (Arc::clone(&out.stop), Arc::clone(&out.strays));
            let heard = Arc::clone(&out.heard);
            let thread = std::thread::Builder::new()
                .name("listener".to_owned())
                .spawn(move || listen(&socket, &ear, &stop, &strays, &heard))
                .context("cannot start a thread")?;
            out.threads.push(thread);
        }
        Ok(out)
    }

    /// What was heard since the last time that is not for whom it came to.
    pub(super) fn strays(&self) -> Vec<String> {
        let strays = std::mem::take(&mut *lock(&self.strays));
        let lines = strays.into_iter();
        lines
            .map(|(what, frames)| format!("{what}: {frames} packets that are not its own"))
            .collect()
    }

    /// Ends, and fails if nothing was heard at all, or a mobile had more to hear than there was time for.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            let Ok(result) = thread.join() else {
                bail!("a thread that listens has panicked");
            };
            result?;
        }
        let heard = self.heard.load(Ordering::Relaxed);
        anyhow::ensure!(heard > 0, "no mobile has heard its own packets");
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A thread that panicked while it held the lock left whole counts behind.
fn lock(strays: &Mutex<Strays>) -> MutexGuard<'_, Strays> {
    strays.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(
    socket: &PacketSocket,
    ear: &Ear,
    stop: &AtomicBool,
    strays: &Mutex<Strays>,
    heard: &AtomicU64,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; MAX_FRAME];
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(TURN_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for frames"),
        }
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => match judge(ear, buffer.get(..length).unwrap_or_default()) {
                    Judgement::Own => drop(heard.fetch_add(1, Ordering::Relaxed)),
                    Judgement::Stray(what) => *lock(strays).entry(what).or_default() += 1,
                    Judgement::OfTheLink => {}
                },
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    break;
                }
                // Somebody has set the link down.
                Err(error) if error.kind() == ErrorKind::NetworkDown => break,
                Err(error) => return Err(error).context(ear.title.clone()),
            }
        }
        let drops = socket.statistics()?.drops;
        anyhow::ensure!(
            drops == 0,
            "{}: {drops} frames were not looked at",
            ear.title
        );
    }
    Ok(())
}

/// Whose a frame is.
#[derive(PartialEq, Eq, Debug)]
enum Judgement {
    /// The mobile's.
    Own,
    /// Somebody else's, and came all the same.
    Stray(String),
    /// For all on the link, or about the link itself; or what a bridge gives everyone as it does not know where a
    /// station is, which no station takes.
    OfTheLink,
}

fn judge(ear: &Ear, frame: &[u8]) -> Judgement {
    if frame.get(..6) != Some(&ear.mac.0) {
        return Judgement::OfTheLink;
    }
    let Some(packet) = ethernet_payload(frame).and_then(Ipv6::parse) else {
        return Judgement::OfTheLink;
    };
    let to = packet.destination;
    if to.is_multicast() || to.is_unicast_link_local() {
        Judgement::OfTheLink
    } else if ear.own.iter().any(|own| own.contains(to)) {
        Judgement::Own
    } else {
        Judgement::Stray(format!("{} gets {} to {to}", ear.title, packet.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd::host::ethernet;
    use nd::packet::{ipv6_packet, next_header};

    #[test]
    fn what_is_sent_to_a_station_is_for_its_mobile_or_astray() {
        let own = ["2001:db8:100:2::", "2001:db8:100:3::"];
        let ear = Ear {
            title: "if1".to_owned(),
            namespace: String::new(),
            interface: "if1",
            mac: MacAddr([2, 0, 0, 0, 2, 1]),
            own: own.map(|own| Hnp::new(own.parse().unwrap(), 64).unwrap()),
        };
        let frame = |mac: MacAddr, to: &str| {
            let from = "2001:db8:c::5".parse().unwrap();
            let packet = ipv6_packet(from, to.parse().unwrap(), next_header::UDP, 63, &[0; 8]);
            [ethernet(mac, mac).as_slice(), &packet].concat()
        };
        let judged = |mac, to| judge(&ear, &frame(mac, to));
        assert_eq!(judged(ear.mac, "2001:db8:100:3::200"), Judgement::Own);
        let stray = "if1 gets 2001:db8:c::5 to 2001:db8:100:1::100".to_owned();
        assert_eq!(
            judged(ear.mac, "2001:db8:100:1::100"),
            Judgement::Stray(stray)
        );
        for link in ["ff02::1", "fe80::7"] {
            assert_eq!(judged(ear.mac, link), Judgement::OfTheLink);
        }
        let other = MacAddr([2, 0, 0, 0, 1, 1]);
        assert_eq!(judged(other, "2001:db8:100:1::100"), Judgement::OfTheLink);
        assert_eq!(judge(&ear, &[2, 0, 0, 0, 2]), Judgement::OfTheLink);
    }
}
