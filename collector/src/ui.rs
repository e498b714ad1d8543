//! The web UI's files: what stands under `collector/ui` comes in, pages, scripts and styles go out.
//!
//! Promises: nothing is loaded from another host, no script runs but ours (strict content security policy), the files
//! of one build are fetched once (their address holds the build's hash). There is no build step: a release build
//! carries the files, a debug build reads them from disk, so that reloading the page shows an edit.

mod bundle;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use bundle::{Bundle, File};

/// Pages have one path segment, so that their relative addresses work below any prefix.
const PAGES: [&str; 4] = ["/", "/alerts", "/targets", "/runbook"];

/// A file under a build's hash never changes; a year is as long as caches keep anything.
const CACHE_FOREVER: &str = "public, max-age=31536000, immutable";
const CACHE_CHECK: &str = "no-cache";

/// Where an answer's files come from.
#[derive(Clone)]
enum Files {
    /// Loaded once, compressed, hashed.
    Built(Arc<Bundle>),
    /// Read again for each request: debug builds.
    Disk,
}

impl Files {
    fn now(&self) -> Arc<Bundle> {
        match self {
            Files::Built(bundle) => bundle.clone(),
            Files::Disk => Arc::new(Bundle::load()),
        }
    }

    fn file(&self, path: &str) -> Option<File> {
        match self {
            Files::Built(bundle) => bundle.files.get(path).cloned(),
            Files::Disk => bundle::read(path),
        }
    }
}

/// The pages and their files.
pub fn router() -> Router {
    let files = if cfg!(debug_assertions) { Files::Disk } else { Files::Built(Arc::new(Bundle::load())) };
    router_over(files)
}

fn router_over(files: Files) -> Router {
    let pages = PAGES.iter().fold(Router::new(), |router, page| router.route(page, get(page_of_ours)));
    pages.route("/assets/{version}/{*path}", get(asset)).route("/runbooks/{name}", get(to_runbook)).with_state(files)
}

/// The runbook of an alert, in Markdown.
pub(crate) fn runbook(name: &str) -> Option<String> {
    bundle::runbook(name)
}

/// The address that alerts carry leads to the page that shows it; relative, as all our addresses.
async fn to_runbook(Path(name): Path<String>) -> Response {
    if runbook(&name).is_none() {
        return (StatusCode::NOT_FOUND, "there is no runbook of this name").into_response();
    }
    Redirect::temporary(&format!("../runbook?name={name}")).into_response()
}

async fn page_of_ours(State(files): State<Files>, request: HeaderMap) -> Response {
    let bundle = files.now();
    let page = &bundle.page;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static(CACHE_CHECK)),
        (ETAG, page.etag.clone()),
        (CONTENT_SECURITY_POLICY, page.policy.clone()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    if request.get(IF_NONE_MATCH) == Some(&page.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, page.html.clone()).into_response()
}

/// A page of an earlier build that asks for its own files gets none of another build: mixed modules fail in odd ways.
async fn asset(
    State(files): State<Files>,
    Path((version, path)): Path<(String, String)>,
    request: HeaderMap,
) -> Response {
    let cache = match &files {
        Files::Built(bundle) if version == bundle.version => CACHE_FOREVER,
        Files::Built(_) => {
            return (StatusCode::NOT_FOUND, "this file belongs to another build: reload the page").into_response();
        }
        Files::Disk => CACHE_CHECK,
    };
    let Some(file) = files.file(&path) else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(file.content_type)),
        (CACHE_CONTROL, HeaderValue::from_static(cache)),
        (VARY, HeaderValue::from_static("accept-encoding")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    match file.gzipped {
        Some(gzipped) if accepts_gzip(&request) => (headers, [(CONTENT_ENCODING, "gzip")], gzipped).into_response(),
        _ => (headers, file.bytes).into_response(),
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let encodings = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| {
        let mut parts = encoding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|weight| weight == "q=0")
    })
}

#[cfg(test)]
mod tests;
