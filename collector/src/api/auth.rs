//! Who may ask: bearer tokens, of which only SHA-256 hashes are configured, with a viewer's or an operator's role.
//!
//! Not here: sessions, users, JWT.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Reads that Grafana sends by POST.
const FORMS: [&str; 7] = [
    "/api/v1/query",
    "/api/v1/query_range",
    "/api/v1/query_exemplars",
    "/api/v1/format_query",
    "/api/v1/parse_query",
    "/api/v1/series",
    "/api/v1/labels",
];

/// The `web.auth` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is; for people, never checked.
    pub name: String,
    /// 64 hex digits: `printf %s TOKEN | sha256sum`. Not shown: a short token can be guessed from it.
    #[serde(serialize_with = "hidden")]
    pub sha256: String,
    pub role: Role,
}

/// An operator may do all that a viewer may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reloads, overrides.
    Operator,
}

impl Auth {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.tokens.is_empty() {
            return Err("web.auth has no tokens: nobody could ask anything".to_owned());
        }
        match self.tokens.iter().find(|t| hash_bytes(&t.sha256).is_none()) {
            Some(token) => Err(format!("web.auth: sha256 of token {:?} is not 64 hex digits", token.name)),
            None => Ok(()),
        }
    }
}

/// Decides for each request; without tokens everybody is an operator.
#[derive(Clone, Debug, Default)]
pub struct Guard(Option<Arc<[Known]>>);

/// A token's hash and what it allows.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: [u8; 32],
    role: Role,
}

impl Guard {
    /// `own` is the token by which the collector scrapes itself.
    pub fn new(auth: Option<&Auth>, own: &str) -> Self {
        let Some(auth) = auth else { return Guard(None) };
        let configured = auth.tokens.iter().filter_map(|t| Some(Known { hash: hash_bytes(&t.sha256)?, role: t.role }));
        let own = Known { hash: Sha256::digest(own).into(), role: Role::Viewer };
        Guard(Some(configured.chain([own]).collect()))
    }

    /// None: not known.
    fn role(&self, request: &Request) -> Option<Role> {
        let Some(tokens) = &self.0 else { return Some(Role::Operator) };
        let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = header.split_once(' ')?;
        // The hash is compared, not the token: how long that takes says nothing about the token.
        let hash: [u8; 32] = Sha256::digest(token.trim()).into();
        let known = tokens.iter().find(|known| known.hash == hash)?;
        scheme.eq_ignore_ascii_case("bearer").then_some(known.role)
    }
}

/// Lets a request pass, or answers 401 (not known) or 403 (a viewer that wants to change something).
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let Some(role) = guard.role(&request) else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"collector\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "a bearer token is needed\n").into_response();
    };
    if role < needed(&request) {
        return (StatusCode::FORBIDDEN, "this needs the operator role\n").into_response();
    }
    request.extensions_mut().insert(role);
    next.run(request).await
}

/// Queries may come as POST forms; every other write is an operator's.
fn needed(request: &Request) -> Role {
    let read = matches!(*request.method(), Method::GET | Method::HEAD) || FORMS.contains(&request.uri().path());
    if read { Role::Viewer } else { Role::Operator }
}

fn hidden<S: serde::Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("<secret>")
}

fn hash_bytes(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}
