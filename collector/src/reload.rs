//! Follows the configuration file: on a change of the file, on SIGHUP, on `POST /-/reload`.
//!
//! The rule files that it names belong to it. A file that is not usable leaves the running configuration and its
//! rules as they are, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::metrics::gauge::Gauge;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::config::{Config, ConfigWatch};
use crate::file_changes::FileChanges;
use crate::rules;
use crate::scrape::OwnTarget;

/// More than one at a time would load the same file twice.
const REQUESTS_MAX: usize = 1;

type Answer = oneshot::Sender<Result<(), String>>;

/// Asks for a reload and hears how it went.
#[derive(Clone)]
pub struct ReloadHandle {
    requests: mpsc::Sender<Answer>,
    last: Arc<ArcSwap<LastReload>>,
    repeated: watch::Receiver<u64>,
}

/// How the last reload went, and since when the running configuration runs.
#[derive(Clone, Copy, Debug)]
pub struct LastReload {
    pub successful: bool,
    pub at: Timestamp,
}

impl ReloadHandle {
    pub fn last(&self) -> LastReload {
        **self.last.load()
    }

    /// Counts the reloads that found the configuration as it was: what it names may have changed all the same.
    pub fn repeated(&self) -> watch::Receiver<u64> {
        self.repeated.clone()
    }

    /// # Errors
    /// Why the file is not usable.
    pub async fn reload(&self) -> Result<(), String> {
        let stopping = || "the collector is stopping".to_owned();
        let (answer, outcome) = oneshot::channel();
        self.requests.send(answer).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }
}

/// Owns the configuration of the moment.
pub struct Reloader {
    path: PathBuf,
    own: OwnTarget,
    config: watch::Sender<Arc<Config>>,
    repeated: watch::Sender<u64>,
    requests: mpsc::Receiver<Answer>,
    hangup: Signal,
    clock: Clock,
    last: Arc<ArcSwap<LastReload>>,
    successful: Gauge,
    reloaded_seconds: Gauge,
}

impl Reloader {
    /// # Errors
    /// When SIGHUP cannot be heard.
    pub fn new(
        path: &Path,
        mut config: Config,
        own: OwnTarget,
        clock: Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<(Self, ReloadHandle, ConfigWatch)> {
        let (successful, reloaded_seconds) = (Gauge::default(), Gauge::default());
        metrics.register(|r| {
            let help = "Whether the last reload of the configuration succeeded";
            r.register("collector_config_last_reload_successful", help, successful.clone());
            let help = "When the running configuration was loaded, seconds since the epoch";
            r.register("collector_config_last_reload_success_timestamp_seconds", help, reloaded_seconds.clone());
        });
        own.add_to(&mut config.scrape_configs);
        successful.set(1);
        reloaded_seconds.set(clock.now().as_millis() / 1000);
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let (config, watch) = watch::channel(Arc::new(config));
        let hangup = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
        let last = Arc::new(ArcSwap::from_pointee(LastReload { successful: true, at: clock.now() }));
        let (repeated, repeats) = watch::channel(0);
        let handle = ReloadHandle { requests: sender, last: last.clone(), repeated: repeats };
        let path = path.to_owned();
        let reloader =
            Reloader { path, own, config, repeated, requests, hangup, clock, last, successful, reloaded_seconds };
        Ok((reloader, handle, watch))
    }

    /// Runs until the shutdown.
    ///
    /// # Errors
    /// Never; a file that is not usable is reported, not fatal.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut changes = FileChanges::new();
        changes.watch_files([self.path.as_path()]);
        loop {
            let answer = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                Some(answer) = self.requests.recv() => Some(answer),
                Some(()) = self.hangup.recv() => None,
                () = changes.changed() => None,
            };
            let outcome = self.reload();
            if let Some(answer) = answer {
                // Who asked may have left.
                let _ = answer.send(outcome);
            }
        }
    }

    fn reload(&self) -> Result<(), String> {
        match load(&self.path) {
            Ok(mut config) => {
                self.own.add_to(&mut config.scrape_configs);
                self.adopt(config);
                Ok(())
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    fn adopt(&self, config: Config) {
        let now = self.clock.now();
        self.successful.set(1);
        self.reloaded_seconds.set(now.as_millis() / 1000);
        self.last.store(Arc::new(LastReload { successful: true, at: now }));
        let needs_restart = self.config.borrow().needs_restart(&config);
        let changed = self.config.send_if_modified(|current| {
            let changed = **current != config;
            if changed {
                *current = Arc::new(config);
            }
            changed
        });
        if changed {
            tracing::info!(path = %self.path.display(), "configuration reloaded");
        } else {
            self.repeated.send_modify(|count| *count += 1);
        }
        if changed && !needs_restart.is_empty() {
            tracing::warn!(blocks = needs_restart.join(", "), "these blocks take effect after a restart only");
        }
    }

    fn refuse(&self, message: String) -> String {
        self.successful.set(0);
        self.last.store(Arc::new(LastReload { successful: false, ..**self.last.load() }));
        tracing::error!(error = message, "configuration not reloaded, the old one goes on");
        message
    }
}

/// The configuration, if it and its rule files can be used.
fn load(path: &Path) -> Result<Config, String> {
    let config = Config::load(path).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
        format!("{error}{cause}")
    })?;
    rules::check(&config).map_err(|error| error.to_string())?;
    Ok(config)
}
