//! The terminal: taken over, and given back whatever happens.

use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::model::Key;

/// The alternate screen; left when dropped, and before a panic is told.
#[derive(Debug)]
pub(crate) struct Screen {
    raw: bool,
}

impl Screen {
    /// Takes the terminal over. `raw`: keys come as they are pressed, and are not shown.
    ///
    /// # Errors
    /// If standard output is no terminal, or does not do as it is told.
    pub(crate) fn enter(raw: bool) -> anyhow::Result<Self> {
        anyhow::ensure!(stdout().is_terminal(), "standard output is no terminal");
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore(raw);
            told(panic);
        }));
        let screen = Self { raw };
        if raw {
            enable_raw_mode().context("the terminal gives no single keys")?;
        }
        execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(self.raw);
    }
}

/// Gives the terminal back; twice does no harm, and if it has gone nobody misses it.
fn restore(raw: bool) {
    if raw {
        let _ = disable_raw_mode();
    }
    let _ = execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = stdout().flush();
}

/// Becomes true when the program is told to end, or its terminal goes.
///
/// # Errors
/// If the system takes no handlers.
pub(crate) fn told_to_end() -> anyhow::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told)).context("no signal handler")?;
    }
    Ok(told)
}

/// Waits for so long, or less if told to end; says whether it was.
pub(crate) fn pause(time: Duration, told: &AtomicBool) -> bool {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() && !told.load(Ordering::Relaxed) {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
    told.load(Ordering::Relaxed)
}

/// What the user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Pressed a key.
    Key(Key),
    /// Made the window larger or smaller.
    Resized,
}

/// Waits for the user, but not for long.
///
/// # Errors
/// If the terminal has gone.
pub(super) fn input(patience: Duration) -> std::io::Result<Option<Input>> {
    if !event::poll(patience)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_of(key).map(Input::Key),
        Event::Resize(..) => Some(Input::Resized),
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => None,
    })
}

fn key_of(key: KeyEvent) -> Option<Key> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let known = [
        (KeyCode::Enter, Key::Enter),
        (KeyCode::Esc, Key::Escape),
        (KeyCode::Backspace, Key::Backspace),
        (KeyCode::Tab, Key::Tab),
        (KeyCode::BackTab, Key::BackTab),
        (KeyCode::Up, Key::Up),
        (KeyCode::Down, Key::Down),
        (KeyCode::Left, Key::Left),
        (KeyCode::Right, Key::Right),
        (KeyCode::PageUp, Key::PageUp),
        (KeyCode::PageDown, Key::PageDown),
        (KeyCode::Home, Key::Home),
        (KeyCode::End, Key::End),
    ];
    if let KeyCode::Char(letter) = key.code {
        return match (control, letter) {
            (true, 'c') => Some(Key::Interrupt),
            (true, _) => None,
            (false, letter) => Some(Key::Char(letter)),
        };
    }
    let same = known.into_iter().find(|(code, _)| *code == key.code);
    same.map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::process::Command;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// Plays both parts: with this set it is the program that panics.
    const PANICS: &str = "FLOWMOB_TEST_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let _screen = Screen::enter(true).unwrap();
            panic!("something has gone wrong");
        }
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(&name);
        let far = open().unwrap();
        let this = "top::terminal::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        let mut child = Command::new("setsid")
            .arg("--ctty")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(PANICS, "1")
            .stdin(open().unwrap())
            .stdout(open().unwrap())
            .stderr(open().unwrap())
            .spawn()
            .unwrap();
        let reading = std::thread::spawn(move || {
            let mut said = Vec::new();
            // Ends with an error when nobody has the other side open any more.
            let _ = File::from(near).read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        assert!(!child.wait().unwrap().success());
        let modes = tcgetattr(&far).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        drop(far);
        let said = reading.join().unwrap();
        let at = |text: &str| {
            said.find(text)
                .unwrap_or_else(|| panic!("{text:?}: {said}"))
        };
        // The alternate screen is entered, and left with the cursor shown, and then there is the message.
        assert!(at("\x1b[?1049h") < at("\x1b[?25h"));
        assert!(at("\x1b[?25h") < at("\x1b[?1049l"));
        assert!(at("\x1b[?1049l") < at("something has gone wrong"));
    }
}
