//! A headless Chromium, told what to do over its debugging protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket, connect};

/// How long a page may take to be as expected.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with one page. Ended when dropped.
pub struct Browser {
    child: Child,
    _profile: TempDir,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    next: u64,
    /// What the page complained about.
    pub complaints: VecDeque<String>,
}

impl Browser {
    /// Opens a page; `None`, with a word about it, where there is no Chromium and none is required.
    pub fn open(url: &str) -> Option<Self> {
        const CHROMIUM: &str = "chromium-headless-shell";
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(CHROMIUM)
            .args(["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                assert!(
                    std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_none(),
                    "{CHROMIUM}: {error}"
                );
                println!("skipped: no {CHROMIUM}");
                return None;
            }
        };
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut lines = said.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.strip_prefix("DevTools listening on ")?.to_owned()))
            .unwrap();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = connect(address).unwrap();
        let mut browser = Self {
            child,
            _profile: profile,
            socket,
            session: None,
            next: 0,
            complaints: VecDeque::new(),
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser.call("Log.enable", &json!({}));
        browser.call("Runtime.enable", &json!({}));
        browser.call("Page.enable", &json!({}));
        browser.go(url);
        Some(browser)
    }

    /// Goes to another page.
    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// Makes the page as wide as a phone, or as wide as a desk.
    pub fn set_width(&mut self, width: u32) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// The value of an expression on the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            &json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        let exception = &result["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        // Before the page is there, much of it cannot be asked about.
        let tried = format!(
            "(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        );
        while self.eval(&tried) != Value::Bool(true) {
            if Instant::now() > end {
                let text = self.eval("document.body.innerText");
                panic!("not so: {expression}\n{text}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut request = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let request = Message::text(request.to_string());
        self.socket.send(request).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            let entry = &message["params"]["entry"];
            let thrown = message["method"] == "Runtime.exceptionThrown";
            if thrown || entry["level"] == "error" {
                self.complaints.push_back(message["params"].to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The program is a script, and the browser many processes: all of its group. Nothing more can be done about
        // those that cannot be ended.
        if let Ok(id) = self.child.id().try_into() {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
