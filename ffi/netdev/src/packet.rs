//! Packet sockets: whole frames of one interface.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

use libc::{c_int, c_void, socklen_t};
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags, SetSockOpt, sockopt};

use crate::interface_name;

/// How a [`PacketSocket`] is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Receives all multicast frames of the link, not only those the kernel has joined.
    pub all_multicast: bool,
    /// Also receives what this host sends on the interface.
    pub outgoing: bool,
    /// Marks each frame with its time of arrival, for [`PacketSocket::recv_stamped`].
    pub timestamps: bool,
    /// Octets of buffer for each direction, past the system's limit for ordinary sockets.
    pub buffer: usize,
}

/// What the kernel counted on a socket since it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PacketStatistics {
    /// Frames that arrived, those dropped included.
    pub packets: u32,
    /// Frames dropped because the buffer was full.
    pub drops: u32,
}

/// Frames that an interface takes off its link besides those to itself and to the groups that the kernel has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Those to any group.
    AllMulticast,
    /// All there are.
    All,
}

/// Has an interface take more frames than the kernel wants, as long as this lives, without receiving any here.
#[derive(Debug)]
pub struct Membership {
    _socket: PacketSocket,
}

impl Membership {
    /// Asks for `frames` on `interface`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No such interface, or no permission (`CAP_NET_RAW`).
    pub fn new(interface: &str, frames: Frames) -> io::Result<Self> {
        let index = interface_index(interface)?;
        let socket = PacketSocket::deaf()?;
        socket.join(index, frames)?;
        Ok(Self { _socket: socket })
    }
}

/// A socket that sends and receives whole Ethernet frames on one interface, without blocking.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on `interface` in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No such interface, no permission (`CAP_NET_RAW`, `CAP_NET_ADMIN` for the buffers), or a
    /// refused option.
    pub fn open(interface: &str, options: Options) -> io::Result<Self> {
        let index = interface_index(interface)?;
        let socket = Self::deaf()?;
        sockopt::RcvBufForce.set(&socket.fd, &options.buffer)?;
        sockopt::SndBufForce.set(&socket.fd, &options.buffer)?;
        if options.timestamps {
            sockopt::ReceiveTimestampns.set(&socket.fd, &true)?;
        }
        if !options.outgoing {
            socket.set_option(libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        }
        if options.all_multicast {
            socket.join(index, Frames::AllMulticast)?;
        }
        socket.bind(index)?;
        Ok(socket)
    }

    /// Receives one frame into `buf`; what does not fit is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; [`libc::ENETDOWN`] once when the interface
    /// goes down.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(socket::recv(self.fd.as_raw_fd(), buf, MsgFlags::empty())?)
    }

    /// Receives one frame and its time of arrival.
    ///
    /// # Errors
    /// As [`PacketSocket::recv`]; [`io::ErrorKind::InvalidData`] if the frame has no timestamp
    /// because the socket was opened without [`Options::timestamps`].
    pub fn recv_stamped(&self, buf: &mut [u8]) -> io::Result<(usize, SystemTime)> {
        let mut control = nix::cmsg_space!(libc::timespec);
        let mut iov = [IoSliceMut::new(buf)];
        let message = socket::recvmsg::<()>(
            self.fd.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let stamp = message.cmsgs()?.find_map(|c| {
            if let ControlMessageOwned::ScmTimestampns(time) = c {
                Some(Duration::from(time))
            } else {
                None
            }
        });
        let stamp = stamp.ok_or(io::ErrorKind::InvalidData)?;
        Ok((message.bytes, SystemTime::UNIX_EPOCH + stamp))
    }

    /// Sends one frame given in parts.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] or `ENOBUFS` if the queue is full, `EMSGSIZE` if the frame does
    /// not fit the link, `ENETDOWN` if the link is down.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        socket::sendmsg::<()>(self.fd.as_raw_fd(), parts, &[], MsgFlags::empty(), None)?;
        Ok(())
    }

    /// Frames that arrived and frames lost since the last call.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn statistics(&self) -> io::Result<PacketStatistics> {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut len = option_len::<libc::tpacket_stats>()?;
        // SAFETY: PACKET_STATISTICS writes at most `len` octets, the size of `stats`; both outlive
        // the call and the descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast::<c_void>(),
                &raw mut len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(PacketStatistics {
            packets: stats.tp_packets,
            drops: stats.tp_drops,
        })
    }

    /// A socket that receives nothing: frames of other interfaces must not slip in before it is bound.
    fn deaf() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked below.
        let raw = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just opened by us and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd })
    }

    fn join(&self, index: c_int, frames: Frames) -> io::Result<()> {
        let kind = match frames {
            Frames::AllMulticast => libc::PACKET_MR_ALLMULTI,
            Frames::All => libc::PACKET_MR_PROMISC,
        };
        let membership = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: u16::try_from(kind).map_err(io::Error::other)?,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set_option(libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    fn bind(&self, index: c_int) -> io::Result<()> {
        let all = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
            sll_protocol: all.to_be(),
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is an initialised `sockaddr_ll`, its length is its own size, and it
        // outlives the call.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast::<libc::sockaddr>(),
                option_len::<libc::sockaddr_ll>()?,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn set_option<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the kernel reads `size_of::<T>()` octets from `value`, a live reference; both
        // callers pass the type that their option takes.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                std::ptr::from_ref(value).cast::<c_void>(),
                option_len::<T>()?,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn option_len<T>() -> io::Result<socklen_t> {
    socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)
}

fn interface_index(interface: &str) -> io::Result<c_int> {
    interface_name(interface)?;
    let index = nix::net::if_::if_nametoindex(interface)
        .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("{interface}: {e}")))?;
    c_int::try_from(index).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        all_multicast: true,
        outgoing: false,
        timestamps: true,
        buffer: 1 << 20,
    };

    #[test]
    fn a_missing_interface_is_named() {
        let error = PacketSocket::open("no-such-if", OPTIONS).unwrap_err();
        assert!(error.to_string().contains("no-such-if"), "{error}");
    }

    #[test]
    fn frames_on_loopback_arrive_with_a_time() {
        // Needs CAP_NET_RAW; without it there is nothing to test here.
        let socket = match PacketSocket::open("lo", OPTIONS) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => return,
            other => other.unwrap(),
        };
        // An EtherType for local experiments (IEEE 802), so that no protocol takes the frame.
        let header = [[0; 12].as_slice(), &[0x88, 0xb5]].concat();
        let payload = *b"netdev: frames on loopback";
        let before = SystemTime::now();
        socket
            .send(&[IoSlice::new(&header), IoSlice::new(&payload)])
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let mut buf = [0; 2048];
        loop {
            assert!(std::time::Instant::now() < deadline, "the frame was lost");
            match socket.recv_stamped(&mut buf) {
                Ok((len, time)) if buf[..len].ends_with(&payload) => {
                    assert_eq!(buf[..header.len()], header);
                    let late = time.duration_since(before).unwrap_or_default();
                    assert!(late < Duration::from_secs(5));
                    break;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
        }
        assert!(socket.statistics().unwrap().packets >= 1);
    }
}
