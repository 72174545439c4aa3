//! TUN devices, packet sockets and filters of system calls of Linux behind safe types.
//!
//! The first two need an `ioctl` or socket options that no safe library offers; everything else about
//! them (reading, writing, polling) is ordinary file input and output. Libraries install filters, but do not have the
//! kernel log what these refuse.

#![allow(
    unsafe_code,
    reason = "this crate is the one safe door to these system calls; every block says why it is sound"
)]

pub mod clock;
mod packet;
pub mod seccomp;
mod tun;

pub use packet::{Frames, Membership, Options, PacketSocket, PacketStatistics};
pub use tun::Tun;

use std::io;

/// The name of an interface as the kernel takes it: 1 to 15 octets, closed by a zero.
fn interface_name(name: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut out = [0; libc::IFNAMSIZ];
    let fits = (1..libc::IFNAMSIZ).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !fits {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("\"{name}\" is no interface name: 1 to 15 printable octets without '/'"),
        ));
    }
    for (to, from) in out.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(interface_name("lif0").unwrap()[..5], [108, 105, 102, 48, 0]);
        for bad in ["", "a name", "a/b", "sixteen-octets-x"] {
            let error = interface_name(bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
        assert!(interface_name("fifteen-octets!").is_ok());
    }
}
