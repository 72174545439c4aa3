//! The yardstick: Debian's `dpdk-testpmd`, which forwards between null ports and changes nothing but
//! the Ethernet addresses.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::case::Memory;
use crate::clock::precise;

/// How long testpmd may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One running testpmd; dropping it ends it.
struct Testpmd {
    child: Child,
    input: ChildStdin,
    /// Its output, line by line.
    output: Receiver<String>,
}

impl Testpmd {
    fn start(memory: Memory, core: usize) -> Result<Self> {
        let pages: &[&str] = match memory {
            Memory::Hugepages => &["--in-memory"],
            Memory::Anonymous => &["--no-huge", "--no-shconf"],
        };
        // Into a pipe the C library would hold its lines back until they fill a page.
        let mut child = Command::new("stdbuf")
            .args(["--output=L", "dpdk-testpmd"])
            .arg(format!("--lcores=0@{core},1@{core}"))
            .args(["-m256", "--no-pci", "--no-telemetry", "--iova-mode=va"])
            .args(["--file-prefix=flowmob-bench-testpmd"])
            .args(["--vdev=net_null0,size=64", "--vdev=net_null1,size=64"])
            .args(pages)
            .args(["--", "--interactive", "--forward-mode=mac", "--auto-start"])
            .args(["--total-num-mbufs=8191"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting dpdk-testpmd (Debian's package is dpdk-dev)")?;
        let input = child.stdin.take().context("testpmd's input")?;
        let stdout = child.stdout.take().context("testpmd's output")?;
        let (lines, output) = channel();
        thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            read.map_while(|line| lines.send(line).ok()).count()
        });
        Ok(Self {
            child,
            input,
            output,
        })
    }

    /// Packets forwarded since the start.
    fn forwarded(&mut self) -> Result<u64> {
        self.input.write_all(b"show port stats all\n")?;
        let (mut sum, mut ports) = (0, 0);
        while ports < 2 {
            let Ok(line) = self.output.recv_timeout(PATIENCE) else {
                bail!("dpdk-testpmd does not answer; has it the memory it needs?");
            };
            if let Some(rest) = line.trim().strip_prefix("TX-packets:") {
                let number = rest.split_whitespace().next().unwrap_or_default();
                sum += number.parse::<u64>().context("testpmd's TX-packets")?;
                ports += 1;
            }
        }
        Ok(sum)
    }

    /// How long its threads have run; all but the forwarding one sleep.
    fn ran(&self) -> Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanoseconds = stat.split_whitespace().next().unwrap_or_default();
            sum += nanoseconds.parse::<u64>().context("schedstat")?;
        }
        Ok(Duration::from_nanos(sum))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // It has nothing to save, and may not be listening.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Cycles per packet in each of `rounds` stretches of `length`.
///
/// # Errors
/// If testpmd is missing or does not run.
pub(crate) fn measure(
    memory: Memory,
    core: usize,
    rounds: u32,
    length: Duration,
    tsc_hz: f64,
) -> Result<Vec<f64>> {
    let mut testpmd = Testpmd::start(memory, core)?;
    testpmd.forwarded()?;
    thread::sleep(Duration::from_millis(300));
    let mut before = (testpmd.forwarded()?, testpmd.ran()?);
    let mut cycles = Vec::new();
    for _ in 0..rounds {
        thread::sleep(length);
        let now = (testpmd.forwarded()?, testpmd.ran()?);
        let (packets, ran) = (now.0 - before.0, now.1.saturating_sub(before.1));
        if packets == 0 {
            bail!("dpdk-testpmd forwards nothing");
        }
        cycles.push(ran.as_secs_f64() * tsc_hz / precise(packets));
        before = now;
    }
    Ok(cycles)
}
