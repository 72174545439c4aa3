//! A pseudo-terminal with the program on it, read by a terminal emulator.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::process::FLOWMOB;
use super::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);
/// What stands on the screen before the program begins; small, as windows may become.
const BEFORE: &str = "$";

/// A terminal, and the program that it belongs to.
pub struct OnTerminal {
    /// Our side of it.
    near: File,
    /// The program's, which stays open to see how it was left.
    far: File,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl OnTerminal {
    /// Starts the program, which is to speak to a socket, on a terminal of so many lines and columns.
    pub fn start(socket: &Path, arguments: &[&str], size: (u16, u16)) -> Self {
        let mut command = Command::new("setsid");
        command.args(["--ctty", FLOWMOB, "--socket"]).arg(socket);
        Self::with(command.args(arguments), size)
    }

    /// The same for what a person types, where the program is found by its name and the socket is that of the environment.
    pub fn type_in(text: &str, socket: &Path, size: (u16, u16)) -> Self {
        let programs = Path::new(FLOWMOB).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", text]);
        command.env("PATH", format!("{programs}:{path}"));
        Self::with(command.env("FLOWMOB_SOCKET", socket), size)
    }

    /// A session of its own, whose terminal this is: only so keys become signals, and sizes too.
    fn with(setsid: &mut Command, (rows, columns): (u16, u16)) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let far = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        let near = File::from(near);
        set_size(&near, rows, columns);
        let mut screen = vt100::Parser::new(some(rows), some(columns), 0);
        screen.process(BEFORE.as_bytes());
        let screen = Arc::new(Mutex::new(screen));
        let seen = Arc::clone(&screen);
        let mut output = near.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(read) = output.read(&mut octets) {
                seen.lock().unwrap().process(&octets[..read]);
            }
        });
        let child = setsid
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(far.try_clone().unwrap())
            .stdout(far.try_clone().unwrap())
            .stderr(far.try_clone().unwrap())
            .spawn()
            .unwrap();
        Self {
            near,
            far,
            child,
            screen,
        }
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.near.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as wanted, and says what is on it.
    pub fn sees(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            last = self.text();
            if wanted(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} is not on the screen:\n{last}");
    }

    /// Waits for a text.
    pub fn reads(&self, text: &str) -> String {
        self.sees(text, |screen| screen.contains(text))
    }

    /// Makes the window larger or smaller.
    pub fn resize(&self, rows: u16, columns: u16) {
        let mut screen = self.screen.lock().unwrap();
        screen.screen_mut().set_size(some(rows), some(columns));
        set_size(&self.near, rows, columns);
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(id, signal).unwrap();
    }

    /// Waits for the end of the program, and finds the terminal as it was before.
    pub fn ends(mut self) -> ExitStatus {
        let status = wait_for("end of the program", PATIENCE, || {
            self.child.try_wait().unwrap()
        });
        self.sees("what was there before", |screen| screen.starts_with(BEFORE));
        let modes = tcgetattr(&self.far).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
            "{modes:?}"
        );
        wait_for("the cursor", PATIENCE, || {
            let screen = self.screen.lock().unwrap();
            let screen = screen.screen();
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        status
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing more can be done about a child that cannot be ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn some(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

fn set_size(terminal: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}
