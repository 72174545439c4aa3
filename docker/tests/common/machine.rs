//! A virtual machine with the disk that `docker/machine/build` makes. QEMU emulates its processor: no right to another
//! one's is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deploy::{root, wait_for};
use serde_json::{Value, json};

use super::namespace::{Namespace, Process};
use super::packages::packages;
use super::{as_told, is_newer, kept, ok, page};

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

/// The kernel takes an Intel processor of that time for one that needs its pages hidden from programs, which is what an
/// emulator is slowest at. Nothing is booted from a network.
const EMULATED: &str =
    "-accel tcg -cpu Nehalem,vendor=AuthenticAMD -global virtio-net-pci.romfile=";

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

/// Packages of Debian's, downloaded the first time: a machine has no network that leads to them.
fn downloaded(names: &[&str]) -> Vec<PathBuf> {
    // What one test still gets is not there for another.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = kept().join("debian");
    std::fs::create_dir_all(&directory).unwrap();
    let found = |name: &str| {
        let entries = std::fs::read_dir(&directory).unwrap().flatten();
        let mut paths = entries.map(|entry| entry.path());
        let start = format!("{name}_");
        paths.find(|path| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(&start))
        })
    };
    for name in names {
        if found(name).is_none() {
            let download = format!(
                "apt-get -qq download {name} || {{ apt-get -qq update && apt-get -qq download {name}; }}"
            );
            ok(Command::new("sh")
                .args(["-c", &download])
                .current_dir(&directory));
        }
    }
    names.iter().map(|name| found(name).unwrap()).collect()
}

/// What a machine finds at its first boot.
#[derive(Debug, Default)]
pub struct Seed {
    files: Vec<Value>,
    commands: Vec<String>,
    network: Option<String>,
    packages: Vec<PathBuf>,
    blocks: Vec<Vec<page::Command>>,
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
        self.network = Some(json!({"version": 2, "ethernets": {name: interface}}).to_string());
        self
    }

    /// Its interfaces, in the words of a file of cloud-init's.
    #[must_use]
    pub fn network(mut self, config: &str) -> Self {
        self.network = Some(config.to_owned());
        self
    }

    /// The files of these packages of Debian's, whose dependencies are in the machine or not needed.
    #[must_use]
    pub fn unpacked(mut self, names: &[&str]) -> Self {
        self.packages.extend(downloaded(names));
        self
    }

    /// The commands of a block of a document: [`Machine::was_told`] checks what each printed.
    #[must_use]
    pub fn told(mut self, block: &[page::Command]) -> Self {
        let script = format!("bash /root/told/{}/all", self.blocks.len());
        self.blocks.push(block.to_vec());
        self.run(&script)
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

    /// Writes what the disk has to have into a directory: these are the files' names.
    fn write(&self, directory: &Path) -> Vec<&'static str> {
        let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        let mut commands = vec!["mount -o ro LABEL=cidata /mnt".to_owned()];
        let more = directory.join("test");
        std::fs::create_dir(&more).unwrap();
        let package = more.join("package");
        let unpack = ["-x", packages().appliance.to_str().unwrap()];
        ok(Command::new("dpkg-deb").args(unpack).arg(&package));
        std::fs::rename(package.join("usr/bin/flowmob"), more.join("flowmob")).unwrap();
        std::fs::remove_dir_all(package).unwrap();
        commands.push(
            "cmp -s /mnt/flowmob /usr/bin/flowmob || install -m 755 /mnt/flowmob /usr/bin/flowmob"
                .to_owned(),
        );
        for package in &self.packages {
            let name = package.file_name().unwrap().to_str().unwrap();
            std::fs::copy(package, more.join(name)).unwrap();
            commands.push(format!("dpkg --unpack /mnt/{name}"));
        }
        let told = more.join("told");
        for (number, block) in self.blocks.iter().enumerate() {
            let scripts = told.join(number.to_string());
            std::fs::create_dir_all(&scripts).unwrap();
            std::fs::write(scripts.join("all"), ALL).unwrap();
            for (number, command) in block.iter().enumerate() {
                let script = scripts.join(format!("{number:02}.sh"));
                std::fs::write(script, format!("{}\n", command.text)).unwrap();
            }
        }
        if told.exists() {
            commands.push("cp -r /mnt/told /root/".to_owned());
        }
        commands.push("umount /mnt".to_owned());
        commands.extend(self.commands.iter().cloned());
        // JSON is YAML.
        let user = json!({ "write_files": self.files, "runcmd": commands });
        file("user-data", &format!("#cloud-config\n{user}"));
        file("meta-data", &json!({ "instance-id": "test" }).to_string());
        let mut names = vec!["user-data", "meta-data"];
        if let Some(network) = &self.network {
            file("network-config", network);
            names.push("network-config");
        }
        names.push("test");
        names
    }
}

/// Runs the commands beside it in one shell, and says on the second serial port what each printed and how it ended.
const ALL: &str = r#"
cd "$(dirname "$0")"
printf '\001begun\n' > /dev/ttyS1
for command in $PWD/*.sh; do
    cd /root
    . "$command" < /dev/null
    printf '\n\001ended %d\n' $?
done 2>&1 | cat > /dev/ttyS1
"#;

/// A machine that runs; ended when dropped.
#[derive(Debug)]
pub struct Machine {
    qemu: Process,
    console: PathBuf,
    said: PathBuf,
    blocks: Vec<Vec<page::Command>>,
}

impl Machine {
    /// Boots one in a namespace, with these options of QEMU's besides its disks.
    pub fn boot(namespace: &Namespace, directory: &Path, seed: Seed, options: &str) -> Self {
        let (overlay, iso) = (directory.join("disk.qcow2"), directory.join("seed.iso"));
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        ok(command.arg(disk()).arg(&overlay));
        let files = seed.write(directory);
        let mut command = Command::new("genisoimage");
        command.args(["-quiet", "-V", "cidata", "-J", "-r", "-o"]);
        ok(command.arg(&iso).args(files).current_dir(directory));
        let options = format!(
            "{EMULATED} -m 1024 -display none -nic none -drive file={},if=virtio \
             -drive file={},if=virtio,format=raw,readonly=on {options}",
            overlay.display(),
            iso.display()
        );
        let mut command = namespace.command("qemu-system-x86_64");
        command.args(options.split_whitespace());
        Self::start(command, directory, seed.blocks)
    }

    /// Boots one as the commands of a block say, the last of which is QEMU's, with these options more. It has no bridge but
    /// `mgmt` to ask for.
    pub fn boot_as_told(
        namespace: &Namespace,
        directory: &Path,
        seed: Seed,
        block: &[page::Command],
        options: &str,
    ) -> Self {
        let [before @ .., qemu] = block else {
            panic!("{block:?}");
        };
        let files = seed.write(directory).join(" ");
        std::os::unix::fs::symlink(disk(), directory.join("flowmob.qcow2")).unwrap();
        for command in before {
            let text = command.text.replace("user-data meta-data", &files);
            let mut shell = Command::new("sh");
            as_told(command, shell.args(["-c", &text]).current_dir(directory));
        }
        let emulated = (qemu.text)
            .replace("\\\n", " ")
            .replace("-accel kvm -cpu host", EMULATED)
            .replace(",kernel-irqchip=split", "")
            .replace("vhost=on,", "");
        assert!(emulated.contains(EMULATED), "{emulated}");
        // What the bridge's helper may is written where nobody else sees it.
        let alone = format!(
            "cp -a /etc . && mkdir -p etc/qemu && echo allow mgmt > etc/qemu/bridge.conf && mount --bind etc /etc
             exec {emulated} {options} \"$@\""
        );
        let mut command = namespace.command("unshare");
        command
            .args(["--mount", "sh", "-ec", &alone, "sh"])
            .current_dir(directory);
        Self::start(command, directory, seed.blocks)
    }

    fn start(mut qemu: Command, directory: &Path, blocks: Vec<Vec<page::Command>>) -> Self {
        let [console, said] = ["console", "said"].map(|name| directory.join(name));
        qemu.args(["-monitor", "none"]);
        for port in [&console, &said] {
            qemu.arg("-serial").arg(format!("file:{}", port.display()));
        }
        let qemu = Process::start(&mut qemu, &directory.join("qemu.log"));
        Self {
            qemu,
            console,
            said,
            blocks,
        }
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
        self.was_told();
    }

    /// Checks that the commands of documents ended and printed as these say.
    #[track_caller]
    fn was_told(&self) {
        let said = std::fs::read(&self.said).unwrap();
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        // Firmware and GRUB say something there, too.
        let said: String = said.split("\u{1}begun\n").skip(1).collect();
        let mut rest = said.as_str();
        for command in self.blocks.iter().flatten() {
            let ended = rest.split_once("\n\u{1}ended ");
            let ended = ended.and_then(|(printed, rest)| Some((printed, rest.split_once('\n')?)));
            let Some((printed, (status, more))) = ended else {
                panic!("$ {} did not end:\n{rest}", command.text);
            };
            command.check(status == "0", printed);
            rest = more;
        }
        assert_eq!(rest, "");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- console\n{}", self.console());
            let said = std::fs::read(&self.said).unwrap_or_default();
            println!("---- commands\n{}", String::from_utf8_lossy(&said));
        }
    }
}
