//! One entry of `remote_write`, in Prometheus' vocabulary.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::Secret;
use service::sigv4;
use telemetry::remote_write::Message;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use crate::discovery::relabel;
use crate::http_client::headers::Headers;
use crate::http_client::oauth2::OAuth2;
use crate::http_client::proxy::{Proxies, ProxyUrl};
use crate::http_client::{check_one_auth, resolve_secrets};
use crate::scrape::{Authorization, BasicAuth};
use crate::tls::TlsConfig;

/// A server that samples are sent on to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    /// Its name in metrics and of its log; unique. Absent: made from the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The message that is sent: 1.0 unless 2.0 is asked for.
    #[serde(default)]
    pub protobuf_message: ProtobufMessage,
    /// Of one request.
    #[serde(default = "default_timeout", with = "service::config::duration")]
    pub remote_timeout: Duration,
    /// Further headers; `X-Scope-OrgID` for Mimir.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Sign for Amazon Managed Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<sigv4::Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub http_headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<ProxyUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    /// Send exemplars, too.
    #[serde(default)]
    pub send_exemplars: bool,
    /// Send native histograms, too; 2.0 always does.
    #[serde(default)]
    pub send_native_histograms: bool,
    /// What is known of metrics; with 1.0 every `send_interval`, with 2.0 beside each series.
    #[serde(default)]
    pub metadata_config: MetadataConfig,
    /// Of series, external labels included, before they are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write_relabel_configs: Vec<relabel::Rule>,
    /// Which of several replicas send what the rules recorded; not in Prometheus.
    #[serde(default)]
    pub recorded_series: RecordedSeries,
    #[serde(default)]
    pub queue_config: QueueConfig,
    /// Of the log on disk. What a server that is away has not taken by then is dropped, oldest first.
    #[serde(default = "default_log_size", with = "service::config::byte_size")]
    pub log_size_max: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ProtobufMessage {
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

/// The `recorded_series` key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedSeries {
    /// The holder of the lease `rules-write`: the replicas' rules give the same series at the same times.
    #[default]
    LeaseHolder,
    /// Every replica: for servers that choose one replica by its external labels (`cluster`, `__replica__`).
    EveryReplica,
}

impl From<ProtobufMessage> for Message {
    fn from(message: ProtobufMessage) -> Message {
        match message {
            ProtobufMessage::V1 => Message::V1,
            ProtobufMessage::V2 => Message::V2,
        }
    }
}

/// The `metadata_config` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataConfig {
    pub send: bool,
    #[serde(with = "service::config::duration")]
    pub send_interval: Duration,
    /// Families in one request.
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        // Prometheus' own defaults.
        MetadataConfig { send: true, send_interval: Duration::from_secs(60), max_samples_per_send: 2_000 }
    }
}

/// The `queue_config` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Samples that each shard reads ahead from the log, at least one request.
    pub capacity: usize,
    /// Requests at a time; rounded down to a power of two.
    pub max_shards: usize,
    /// Requests at a time from the start on; rounded up to a power of two.
    pub min_shards: usize,
    pub max_samples_per_send: usize,
    /// A batch that is not full is sent after this.
    #[serde(with = "service::config::duration")]
    pub batch_send_deadline: Duration,
    #[serde(with = "service::config::duration")]
    pub min_backoff: Duration,
    #[serde(with = "service::config::duration")]
    pub max_backoff: Duration,
    /// Prometheus' default is to drop; the specification allows both.
    pub retry_on_http_429: bool,
    /// Batches whose newest sample is older are dropped instead of sent; 0 is never.
    #[serde(with = "service::config::duration")]
    pub sample_age_limit: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        // Prometheus' own defaults but for 429.
        QueueConfig {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::ZERO,
        }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

/// Hours of a fleet of tens of thousands of series: about 10 compressed bytes a sample.
fn default_log_size() -> u64 {
    1 << 30
}

/// Requests at a time; each takes memory and a connection, and a server that needs more is overwhelmed.
const MAX_SHARDS_MAX: usize = 1_024;
/// Of a log; less is no use.
const LOG_SIZE_MIN: u64 = 1 << 20;

impl Config {
    /// # Errors
    /// What is wrong with an entry, or two of one name.
    pub fn check_all(configs: &[Config]) -> Result<(), String> {
        let mut names = HashSet::new();
        for config in configs {
            let name = config.shown_name();
            config.check().map_err(|why| format!("remote_write {name:?}: {why}"))?;
            if !names.insert(config.directory_name()) {
                return Err(format!("found two remote_write entries with the name {name:?}: give them names"));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        self.parsed_url()?;
        let (basic, header) = (self.basic_auth.as_ref(), self.authorization.as_ref());
        check_one_auth(basic, header, self.sigv4.as_ref(), self.oauth2.as_ref())?;
        self.proxies().check()?;
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::check)?;
        let queue = &self.queue_config;
        match () {
            () if self.remote_timeout.is_zero() => Err("remote_timeout cannot be 0".to_owned()),
            () if queue.capacity == 0 => Err("capacity cannot be 0".to_owned()),
            () if queue.min_shards == 0 || queue.min_shards > queue.max_shards => {
                Err("min_shards must lie between 1 and max_shards".to_owned())
            }
            () if queue.max_shards > MAX_SHARDS_MAX => Err(format!("max_shards cannot be above {MAX_SHARDS_MAX}")),
            () if self.metadata_config.max_samples_per_send == 0 || self.metadata_config.send_interval.is_zero() => {
                Err("metadata_config: max_samples_per_send and send_interval cannot be 0".to_owned())
            }
            () if queue.max_samples_per_send == 0 => Err("max_samples_per_send cannot be 0".to_owned()),
            () if queue.batch_send_deadline.is_zero() => Err("batch_send_deadline cannot be 0".to_owned()),
            () if queue.min_backoff.is_zero() || queue.min_backoff > queue.max_backoff => {
                Err("min_backoff must lie between 0 and max_backoff".to_owned())
            }
            () if self.log_size_max < LOG_SIZE_MIN => Err("log_size_max must be at least 1MiB".to_owned()),
            () => Ok(()),
        }
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        resolve_secrets(self.basic_auth.as_mut(), self.authorization.as_mut(), base);
        self.tls_config.iter_mut().for_each(|tls| tls.resolve_paths(base));
        self.http_headers.resolve_paths(base);
        self.oauth2.iter_mut().for_each(|oauth2| oauth2.resolve_paths(base));
    }

    pub(super) fn proxies(&self) -> Proxies {
        Proxies::new(self.proxy_url.as_ref(), self.no_proxy.as_deref(), self.proxy_from_environment)
    }

    pub(super) fn parsed_url(&self) -> Result<Url, String> {
        crate::http_client::parse_url(&self.url)
    }

    /// For people; never with credentials.
    pub(super) fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.directory_name())
    }

    /// The same after every restart; changes with the name, or where there is none with the URL.
    pub(super) fn directory_name(&self) -> String {
        let plain = |name: &&String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        match self.name.as_ref().filter(plain) {
            Some(name) => name.clone(),
            None => format!("{:016x}", xxh3_64(self.name.as_ref().unwrap_or(&self.url).as_bytes())),
        }
    }
}
