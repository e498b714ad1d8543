//! A scrape configuration as the code uses it: defaults of `global` filled in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use telemetry::Labels;
use xxhash_rust::xxh3::xxh3_64;

use super::native::HistogramSettings;
use super::protocol::{self, BodyFormat};
use super::{Config, Scheme};
use crate::config::Global;
use crate::discovery::{Target, relabel};
use crate::http_client::Auth;
use crate::http_client::headers::Headers;
use crate::http_client::proxy::Proxies;
use crate::phase;
use crate::tls::TlsConfig;

/// Everything about a job that its targets share.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub job_name: Arc<str>,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub metrics_path: String,
    pub scheme: &'static str,
    pub params: BTreeMap<String, Vec<String>>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub extra_scrape_metrics: bool,
    pub enable_compression: bool,
    pub auth: Option<Auth>,
    pub headers: Headers,
    pub client: ClientSettings,
    /// The `Accept` header.
    pub accept: String,
    pub fallback_format: Option<BodyFormat>,
    pub histograms: HistogramSettings,
    pub limits: Limits,
    pub relabel: Vec<relabel::Rule>,
    pub metric_relabel: Vec<relabel::Rule>,
}

/// What a client is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientSettings {
    pub tls: TlsConfig,
    pub redirects: Redirects,
    pub http2: bool,
    pub proxies: Proxies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redirects {
    None,
    Followed,
    /// Headers of one's own may be secret, and the client would show them to any host that it is sent to.
    WithinHost,
}

impl ClientSettings {
    /// What jobs mostly say.
    pub(super) fn plain(redirects: Redirects) -> Self {
        ClientSettings { tls: TlsConfig::default(), redirects, http2: true, proxies: Proxies::default() }
    }
}

/// A scrape over any of them fails as a whole, but for the last. `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes_max: u64,
    pub samples_max: u64,
    pub labels_max: u64,
    pub label_name_len_max: u64,
    pub label_value_len_max: u64,
    /// Of the job; judged by discovery.
    pub targets_max: u64,
    /// Of the job; beyond, new series are left out.
    pub series_max: u64,
}

impl Settings {
    pub fn new(job: &Config, global: &Global) -> Self {
        let scrape_interval = job.scrape_interval.unwrap_or(global.scrape_interval);
        // A default that does not fit a short interval is shortened; Config::check refuses an explicit one.
        let scrape_timeout = job.scrape_timeout.unwrap_or(global.scrape_timeout).min(scrape_interval);
        // As in Prometheus, 0 means the global limit, and there no limit.
        let limit = |job: u64, global: u64| [job, global].into_iter().find(|n| *n > 0).unwrap_or(u64::MAX);
        let histograms = HistogramSettings::new(job, global);
        Settings {
            job_name: job.job_name.as_str().into(),
            scrape_interval,
            scrape_timeout,
            metrics_path: job.metrics_path.clone(),
            scheme: match job.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            },
            params: job.params.clone(),
            honor_labels: job.honor_labels,
            honor_timestamps: job.honor_timestamps,
            track_timestamps_staleness: job.track_timestamps_staleness,
            extra_scrape_metrics: job.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
            enable_compression: job.enable_compression,
            auth: job.auth(),
            headers: job.http_headers.clone(),
            client: ClientSettings {
                tls: job.tls_config.clone(),
                redirects: match (job.follow_redirects, job.http_headers.is_empty()) {
                    (false, _) => Redirects::None,
                    (true, true) => Redirects::Followed,
                    (true, false) => Redirects::WithinHost,
                },
                http2: job.enable_http2,
                proxies: job.proxies(),
            },
            accept: protocol::accept(
                [job.scrape_protocols.as_deref(), global.scrape_protocols.as_deref()],
                histograms.wanted.native,
            ),
            fallback_format: job.fallback_scrape_protocol.map(BodyFormat::from),
            histograms,
            limits: Limits {
                body_bytes_max: limit(job.body_size_limit, global.body_size_limit),
                samples_max: limit(job.sample_limit, global.sample_limit),
                labels_max: limit(job.label_limit, global.label_limit),
                label_name_len_max: limit(job.label_name_length_limit, global.label_name_length_limit),
                label_value_len_max: limit(job.label_value_length_limit, global.label_value_length_limit),
                targets_max: limit(job.target_limit, global.target_limit),
                series_max: limit(job.series_limit, global.series_limit),
            },
            relabel: job.relabel_configs.clone(),
            metric_relabel: job.metric_relabel_configs.clone(),
        }
    }
}

/// Mixes this replica into the phase: same targets, other times.
pub(super) fn phase_seed(external_labels: &Labels) -> u64 {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    xxh3_64(format!("{}{external_labels}", hostname.trim()).as_bytes())
}

/// Where in the interval a target is scraped: the same after every restart.
pub(super) fn phase(target: &Target, seed: u64) -> Duration {
    let hash = xxh3_64(format!("{}{}", target.labels, target.scrape_url).as_bytes());
    phase::of_scrapes(hash ^ seed, target.scrape_interval)
}
