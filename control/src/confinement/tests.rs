//! What threads that have given up what they do not need still can do, and what they cannot.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::*;

/// What was tried, and how it ended.
type Tried = Vec<(&'static str, Result<(), ErrorKind>)>;

/// Everything that somebody would begin with who has taken over a thread.
fn attempts(directory: &std::path::Path) -> Tried {
    let mut tried = Tried::new();
    let mut note =
        |what, result: std::io::Result<()>| tried.push((what, result.map_err(|e| e.kind())));
    let nix = |result: nix::Result<()>| result.map_err(std::io::Error::from);
    note("program", Command::new("/bin/true").status().map(drop));
    note("socket", UdpSocket::bind("[::1]:0").map(drop));
    note("read", File::open("/proc/self/status").map(drop));
    note("write", File::create(directory.join("x")).map(drop));
    let thread = std::thread::Builder::new().spawn(|| {});
    note("thread", thread.map(|thread| thread.join().unwrap()));
    let itself = nix::unistd::Pid::this();
    // There is nothing mounted.
    note("unmount", nix(nix::mount::umount(directory)));
    note(
        "namespace",
        nix(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)),
    );
    note("signal", nix(nix::sys::signal::kill(itself, None)));
    tried
}

fn in_a_thread<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(what).join().unwrap()
}

fn after(thread: Thread, confinement: Confinement) -> Tried {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    in_a_thread(move || {
        confinement.enter(thread);
        attempts(&path)
    })
}

const REFUSED: Result<(), ErrorKind> = Err(ErrorKind::PermissionDenied);

#[test]
fn threads_that_parse_packets_or_serve_get_nothing_new() {
    for thread in [Thread::Worker, Thread::Server] {
        for (what, result) in after(thread, Confinement::default()) {
            assert_eq!(result, REFUSED, "{thread:?}: {what}");
        }
    }
}

#[test]
fn the_control_thread_gets_files_and_threads_only() {
    for thread in [Thread::Control, Thread::Recorder] {
        for (what, result) in after(thread, Confinement::default()) {
            let expected = match what {
                "read" | "write" | "thread" => Ok(()),
                _ => REFUSED,
            };
            assert_eq!(result, expected, "{thread:?}: {what}");
        }
    }
}

#[test]
fn drivers_that_nobody_knows_get_sockets() {
    let confinement = Confinement {
        is_open: true,
        ..Confinement::default()
    };
    let tried = after(Thread::Control, confinement);
    for (what, result) in tried {
        let is_given = matches!(what, "read" | "write" | "thread" | "socket");
        assert_eq!(result.is_ok(), is_given, "{what}: {result:?}");
    }
}

/// What a thread starts is as it is, so nothing is won by a thread of one's own.
#[test]
fn threads_that_it_starts_get_no_more() {
    let program = in_a_thread(|| {
        Confinement::default().enter(Thread::Control);
        in_a_thread(|| Command::new("/bin/true").status().map_err(|e| e.kind()))
    });
    assert_eq!(program.unwrap_err(), ErrorKind::PermissionDenied);
    // And the others are as they were.
    Command::new("/bin/true").status().unwrap();
}

#[test]
fn a_thread_shows_that_it_is_filtered_and_has_memory() {
    for thread in [Thread::Worker, Thread::Control, Thread::Server] {
        let status = in_a_thread(move || {
            let mut status = File::open("/proc/thread-self/status").unwrap();
            Confinement::default().enter(thread);
            // Large enough for memory of its own.
            let mut large = vec![1_u8; 1 << 22];
            large.resize(1 << 23, 2);
            let mut text = String::new();
            status.read_to_string(&mut text).unwrap();
            text
        });
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}

#[test]
fn connections_that_are_there_go_on() {
    for thread in [Thread::Worker, Thread::Control, Thread::Server] {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let answering = std::thread::spawn(move || {
            Confinement::default().enter(thread);
            let mut word = [0; 4];
            there.read_exact(&mut word).unwrap();
            there.write_all(&word).unwrap();
        });
        here.write_all(b"word").unwrap();
        let mut word = [0; 4];
        here.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"word", "{thread:?}");
        answering.join().unwrap();
    }
}

#[test]
fn what_is_only_logged_is_done() {
    let confinement = Confinement {
        seccomp: Seccomp::Log,
        ..Confinement::default()
    };
    let tried = after(Thread::Worker, confinement);
    let done = |what| tried.iter().any(|(w, result)| *w == what && result.is_ok());
    assert!(
        done("program") && done("read") && done("thread"),
        "{tried:?}"
    );
    let off = Confinement {
        seccomp: Seccomp::Off,
        ..confinement
    };
    let status = in_a_thread(move || {
        off.enter(Thread::Worker);
        fs::read_to_string("/proc/thread-self/status").unwrap()
    });
    assert!(status.contains("Seccomp:\t0\n"), "{status}");
}

/// Threads that have all that they need have no capability left.
#[test]
fn capabilities_go_first() {
    let of = |thread, is_user, is_open| {
        let confinement = Confinement {
            seccomp: Seccomp::Off,
            is_user,
            is_open,
        };
        in_a_thread(move || {
            confinement.enter(thread);
            caps::read(None, CapSet::Permitted).unwrap()
        })
    };
    let all = caps::read(None, CapSet::Permitted).unwrap();
    for thread in [Thread::Worker, Thread::Server] {
        assert!(of(thread, false, false).is_empty(), "{thread:?}");
    }
    assert!(of(Thread::Control, true, false).is_empty());
    // Root's files may be another user's.
    assert_eq!(of(Thread::Control, false, false), all);
    assert_eq!(of(Thread::Control, true, true), all);
}
