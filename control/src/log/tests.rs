//! What is written, as it changes.

use std::sync::{Mutex, PoisonError};

use config::LogLevel as Configured;
use tracing::subscriber::with_default;

use super::*;
use crate::api::log::MobileSwitch;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// Logging into memory. What is done with it goes on in `body`, and so does whatever changes it: on a thread without a
/// subscriber that would have all others written to no more.
fn with(log: &Log, body: impl FnOnce(&Logging, &Written, &dyn Fn() -> Option<LevelFilter>)) {
    // Whether a line is looked at at all, the tracing library keeps for all threads, and asks anew whenever there is
    // another subscriber.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let logging = Logging::new(log);
    let written = Written::default();
    let out = written.clone();
    let subscriber = logging.subscriber(log.format, false, move || out.clone());
    let hint = {
        let chosen = Chosen(logging.clone());
        move || Filter::<tracing_subscriber::Registry>::max_level_hint(&chosen)
    };
    with_default(subscriber, || body(&logging, &written, &hint));
}

fn log(level: Configured) -> Log {
    Log {
        level,
        format: LogFormat::Text,
        addresses: false,
    }
}

fn level(level: LogLevel) -> LogChange {
    LogChange {
        level: Some(level),
        mobile: None,
    }
}

fn mobile(mn: &str, on: bool) -> LogChange {
    LogChange {
        level: None,
        mobile: Some(MobileSwitch {
            mn: mn.to_owned(),
            on,
        }),
    }
}

/// The messages of the lines that are written of these.
fn said(written: &Written) -> Vec<&'static str> {
    let (one, two) = (MnId::new("mn1@x").unwrap(), MnId::new("mn2@x").unwrap());
    let of = |mn: &MnId| Some(tracing::field::display(mn.clone()));
    let nobody = of(&one).filter(|_| false);
    written.take();
    tracing::error!("failed");
    tracing::warn!(mn = of(&two), "odd");
    tracing::info!(mn = of(&one), "attached");
    tracing::debug!(mn = of(&one), "first");
    tracing::debug!(mn = of(&two), "second");
    tracing::debug!(mn = nobody, "nobody's");
    tracing::debug!("debugged");
    tracing::trace!(mn = of(&one), "stepped");
    let text = written.take();
    let all = [
        "failed", "odd", "attached", "first", "second", "nobody's", "debugged", "stepped",
    ];
    all.into_iter().filter(|word| text.contains(word)).collect()
}

#[test]
fn levels_and_mobiles_change_while_lines_are_written() {
    with(&log(Configured::Info), |logging, written, hint| {
        assert_eq!(said(written), ["failed", "odd", "attached"]);
        assert_eq!(hint(), Some(LevelFilter::INFO));
        let state = logging.change(&mobile("mn1@x", true), true).unwrap();
        assert_eq!(state.mobiles, ["mn1@x"]);
        assert_eq!(hint(), Some(LevelFilter::DEBUG));
        assert_eq!(said(written), ["failed", "odd", "attached", "first"]);
        logging.change(&level(LogLevel::Error), true).unwrap();
        assert_eq!(said(written), ["failed", "attached", "first"]);
        logging.change(&mobile("mn2@x", true), true).unwrap();
        let both = ["failed", "odd", "attached", "first", "second"];
        assert_eq!(said(written), both);
        for mn in ["mn1@x", "mn2@x", "mn3@x"] {
            logging.change(&mobile(mn, false), true).unwrap();
        }
        assert_eq!(said(written), ["failed"]);
        assert_eq!(hint(), Some(LevelFilter::ERROR));
        logging.change(&level(LogLevel::Debug), true).unwrap();
        assert_eq!(said(written).len(), 7);
        logging.change(&level(LogLevel::Trace), true).unwrap();
        assert_eq!(said(written).len(), 8);
    });
}

#[test]
fn what_cannot_be_changed_is_refused() {
    with(&log(Configured::Info), |logging, _, _| {
        let before = logging.state();
        let refused = |change: &LogChange, mobiles, word: &str| {
            let problem = logging.change(change, mobiles).unwrap_err();
            assert!(problem.detail.contains(word), "{problem}");
        };
        let nothing = LogChange {
            level: None,
            mobile: None,
        };
        refused(&nothing, true, "neither");
        refused(&mobile("", true), true, "mn: ");
        refused(&mobile("mn1@x", true), false, "mobile node");
        assert_eq!(logging.state(), before);
        for n in 0..MAX_MOBILES {
            let on = mobile(&format!("mn{n}@x"), true);
            logging.change(&on, true).unwrap();
        }
        refused(&mobile("one@more", true), true, "64 mobiles");
        assert!(logging.change(&mobile("mn1@x", true), true).is_ok());
    });
}

#[test]
fn a_reload_changes_what_the_file_changes() {
    let old = log(Configured::Info);
    with(&old, |logging, _, _| {
        logging.change(&level(LogLevel::Debug), true).unwrap();
        logging.reload(&old, &old);
        assert_eq!(logging.state().level, LogLevel::Debug);
        let new = Log {
            level: Configured::Warn,
            addresses: true,
            ..old.clone()
        };
        logging.reload(&old, &new);
        let state = logging.state();
        assert_eq!((state.level, state.addresses), (LogLevel::Warn, true));
    });
}

#[test]
fn addresses_are_for_a_close_look_or_for_those_who_ask() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let asked = Log {
            format,
            ..log(Configured::Debug)
        };
        with(&asked, |logging, written, _| {
            let address = "2001:db8::1";
            tracing::info!(%address, "from {address} by 02:00:00:00:01:01");
            tracing::debug!(%address, "closely");
            let text = written.take();
            let (info, debug) = text.split_once('\n').unwrap();
            assert!(info.contains("from <address> by <link-layer>"), "{info}");
            assert!(!info.contains(address), "{info}");
            assert!(debug.contains(address), "{debug}");
            let new = Log {
                addresses: true,
                ..asked.clone()
            };
            logging.reload(&asked, &new);
            tracing::info!(%address, "here");
            let text = written.take();
            assert!(text.contains(address), "{text}");
        });
    }
}

#[test]
fn in_json_fields_are_fields() {
    let json = Log {
        format: LogFormat::Json,
        ..log(Configured::Info)
    };
    with(&json, |_, written, _| {
        let mn = MnId::new("mn1@x").unwrap();
        tracing::info!(
            mn = Some(tracing::field::display(&mn)),
            "attached with {}",
            "2001:db8::/64"
        );
        let line: serde_json::Value = serde_json::from_str(&written.take()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["mn"], "mn1@x");
        assert_eq!(line["fields"]["message"], "attached with <prefix>");
    });
}

#[test]
fn a_close_look_has_its_rate_and_says_what_it_left_out() {
    const LINES: u64 = 20_000;
    with(&log(Configured::Debug), |logging, written, _| {
        for number in 0..LINES {
            tracing::debug!(number, "one of many");
        }
        // What matters is written whatever there is of the rest.
        tracing::info!("news");
        let lines = written.take();
        let close = lines.lines().filter(|line| line.contains("one of many"));
        let close = u64::try_from(close.count()).unwrap();
        let left_out = logging.state().not_written;
        assert_eq!(close + left_out, LINES);
        assert!(close >= 1000 && left_out > 0, "{close}");
        assert!(lines.contains("news"));
    });
}
