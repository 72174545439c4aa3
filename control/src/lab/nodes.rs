//! The etcd of a lab with a pair: three nodes, so that it survives the end of one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::netns;
use super::progress::Progress;
use super::topology::STORE_ADDRESS;

/// How long they may take to find each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of the cluster, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node(u16);

/// All of them.
pub(crate) const NODES: [Node; 3] = [Node(0), Node(1), Node(2)];

impl Node {
    /// What it is called.
    pub(crate) fn name(self) -> String {
        format!("etcd{}", self.0)
    }

    /// Where it serves clients.
    pub(super) fn client(self) -> String {
        format!("{STORE_ADDRESS}:{}", 2379 + 100 * self.0)
    }

    /// Where it serves the other nodes.
    fn peer(self) -> String {
        format!("http://{STORE_ADDRESS}:{}", 2380 + 100 * self.0)
    }
}

/// A file with a certificate, or with a key, of those that etcd and its clients show each other.
pub(super) fn certificate(directory: &Path, file: &str) -> PathBuf {
    directory.join(format!("etcd-{file}"))
}

/// Makes the certificates of an authority, of etcd, and of the LMAs.
fn certify(directory: &Path) -> anyhow::Result<()> {
    let file = |name: &str| certificate(directory, name);
    let config = file("openssl.cnf");
    fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n")
        .with_context(|| config.display().to_string())?;
    for name in ["ca", "node", "lma"] {
        let is_authority = name == "ca";
        let what = if is_authority { "TRUE" } else { "FALSE" };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-days", "30", "-nodes", "-newkey", "ec"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-subj", &format!("/CN={name}")]);
        command.args(["-addext", &format!("subjectAltName=IP:{STORE_ADDRESS}")]);
        command.args(["-addext", &format!("basicConstraints=critical,CA:{what}")]);
        command.arg("-config").arg(&config);
        command.arg("-keyout").arg(file(&format!("{name}.key")));
        command.arg("-out").arg(file(&format!("{name}.pem")));
        if !is_authority {
            command.arg("-CA").arg(file("ca.pem"));
            command.arg("-CAkey").arg(file("ca.key"));
        }
        let done = command
            .output()
            .context("cannot run openssl: install openssl")?;
        let said = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(
            done.status.success(),
            "openssl makes no certificate: {said}"
        );
    }
    Ok(())
}

/// The nodes that run; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    namespace: String,
    directory: PathBuf,
    nodes: [Option<Child>; NODES.len()],
}

impl Cluster {
    /// Starts all nodes, and waits until they are a cluster.
    ///
    /// # Errors
    /// If there is no etcd, or it does not start.
    pub(crate) fn start(
        namespace: String,
        directory: &Path,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self {
            namespace,
            directory: directory.to_owned(),
            nodes: [const { None }; NODES.len()],
        };
        certify(directory)?;
        for node in NODES {
            cluster.start_node(node)?;
        }
        cluster.wait(progress)?;
        Ok(cluster)
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// If it cannot be.
    pub(crate) fn start_node(&mut self, node: Node) -> anyhow::Result<()> {
        let name = node.name();
        let log = self.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log)?;
        let all: Vec<String> = NODES
            .iter()
            .map(|node| format!("{}={}", node.name(), node.peer()))
            .collect();
        let (client, peer) = (format!("https://{}", node.client()), node.peer());
        let file = |name: &str| certificate(&self.directory, name);
        let child = Command::new("nsenter")
            .arg(format!("--net={}", netns::path(&self.namespace).display()))
            .args(["setpriv", "--pdeathsig", "KILL", "--", "etcd"])
            .args(["--name", &name, "--data-dir"])
            .arg(self.directory.join(&name))
            .arg("--cert-file")
            .arg(file("node.pem"))
            .arg("--key-file")
            .arg(file("node.key"))
            .arg("--trusted-ca-file")
            .arg(file("ca.pem"))
            .arg("--client-cert-auth")
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--logger", "zap", "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot run nsenter: install util-linux")?;
        if let Some(place) = self.nodes.get_mut(usize::from(node.0)) {
            *place = Some(child);
        }
        Ok(())
    }

    /// Ends a node without asking it.
    pub(crate) fn kill_node(&mut self, node: Node) {
        let place = self.nodes.get_mut(usize::from(node.0));
        if let Some(mut child) = place.and_then(Option::take) {
            // It is gone either way.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until all nodes that run answer.
    ///
    /// # Errors
    /// If they do not.
    pub(crate) fn wait(&self, progress: &Progress) -> anyhow::Result<()> {
        let running = NODES.iter().zip(&self.nodes);
        let running = running.filter(|(_, child)| child.is_some());
        let url = |node: &Node| format!("https://{}", node.client());
        let all: Vec<String> = running.map(|(node, _)| url(node)).collect();
        let file = |name: &str| certificate(&self.directory, name);
        progress.wait_for("an etcd that answers", PATIENCE, || {
            let done = Command::new("nsenter")
                .arg(format!("--net={}", netns::path(&self.namespace).display()))
                .args(["etcdctl", "endpoint", "health", "--endpoints"])
                .arg(all.join(","))
                .arg("--cacert")
                .arg(file("ca.pem"))
                .arg("--cert")
                .arg(file("lma.pem"))
                .arg("--key")
                .arg(file("lma.key"))
                .env("ETCDCTL_API", "3")
                .output()
                .context("cannot run nsenter: install util-linux")?;
            let said = || {
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                if said.contains("No such file") {
                    "install etcd-server and etcd-client".to_owned()
                } else {
                    said
                }
            };
            Ok(done.status.success().then_some(()).ok_or_else(said))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in NODES {
            self.kill_node(node);
        }
    }
}
