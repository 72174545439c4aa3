//! `flowmob keys generate`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pmip_esp::{Key, Spi};
use zeroize::Zeroizing;

/// Arguments of `flowmob keys generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The file for the LMA: `keys` of its [[lma.peer]].
    #[arg(long, value_name = "FILE")]
    pub(crate) lma: PathBuf,
    /// The file for the MAG: `keys` of its [[mag.peer]].
    #[arg(long, value_name = "FILE")]
    pub(crate) mag: PathBuf,
    /// Make keys that only receive at first, to be appended to the files in use: the first step of a change.
    #[arg(long)]
    pub(crate) standby: bool,
}

/// Writes a matching pair of key files, with fresh keys, for the two ends; returns what to print.
///
/// # Errors
/// If a file is there already or cannot be written, or there is no randomness.
pub(crate) fn generate(arguments: &GenerateArgs) -> anyhow::Result<String> {
    let GenerateArgs { lma, mag, standby } = arguments;
    let (downlink, uplink) = (Secret::new()?, Secret::new()?);
    let send = !standby;
    write(lma, &text("LMA", &downlink, &uplink, send))?;
    if let Err(error) = write(mag, &text("MAG", &uplink, &downlink, send)) {
        // One half alone is of no use.
        std::fs::remove_file(lma).with_context(|| format!("{error:#}; {}", lma.display()))?;
        return Err(error);
    }
    let mut said = format!(
        "{} is for the LMA, {} for the MAG: copy them there by a safe way, mode 0600",
        lma.display(),
        mag.display()
    );
    if *standby {
        said += "\nappend each to the key file in use there, then: flowmob keys reload";
    }
    Ok(said)
}

/// The digits of a new association's key, and its index.
struct Secret {
    spi: u32,
    digits: Zeroizing<String>,
}

impl Secret {
    fn new() -> anyhow::Result<Self> {
        let mut octets = Zeroizing::new([0; Key::LONG]);
        getrandom::fill(&mut *octets).context("no randomness")?;
        let mut digits = Zeroizing::new(String::with_capacity(2 * Key::LONG));
        for octet in octets.iter() {
            for half in [octet >> 4, octet & 15] {
                digits.extend(char::from_digit(u32::from(half), 16));
            }
        }
        let spi = getrandom::u32().context("no randomness")?;
        Ok(Self {
            spi: spi.max(Spi::MIN),
            digits,
        })
    }
}

/// A key file of the end that sends with `outbound`.
fn text(end: &str, outbound: &Secret, inbound: &Secret, send: bool) -> Zeroizing<String> {
    // Its full size at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    for part in [
        "# Keys of flowmob's signalling, for the ",
        end,
        ". AES-256 key and salt (RFC 4106). Secret: mode 0600.\n",
    ] {
        text.push_str(part);
    }
    for (direction, secret) in [("out", outbound), ("in", inbound)] {
        let spi = format!("{:#010x}", secret.spi);
        for part in [
            "[[sa]]\ndirection = \"",
            direction,
            "\"\nspi = ",
            &spi,
            "\nkey = \"",
            &secret.digits,
            "\"\n",
        ] {
            text.push_str(part);
        }
        if direction == "out" {
            text.push_str(if send {
                "send = true\n"
            } else {
                "send = false\n"
            });
        }
    }
    text
}

/// Writes a new file that only its owner may read; its directory is made if need be, as private.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = path.display();
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make the directory of {shown}"))?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{shown} is there already, and its keys may be in use: choose another name")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {shown}")),
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {shown}"))
}
