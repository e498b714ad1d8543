//! Which targets there are: lists and files in, relabelled [`Target`]s out.
//!
//! A source that cannot be read keeps what it last said: targets vanish on evidence only.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::Labels;
use tokio::sync::watch;

/// The targets of the moment; only the newest counts.
pub type Targets = watch::Receiver<Arc<[Target]>>;

/// Something to scrape. Exists only after relabelling, so it always has an address, a job and an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What every series of the target carries: job, instance and what relabelling left.
    pub labels: Labels,
    /// What discovery said, before relabelling.
    pub discovered: Labels,
    /// `job_name` of the scrape configuration it came from.
    pub pool: Arc<str>,
    /// `http://10.0.1.7:9464/metrics`, parameters included.
    pub scrape_url: url::Url,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    /// How to read it: limits, relabelling of samples, authentication.
    pub settings: Arc<crate::scrape::Config>,
}

impl Target {
    pub fn job(&self) -> &str {
        self.labels.get(telemetry::names::label::JOB).unwrap_or_default()
    }

    pub fn instance(&self) -> &str {
        self.labels.get(telemetry::names::label::INSTANCE).unwrap_or_default()
    }

    /// Another path on the target's own address: where a sidecar answers `/logs/recent`.
    pub fn sibling_url(&self, path: &str) -> url::Url {
        let mut url = self.scrape_url.clone();
        url.set_path(path);
        url.set_query(None);
        url
    }
}

/// `static_configs`: a fixed list.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// `host:port`.
    pub targets: Vec<String>,
    /// Put on all of them.
    #[serde(default)]
    pub labels: Labels,
}
