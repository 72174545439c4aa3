//! Files that hold secrets: key files and tokens.
//!
//! What is said about a faulty one names lines, never what is in them.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use zeroize::Zeroizing;

use crate::confinement::user;

/// The largest: room for hundreds of keys.
const MAX_LEN: u64 = 64 * 1024;

/// What is wrong with a file of secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SecretError {
    path: PathBuf,
    line: Option<usize>,
    problem: String,
    help: String,
}

impl SecretError {
    /// A problem, on a line if there is one, with the way out.
    pub(crate) fn new(
        path: &Path,
        line: Option<usize>,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            line,
            problem: problem.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  = help: {}", self.problem, self.help)
    }
}

impl std::error::Error for SecretError {}

/// The token in a file: one line.
///
/// # Errors
/// If the file cannot be read, others may read it, or the token is short or has odd characters.
pub(crate) fn token(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    const LEAST: usize = 16;
    let text = read(path, What::Token)?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.len() < LEAST || !token.bytes().all(|octet| octet.is_ascii_graphic()) {
        let problem = format!("a token is one line of at least {LEAST} characters without spaces");
        let help = format!("openssl rand -hex 32 > {}", path.display());
        return Err(SecretError::new(path, None, problem, help));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// What a file of secrets holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Keys of protected signalling.
    #[cfg(feature = "dpdk")]
    Keys,
    /// The private key of what a process shows to etcd.
    #[cfg(feature = "dpdk")]
    PrivateKey,
    /// What those have to bear who ask over TCP.
    Token,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "dpdk")]
            Self::Keys => "key file",
            #[cfg(feature = "dpdk")]
            Self::PrivateKey => "private key",
            Self::Token => "token file",
        }
    }

    /// How one is made.
    fn make(self, path: &Path) -> String {
        match self {
            #[cfg(feature = "dpdk")]
            Self::Keys => "`flowmob keys generate` makes key files".to_owned(),
            #[cfg(feature = "dpdk")]
            Self::PrivateKey => "docs/pair.md has the commands that make one".to_owned(),
            Self::Token => format!(
                "(umask 077; openssl rand -hex 32 > {}) makes one",
                path.display()
            ),
        }
    }
}

/// The text of a file that only its owner may read, who runs this process.
///
/// # Errors
/// If it cannot be read, others may read it, or it is no text.
pub(crate) fn read(path: &Path, what: What) -> Result<Zeroizing<String>, SecretError> {
    let shown = path.display();
    let (name, make) = (what.name(), what.make(path));
    let this = || user::name(nix::unistd::geteuid());
    let error = |problem: String, help: String| SecretError::new(path, None, problem, help);
    let unreadable = |e: std::io::Error| {
        if e.kind() == ErrorKind::PermissionDenied {
            let problem = format!("the {name} cannot be read by user {}: {e}", this());
            let help = "it has to be that user's, and the directories above have to let it pass";
            return error(problem, format!("chown {} {shown}; {help}", this()));
        }
        error(
            format!("the {name} cannot be read: {e}"),
            format!("check the path; {make}"),
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of what has been opened, not of the name, which may lead elsewhere by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_LEN {
        let problem = format!("this is no {name}: not a file, or larger than 64 KiB");
        return Err(error(problem, make));
    }
    let mode = metadata.mode() & 0o7777;
    if !matches!(mode, 0o600 | 0o400) {
        let problem = format!("a {name} has mode 0600 or 0400; this one has {mode:04o}");
        return Err(error(problem, format!("chmod 600 {shown}")));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        let owner = user::name(Uid::from_raw(metadata.uid()));
        let problem = format!(
            "the {name} belongs to user {owner}, but this process is user {}",
            this()
        );
        return Err(error(problem, format!("chown {} {shown}", this())));
    }
    // Room for all of it, and for the read that finds the end: growing would leave copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut octets = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_LEN + 1)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    match String::from_utf8(std::mem::take(&mut *octets)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(wrong) => {
            drop(Zeroizing::new(wrong.into_bytes()));
            let problem = format!("a {name} is text in UTF-8");
            Err(error(problem, "make it anew".to_owned()))
        }
    }
}
