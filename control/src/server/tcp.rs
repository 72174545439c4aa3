//! The same API over TCP, for those who prove that they may.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use config::Management;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{dashboard, problem};
use crate::api::Problem;
use crate::secret;

/// What a request over TCP has to show.
#[derive(Debug)]
enum Proof {
    /// This token.
    Token(Zeroizing<String>),
    /// That it was meant for this machine itself: a page in a browser here may be made to ask under any
    /// name that leads to a loopback address.
    LocalName,
}

/// A socket, and what has to be shown on it.
#[derive(Debug)]
pub(super) struct Tcp {
    listener: TcpListener,
    proof: Arc<Proof>,
}

/// Binds the address, if one is configured.
///
/// # Errors
/// If it cannot be bound, or the file with the token is not as it should be.
pub(super) fn bind(management: &Management) -> anyhow::Result<Option<Tcp>> {
    let Some(address) = management.tcp else {
        return Ok(None);
    };
    let proof = match &management.token_file {
        Some(file) => Proof::Token(secret::token(file)?),
        None => Proof::LocalName,
    };
    let tcp = Tcp::new(address, proof);
    tcp.context("give this process another [management] tcp")
        .map(Some)
}

impl Tcp {
    /// Binds an address for those who ask under a name of this machine itself.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub(super) fn local(address: SocketAddr) -> anyhow::Result<Self> {
        Self::new(address, Proof::LocalName)
    }

    fn new(address: SocketAddr, proof: Proof) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            proof: Arc::new(proof),
        })
    }

    /// What it is bound to.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves the API behind its door until `end`.
    pub(super) async fn serve(
        self,
        router: Router,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let router = router.layer(from_fn_with_state(self.proof, let_in));
        let serving = async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            axum::serve(listener, router)
                .with_graceful_shutdown(end)
                .await
        };
        if let Err(error) = serving.await {
            tracing::error!(%error, "the management API is not served over TCP");
        }
    }
}

/// Probes have no token: whether a process lives and is ready is no secret. Nor is the page, which asks for the
/// token.
async fn let_in(State(proof): State<Arc<Proof>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = matches!(path, "/livez" | "/readyz") || dashboard::is_page(path);
    if open || proof.is_shown(request.headers()) {
        return next.run(request).await;
    }
    let (why, bearer) = match *proof {
        Proof::Token(_) => ("the request bears no token, or another one", true),
        Proof::LocalName => (
            "only as localhost or by a loopback address, and to no page from elsewhere",
            false,
        ),
    };
    let mut response = problem(&Problem::unauthorized(why, bearer));
    if bearer {
        let value = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

impl Proof {
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Token(token) => {
                let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
                let shown = shown.and_then(|shown| shown.strip_prefix(b"Bearer "));
                // How long a comparison takes must not tell how much of a guess was right.
                shown.is_some_and(|shown| shown.ct_eq(token.as_bytes()).into())
            }
            Self::LocalName => {
                let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                // A page from elsewhere may have its browser ask, though not see the answer (Fetch Metadata).
                let elsewhere = text(SEC_FETCH_SITE)
                    .is_some_and(|site| !matches!(site, "same-origin" | "none"));
                !elsewhere && text(HOST.as_str()).is_some_and(is_local)
            }
        }
    }
}

/// Where a browser says that a request comes from.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a `Host` header, with or without a port, names this machine to itself.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| {
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_from_elsewhere_are_not_let_in() {
        let headers = |site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8080"));
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            headers
        };
        for site in [None, Some("same-origin"), Some("none")] {
            assert!(Proof::LocalName.is_shown(&headers(site)), "{site:?}");
        }
        for site in ["cross-site", "same-site", "what"] {
            assert!(!Proof::LocalName.is_shown(&headers(Some(site))), "{site}");
        }
        assert!(!Proof::LocalName.is_shown(&HeaderMap::new()));
    }

    #[test]
    fn only_names_of_the_machine_itself_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8090",
            "127.9.9.9",
            "[::1]:8090",
            "[::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "localhost.example.net",
            "192.0.2.1",
            "[2001:db8::1]:80",
            "evil:127.0.0.1",
            "::1",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
