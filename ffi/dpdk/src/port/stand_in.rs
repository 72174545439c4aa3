//! A back end of virtio that does nothing.
//!
//! DPDK's virtio-user waits in its probe until the back end has connected, and then asks it for what it can do: a
//! process would not start before its neighbour. This one connects first, and leaves when the port is started. From then
//! on it is as if a back end had gone, and the driver takes the next one that comes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests of the vhost-user protocol that are answered.
const GET_FEATURES: u32 = 1;
const GET_VRING_BASE: u32 = 11;

/// Of a message's flags: the version, and that it is a reply.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;

/// Features (Virtio 1.1 §5.1.3 and §6). What is not agreed on now will not be with a true back end, and what is the
/// driver relies on: so only what all have.
const NET_F_MQ: u64 = 1 << 22;
const F_VERSION_1: u64 = 1 << 32;

/// No message is longer.
const MAX_PAYLOAD: usize = 4096;

/// How often the driver's socket is tried.
const STEP: Duration = Duration::from_millis(1);

/// It, at work; leaves when dropped.
#[derive(Debug)]
pub(super) struct StandIn {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    leaves: AtomicBool,
    connection: Mutex<Option<UnixStream>>,
}

impl StandIn {
    /// Connects to the socket as soon as somebody listens there, in a thread of its own.
    ///
    /// # Errors
    /// If there cannot be a thread.
    pub(super) fn at(socket: &Path, queues: u16) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (with, socket) = (Arc::clone(&shared), PathBuf::from(socket));
        let offered = F_VERSION_1 | if queues > 1 { NET_F_MQ } else { 0 };
        let thread = std::thread::Builder::new()
            .name("virtio-stand-in".into())
            .spawn(move || {
                if let Some(connection) = with.connect(&socket) {
                    // An end of the connection is what it waits for.
                    let _ = serve(connection, offered);
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.leaves.store(true, Ordering::Relaxed);
        if let Some(connection) = &*self.shared.connection() {
            // It may have ended already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn connection(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, socket: &Path) -> Option<UnixStream> {
        loop {
            {
                // Under the lock, so that whoever has us leave finds the connection.
                let mut place = self.connection();
                if self.leaves.load(Ordering::Relaxed) {
                    return None;
                }
                if let Ok(connection) = UnixStream::connect(socket) {
                    *place = connection.try_clone().ok();
                    return place.is_some().then_some(connection);
                }
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Answers what has to be answered, until the connection ends. Descriptors that come along are closed by the kernel, as
/// they are not asked for.
fn serve(mut connection: UnixStream, offered: u64) -> std::io::Result<()> {
    loop {
        let mut words = [[0; 4]; 3];
        connection.read_exact(words.as_flattened_mut())?;
        let [request, _flags, size] = words.map(u32::from_ne_bytes);
        let mut payload = [0; MAX_PAYLOAD];
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let payload = payload
            .get_mut(..size)
            .ok_or(std::io::ErrorKind::InvalidData)?;
        connection.read_exact(payload)?;
        let answer = match request {
            GET_FEATURES => offered.to_ne_bytes(),
            GET_VRING_BASE => {
                // The queue, and where in it we have stopped: at its begin.
                let mut state = [0; 8];
                for (to, from) in state.iter_mut().zip(payload.iter().take(4)) {
                    *to = *from;
                }
                state
            }
            _ => continue,
        };
        let head = [request, VERSION | REPLY, 8].map(u32::to_ne_bytes);
        connection.write_all(&[head.as_flattened(), &answer].concat())?;
    }
}
