//! The dashboard in a real browser: what it shows, and that a click moves a flow.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use common::appliances::{LMAA, MN1, PROCESS, lma};
use common::browser::Browser;
use common::process::{Appliance, FLOWMOB};
use serde_json::json;

/// `flowmob dashboard` for an appliance. Ended when dropped.
struct Page {
    child: Child,
    url: String,
}

impl Page {
    fn of(appliance: &Appliance) -> Self {
        let mut child = Command::new(FLOWMOB)
            .args(["dashboard", "--listen", "127.0.0.1:0", "--socket"])
            .arg(appliance.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        Self { child, url }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Nothing more can be done about a child that cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_click_moves_a_flow() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let add = ["flow", "add", "--mn", MN1, "--bid", "1", "--proto", "udp"];
    assert!(
        lma.command(add.into_iter().chain(["--dport", "5004"]))
            .ok()
            .contains("flow 1")
    );
    let page = Page::of(&lma);
    let Some(mut browser) = Browser::open(&page.url) else {
        return;
    };
    // What it knows, it draws: the flow's line over the first gateway.
    browser.wait("document.querySelector('#flows button')");
    assert_eq!(
        browser.eval("document.getElementById('name').innerText"),
        "lma"
    );
    let at = "document.querySelector('g[data-flow=\"mn1@example.net 1\"]').dataset.peer";
    assert_eq!(browser.eval(at), "mag1");
    assert_eq!(
        browser.eval("document.querySelectorAll('#topology .node').length"),
        5
    );
    assert_eq!(
        browser.eval("document.querySelectorAll('#peers tbody tr').length"),
        2
    );
    browser.wait("document.getElementById('events').innerText.includes('attached at mag2')");
    let row = "document.querySelector('#flows tbody tr').innerText";
    let text = browser.eval(row);
    let text = text.as_str().unwrap();
    assert!(
        text.contains("dport 5004") && text.contains("mag1 (1)"),
        "{text}"
    );

    // A click on the line picks its row; one on the button moves it, which takes a while to see.
    let hit = "document.querySelector('g[data-flow] .hit').dispatchEvent(new MouseEvent('click'))";
    browser.eval(hit);
    browser.wait("document.querySelector('tr.chosen')");
    browser.eval("document.querySelector('#flows button').click()");
    browser.wait("document.getElementById('said').innerText.includes('moved to access 2')");
    browser.wait(&format!("{at} === 'mag2'"));
    browser.wait(&format!("{row}.includes('mag2 (2)')"));
    browser.wait("document.getElementById('events').innerText.includes('moved')");
    let flows = lma.show("flows");
    assert_eq!(
        (&flows[0]["bid"], &flows[0]["via"]),
        (&json!(2), &json!("mag2"))
    );
    // At the end of its slide the line is where one that is drawn anew is.
    let end = "document.querySelector('g[data-flow] .flow').getAttribute('d').split(',').pop()";
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let slid = browser.eval(end);
    browser.go(&page.url);
    browser.wait("document.querySelector('g[data-flow] .flow')");
    assert_eq!(browser.eval(end), slid);

    // The filter hides what is not asked for.
    browser.eval(
        "document.getElementById('filter').value = 'mn2'; \
         document.getElementById('filter').dispatchEvent(new Event('input'))",
    );
    browser.wait("document.querySelectorAll('#topology .node').length === 4");

    // On a phone nothing sticks out.
    browser.set_width(390);
    browser.wait("document.getElementById('topology').clientWidth < 400");
    let width = browser
        .eval("document.documentElement.scrollWidth")
        .as_u64()
        .unwrap();
    assert!(width <= 390, "{width}");

    assert_eq!(browser.complaints, [""; 0]);
    // When the process has gone, the page says so.
    drop(lma);
    browser.wait("document.getElementById('state').innerText.includes('no answer')");
}

#[test]
fn the_page_asks_for_the_token() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n\
         [management]\ntcp = \"{address}\"\ntoken_file = \"token\"\n"
    );
    let _guarded = Appliance::start(directory.path(), "guarded", None, &config);
    let Some(mut browser) = Browser::open(&format!("http://{address}/")) else {
        return;
    };
    let enter = |browser: &mut Browser, token: &str| {
        browser.wait("!document.getElementById('door').hidden");
        browser.eval(&format!(
            "document.getElementById('token').value = '{token}'; \
             document.querySelector('#door button').click()"
        ));
    };
    enter(&mut browser, "wrong");
    enter(&mut browser, TOKEN);
    browser.wait("!document.getElementById('rooms').hidden");
    browser.wait("document.getElementById('peers').innerText.includes('mag1')");
    browser.wait("document.getElementById('events').innerText.includes('configuration applied')");
    assert_eq!(browser.eval("document.getElementById('door').hidden"), true);
}
