//! DPDK's environment abstraction layer: memory, drivers and DPDK's own threads.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::fs;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys::rte_mempool;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::EalError;
use crate::log::{self, Level, Mark};

/// Where packets live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Ordinary pages: needs nothing, costs some 40 cycles a packet in address translation.
    #[default]
    Anonymous,
    /// The system's reserved hugepages. No file is left behind and processes do not meet.
    Hugepages,
}

/// How to start the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// Where packets live.
    pub memory: Memory,
    /// MiB for all pools and drivers, taken at the start.
    pub memory_mib: u32,
    /// PCI addresses of the cards to use, such as `0000:3b:00.0`. Without any, the PCI bus is not
    /// looked at. All other devices appear when their port is opened.
    pub pci: Vec<String>,
    /// Names the (empty) runtime directory of the process below `/run/dpdk`.
    pub file_prefix: String,
    /// A directory in place of `/run`, for a process that has become another user: DPDK would take that of whom it was.
    /// Then this thread has to be the only one.
    pub run: Option<PathBuf>,
    /// The least severe lines that DPDK writes to [`log`].
    pub log_level: Level,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            memory: Memory::Anonymous,
            memory_mib: 256,
            pci: Vec::new(),
            file_prefix: "flowmob".into(),
            run: None,
            log_level: Level::Warning,
        }
    }
}

/// The environment. It stays with the thread that made it; others get an [`EalHandle`].
///
/// Dropping it gives everything back, provided that no pool, port, queue, registered thread or
/// packet is left. Otherwise it leaves all as it is to the end of the process: a late packet must
/// not be freed into memory that is gone.
#[derive(Debug)]
pub struct Eal {
    handle: EalHandle,
    /// `rte_eal_cleanup` wants the thread that called `rte_eal_init`, which is also the one thread
    /// with a pool cache that no [`RegisteredThread`](crate::RegisteredThread) accounts for.
    not_send: PhantomData<*const ()>,
}

/// Proof that the environment runs, and the reason why it goes on.
#[derive(Clone, Debug)]
pub struct EalHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: EalConfig,
    /// Every pool made, freed only when the environment goes.
    pools: Mutex<Vec<Pool>>,
}

#[derive(Debug)]
struct Pool(NonNull<rte_mempool>);

// SAFETY: rte_mempool has no thread affinity; see `Mempool`.
unsafe impl Send for Pool {}

static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts the environment. The caller's CPU affinity is the same afterwards, although DPDK
    /// pins the calling thread.
    ///
    /// # Errors
    ///
    /// [`EalError`]. After [`EalError::Init`] the process cannot try again.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        let affinity = affinity().map_err(|reason| EalError::Affinity {
            action: "read",
            reason,
        })?;
        let mut arguments = arguments(config, &affinity)?;
        check_memory(config)?;
        if let Some(directory) = &config.run {
            lead_to(directory)?;
        }
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        log::capture();
        let mark = Mark::now();
        let result = init(&mut arguments);
        let code = errno();
        let restored = sched_setaffinity(Pid::from_raw(0), &affinity);
        if result < 0 {
            return Err(EalError::Init {
                reason: reason(code),
                said: mark.said(),
            });
        }
        restored.map_err(|reason| EalError::Affinity {
            action: "restore",
            reason,
        })?;
        let shared = Shared {
            config: config.clone(),
            pools: Mutex::new(Vec::new()),
        };
        Ok(Self {
            handle: EalHandle(Arc::new(shared)),
            not_send: PhantomData,
        })
    }

    /// A handle for other threads.
    pub fn handle(&self) -> EalHandle {
        self.handle.clone()
    }
}

impl Deref for Eal {
    type Target = EalHandle;

    fn deref(&self) -> &EalHandle {
        &self.handle
    }
}

impl EalHandle {
    /// What the environment was started with.
    pub fn config(&self) -> &EalConfig {
        &self.0.config
    }

    /// The runtime directory of the process, named by [`EalConfig::file_prefix`].
    pub fn runtime_directory(&self) -> PathBuf {
        // SAFETY: the environment runs as long as there is a handle.
        let directory = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
        // SAFETY: DPDK returns a NUL-terminated string in static storage.
        let directory = unsafe { CStr::from_ptr(directory) };
        PathBuf::from(OsStr::from_bytes(directory.to_bytes()))
    }

    pub(crate) fn keep_pool(&self, pool: NonNull<rte_mempool>) {
        self.0
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Pool(pool));
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // DPDK leaves its runtime directory behind, one for each process. Nothing of ours is in it,
        // and if somebody else's is, it stays.
        let _ = fs::remove_dir(self.handle.runtime_directory());
        // With another handle around, a port, queue, pool or registered thread is.
        let Some(shared) = Arc::get_mut(&mut self.handle.0) else {
            return;
        };
        let pools = shared
            .pools
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // SAFETY: pools are valid until freed below.
        let idle =
            |pool: &Pool| (unsafe { dpdk_sys::rte_mempool_in_use_count(pool.0.as_ptr()) }) == 0;
        if !pools.iter().all(idle) {
            return;
        }
        for pool in pools.drain(..) {
            // SAFETY: all packets are back, nobody can allocate without a handle, and no thread is
            // still inside a free: caches belong to registered threads (none is left) and to
            // this one, and a free without a cache ends with the update that the count above saw.
            unsafe { dpdk_sys::rte_mempool_free(pool.0.as_ptr()) };
        }
        // SAFETY: called once, by the thread that initialised, when nothing of DPDK is in use.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// Has DPDK make its runtime directory below this one, which it takes from the environment.
fn lead_to(directory: &Path) -> Result<(), EalError> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(EalError::Option {
            option: "run",
            value: directory.display().to_string(),
            why: "must be given before there are threads",
        });
    }
    // SAFETY: there is no other thread that could read the environment meanwhile, as the kernel has just said.
    unsafe { std::env::set_var("RUNTIME_DIRECTORY", directory) };
    Ok(())
}

fn affinity() -> Result<CpuSet, Errno> {
    sched_getaffinity(Pid::from_raw(0))
}

/// Our own argument vector, never the program's: DPDK's options are not flowmob's.
fn arguments(config: &EalConfig, affinity: &CpuSet) -> Result<Vec<CString>, EalError> {
    let bad = |option, value: &str, why| EalError::Option {
        option,
        value: value.into(),
        why,
    };
    if config.memory_mib == 0 {
        return Err(bad("memory_mib", "0", "must be positive"));
    }
    let prefix = &config.file_prefix;
    if prefix.is_empty()
        || !prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    {
        return Err(bad(
            "file_prefix",
            prefix,
            "must be letters, digits, - and _",
        ));
    }
    // The main lcore is this thread, on a CPU it may use: CPU 0 may not be ours in a container.
    let cpu = (0..CpuSet::count())
        .find(|&cpu| affinity.is_set(cpu) == Ok(true))
        .unwrap_or(0);
    let level = config.log_level.option();
    let mut arguments = vec![
        "flowmob".to_owned(),
        format!("--lcores=0@{cpu}"),
        format!("-m{}", config.memory_mib),
        format!("--file-prefix={prefix}"),
        "--no-telemetry".into(),
        // The level that all messages must have, then the level of each component.
        format!("--log-level={level}"),
        format!("--log-level=*:{level}"),
    ];
    match config.memory {
        // --in-memory is refused together with --no-huge.
        Memory::Anonymous => arguments.extend(["--no-huge".into(), "--no-shconf".into()]),
        // One descriptor for many pages: the vhost-user protocol hands over eight at most.
        Memory::Hugepages => {
            arguments.extend(["--in-memory".into(), "--single-file-segments".into()]);
        }
    }
    if config.pci.is_empty() {
        arguments.extend(["--no-pci".into(), "--iova-mode=va".into()]);
    }
    for address in &config.pci {
        // Whether a card can do with virtual addresses depends on the IOMMU: DPDK decides.
        let device = crate::Device::Pci {
            address: address.clone(),
        };
        let address = device
            .eal_args(0, 1, 1500)
            .map_err(|_| bad("pci", address, "is not a PCI address such as 0000:3b:00.0"))?;
        arguments.push(format!("--allow={address}"));
    }
    arguments
        .into_iter()
        .map(|argument| CString::new(argument).map_err(|_| bad("argument", "", "has a NUL")))
        .collect()
}

fn init(arguments: &mut Vec<CString>) -> c_int {
    // DPDK permutes the vector and keeps pointers into the strings for good: they are leaked,
    // once a process.
    let mut argv: Vec<*mut c_char> = arguments.drain(..).map(CString::into_raw).collect();
    // At most a few dozen.
    let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
    argv.push(std::ptr::null_mut());
    // SAFETY: `argv` has `argc` writable C strings that are never freed, and a null at its end.
    unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) }
}

/// Refuses what DPDK would answer with a crash or the kernel with the OOM killer.
fn check_memory(config: &EalConfig) -> Result<(), EalError> {
    let needed_mib = u64::from(config.memory_mib);
    match config.memory {
        Memory::Anonymous => {
            // Unknown without /proc: then DPDK's own answer must do.
            let Some(available) = meminfo_kib("MemAvailable:") else {
                return Ok(());
            };
            let available_mib = available / 1024;
            if needed_mib > available_mib {
                return Err(EalError::Memory {
                    needed_mib,
                    available_mib,
                });
            }
        }
        Memory::Hugepages => {
            let page_kib = meminfo_kib("Hugepagesize:").unwrap_or(2048).max(1);
            let free_mib = free_hugepages_mib();
            if needed_mib > free_mib {
                let pages = (needed_mib * 1024).div_ceil(page_kib);
                return Err(EalError::Hugepages {
                    needed_mib,
                    free_mib,
                    page_kib,
                    pages,
                });
            }
        }
    }
    Ok(())
}

fn meminfo_kib(key: &str) -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Free hugepages of all sizes: `/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages`.
fn free_hugepages_mib() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return 0;
    };
    let free_kib = |entry: fs::DirEntry| -> Option<u64> {
        let name = entry.file_name();
        let kib: u64 = name
            .to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(kib * free.trim().parse::<u64>().ok()?)
    };
    sizes
        .filter_map(Result::ok)
        .filter_map(free_kib)
        .sum::<u64>()
        / 1024
}

/// DPDK's error number of the calling thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::dpdk_sys_errno() }
}

/// What an error number means; negative ones, as DPDK's functions return, are the same.
pub(crate) fn reason(code: c_int) -> String {
    // SAFETY: returns a C string in storage of the calling thread.
    let text = unsafe { dpdk_sys::rte_strerror(code.saturating_abs()) };
    // SAFETY: the string is valid until this thread's next call.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(config: &EalConfig) -> Vec<String> {
        let mut cpus = CpuSet::new();
        cpus.set(3).unwrap();
        let arguments = arguments(config, &cpus).unwrap();
        arguments
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn anonymous_memory_needs_nothing_of_the_system() {
        let words = words(&EalConfig::default());
        for word in [
            "--no-huge",
            "--no-shconf",
            "--no-pci",
            "--iova-mode=va",
            "--lcores=0@3",
        ] {
            assert!(
                words.iter().any(|have| have == word),
                "{word} not in {words:?}"
            );
        }
        assert!(!words.iter().any(|word| word == "--in-memory"));
    }

    #[test]
    fn hugepages_leave_no_files_and_cards_are_allowed_one_by_one() {
        let words = words(&EalConfig {
            memory: Memory::Hugepages,
            pci: vec!["0000:3b:00.0".into()],
            ..EalConfig::default()
        });
        for word in [
            "--in-memory",
            "--single-file-segments",
            "--allow=0000:3b:00.0",
        ] {
            assert!(
                words.iter().any(|have| have == word),
                "{word} not in {words:?}"
            );
        }
        assert!(
            !words
                .iter()
                .any(|word| word == "--no-pci" || word == "--no-huge")
        );
    }

    #[test]
    fn options_that_dpdk_would_misread_are_refused() {
        let cpus = CpuSet::new();
        for config in [
            EalConfig {
                memory_mib: 0,
                ..EalConfig::default()
            },
            EalConfig {
                file_prefix: "../x".into(),
                ..EalConfig::default()
            },
            EalConfig {
                pci: vec!["eth0".into()],
                ..EalConfig::default()
            },
        ] {
            assert!(
                matches!(arguments(&config, &cpus), Err(EalError::Option { .. })),
                "{config:?}"
            );
        }
    }

    #[test]
    fn error_numbers_read_the_same_with_either_sign() {
        assert_eq!(
            reason(-(Errno::ENODEV as c_int)),
            reason(Errno::ENODEV as c_int)
        );
        assert_eq!(reason(Errno::ENODEV as c_int), "No such device");
    }
}
