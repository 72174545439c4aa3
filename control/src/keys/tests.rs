//! Key files, good and bad.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pmip_esp::{InboundSa, OutboundSa};
use tempfile::TempDir;

use super::*;

const KEY: [&str; 3] = [
    "000102030405060708090a0b0c0d0e0f10111213",
    "101112131415161718191a1b1c1d1e1f20212223",
    "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f50515253",
];

fn sa(direction: &str, spi: &str, key: &str, more: &str) -> String {
    format!("[[sa]]\ndirection = \"{direction}\"\nspi = {spi}\nkey = \"{key}\"\n{more}\n")
}

fn good() -> String {
    sa("out", "0x1000", KEY[0], "send = true") + &sa("in", "4097", KEY[1], "")
}

fn written(directory: &TempDir, text: &str, mode: u32) -> PathBuf {
    let path = directory.path().join("keys.toml");
    // A mode of 0400 would keep the next text out.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn load(text: &str) -> Result<KeyFile, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, text, 0o600);
    let name = path.display().to_string();
    KeyFile::load(&path).map_err(|error| error.to_string().replace(&name, "F"))
}

#[test]
fn a_file_is_read() {
    let keys = load(&good()).unwrap();
    assert_eq!(keys.outbound.spi.get(), 0x1000);
    assert_eq!(keys.inbound[0].spi.get(), 4097);
    let more = good() + &sa("in", "0x1000", KEY[2], "");
    assert_eq!(load(&more).unwrap().inbound.len(), 2);
    let shown = format!("{keys:?}");
    assert!(
        !shown.contains("0a0b") && !shown.contains("10, 11"),
        "{shown}"
    );
}

#[test]
fn faults_are_named_with_their_line_and_without_their_content() {
    let place = |text: &str| load(text).unwrap_err();
    let cases = [
        (good() + "[[sa]\n", "F:11: "),
        (good() + "[[sb]]\n", "F:11: only [[sa]]"),
        ("name = 1\n".to_owned() + &good(), "F:1: only [[sa]]"),
        ("sa = 5\n".to_owned(), "F:1: only [[sa]]"),
        ("sa = [5]\n".to_owned(), "F:1: this is no table"),
        (
            good().replace("\"in\"", "\"inn\""),
            "F:7: `direction` is not right",
        ),
        (good().replace("4097", "255"), "F:8: `spi` is not right"),
        (
            good().replace("4097", "0x100000000"),
            "F:8: `spi` is not right",
        ),
        (good().replace("4097", "-4097"), "F:8: `spi` is not right"),
        (good().replace(KEY[1], "00"), "F:9: a key has 20 octets"),
        (
            good().replace(KEY[1], &"0".repeat(40)),
            "F:9: all octets of the key",
        ),
        (
            good().replace("send = true", "send = \"true\""),
            "F:5: `send` must be",
        ),
        (
            good().replace("send = true", "sends = true"),
            "F:5: unknown key",
        ),
        (good().replace("spi = 4097\n", ""), "F:6: `spi` is missing"),
        (
            good() + "send = true\n",
            "F:6: an incoming association does not send",
        ),
        (
            good() + &sa("in", "4097", KEY[2], ""),
            "F:11: there is another 0x00001001",
        ),
        (
            good() + &sa("in", "4098", KEY[0], ""),
            "F:11: the key of 0x00001002 is another",
        ),
        (
            good() + &sa("out", "4098", KEY[2], "send = true"),
            "F:11: another association has",
        ),
        (
            good().replace("true", "false"),
            "F: no outgoing association",
        ),
        (
            sa("out", "4098", KEY[2], "send = true"),
            "F: there is no incoming",
        ),
        (String::new(), "F: there is no incoming"),
    ];
    for (text, expected) in cases {
        let error = place(&text);
        assert!(error.starts_with(expected), "{text}\n{error}");
        assert!(error.contains("\n  = help: "), "{error}");
        assert!(KEY.iter().all(|key| !error.contains(key)), "{error}");
    }
}

#[test]
fn only_the_owner_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o400] {
        assert!(KeyFile::load(&written(&directory, &good(), mode)).is_ok());
    }
    for mode in [0o640, 0o604, 0o644, 0o700, 0o660, 0o601, 0o4600] {
        let path = written(&directory, &good(), mode);
        let error = KeyFile::load(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{mode:04o}")), "{error}");
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }
    let error = KeyFile::load(directory.path()).unwrap_err().to_string();
    assert!(error.contains("no key file"), "{error}");
    let error = KeyFile::load(Path::new("/nonexistent/x"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("flowmob keys generate"), "{error}");
}

#[test]
fn another_users_file_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: giving files away needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, &good(), 0o600);
    std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
    let error = KeyFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("belongs to user 4242"), "{error}");
    assert!(error.contains("chown root "), "{error}");
}

#[test]
fn generated_files_match_and_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = |n: &str, standby| GenerateArgs {
        lma: directory.path().join(format!("keys/lma{n}")),
        mag: directory.path().join(format!("keys/mag{n}")),
        standby,
    };
    let first = arguments("1", false);
    let said = generate(&first).unwrap();
    assert!(said.contains("is for the LMA"), "{said}");
    let mode = std::fs::metadata(&first.lma).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let mode = std::fs::metadata(directory.path().join("keys")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o700);

    let (lma, mag) = (
        KeyFile::load(&first.lma).unwrap(),
        KeyFile::load(&first.mag).unwrap(),
    );
    for (from, to) in [(&lma, &mag), (&mag, &lma)] {
        let Association { spi, key } = from.outbound.clone();
        let mut sender = OutboundSa::new(spi, key, 1, 0);
        sender.reserve(1);
        let Association { spi, key } = to.inbound[0].clone();
        let sealed = sender.seal(135, b"x").unwrap();
        assert_eq!(
            InboundSa::new(spi, key, 0).open(&sealed).unwrap().payload,
            b"x"
        );
    }
    assert_ne!(lma.outbound, mag.outbound);

    // Files are not overwritten, and half a pair is not left behind.
    let text = std::fs::read_to_string(&first.lma).unwrap();
    let error = generate(&first).unwrap_err();
    assert!(
        format!("{error:#}").contains("lma1 is there already"),
        "{error:#}"
    );
    assert_eq!(std::fs::read_to_string(&first.lma).unwrap(), text);
    let half = GenerateArgs {
        lma: directory.path().join("lma2"),
        mag: first.mag.clone(),
        standby: false,
    };
    generate(&half).unwrap_err();
    assert!(!half.lma.exists());

    // What is made for a change is of use together with what is there.
    let standby = arguments("3", true);
    assert!(generate(&standby).unwrap().contains("append"));
    assert!(KeyFile::load(&standby.lma).is_err());
    let both = text + &std::fs::read_to_string(&standby.lma).unwrap();
    let both = load(&both).unwrap();
    assert_eq!(both.outbound, lma.outbound);
    assert_eq!(both.inbound.len(), 2);
}

#[test]
fn a_key_in_two_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config::parse(
        "x",
        "[[port]]\nname = \"core\"\ndevice = \"null\"\naddresses = [\"2001:db8:f::1/64\"]\n\
         [lma]\naddress = \"2001:db8:f::1\"\npools = [\"2001:db8:100::/48\"]\n\
         peer = [{ name = \"a\", address = \"2001:db8:f::2\", keys = \"A\" },\n\
         { name = \"b\", address = \"2001:db8:f::3\", keys = \"B\" },\n\
         { name = \"c\", address = \"2001:db8:f::4\", protection = \"none\" }]\n",
    );
    let mut config = config.unwrap();
    let paths = ["A", "B"].map(|name| directory.path().join(name));
    let lma = config.lma.as_mut().unwrap();
    for (peer, path) in lma.peers.iter_mut().zip(&paths) {
        peer.protection = Protection::Esp { keys: path.clone() };
    }
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    write(&paths[0], &good());
    let errors = load_all(&Source::all(&config)).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");

    write(&paths[1], &good());
    let errors = load_all(&Source::all(&config)).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].to_string().contains("is in"), "{}", errors[0]);

    let other = sa("out", "0x1000", KEY[2], "send = true");
    let fourth = "404142434445464748494a4b4c4d4e4f50515253";
    write(&paths[1], &(other + &sa("in", "0x1001", fourth, "")));
    let peers = load_all(&Source::all(&config)).unwrap();
    let protected: Vec<_> = peers.iter().map(|peer| peer.keys.is_some()).collect();
    assert_eq!(protected, [true, true, false]);
}
