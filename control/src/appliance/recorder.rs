//! The flight recorder: a thread that keeps the last turns of the state machines, and hands them over.
//!
//! It has a second pair of state machines, which follow the first ones as many turns behind as are kept. So the
//! control thread has nothing to do for it but to say what goes in and comes out.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use pmip_proto::recording::{LmaInput, MagInput, Output, Recorded, Recorder, Tape};
use pmip_proto::{Lma, Mag, Now};
use pmip_wire::DecodeError;

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
/// How long a process that panics waits for its recording.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to be kept, or what is kept to be handed over.
#[derive(Debug)]
enum Note {
    Lma(Entry<LmaInput>),
    Mag(Entry<MagInput>),
    Remark(Remark),
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
    ended: bool,
}

impl FlightTape {
    fn note(&mut self, note: Note) {
        if self.ended {
            return;
        }
        self.ended = self.to.len() > MOST_WAITING;
        let note = if self.ended {
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
        let mut text = format!("rejected, from {from}: {error}: ");
        for octet in header.iter().take(MOST_OCTETS) {
            // Writing to a text does not fail.
            let _ = write!(text, "{octet:02x}");
        }
        self.note(Note::Remark(Remark { time, text }));
    }

    /// Has what is kept handed over.
    pub(super) fn take(&self, to: Sink<Vec<u8>>) {
        let _ = self.to.send(Note::Take(to));
    }

    /// Has what is kept written to a file, as soon as any thread of this process panics.
    pub(super) fn save_on_panic(&self, name: &str, directory: &Path) {
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

/// Begins to record machines that have seen nothing yet, and keeps so many turns of each.
///
/// # Errors
/// If there can be no thread.
pub(super) fn start(
    name: &str,
    lma: Option<&Lma>,
    mag: Option<&Mag>,
    turns: usize,
) -> anyhow::Result<FlightTape> {
    let (to, notes) = unbounded();
    let keeper = Keeper {
        name: name.to_owned(),
        turns,
        lma: lma.map(|lma| Recorder::new(lma.clone(), turns)),
        mag: mag.map(|mag| Recorder::new(mag.clone(), turns)),
        remarks: VecDeque::new(),
        ended: None,
    };
    std::thread::Builder::new()
        .name(THREAD.into())
        .spawn(move || keeper.run(&notes))
        .context("no thread for the flight recorder")?;
    Ok(FlightTape { to, ended: false })
}

/// What the thread keeps.
struct Keeper {
    name: String,
    turns: usize,
    lma: Option<Recorder<Lma>>,
    mag: Option<Recorder<Mag>>,
    remarks: VecDeque<Remark>,
    ended: Option<String>,
}

impl Keeper {
    /// Until nobody could say anything any more.
    fn run(mut self, notes: &Receiver<Note>) {
        for note in notes {
            match note {
                Note::Lma(entry) => keep(self.lma.as_mut(), entry),
                Note::Mag(entry) => keep(self.mag.as_mut(), entry),
                Note::Remark(remark) => {
                    if self.remarks.len() >= self.turns {
                        self.remarks.pop_front();
                    }
                    self.remarks.push_back(remark);
                }
                Note::Ended(why) => self.ended = Some(why),
                Note::Take(to) => match self.file("by command") {
                    // Whoever asked may have gone.
                    Ok(octets) => drop(to.offer(octets)),
                    Err(error) => tracing::error!("{error:#}"),
                },
                Note::Save(path, reply) => {
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

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests;
