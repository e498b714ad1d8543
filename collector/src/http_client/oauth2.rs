//! `oauth2`: a token for each request, by client credentials (RFC 6749, section 4.4). Prometheus' keys.
//!
//! A token is asked for when it is first needed and kept until shortly before it ends; the secret is read at every
//! request, and another one means another token. A server that gives none is left alone for a while, however many
//! targets there are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use service::config::{ProcessEnv, Secret};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::BodyError;
use super::proxy::{Proxies, ProxyUrl};
use crate::tls::TlsConfig;

const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Of a request for a token; a scrape that waits for it ends by its own timeout.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A token that ends on the way is no good.
const EARLY: Duration = Duration::from_secs(10);
/// Some servers lock out who fails too often.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The `oauth2` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Read at every request, so that it can be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    pub token_url: String,
    /// Further parameters of the request for a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls_config: TlsConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
}

impl OAuth2 {
    /// # Errors
    /// What is missing or too much.
    pub fn check(&self) -> Result<(), String> {
        if self.client_id.is_empty() {
            return Err("oauth2: client_id is empty".to_owned());
        }
        if self.client_secret.is_some() == self.client_secret_file.is_some() {
            return Err("oauth2: one of client_secret and client_secret_file must be configured".to_owned());
        }
        let url = super::parse_url(&self.token_url).map_err(|why| format!("oauth2: token_{why}"))?;
        if super::without_credentials(&url) != url.as_str() {
            return Err("oauth2: token_url: the credentials have keys of their own".to_owned());
        }
        self.tls_config.check().map_err(|why| format!("oauth2: {why}"))?;
        self.proxies().check().map_err(|why| format!("oauth2: {why}"))
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        self.client_secret_file.iter_mut().for_each(|file| *file = base.join(&*file));
        self.tls_config.resolve_paths(base);
    }

    fn proxies(&self) -> Proxies {
        Proxies::new(self.proxy_url.as_ref(), self.no_proxy.as_deref(), self.proxy_from_environment)
    }
}

/// The tokens of one `oauth2` block, one at a time.
pub struct Tokens {
    config: OAuth2,
    /// Held while a token is asked for: all who need it wait for the same one.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    secret: String,
    /// Or why there is none.
    header: Result<String, String>,
    /// None: it does not end.
    until: Option<Instant>,
}

/// What a server answers; RFC 6749, sections 5.1 and 5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// Whoever has the same configuration gets the same tokens.
impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Tokens {
    pub fn new(config: OAuth2) -> Self {
        Tokens { config, kept: Mutex::default() }
    }

    /// The `Authorization` header.
    ///
    /// # Errors
    /// A secret that cannot be read, a server that gives no token.
    pub(super) async fn header(&self) -> Result<String, String> {
        let secret =
            super::secret(self.config.client_secret.as_ref(), self.config.client_secret_file.as_deref()).await?;
        let mut kept = self.kept.lock().await;
        let is_good = |kept: &&Kept| kept.secret == secret && kept.until.is_none_or(|until| Instant::now() < until);
        if let Some(kept) = kept.as_ref().filter(is_good) {
            return kept.header.clone();
        }
        let at = self.config.token_url.split(['?', '#']).next().unwrap_or_default();
        let (header, lasts) = match self.ask(&secret).await {
            Ok((header, lasts)) => (Ok(header), lasts.map(|lasts| lasts.saturating_sub(EARLY))),
            Err(why) => (Err(format!("oauth2: failed to get a token from {at}: {why}")), Some(RETRY_AFTER)),
        };
        let until = lasts.map(|lasts| Instant::now() + lasts);
        *kept = Some(Kept { secret, header: header.clone(), until });
        header
    }

    /// A new token's header, and how long it lasts.
    async fn ask(&self, secret: &str) -> Result<(String, Option<Duration>), String> {
        // Made for each request: certificates that were replaced are read, and tokens are seldom asked for.
        let client = self.client().map_err(|error| format!("{error:#}"))?;
        let id = &self.config.client_id;
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let basic = BASE64_STANDARD.encode(format!("{}:{}", escaped(id), escaped(secret)));
        let first = self.request(&client, Some(format!("Basic {basic}")), &[]).await?;
        // Who does not know Basic takes both as parameters; Prometheus tries the same in this order.
        match read(first).await {
            Ok(token) => Ok(token),
            Err(_) => {
                let parameters = [("client_id", id.as_str()), ("client_secret", secret)];
                read(self.request(&client, None, &parameters).await?).await
            }
        }
    }

    fn client(&self) -> anyhow::Result<Client> {
        let client = Client::builder()
            .user_agent(super::USER_AGENT)
            .timeout(TIMEOUT)
            // The secret is for this server alone.
            .redirect(reqwest::redirect::Policy::none());
        let client = self.config.proxies().apply(client, &ProcessEnv)?;
        Ok(self.config.tls_config.apply(client)?.build()?)
    }

    async fn request(
        &self,
        client: &Client,
        header: Option<String>,
        credentials: &[(&str, &str)],
    ) -> Result<Response, String> {
        let scopes = self.config.scopes.join(" ");
        let mut form = BTreeMap::from([("grant_type", "client_credentials")]);
        form.extend((!scopes.is_empty()).then_some(("scope", scopes.as_str())));
        form.extend(self.config.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        form.extend(credentials.iter().copied());
        let mut request = client.post(&self.config.token_url).form(&form);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, super::sensitive(header)?);
        }
        request.send().await.map_err(|error| super::root_cause(&error))
    }
}

/// The token of an answer. What the server wrote is not repeated, but for the error's name.
async fn read(response: Response) -> Result<(String, Option<Duration>), String> {
    let status = response.status();
    let body = super::read_body(response, ANSWER_BYTES_MAX, Vec::new()).await.map_err(|error| match error {
        BodyError::Http(error) => super::root_cause(&error),
        BodyError::TooLong => "the answer is longer than any token".to_owned(),
    })?;
    let answer: Option<Answer> = serde_json::from_slice(&body).ok();
    if status != StatusCode::OK {
        let error = answer.and_then(|answer| answer.error).filter(|error| is_name(error));
        return Err(error.map_or_else(|| status.to_string(), |error| format!("{status}: {error}")));
    }
    let answer = answer.ok_or("the answer is no JSON object of a token")?;
    let token = answer.access_token.filter(|token| !token.is_empty()).ok_or("the answer has no access_token")?;
    let kind = match answer.token_type.as_deref() {
        None | Some("") => "Bearer",
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => "Bearer",
        Some(kind) => kind,
    };
    let seconds = answer.expires_in.and_then(|n| n.as_u64().or_else(|| n.as_str()?.parse().ok()));
    let lasts = seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(1 << 32)));
    let header = format!("{kind} {token}");
    super::sensitive(header.clone())?;
    Ok((header, lasts))
}

/// `invalid_client` and its like.
fn is_name(error: &str) -> bool {
    error.len() <= 40 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}
