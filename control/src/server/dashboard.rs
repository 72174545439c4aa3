//! The dashboard: a page that asks the API, and needs nothing from anywhere else.
//!
//! Its files are part of the program. They hold no secret, so anybody may have them; what they ask for, the API
//! gives to those who may.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem;
use crate::api::Problem;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("../../dashboard/index.html");
/// The files that the page names, with their types.
const FILES: [(&str, &str, &str); 6] = [
    ("style.css", CSS, include_str!("../../dashboard/style.css")),
    ("main.js", JS, include_str!("../../dashboard/main.js")),
    ("api.js", JS, include_str!("../../dashboard/api.js")),
    ("svg.js", JS, include_str!("../../dashboard/svg.js")),
    (
        "topology.js",
        JS,
        include_str!("../../dashboard/topology.js"),
    ),
    ("traffic.js", JS, include_str!("../../dashboard/traffic.js")),
];

/// The page takes scripts, styles and data from where it came from, and shows itself in no other page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Its routes.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || answer(HTML, PAGE)))
        .route("/dashboard/{file}", get(file))
}

/// Whether a path is the page's, not the API's.
pub(crate) fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/dashboard/")
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => answer(kind, text),
        None => problem(&Problem::not_found("the dashboard has no such file")),
    }
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        // Another version may answer here tomorrow.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::OK, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that the files name is one of them, and nothing is from elsewhere.
    #[test]
    fn the_page_needs_nothing_but_its_files() {
        let names: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        let mut named = 0;
        let texts = FILES.iter().map(|(.., text)| *text);
        for text in texts.chain([PAGE]) {
            for start in ["href=\"/dashboard/", "src=\"/dashboard/", "from \"./"] {
                for rest in text.split(start).skip(1) {
                    let name = rest.split('"').next().unwrap();
                    assert!(names.contains(&name), "{name}");
                    named += 1;
                }
            }
            for outside in text.split("http").skip(1) {
                assert!(
                    outside.starts_with("://www.w3.org/2000/svg"),
                    "{outside:.40}"
                );
            }
            // The policy forbids both.
            assert!(!text.contains(" style=\"") && !text.contains(" onclick="));
        }
        assert!(named >= 7, "{named}");
    }
}
