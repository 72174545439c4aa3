//! An etcd of one's own, and a wire that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use store::{Place, Tls};

/// A node, which ends with the test.
pub(crate) struct Etcd {
    directory: tempfile::TempDir,
    clients: SocketAddr,
    peers: SocketAddr,
    child: Option<Child>,
    operations: &'static str,
    is_protected: bool,
}

impl Etcd {
    /// `None` if there is no etcd here, unless the test has to have one.
    pub(crate) fn start() -> Option<Self> {
        let is_there = Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !is_there {
            assert!(
                std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_none(),
                "etcd is needed: `.ci/setup tests` installs it"
            );
            return None;
        }
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [clients, peers] = listeners.map(|listener| listener.local_addr().unwrap());
        let mut etcd = Self {
            directory: tempfile::tempdir().unwrap(),
            clients,
            peers,
            child: None,
            operations: "128",
            is_protected: false,
        };
        etcd.restart();
        Some(etcd)
    }

    /// One that shows a certificate, and asks for one.
    pub(crate) fn protected() -> Option<Self> {
        let mut etcd = Self::start()?;
        let mut version = Command::new("openssl");
        let is_there = version.arg("version").stdout(Stdio::null()).status();
        if !is_there.is_ok_and(|status| status.success()) {
            assert!(
                std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_none(),
                "openssl is needed: `.ci/setup tests` installs it"
            );
            return None;
        }
        etcd.kill();
        etcd.certify("ca", None);
        etcd.certify("etcd", Some("ca"));
        etcd.certify("lma", Some("ca"));
        etcd.certify("stranger", None);
        etcd.is_protected = true;
        etcd.restart();
        Some(etcd)
    }

    /// Makes a certificate that another one has signed, or itself.
    fn certify(&self, name: &str, signer: Option<&str>) {
        let file = |name: &str, suffix: &str| self.file(&format!("{name}.{suffix}"));
        let config = file("openssl", "cnf");
        std::fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]);
        command.args([
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ]);
        command.args(["-subj", &format!("/CN={name}")]);
        command.arg("-config").arg(config);
        command.arg("-keyout").arg(file(name, "key"));
        command.arg("-out").arg(file(name, "pem"));
        if let Some(signer) = signer {
            command.arg("-CA").arg(file(signer, "pem"));
            command.arg("-CAkey").arg(file(signer, "key"));
        }
        let is_signer = if signer.is_some() { "FALSE" } else { "TRUE" };
        command.args([
            "-addext",
            &format!("basicConstraints=critical,CA:{is_signer}"),
        ]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// A file of this etcd's.
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate, or a key, as text.
    pub(crate) fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// One that takes larger transactions than others do.
    pub(crate) fn large() -> Option<Self> {
        let mut etcd = Self::start()?;
        etcd.kill();
        etcd.operations = "2048";
        etcd.restart();
        Some(etcd)
    }

    fn url(&self) -> String {
        let scheme = if self.is_protected { "https" } else { "http" };
        format!("{scheme}://{}", self.clients)
    }

    pub(crate) fn restart(&mut self) {
        let (clients, peers) = (self.url(), self.peers);
        let mut command = Command::new("etcd");
        if self.is_protected {
            command.arg("--cert-file").arg(self.file("etcd.pem"));
            command.arg("--key-file").arg(self.file("etcd.key"));
            command.arg("--trusted-ca-file").arg(self.file("ca.pem"));
            command.arg("--client-cert-auth");
        }
        let child = command
            .arg("--data-dir")
            .arg(self.file("data"))
            .args([format!("--listen-client-urls={clients}")])
            .args([format!("--advertise-client-urls={clients}")])
            .args([format!("--listen-peer-urls=http://{peers}")])
            .args([format!("--initial-advertise-peer-urls=http://{peers}")])
            .args([format!("--initial-cluster=default=http://{peers}")])
            .args(["--logger=zap", "--log-level=error"])
            .args(["--max-txn-ops", self.operations])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(20);
        while !self.ctl(&["endpoint", "health"]).0 {
            assert!(Instant::now() < end, "etcd does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.clients
    }

    pub(crate) fn place(&self, prefix: &str) -> Place {
        let tls = self.is_protected.then(|| {
            let own = [self.pem("lma.pem"), self.pem("lma.key")];
            let [certificate, key] = &own;
            Tls::new(&self.pem("ca.pem"), Some((certificate, key))).unwrap()
        });
        Place {
            endpoints: vec![self.clients.to_string()],
            prefix: prefix.to_owned(),
            tls,
        }
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        assert!(self.ctl(&["put", key, value]).0);
    }

    pub(crate) fn get(&self, key: &str) -> String {
        self.ctl(&["get", "--print-value-only", key]).1
    }

    fn ctl(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new("etcdctl");
        if self.is_protected {
            command.arg("--cacert").arg(self.file("ca.pem"));
            command.arg("--cert").arg(self.file("lma.pem"));
            command.arg("--key").arg(self.file("lma.key"));
        }
        let done = command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url()))
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        (done.status.success(), said)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Carries octets to an address until it is cut: then it carries none, and closes nothing.
pub(crate) struct Wire {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            cut: Arc::default(),
            streams: Arc::default(),
        };
        let (cut, streams) = (Arc::clone(&wire.cut), Arc::clone(&wire.streams));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(address));
                let Ok(far) = far else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let cut = Arc::clone(&cut);
                    std::thread::spawn(move || carry(from, to, &cut));
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        wire
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// What was cut is closed, and others can be made.
    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut octets = vec![0; 65_536];
    while let Ok(length) = from.read(&mut octets) {
        if length == 0 {
            break;
        }
        if cut.load(Ordering::Relaxed) {
            while cut.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            // What was on its way never comes.
            break;
        }
        if to
            .write_all(octets.get(..length).unwrap_or_default())
            .is_err()
        {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
