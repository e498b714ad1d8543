//! Sends on what is stored: to Amazon Managed Prometheus, Mimir, VictoriaMetrics, another Prometheus.
//!
//! In: the samples of every batch that was written, recording rules' included; of several replicas on one database one
//! alone sends those, the holder of a lease. Out: remote write 1.0, or 2.0 where
//! `protobuf_message` says so. A batch is relabelled, encoded once and appended to a log on disk; the sender posts
//! what the log holds, oldest first, one request at a time, so that each series stays in order. The log survives a
//! restart; a kill costs at most what `batch_send_deadline` had gathered. It is bounded: when a server is away for
//! long, the oldest go first, counted. A log that the disk refuses is replaced by a short queue in memory.
//!
//! 5xx, 429 and silence are tried again for ever with growing waits, or when `Retry-After` says; any other status
//! never is: that batch is dropped and counted. At the stop the rest is sent for [`FLUSH_MAX`], then left on disk.
//! Not here: native histograms, exemplars and metadata; several requests at a time to one server.

mod batch;
mod config;
mod log;
mod metrics;
mod send;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::{Labels, Sample};
use tokio::sync::{Notify, mpsc};

use crate::clock::Clock;
use crate::http_client::{self, HttpClient};
use crate::state::lease::Lease;

pub use config::{Config, ProtobufMessage, QueueConfig, RecordedSeries};

use batch::Batcher;
use log::Log;
use metrics::{RemoteMetrics, RemoteSeries};
use send::Sender;

/// Batches of the writer that may wait to be encoded; a further one is dropped and counted. Encoding is faster than
/// storing, so this fills only while the disk stands still.
const QUEUE_LEN_MAX: usize = 256;
/// How long the rest is sent at the stop. The disk of a Fargate task goes with the task.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// The service that Amazon Managed Prometheus is signed for.
const SIGNED_SERVICE: &str = "aps";

/// What the stage is built from.
pub struct Inputs<'a> {
    pub configs: &'a [Config],
    pub external_labels: &'a Labels,
    /// The data directory; the logs lie in `remote_write/` below it.
    pub data: &'a Path,
    pub clock: Clock,
    /// Whose holder sends what the rules recorded; None where there is one replica only.
    pub rules_write: Option<Lease>,
}

/// Starts a batcher and a sender for each server.
///
/// # Errors
/// A log that cannot be opened, or a client that cannot be built.
pub fn spawn(tasks: &mut Tasks, inputs: Inputs<'_>, metrics: &Metrics, shutdown: &Shutdown) -> anyhow::Result<Taps> {
    if inputs.configs.is_empty() {
        return Ok(Taps::default());
    }
    let metrics = RemoteMetrics::register(metrics);
    let mut taps = Vec::new();
    for config in inputs.configs {
        let url = config.parsed_url().map_err(anyhow::Error::msg)?;
        let series = metrics.of(&config.shown_name(), &http_client::without_credentials(&url));
        let directory = inputs.data.join("remote_write").join(config.directory_name());
        let log = Log::open(&directory, config.log_size_max)
            .with_context(|| format!("failed to open the remote write log `{}`", directory.display()))?;
        series.pending(log.pending_samples());
        let shared = Arc::new(Shared { log: Mutex::new(log), changed: Notify::new() });
        let (queue, waiting) = mpsc::channel(QUEUE_LEN_MAX);
        let batcher = Batcher::new(config, inputs.external_labels, waiting, shared.clone(), series.clone());
        tasks.spawn("remote-write-batch", batcher.run());
        let client = HttpClient::new(&http_client::Settings {
            basic_auth: config.basic_auth.as_ref(),
            authorization: config.authorization.as_ref(),
            sigv4: config.sigv4.as_ref().map(|sigv4| (SIGNED_SERVICE, sigv4)),
            tls: config.tls_config.as_ref(),
            headers: Some(&config.headers),
            timeout: config.remote_timeout,
        })
        .with_context(|| format!("remote_write {:?}", config.shown_name()))?;
        let sender = Sender::new(config, url, client, shared, series.clone(), inputs.clock, shutdown.clone());
        tasks.spawn("remote-write-send", sender.run());
        let only_held = match config.recorded_series {
            RecordedSeries::LeaseHolder => inputs.rules_write.clone(),
            RecordedSeries::EveryReplica => None,
        };
        taps.push(Tap { queue, series, only_held });
    }
    Ok(Taps(taps))
}

/// Between a batcher and its sender.
struct Shared {
    log: Mutex<Log>,
    /// The log has grown, or was closed.
    changed: Notify,
}

impl Shared {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no one panics holding it")
    }
}

/// Where the writer hands on what it stored; the batchers end when this is dropped.
#[derive(Default)]
pub struct Taps(Vec<Tap>);

struct Tap {
    queue: mpsc::Sender<Arc<Vec<Sample>>>,
    series: RemoteSeries,
    /// Recorded samples go by here only while this is ours.
    only_held: Option<Lease>,
}

impl Taps {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Never waits: a queue that is full drops the batch and counts it.
    pub fn samples(&self, samples: Vec<Sample>) {
        self.hand_on(samples, |_| true);
    }

    /// The same for what rules recorded, which one of several replicas sends.
    pub fn recorded(&self, samples: Vec<Sample>) {
        self.hand_on(samples, |tap| tap.only_held.as_ref().is_none_or(Lease::is_held));
    }

    fn hand_on(&self, samples: Vec<Sample>, is_ours: impl Fn(&Tap) -> bool) {
        if self.0.is_empty() || samples.is_empty() {
            return;
        }
        let samples = Arc::new(samples);
        for tap in &self.0 {
            if !is_ours(tap) {
                tap.series.left(samples.len() as u64);
                continue;
            }
            tap.series.taken(&samples);
            if tap.queue.try_send(samples.clone()).is_err() {
                tap.series.dropped("queue_full", samples.len() as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
