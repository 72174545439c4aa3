//! What the connections to etcd are protected with.

use std::error::Error;
use std::{fmt, io};

use etcd_client::{Certificate, Client, ConnectOptions, Error as EtcdError, Identity, TlsOptions};

/// How each certificate begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// TLS, by which etcd shows who it is (RFC 8446), and this process too, if etcd asks.
#[derive(Clone)]
pub struct Tls {
    options: TlsOptions,
}

impl Tls {
    /// Takes what is in the files, all of it PEM: `authorities` are certificates, one of which has signed those of etcd's members;
    /// `own` are the certificate that this process shows, with those in between, and its private key.
    ///
    /// # Errors
    /// If they are not that, or the key is not the certificate's.
    pub fn new(authorities: &str, own: Option<(&str, &str)>) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if !authorities.contains(CERTIFICATE) {
            return Err(invalid(
                "there is no certificate of an authority".to_owned(),
            ));
        }
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(authorities));
        if let Some((certificate, key)) = own {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        let tls = Self { options };
        // Nothing is sent before something is asked; the files are looked at.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let connect = Client::connect(["localhost:1"], Some(tls.protect(ConnectOptions::new())));
        match runtime.block_on(connect) {
            Ok(_) => Ok(tls),
            Err(error) => Err(invalid(whole(&error))),
        }
    }

    pub(super) fn protect(&self, options: ConnectOptions) -> ConnectOptions {
        options.with_tls(self.options.clone())
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What an error says, with what is behind it: of a connection that fails, it says itself no more than that.
pub(super) fn whole(error: &EtcdError) -> String {
    let EtcdError::TransportError(error) = error else {
        return error.to_string();
    };
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    if causes.is_empty() {
        return error.to_string();
    }
    causes.join(": ")
}
