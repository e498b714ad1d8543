//! The configuration file: Prometheus' vocabulary, and ours beside it. Composed of each stage's own `Config`.
//!
//! A key that is not known, Prometheus' own unsupported ones included, is refused by name, line and column.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::{ConfigError, load_yaml};
use telemetry::Labels;
use tokio::sync::watch;

/// Prometheus' own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The configuration of the moment; a reload sends the next one.
pub type ConfigWatch = watch::Receiver<Arc<Config>>;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub global: Global,
    pub scrape_configs: Vec<crate::scrape::Config>,
    /// Files and globs of further jobs, each with `scrape_configs` alone; read with this file. What is printed has their
    /// jobs among its own.
    #[serde(skip_serializing)]
    pub scrape_config_files: Vec<PathBuf>,
    /// What may be pushed in.
    pub ingest: crate::ingest::Config,
    /// How OTLP metrics become samples.
    pub otlp: crate::ingest::otlp::Config,
    /// Where samples are sent on to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<crate::remote_write::Config>,
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

/// One of `scrape_config_files`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Jobs {
    scrape_configs: Vec<crate::scrape::Config>,
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
    /// Of jobs that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_protocols: Option<Vec<crate::scrape::ScrapeProtocol>>,
    pub scrape_native_histograms: bool,
    pub always_scrape_classic_histograms: bool,
    /// Three more report series of each scrape.
    pub extra_scrape_metrics: bool,
    /// Limits of jobs that set none; 0 is no limit.
    #[serde(with = "service::config::byte_size")]
    pub body_size_limit: u64,
    pub sample_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub target_limit: u64,
    /// Series of each job, those that are pushed with its name included; not in Prometheus.
    pub series_limit: u64,
}

impl Default for Global {
    fn default() -> Self {
        // Prometheus' own defaults.
        Global {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: DEFAULT_TIMEOUT,
            evaluation_interval: Duration::from_secs(60),
            external_labels: Labels::empty(),
            scrape_protocols: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            series_limit: 0,
        }
    }
}

/// How long samples are kept, and which are taken.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    #[serde(with = "service::config::duration")]
    pub retention: Duration,
    /// Bytes that the store's files may have together; beyond them the oldest samples go. 0 is no limit.
    #[serde(with = "service::config::byte_size")]
    pub retention_size: u64,
    /// Resident memory over which new series are refused and counted; 0 is no mark, absent four fifths of the container's
    /// memory.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// More series than this are refused and counted; absent, memory is the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_max: Option<usize>,
    /// Exemplars that are kept in memory, the newest over all series; 0 keeps none.
    pub exemplars_max: usize,
}

impl Default for StorageConfig {
    fn default() -> Self {
        // Hours, not days: the samples live in memory, the disk only brings them back after a restart.
        StorageConfig {
            retention: Duration::from_secs(6 * 3600),
            retention_size: 0,
            memory_limit: None,
            series_max: None,
            exemplars_max: storage::Config::default().exemplars_max,
        }
    }
}

impl StorageConfig {
    pub fn build(&self) -> storage::Config {
        storage::Config {
            retention: self.retention,
            size_max: Some(self.retention_size).filter(|bytes| *bytes > 0),
            series_max: self.series_max,
            exemplars_max: self.exemplars_max,
            ..storage::Config::default()
        }
    }
}

/// A size that may be absent.
mod optional_size {
    use serde::{Deserializer, Serializer};
    use service::config::byte_size;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        byte_size::deserialize(deserializer).map(Some)
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        byte_size::serialize(&value.unwrap_or_default(), serializer)
    }
}

impl Config {
    /// What `series_limit` says of samples that are pushed: their label `job` is the job's name.
    pub fn pushed_series_limits(&self) -> storage::JobLimits {
        let limit = |limit: u64| (limit > 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX));
        let own = |job: &crate::scrape::Config| Some((job.job_name.clone(), limit(job.series_limit)?));
        let by_job = self.scrape_configs.iter().filter_map(own).collect();
        storage::JobLimits { by_job, others: limit(self.global.series_limit) }
    }

    /// Reads and checks the file; relative paths in it become relative to its directory.
    ///
    /// # Errors
    /// One message with file, line, column and key where there is one.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let mut config: Config = load_yaml("configuration file", path)?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        config.add_jobs(path)?;
        config.check().map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })?;
        Ok(config)
    }

    /// The jobs of `scrape_config_files`. Paths in those files are relative to them.
    fn add_jobs(&mut self, path: &Path) -> Result<(), ConfigError> {
        let base = path.parent().unwrap_or(Path::new(""));
        for pattern in &self.scrape_config_files {
            for file in crate::discovery::file::matching(&base.join(pattern)) {
                let mut jobs: Jobs = load_yaml("scrape configuration file", &file)?;
                let own_base = file.parent().unwrap_or(Path::new(""));
                jobs.scrape_configs.iter_mut().for_each(|job| job.resolve_paths(own_base));
                self.scrape_configs.append(&mut jobs.scrape_configs);
            }
        }
        Ok(())
    }

    /// What no single stage can see.
    fn check(&self) -> Result<(), String> {
        if self.global.scrape_timeout > self.global.scrape_interval && self.global.scrape_timeout != DEFAULT_TIMEOUT {
            return Err("global scrape timeout greater than scrape interval".to_owned());
        }
        crate::scrape::check_protocols(self.global.scrape_protocols.as_deref())?;
        let in_directory = |pattern: &&PathBuf| pattern.parent().is_some_and(|p| p.to_string_lossy().contains('*'));
        if let Some(pattern) = self.scrape_config_files.iter().find(in_directory) {
            let message = "a pattern may stand in the last part of the path alone";
            return Err(format!("scrape_config_files: {:?}: {message}", pattern.display().to_string()));
        }
        let mut names = HashSet::new();
        for job in &self.scrape_configs {
            job.check()?;
            if !names.insert(&job.job_name) {
                return Err(format!("found multiple scrape configs with job name {:?}", job.job_name));
            }
        }
        self.alerting.check()?;
        self.cloudwatch.as_ref().map_or(Ok(()), crate::publish::Config::check)?;
        self.scaling.as_ref().map_or(Ok(()), crate::scaling::Config::check)?;
        self.ingest.check()?;
        self.otlp.check()?;
        crate::remote_write::Config::check_all(&self.remote_write)?;
        self.query.check()?;
        self.web.check()
    }

    fn resolve_paths(&mut self, base: &Path) {
        self.rule_files.iter_mut().for_each(|f| *f = base.join(&*f));
        self.scrape_configs.iter_mut().for_each(|job| job.resolve_paths(base));
        self.alerting.resolve_paths(base);
        self.remote_write.iter_mut().for_each(|remote| remote.resolve_paths(base));
        self.query.resolve_paths(base);
    }

    /// Names the blocks that differ and are read at the start only.
    pub fn needs_restart(&self, next: &Config) -> Vec<&'static str> {
        let blocks = [
            ("storage", self.storage != next.storage),
            ("query", self.query != next.query),
            ("state", self.state != next.state),
            ("ingest", self.ingest != next.ingest),
            ("otlp", self.otlp != next.otlp),
            ("remote_write", self.remote_write != next.remote_write),
            ("web", self.web != next.web),
        ];
        blocks.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
