//! `http_sd_configs`: targets that a server lists as JSON, in the shape of file discovery.
//!
//! Promises what file discovery promises: a server that does not answer, or with something else, keeps the targets
//! that it last had.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use service::Shutdown;
use url::Url;

use super::source::Publisher;
use super::{TargetGroup, fixed};
use crate::http_client::headers::Headers;
use crate::http_client::oauth2::{OAuth2, Tokens};
use crate::http_client::proxy::{Proxies, ProxyUrl};
use crate::http_client::{self, BodyError, HttpClient};
use crate::scrape::{Authorization, BasicAuth};
use crate::tls::TlsConfig;

const META_URL: &str = "__meta_url";
const REFRESH_HEADER: HeaderName = HeaderName::from_static("x-prometheus-refresh-interval-seconds");
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a list; a hundred thousand targets with labels are below it.
const LIST_BYTES_MAX: u64 = 32 << 20;

/// One entry of `http_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    #[serde(default = "default_refresh", with = "service::config::duration")]
    pub refresh_interval: Duration,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub http_headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
}

/// Prometheus' default.
fn default_refresh() -> Duration {
    Duration::from_secs(60)
}

impl Config {
    /// # Errors
    /// A URL or credentials that cannot work.
    pub fn check(&self) -> Result<(), String> {
        http_client::parse_url(&self.url).map_err(|why| format!("http_sd_configs: {why}"))?;
        let (basic, header) = (self.basic_auth.as_ref(), self.authorization.as_ref());
        http_client::check_one_auth(basic, header, None, self.oauth2.as_ref())?;
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::check)?;
        self.proxies().check().map_err(|why| format!("http_sd_configs: {why}"))?;
        match self.refresh_interval.is_zero() {
            true => Err("http_sd_configs: refresh_interval cannot be 0".to_owned()),
            false => Ok(()),
        }
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        http_client::resolve_secrets(self.basic_auth.as_mut(), self.authorization.as_mut(), base);
        self.tls_config.iter_mut().for_each(|tls| tls.resolve_paths(base));
        self.http_headers.resolve_paths(base);
        self.oauth2.iter_mut().for_each(|oauth2| oauth2.resolve_paths(base));
    }

    fn proxies(&self) -> Proxies {
        Proxies::new(self.proxy_url.as_ref(), self.no_proxy.as_deref(), self.proxy_from_environment)
    }

    fn client(&self, tokens: Option<&Arc<Tokens>>) -> anyhow::Result<HttpClient> {
        HttpClient::new(&http_client::Settings {
            basic_auth: self.basic_auth.as_ref(),
            authorization: self.authorization.as_ref(),
            oauth2: tokens.cloned(),
            tls: self.tls_config.as_ref(),
            proxies: self.proxies(),
            http_headers: Some(&self.http_headers),
            timeout: TIMEOUT,
            ..http_client::Settings::default()
        })
    }
}

/// Asks the server again and again.
pub(super) struct HttpSource {
    config: Config,
    /// Longer than for one list.
    tokens: Option<Arc<Tokens>>,
    groups: Vec<TargetGroup>,
    complaint: Option<String>,
    publisher: Publisher,
}

impl HttpSource {
    pub(super) fn new(config: Config, publisher: Publisher) -> Self {
        let tokens = config.oauth2.clone().map(|oauth2| Arc::new(Tokens::new(oauth2)));
        HttpSource { config, tokens, groups: Vec::new(), complaint: None, publisher }
    }

    pub(super) async fn run(mut self, stop: Shutdown) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = self.refresh() => {}
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.config.refresh_interval) => {}
            }
        }
    }

    async fn refresh(&mut self) {
        let error = match list(&self.config, self.tokens.as_ref()).await {
            Ok(groups) => {
                self.groups = groups;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        match &error {
            Some(error) if self.complaint.is_none() => {
                tracing::error!(error, url = self.config.url, "HTTP discovery keeps the last targets");
            }
            None if self.complaint.is_some() => tracing::info!(url = self.config.url, "HTTP discovery works again"),
            _ => {}
        }
        self.complaint.clone_from(&error);
        self.publisher.publish(self.groups.clone(), error);
    }
}

/// The client is made anew each time, so that certificates can be rotated.
async fn list(config: &Config, tokens: Option<&Arc<Tokens>>) -> anyhow::Result<Vec<TargetGroup>> {
    let url = Url::parse(&config.url)?;
    let interval = config.refresh_interval.as_secs_f64().to_string();
    let headers = [(ACCEPT, "application/json"), (REFRESH_HEADER, interval.as_str())];
    let response = config.client(tokens)?.send(Method::GET, &url, &headers, bytes::Bytes::new()).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "server returned HTTP status {}", response.status());
    let content_type =
        response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let is_json =
        content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    anyhow::ensure!(is_json, "unsupported content type {content_type:?}, it must be application/json");
    let body = http_client::read_body(response, LIST_BYTES_MAX, Vec::new()).await.map_err(|error| match error {
        BodyError::Http(error) => error.into(),
        BodyError::TooLong => anyhow::anyhow!("the list is larger than {LIST_BYTES_MAX} bytes"),
    })?;
    groups(&config.url, &body)
}

fn groups(url: &str, body: &[u8]) -> anyhow::Result<Vec<TargetGroup>> {
    let lists: Vec<fixed::Config> = serde_json::from_slice(body)?;
    let meta = [(META_URL, url)];
    Ok(lists.iter().enumerate().map(|(i, list)| list.group(&format!("{url}:{i}"), &meta)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_groups_and_anything_else_is_an_error() {
        let body = br#"[{"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"env": "prod"}}, {"targets": []}]"#;
        let groups = groups("http://sd/targets", body).expect("a list");
        assert_eq!(
            groups.iter().map(|g| g.source.as_str()).collect::<Vec<_>>(),
            ["http://sd/targets:0", "http://sd/targets:1"]
        );
        let labels = groups[0].targets[1].to_string();
        assert_eq!(labels, r#"{__address__="10.0.0.2:80", __meta_url="http://sd/targets", env="prod"}"#);
        for body in [&b"{}"[..], b"[{\"hosts\": []}]", b"no JSON"] {
            assert!(super::groups("http://sd/targets", body).is_err());
        }
    }
}
