//! TUN devices.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::interface_name;

/// A TUN device: an interface whose packets this process reads and writes. It vanishes with this
/// value.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Creates the interface `name`, down and without addresses, in the network namespace of the
    /// calling thread. Reads and writes never block.
    ///
    /// # Errors
    /// Those of opening `/dev/net/tun`; of `TUNSETIFF`, `EPERM` without permission, and `EBUSY` if there is an
    /// interface of that name: a persistent TUN device is not taken over, as it would outlive this value.
    pub fn create(name: &str) -> io::Result<Self> {
        let ifr_name = interface_name(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        let flags = u16::try_from(flags).map_err(io::Error::other)?;
        let request = libc::ifreq {
            ifr_name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: flags.cast_signed(),
            },
        };
        // SAFETY: TUNSETIFF reads and writes one `ifreq`; `request` is one, initialised, and lives
        // past the call. The descriptor is open: `file` owns it.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { file })
    }

    /// Reads one packet into `buf`; what does not fit is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none, and those of `read`.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buf)
    }

    /// Hands one packet to the kernel as received on the interface.
    ///
    /// # Errors
    /// Those of `write`, such as `EIO` while the interface is down.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let written = (&self.file).write(packet)?;
        if written == packet.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
