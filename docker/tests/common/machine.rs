//! A virtual machine with the disk that `docker/machine/build` makes. QEMU emulates its processor: no right to another
//! one's is needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use deploy::{root, wait_for};
use serde_json::{Value, json};

use super::namespace::{Namespace, Process};
use super::packages::packages;
use super::{is_newer, kept, ok, page};

/// What the disk and the machine need.
pub const TOOLS: [&str; 10] = [
    "dh",
    "mmdebstrap",
    "grub-mkimage",
    "mkfs.vfat",
    "mcopy",
    "sfdisk",
    "qemu-img",
    "qemu-system-x86_64",
    "genisoimage",
    "setpriv",
];

/// How long a boot may take on a busy machine.
const BOOT: Duration = Duration::from_mins(8);

/// The disk; made if what it is made of has changed. Its program need not be the one that is tested: a [`Machine`] gets
/// that with its configuration.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = kept().join("machine.qcow2");
        let mut from = files(&root().join("docker/machine"));
        from.extend(files(&root().join("docker/debian")));
        if !is_newer(&disk, &from) {
            let unfinished = kept().join("machine.unfinished.qcow2");
            let mut command = Command::new(root().join("docker/machine/build"));
            println!(
                "{}",
                ok(command.arg(&unfinished).arg(&packages().appliance))
            );
            std::fs::rename(&unfinished, &disk).unwrap();
        }
        disk
    })
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    paths.flat_map(below).collect()
}

/// What a machine finds at its first boot.
#[derive(Debug, Default)]
pub struct Seed {
    files: Vec<Value>,
    commands: Vec<String>,
    network: Option<Value>,
}

impl Seed {
    /// A file, which flowmob may read and nobody else.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push(json!({
            "path": path, "content": content, "owner": "flowmob:flowmob", "permissions": "0400",
        }));
        self
    }

    /// An interface with this link-layer address and this one; without any, the first asks for one by DHCP.
    #[must_use]
    pub fn interface(mut self, name: &str, mac: &str, address: &str) -> Self {
        let interface =
            json!({"match": {"macaddress": mac}, "set-name": name, "addresses": [address]});
        self.network = Some(json!({"version": 2, "ethernets": {name: interface}}));
        self
    }

    /// A shell command, after all files are there.
    #[must_use]
    pub fn run(mut self, command: &str) -> Self {
        self.commands.push(command.to_owned());
        self
    }

    /// The commands of a block of a document, each of which prints nothing.
    #[must_use]
    pub fn run_all(self, block: &[page::Command]) -> Self {
        let run = |seed: Self, command: &page::Command| {
            assert!(command.output.is_empty(), "{command:?}");
            seed.run(&command.text)
        };
        block.iter().fold(self, run)
    }

    /// Starts an instance of flowmob's service, now and at every boot.
    #[must_use]
    pub fn start(self, name: &str) -> Self {
        let unit = format!("flowmob@{name}");
        self.run(&format!(
            "systemctl enable --now {unit} || {{ journalctl -o cat -u {unit}; false; }}"
        ))
    }

    /// A disk with it, and with the program that is tested.
    fn write(&self, directory: &Path) -> PathBuf {
        let there = directory.join("seed");
        std::fs::create_dir(&there).unwrap();
        let package = directory.join("package");
        let unpack = ["-x", packages().appliance.to_str().unwrap()];
        ok(Command::new("dpkg-deb").args(unpack).arg(&package));
        std::fs::rename(package.join("usr/bin/flowmob"), there.join("flowmob")).unwrap();
        let mut commands = vec![
            "mount -o ro LABEL=cidata /mnt".to_owned(),
            "cmp -s /mnt/flowmob /usr/bin/flowmob || install -m 755 /mnt/flowmob /usr/bin/flowmob"
                .to_owned(),
            "umount /mnt".to_owned(),
        ];
        commands.extend(self.commands.iter().cloned());
        // JSON is YAML.
        let user = json!({ "write_files": self.files, "runcmd": commands });
        let file = |name: &str, text: String| std::fs::write(there.join(name), text).unwrap();
        file("user-data", format!("#cloud-config\n{user}"));
        file("meta-data", json!({ "instance-id": "test" }).to_string());
        if let Some(network) = &self.network {
            file("network-config", network.to_string());
        }
        let disk = directory.join("seed.iso");
        let mut command = Command::new("genisoimage");
        command.args(["-quiet", "-V", "cidata", "-J", "-r", "-o"]);
        ok(command.arg(&disk).arg(&there));
        disk
    }
}

/// A machine that runs; ended when dropped.
#[derive(Debug)]
pub struct Machine {
    qemu: Process,
    console: PathBuf,
}

impl Machine {
    /// Boots one in a namespace, with these options of QEMU's besides its disks.
    pub fn boot(namespace: &Namespace, directory: &Path, seed: &Seed, options: &str) -> Self {
        let overlay = directory.join("disk.qcow2");
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        ok(command.arg(disk()).arg(&overlay));
        let console = directory.join("console");
        // The kernel takes an Intel processor of that time for one that needs its pages hidden from programs, which is what an
        // emulator is slowest at.
        let mut all = String::from(
            "-accel tcg -cpu Nehalem,vendor=AuthenticAMD -m 1024 -display none -monitor none -nic none",
        );
        write!(all, " -serial file:{}", console.display()).unwrap();
        write!(all, " -drive file={},if=virtio", overlay.display()).unwrap();
        write!(
            all,
            " -drive file={},if=virtio,format=raw,readonly=on {options}",
            seed.write(directory).display()
        )
        .unwrap();
        let mut command = namespace.command("qemu-system-x86_64");
        command.args(all.split_whitespace());
        let qemu = Process::start(&mut command, &directory.join("qemu.log"));
        Self { qemu, console }
    }

    /// What it has said on its serial port.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits until all that the seed says is done; fails if something of that has failed.
    pub fn is_set_up(&mut self) {
        wait_for("a machine that is set up", BOOT, || {
            self.qemu.runs();
            self.console().contains(" finished at ").then_some(())
        });
        assert!(
            !self.console().contains("Failed to"),
            "the console says more"
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- console\n{}", self.console());
        }
    }
}
