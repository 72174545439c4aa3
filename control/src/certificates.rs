//! What the connections to etcd are protected with: reading the files.

use std::path::Path;

use config::{Config, Tls};

use crate::secret::{self, SecretError, What};

/// What a configuration has them protected with; `None` if it does not.
///
/// # Errors
/// If a file cannot be read, others may read the private key, or they are not what they should be.
pub(crate) fn load(config: &Config) -> Result<Option<store::Tls>, SecretError> {
    let tls = config.process.pair.tls.as_ref();
    tls.filter(|_| config.is_paired()).map(read).transpose()
}

fn read(tls: &Tls) -> Result<store::Tls, SecretError> {
    let authorities = certificates(&tls.ca)?;
    let wrong = |path: &Path, error: &std::io::Error, help| {
        SecretError::new(path, None, error.to_string(), help)
    };
    let alone = store::Tls::new(&authorities, None);
    let alone = alone.map_err(|error| {
        wrong(
            &tls.ca,
            &error,
            "name a file, as PEM, with certificates of whoever signs those of etcd's members",
        )
    })?;
    let Some(own) = &tls.identity else {
        return Ok(alone);
    };
    let certificate = certificates(&own.certificate)?;
    let key = secret::read(&own.key, What::PrivateKey)?;
    store::Tls::new(&authorities, Some((&certificate, &key))).map_err(|error| {
        let help = "certificate and key are PEM, and the key is that of the first certificate";
        wrong(&own.certificate, &error, help)
    })
}

fn certificates(path: &Path) -> Result<String, SecretError> {
    std::fs::read_to_string(path).map_err(|error| {
        let problem = format!("the certificates cannot be read: {error}");
        SecretError::new(path, None, problem, "check the path, and that they are PEM")
    })
}
