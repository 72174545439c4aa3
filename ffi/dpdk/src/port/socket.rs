//! The Unix sockets on which shared memory is negotiated.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, socket,
};
use nix::unistd::getpid;

use crate::device::Device;
use crate::error::PortError;

/// What a device does with a socket.
struct Meeting<'a> {
    path: &'a Path,
    kind: SockType,
    listens: bool,
}

impl Device {
    fn meeting(&self) -> Option<Meeting<'_>> {
        let (path, kind, listens) = match self {
            // An abstract one has no file.
            Self::Memif { socket, .. } if socket.to_string_lossy().starts_with('@') => return None,
            Self::Memif { socket, server, .. } => (socket, SockType::SeqPacket, *server),
            Self::VhostUser { socket, server, .. } => (socket, SockType::Stream, *server),
            Self::VirtioUser { socket, .. } => (socket, SockType::Stream, true),
            Self::Tap { .. }
            | Self::AfPacket { .. }
            | Self::AfXdp { .. }
            | Self::Pcap { .. }
            | Self::Null { .. }
            | Self::Ring
            | Self::Pci { .. }
            | Self::Vdev(_) => return None,
        };
        Some(Meeting {
            path,
            kind,
            listens,
        })
    }

    /// Makes way for the driver: there has to be a directory, and where it listens no file. One that a killed process
    /// has left is removed, as no driver does so.
    ///
    /// # Errors
    /// If there is no such directory, or somebody listens or something else is at the path.
    pub(super) fn clear_socket(&self) -> Result<(), PortError> {
        let Some(Meeting {
            path,
            kind,
            listens,
        }) = self.meeting()
        else {
            return Ok(());
        };
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        if let Some(directory) = directory
            && !directory.is_dir()
        {
            return Err(PortError::NoSocketDirectory {
                device: self.to_string(),
                directory: directory.to_owned(),
            });
        }
        if !listens {
            return Ok(());
        }
        let in_the_way = |why: String| PortError::Socket {
            device: self.to_string(),
            path: path.to_owned(),
            why,
        };
        match reach(Address::Path(path), kind) {
            // The driver of memif has one socket for several ports.
            Ok(call) if is_ours(&call) => Ok(()),
            Ok(_) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(in_the_way(
                "another process listens there; stop it, or give the port another socket".into(),
            )),
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ECONNREFUSED) => {
                // Connecting to a file of any other kind is refused too.
                let file = fs::symlink_metadata(path);
                if !file.is_ok_and(|file| file.file_type().is_socket()) {
                    let why = "what is there is no socket; give the port another one";
                    return Err(in_the_way(why.into()));
                }
                match fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(in_the_way(format!("a stale one is left there: {error}")))
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(in_the_way(error.desc().into())),
        }
    }

    /// How to find out whether the other end is there, for a driver that connects once and never again.
    pub(super) fn caller(&self) -> Option<Caller> {
        let Self::Memif {
            socket,
            server: false,
            ..
        } = self
        else {
            return None;
        };
        Some(Caller {
            socket: socket.clone(),
            call: None,
        })
    }
}

/// Calls the server of a memif port, without ever waiting for it.
#[derive(Debug)]
pub(super) struct Caller {
    socket: PathBuf,
    call: Option<OwnedFd>,
}

impl Caller {
    /// Whether the server has greeted us since we called. That it only accepts is not enough: the driver would wait
    /// for the greeting of one that is stopped. Calls it if need be.
    pub(super) fn is_answered(&mut self) -> bool {
        let Some(call) = self.call.take() else {
            let path = self.socket.to_string_lossy();
            let address = match path.strip_prefix('@') {
                Some(name) => Address::Abstract(name),
                None => Address::Path(&self.socket),
            };
            // Whoever is not there may come.
            self.call = reach(address, SockType::SeqPacket).ok();
            return false;
        };
        match recv(call.as_raw_fd(), &mut [0; 128], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => false,
            Ok(_) => true,
            Err(Errno::EAGAIN) => {
                self.call = Some(call);
                false
            }
            Err(_) => false,
        }
    }

    /// Ends a call that is not needed any more.
    pub(super) fn hang_up(&mut self) {
        self.call = None;
    }
}

/// Whether it is this process that listens at the other end.
fn is_ours(call: &OwnedFd) -> bool {
    let peer = getsockopt(call, PeerCredentials).map(|peer| peer.pid());
    peer.is_ok_and(|pid| pid == getpid().as_raw())
}

#[derive(Clone, Copy)]
enum Address<'a> {
    Path(&'a Path),
    Abstract(&'a str),
}

/// Connects without waiting: a server whose queue is full is `EAGAIN`.
fn reach(address: Address<'_>, kind: SockType) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, kind, flags, None)?;
    let address = match address {
        Address::Path(path) => UnixAddr::new(path)?,
        Address::Abstract(name) => UnixAddr::new_abstract(name.as_bytes())?,
    };
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd)
}
