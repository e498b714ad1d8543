//! The configuration file: Prometheus' vocabulary, and ours beside it. Composed of each stage's own `Config`.
//!
//! A key that is not known, Prometheus' own unsupported ones included, is refused by name, line and column.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::{ConfigError, load_yaml};
use telemetry::Labels;
use tokio::sync::watch;

/// The configuration of the moment; a reload sends the next one.
pub type ConfigWatch = watch::Receiver<Arc<Config>>;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub global: Global,
    pub scrape_configs: Vec<crate::scrape::Config>,
    /// Paths and globs of rule files, relative to the configuration file.
    pub rule_files: Vec<PathBuf>,
    /// Our own settings of the rules stage.
    pub rules: crate::rules::Config,
    /// Alertmanagers.
    pub alerting: crate::notify::Config,
    pub storage: StorageConfig,
    pub query: crate::query::Config,
    pub state: crate::state::Config,
    /// Absent: nothing is published.
    pub cloudwatch: Option<crate::publish::Config>,
    /// Absent: nothing is scaled.
    pub scaling: Option<crate::scaling::Config>,
    pub web: crate::api::Config,
}

/// Defaults of all jobs and rule groups.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Global {
    #[serde(with = "service::config::duration")]
    pub scrape_interval: Duration,
    #[serde(with = "service::config::duration")]
    pub scrape_timeout: Duration,
    #[serde(with = "service::config::duration")]
    pub evaluation_interval: Duration,
    /// Put on everything that leaves: alerts above all.
    pub external_labels: Labels,
}

impl Default for Global {
    fn default() -> Self {
        // Prometheus' own defaults.
        Global {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            external_labels: Labels::empty(),
        }
    }
}

/// How long samples are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    #[serde(with = "service::config::duration")]
    pub retention: Duration,
}

impl Default for StorageConfig {
    fn default() -> Self {
        // Hours, not days: the samples live in memory.
        StorageConfig { retention: Duration::from_secs(6 * 3600) }
    }
}

impl Config {
    /// Reads and checks the file; relative paths in it become relative to its directory.
    ///
    /// # Errors
    /// One message with file, line, column and key where there is one.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let mut config: Config = load_yaml("configuration file", path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        for rule_file in &mut config.rule_files {
            *rule_file = base.join(&*rule_file);
        }
        Ok(config)
    }
}
