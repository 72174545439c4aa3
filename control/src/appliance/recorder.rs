//! The flight recorder: a thread that keeps the last turns of the state machines, and hands them over.
//!
//! It has a second pair of state machines, which follow the first ones as many turns behind as are kept. So the
//! control thread has nothing to do for it but to say what goes in and comes out.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use config::Config;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use pmip_proto::recording::{LmaInput, MagInput, Output, Recorded, Recorder, Tape};
use pmip_proto::{Lma, Mag, Now};
use pmip_wire::DecodeError;

use crate::confinement::{Confinement, Thread};
use crate::recording::{FlightRecording, Remark, save};
use crate::sink::Sink;

/// An LMA that is recorded, if there is a recorder.
pub(super) type RecordedLma = Recorded<Lma, FlightTape>;
/// A MAG likewise.
pub(super) type RecordedMag = Recorded<Mag, FlightTape>;

/// The thread's name.
const THREAD: &str = "recorder";
/// What may wait for the thread before it is given up: it would be gigabytes.
const MOST_WAITING: usize = 1_000_000;
/// Octets of a message that are kept of one that is rejected.
const MOST_OCTETS: usize = 256;
/// How long a process that panics waits for its recording, with its ports as they are.
const PATIENCE: Duration = Duration::from_secs(3);
/// Recordings that panics leave in a directory.
const MOST_FILES: usize = 4;

/// Something to be kept, or what is kept to be handed over.
#[derive(Debug)]
enum Note {
    Lma(Entry<LmaInput>),
    Mag(Entry<MagInput>),
    /// A message that did not get as far as a machine.
    Rejected(Duration, Ipv6Addr, DecodeError, Vec<u8>),
    /// No more will come: it is not known what is missing.
    Ended(String),
    Take(Sink<Vec<u8>>),
    /// Into a file, because of a panic.
    Save(PathBuf, Sender<anyhow::Result<()>>),
}

/// Something that a machine took in or gave out.
#[derive(Debug)]
enum Entry<I> {
    Input(Now, I),
    Output(Box<Output>),
    EndTurn,
}

/// Where the control thread says what happens. Clones lead to the same recorder.
#[derive(Clone, Debug)]
pub(super) struct FlightTape {
    to: Sender<Note>,
    /// Too much waited once; nothing has been said since.
    ended: Arc<AtomicBool>,
    /// Somebody waits for what is kept.
    taking: Arc<AtomicBool>,
    /// What may wait for the thread.
    most: usize,
}

impl FlightTape {
    fn note(&mut self, note: Note) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let note = if self.to.len() > self.most {
            self.ended.store(true, Ordering::Relaxed);
            tracing::error!("the flight recorder does not keep up, and ends here");
            Note::Ended("the recorder did not keep up".to_owned())
        } else {
            note
        };
        // The thread ends after whoever could say something.
        let _ = self.to.send(note);
    }

    /// Notes a message that does not get as far as a machine.
    pub(super) fn rejected(
        &mut self,
        time: Duration,
        from: Ipv6Addr,
        error: &DecodeError,
        header: &[u8],
    ) {
        let octets = header.iter().copied().take(MOST_OCTETS).collect();
        self.note(Note::Rejected(time, from, *error, octets));
    }

    /// Has what is kept handed over; `false` if somebody waits for that already.
    pub(super) fn take(&self, to: Sink<Vec<u8>>) -> bool {
        if self.taking.swap(true, Ordering::Relaxed) {
            return false;
        }
        // The thread ends after whoever could say something.
        let _ = self.to.send(Note::Take(to));
        true
    }

    /// Has what is kept written to a file, as soon as any thread of this process panics.
    fn save_on_panic(&self, name: &str, directory: &Path) {
        let (to, name, directory) = (self.to.clone(), name.to_owned(), directory.to_owned());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            // The thread itself would wait for ever.
            if std::thread::current().name() != Some(THREAD) {
                let file = directory.join(format!("{name}-{}.recording", since_1970().as_secs()));
                report(&file, &wait_for_file(&to, &file));
            }
        }));
    }
}

/// Has the recording written, and waits for that.
fn wait_for_file(to: &Sender<Note>, file: &Path) -> anyhow::Result<()> {
    let (reply, answer) = bounded(1);
    to.send(Note::Save(file.to_owned(), reply))
        .ok()
        .context("the recorder has ended")?;
    answer.recv_timeout(PATIENCE).context("no answer")?
}

#[expect(clippy::print_stderr, reason = "the log may be what has panicked")]
fn report(file: &Path, written: &anyhow::Result<()>) {
    let file = file.display();
    match written {
        Ok(()) => eprintln!("flowmob: flight recording in {file}: see flowmob replay"),
        Err(error) => eprintln!("flowmob: no flight recording in {file}: {error:#}"),
    }
}

impl Tape<Lma> for FlightTape {
    fn input(&mut self, now: Now, input: LmaInput) {
        self.note(Note::Lma(Entry::Input(now, input)));
    }

    fn output(&mut self, output: Output) {
        self.note(Note::Lma(Entry::Output(output.into())));
    }

    fn end_turn(&mut self) {
        self.note(Note::Lma(Entry::EndTurn));
    }
}

impl Tape<Mag> for FlightTape {
    fn input(&mut self, now: Now, input: MagInput) {
        self.note(Note::Mag(Entry::Input(now, input)));
    }

    fn output(&mut self, output: Output) {
        self.note(Note::Mag(Entry::Output(output.into())));
    }

    fn end_turn(&mut self) {
        self.note(Note::Mag(Entry::EndTurn));
    }
}

/// Starts the recorder that a configuration asks for, which leaves its recording behind if this process panics. `confinement` is what
/// its thread gives up; `None` if whoever starts it has given that up.
///
/// # Errors
/// If there can be no thread.
pub(super) fn begin(
    config: &Config,
    machines: (Option<&Lma>, Option<&Mag>),
    confinement: Option<Confinement>,
) -> anyhow::Result<Option<FlightTape>> {
    let turns = usize::try_from(config.process.recorded_turns).unwrap_or(usize::MAX);
    if turns == 0 {
        return Ok(None);
    }
    let tape = start(&config.name, machines, turns, confinement)?;
    tape.save_on_panic(&config.name, &recordings(config));
    Ok(Some(tape))
}

/// Where a process that panics leaves its recording: with what outlives it, or else beside its socket.
fn recordings(config: &Config) -> PathBuf {
    let socket = config.management.socket.parent();
    let beside = || socket.map(Path::to_owned).unwrap_or_default();
    config.state_directory().unwrap_or_else(beside)
}

/// Begins to record machines that have seen nothing yet, and keeps so many turns of each.
///
/// # Errors
/// If there can be no thread.
fn start(
    name: &str,
    (lma, mag): (Option<&Lma>, Option<&Mag>),
    turns: usize,
    confinement: Option<Confinement>,
) -> anyhow::Result<FlightTape> {
    let (to, notes) = unbounded();
    let (ended, taking) = (Arc::default(), Arc::<AtomicBool>::default());
    let keeper = Keeper {
        name: name.to_owned(),
        turns,
        lma: lma.map(|lma| Recorder::new(lma.clone(), turns)),
        mag: mag.map(|mag| Recorder::new(mag.clone(), turns)),
        remarks: VecDeque::new(),
        ended: None,
        taking: Arc::clone(&taking),
    };
    std::thread::Builder::new()
        .name(THREAD.into())
        .spawn(move || {
            if let Some(confinement) = confinement {
                confinement.enter(Thread::Recorder);
            }
            keeper.run(&notes);
        })
        .context("no thread for the flight recorder")?;
    Ok(FlightTape {
        to,
        ended,
        taking,
        most: MOST_WAITING,
    })
}

/// What the thread keeps.
struct Keeper {
    name: String,
    turns: usize,
    lma: Option<Recorder<Lma>>,
    mag: Option<Recorder<Mag>>,
    remarks: VecDeque<Remark>,
    ended: Option<String>,
    taking: Arc<AtomicBool>,
}

impl Keeper {
    /// Until nobody could say anything any more.
    fn run(mut self, notes: &Receiver<Note>) {
        for note in notes {
            match note {
                Note::Lma(entry) => keep(self.lma.as_mut(), entry),
                Note::Mag(entry) => keep(self.mag.as_mut(), entry),
                Note::Rejected(time, from, error, octets) => {
                    if self.remarks.len() >= self.turns {
                        self.remarks.pop_front();
                    }
                    self.remarks.push_back(rejected(time, from, error, &octets));
                }
                Note::Ended(why) => self.ended = Some(why),
                Note::Take(to) => {
                    // Whoever asked may have gone.
                    if !to.is_closed() {
                        match self.file("by command") {
                            Ok(octets) => drop(to.offer(octets)),
                            Err(error) => tracing::error!("{error:#}"),
                        }
                    }
                    self.taking.store(false, Ordering::Relaxed);
                }
                Note::Save(path, reply) => {
                    forget_older(&path, &self.name);
                    let written = self.file("by a panic");
                    // Whoever waits may have lost patience.
                    let _ = reply.send(written.and_then(|octets| save(&path, &octets)));
                }
            }
        }
    }

    fn file(&self, why: &str) -> anyhow::Result<Vec<u8>> {
        let recording = FlightRecording {
            name: self.name.clone(),
            time: since_1970(),
            why: why.to_owned(),
            ended: self.ended.clone(),
            remarks: self.remarks.iter().cloned().collect(),
            lma: self.lma.as_ref().map(Recorder::recording),
            mag: self.mag.as_ref().map(Recorder::recording),
        };
        recording.write()
    }
}

fn keep<M: pmip_proto::recording::Machine>(
    recorder: Option<&mut Recorder<M>>,
    entry: Entry<M::Input>,
) {
    let Some(recorder) = recorder else { return };
    match entry {
        Entry::Input(now, input) => recorder.input(now, input),
        Entry::Output(output) => recorder.output(*output),
        Entry::EndTurn => recorder.end_turn(),
    }
}

/// A message that was rejected, in words.
fn rejected(time: Duration, from: Ipv6Addr, error: DecodeError, octets: &[u8]) -> Remark {
    let mut text = format!("rejected, from {from}: {error}: ");
    for octet in octets {
        // Writing to a text does not fail.
        let _ = write!(text, "{octet:02x}");
    }
    Remark { time, text }
}

/// Leaves only the newest of the recordings that panics have left: a process that panics at every start shall not
/// fill its disk. What cannot be read or removed stays.
fn forget_older(path: &Path, name: &str) {
    let Some(files) = path
        .parent()
        .and_then(|directory| directory.read_dir().ok())
    else {
        return;
    };
    let prefix = format!("{name}-");
    let ours = |file: &PathBuf| {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.strip_prefix(&prefix));
        file.extension()
            .is_some_and(|extension| extension == "recording")
            && number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut files: Vec<_> = files
        .flatten()
        .map(|file| file.path())
        .filter(ours)
        .collect();
    files.sort();
    files.truncate(files.len().saturating_sub(MOST_FILES - 1));
    for file in files {
        let _ = std::fs::remove_file(file);
    }
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests;
