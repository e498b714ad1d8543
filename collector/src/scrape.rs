//! Targets in, batches of samples out: one task per target, at its own stable phase of the interval.
//!
//! A failed scrape is data: `up` is 0, the series of the target are marked stale, the reason is kept and counted.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use telemetry::Timestamp;

use crate::discovery::{StaticConfig, Target};

/// One entry of `scrape_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Becomes the `job` label.
    pub job_name: String,
    #[serde(default, with = "service::config::duration_option")]
    pub scrape_interval: Option<Duration>,
    #[serde(default, with = "service::config::duration_option")]
    pub scrape_timeout: Option<Duration>,
    #[serde(default)]
    pub static_configs: Vec<StaticConfig>,
}

/// What became of a target's last scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealth {
    /// Not scraped yet.
    #[default]
    Unknown,
    Up,
    Down,
}

/// A target and its last scrape.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub target: Target,
    pub health: TargetHealth,
    pub last_scrape: Option<Timestamp>,
    pub last_duration: Duration,
    /// Samples after relabelling.
    pub samples: usize,
    /// Why it is down; empty when it is not.
    pub last_error: String,
}

/// The targets and their health; a snapshot costs one pointer.
#[derive(Clone, Default)]
pub struct Status(Arc<ArcSwap<Vec<TargetStatus>>>);

impl Status {
    /// All targets, by job and instance.
    pub fn snapshot(&self) -> Arc<Vec<TargetStatus>> {
        self.0.load_full()
    }
}
