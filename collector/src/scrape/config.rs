//! A job as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::Secret;

use super::protocol::{self, ScrapeProtocol};
use crate::discovery::{dns, ecs, file, fixed, http, relabel};
use crate::http_client::Auth;
use crate::http_client::headers::Headers;
use crate::http_client::oauth2::{OAuth2, Tokens};
use crate::http_client::proxy::{Proxies, ProxyUrl};
use crate::tls::TlsConfig;

/// One entry of `scrape_configs`, as written. What is absent here comes from `global`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Becomes the `job` label; unique.
    pub job_name: String,
    #[serde(default, with = "service::config::duration_option", skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<Duration>,
    /// At most the interval.
    #[serde(default, with = "service::config::duration_option", skip_serializing_if = "Option::is_none")]
    pub scrape_timeout: Option<Duration>,
    #[serde(default = "default_metrics_path")]
    pub metrics_path: String,
    #[serde(default)]
    pub scheme: Scheme,
    /// URL parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Vec<String>>,
    /// On a conflict the target's own labels win; otherwise they are renamed to `exported_…`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Timestamps that the target exposes are kept.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// Series with timestamps of their own end, too, when they vanish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub track_timestamps_staleness: bool,
    /// `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` beside the report series; absent, as
    /// `global` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_scrape_metrics: Option<bool>,
    /// Ask for gzip.
    #[serde(default = "yes")]
    pub enable_compression: bool,
    #[serde(default = "yes")]
    pub follow_redirects: bool,
    /// Offered to servers with TLS.
    #[serde(default = "yes")]
    pub enable_http2: bool,
    /// A proxy for all targets but those of `no_proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    /// The proxies of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub http_headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Older files' way to write `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls_config: TlsConfig,
    /// In which formats metrics are asked for, the most wanted first; absent, as `global` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// Native histograms are kept; without `scrape_protocols` protobuf, which alone has them, is asked for first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_native_histograms: Option<bool>,
    /// The classic buckets too, where a histogram is both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_scrape_classic_histograms: Option<bool>,
    /// How to read an answer whose content type says nothing; without it such a scrape fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Uncompressed; 0 is no limit. A scrape over any limit fails as a whole.
    #[serde(default, with = "service::config::byte_size", skip_serializing_if = "is_zero")]
    pub body_size_limit: u64,
    /// Samples after relabelling; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sample_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_name_length_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_value_length_limit: u64,
    /// Buckets of a native histogram; above it neighbours are merged, and where that is not enough the scrape fails.
    /// 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub native_histogram_bucket_limit: u64,
    /// Where a bucket reaches less far than this times the one before, neighbours are merged. 0 leaves them.
    #[serde(default, skip_serializing_if = "is_zero_float")]
    pub native_histogram_min_bucket_factor: f64,
    /// Series of all targets of the job together; new ones beyond are refused and counted, the others go on. 0 is no
    /// limit; not in Prometheus. Of the whole store: `storage.series_max`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub series_limit: u64,
    /// Targets after relabelling; 0 is no limit. Above it none of the job's targets is scraped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_limit: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_configs: Vec<fixed::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_sd_configs: Vec<file::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_sd_configs: Vec<http::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_sd_configs: Vec<dns::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aws_sd_configs: Vec<ecs::Config>,
    /// Of targets, before they are scraped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relabel_configs: Vec<relabel::Rule>,
    /// Of samples, before they are stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_relabel_configs: Vec<relabel::Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Read at every scrape, so that it can be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// The `Authorization` header.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    #[serde(default = "bearer", rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Secret>,
    /// Read at every scrape, so that it can be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

fn default_metrics_path() -> String {
    "/metrics".to_owned()
}

pub(super) fn bearer() -> String {
    "Bearer".to_owned()
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero_float(n: &f64) -> bool {
    *n == 0.0
}

impl Config {
    /// A job with everything else at its default.
    pub fn new(job_name: &str) -> Self {
        Config {
            job_name: job_name.to_owned(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: default_metrics_path(),
            scheme: Scheme::default(),
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            extra_scrape_metrics: None,
            enable_compression: true,
            follow_redirects: true,
            enable_http2: true,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            http_headers: Headers::default(),
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            scrape_protocols: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            fallback_scrape_protocol: None,
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            series_limit: 0,
            target_limit: 0,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            dns_sd_configs: Vec::new(),
            aws_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
        }
    }

    /// # Errors
    /// What is wrong, the job's name included.
    pub fn check(&self) -> Result<(), String> {
        let job = &self.job_name;
        if job.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        if let (Some(interval), Some(timeout)) = (self.scrape_interval, self.scrape_timeout)
            && timeout > interval
        {
            return Err(format!("scrape timeout greater than scrape interval for scrape config with job name {job:?}"));
        }
        let auths = [
            self.basic_auth.is_some(),
            self.authorization.is_some(),
            self.bearer_token.is_some(),
            self.bearer_token_file.is_some(),
            self.oauth2.is_some(),
        ];
        if auths.into_iter().filter(|given| *given).count() > 1 {
            return Err(format!(
                "job {job:?}: at most one of basic_auth, authorization, oauth2, bearer_token and bearer_token_file must be \
                 configured"
            ));
        }
        let named = |why: String| format!("job {job:?}: {why}");
        self.oauth2.as_ref().map_or(Ok(()), OAuth2::check).map_err(named)?;
        self.proxies().check().map_err(named)?;
        protocol::check(self.scrape_protocols.as_deref()).map_err(named)?;
        self.tls_config.check().map_err(named)?;
        // Rules may make an address of it, as they do for a prober.
        let url = self.static_configs.iter().flat_map(|group| &group.targets).find(|target| target.contains('/'));
        if let (Some(url), true) = (url, self.relabel_configs.is_empty()) {
            return Err(named(format!(
                "{url:?} is not a valid hostname: write host:port, the rest is scheme and metrics_path"
            )));
        }
        self.file_sd_configs.iter().try_for_each(|f| f.check().map_err(named))?;
        self.http_sd_configs.iter().try_for_each(|h| h.check().map_err(named))?;
        self.dns_sd_configs.iter().try_for_each(|d| d.check().map_err(named))?;
        self.aws_sd_configs.iter().try_for_each(|a| a.check().map_err(named))
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        self.file_sd_configs.iter_mut().for_each(|f| f.resolve_paths(base));
        self.http_sd_configs.iter_mut().for_each(|h| h.resolve_paths(base));
        let secrets = [
            self.basic_auth.as_mut().and_then(|a| a.password_file.as_mut()),
            self.authorization.as_mut().and_then(|a| a.credentials_file.as_mut()),
            self.bearer_token_file.as_mut(),
        ];
        secrets.into_iter().flatten().for_each(|f| *f = base.join(&*f));
        self.tls_config.resolve_paths(base);
        self.http_headers.resolve_paths(base);
        self.oauth2.iter_mut().for_each(|o| o.resolve_paths(base));
    }

    pub(super) fn proxies(&self) -> Proxies {
        Proxies::new(self.proxy_url.as_ref(), self.no_proxy.as_deref(), self.proxy_from_environment)
    }

    pub(super) fn auth(&self) -> Option<Auth> {
        if let Some(oauth2) = &self.oauth2 {
            return Some(Auth::OAuth2(Arc::new(Tokens::new(oauth2.clone()))));
        }
        if self.bearer_token.is_some() || self.bearer_token_file.is_some() {
            return Some(Auth::Header(Authorization {
                kind: bearer(),
                credentials: self.bearer_token.clone(),
                credentials_file: self.bearer_token_file.clone(),
            }));
        }
        Auth::of(self.basic_auth.as_ref(), self.authorization.as_ref())
    }
}
