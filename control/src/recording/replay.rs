//! `flowmob replay`: a recording is decided again, or read.

use std::fmt::Write;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use pmip_proto::recording::{Machine, Recording};

use super::FlightRecording;

/// Puts a recording through the state machines again; what came of it, and whether all was decided the same.
pub(crate) fn replay(recording: &FlightRecording) -> (String, bool) {
    let mut text = format!(
        "{}, recorded {}: {}\n",
        recording.name,
        clock(recording.time),
        recording.why
    );
    if let Some(ended) = &recording.ended {
        // Writing to a text does not fail.
        let _ = writeln!(text, "it ends before: {ended}");
    }
    let lma = recording.lma.as_ref().map(|lma| again("lma", lma));
    let mag = recording.mag.as_ref().map(|mag| again("mag", mag));
    let mut same = true;
    for (said, agrees) in [lma, mag].into_iter().flatten() {
        text += &said;
        same &= agrees;
    }
    (text.trim_end().to_owned(), same)
}

fn again<M: Machine>(role: &str, recording: &Recording<M>) -> (String, bool) {
    let mut text = format!("{role}: {} turns", recording.turns.len());
    let mut times = recording.turns.iter().flat_map(|turn| &turn.inputs);
    let first = times.next();
    let last = times.next_back().or(first);
    if let (Some((first, _)), Some((last, _))) = (first, last) {
        let _ = write!(text, " from {} to {}", clock(first.wall), clock(last.wall));
    }
    let _ = write!(text, ", {} before them forgotten: ", recording.forgotten);
    let at = At::hook(role);
    let difference = recording.replay(|turn| {
        let inputs = recording.turns.get(turn).map(|turn| &turn.inputs);
        at.set(format!("{inputs:?}"));
    });
    let Some(difference) = difference else {
        text += "decided the same\n";
        return (text, true);
    };
    text += "not decided the same\n";
    let turn = recording.turns.get(difference.turn);
    for (now, input) in turn.iter().flat_map(|turn| &turn.inputs) {
        let _ = writeln!(text, "  {} in   {input:?}", clock(now.wall));
    }
    let nothing = || "nothing".to_owned();
    let then = difference.then.unwrap_or_else(nothing);
    let now = difference.now.unwrap_or_else(nothing);
    let _ = writeln!(text, "  then: {then}\n  now:  {now}");
    (text, false)
}

/// Says on what, if this program panics on a recording: that is what there was to find out.
struct At(Arc<Mutex<String>>);

impl At {
    fn hook(role: &str) -> Self {
        let inputs = Arc::<Mutex<String>>::default();
        let (at, role) = (Arc::clone(&inputs), role.to_owned());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            let at = at.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "flowmob: the {role} panics on {at}");
        }));
        Self(inputs)
    }

    fn set(&self, inputs: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = inputs;
    }
}

impl Drop for At {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

/// What went in and came out, a line each, by time; only lines with a text in them, if one is given.
pub(crate) fn list(recording: &FlightRecording, about: Option<&str>) -> String {
    let mut lines: Vec<(Duration, String)> = Vec::new();
    if let Some(lma) = &recording.lma {
        turns("lma", lma, &mut lines);
    }
    if let Some(mag) = &recording.mag {
        turns("mag", mag, &mut lines);
    }
    for remark in &recording.remarks {
        lines.push((remark.time, format!("    -    {}", remark.text)));
    }
    lines.retain(|(_, line)| about.is_none_or(|about| line.contains(about)));
    lines.sort_by_key(|(time, _)| *time);
    let lines = lines
        .into_iter()
        .map(|(time, line)| format!("{} {line}", clock(time)));
    lines.collect::<Vec<_>>().join("\n")
}

fn turns<M: Machine>(role: &str, recording: &Recording<M>, lines: &mut Vec<(Duration, String)>) {
    for turn in &recording.turns {
        let mut time = Duration::ZERO;
        for (now, input) in &turn.inputs {
            time = now.wall;
            lines.push((time, format!("{role} in   {input:?}")));
        }
        let outputs = turn.outputs.iter();
        lines.extend(outputs.map(|output| (time, format!("{role} out  {output}"))));
    }
}

/// A time, UTC.
fn clock(since_1970: Duration) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + since_1970).to_string()
}
