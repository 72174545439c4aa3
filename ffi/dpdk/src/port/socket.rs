//! The Unix sockets on which shared memory is negotiated.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, socket,
};

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

    /// Makes way for whoever is to listen or to connect: there has to be a directory, and where it listens no file. One
    /// that a killed process has left is removed, as no driver does so.
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
        let address = Address::of(path);
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        if let Address::Path(_) = address
            && let Some(directory) = directory
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
        match reach(address, kind) {
            Ok(_) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(self.cannot_listen(
                "another process listens there; stop it, or give the port another socket",
            )),
            Err(Errno::ENOENT) => Ok(()),
            // An abstract one goes with its process.
            Err(Errno::ECONNREFUSED) if matches!(address, Address::Abstract(_)) => Ok(()),
            Err(Errno::ECONNREFUSED) => {
                // Connecting to a file of any other kind is refused too.
                let file = fs::symlink_metadata(path);
                if !file.is_ok_and(|file| file.file_type().is_socket()) {
                    return Err(
                        self.cannot_listen("what is there is no socket; give the port another one")
                    );
                }
                match fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(self.cannot_listen(&format!("a stale one is left there: {error}")))
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(self.cannot_listen(error.desc())),
        }
    }

    /// Listens, where the way is clear.
    ///
    /// # Errors
    /// If the kernel says no.
    pub(super) fn listen(&self, path: &Path, kind: SockType) -> Result<OwnedFd, PortError> {
        listen(Address::of(path), kind).map_err(|error| self.cannot_listen(error.desc()))
    }

    fn cannot_listen(&self, why: &str) -> PortError {
        PortError::Socket {
            device: self.to_string(),
            path: self
                .meeting()
                .map(|meeting| meeting.path.to_owned())
                .unwrap_or_default(),
            why: why.to_owned(),
        }
    }
}

/// A socket's name.
#[derive(Clone, Copy)]
pub(super) enum Address<'a> {
    Path(&'a Path),
    Abstract(&'a str),
}

impl<'a> Address<'a> {
    /// As a device has it: names that begin with `@` are abstract.
    pub(super) fn of(path: &'a Path) -> Self {
        let name = path.to_str().and_then(|path| path.strip_prefix('@'));
        name.map_or(Self::Path(path), Self::Abstract)
    }

    fn unix(self) -> nix::Result<UnixAddr> {
        match self {
            Self::Path(path) => UnixAddr::new(path),
            Self::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
        }
    }
}

fn fresh(kind: SockType) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, kind, flags, None)
}

/// Connects without waiting: a server whose queue is full is `EAGAIN`.
pub(super) fn reach(address: Address<'_>, kind: SockType) -> nix::Result<OwnedFd> {
    let fd = fresh(kind)?;
    connect(fd.as_raw_fd(), &address.unix()?)?;
    Ok(fd)
}

/// Listens for a few.
pub(super) fn listen(address: Address<'_>, kind: SockType) -> nix::Result<OwnedFd> {
    let fd = fresh(kind)?;
    bind(fd.as_raw_fd(), &address.unix()?)?;
    nix::sys::socket::listen(&fd, Backlog::new(8)?)?;
    Ok(fd)
}
