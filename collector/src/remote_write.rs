//! Sends on what is stored: to Amazon Managed Prometheus, Mimir, VictoriaMetrics, another Prometheus.
//!
//! In: what was written, recording rules' results included, of which one of several replicas on one database
//! alone sends those, the holder of a lease; native histograms and exemplars where they are wanted; what is known of
//! metrics. Out: remote write 1.0, or 2.0 where `protobuf_message` says so. A batch is relabelled, encoded once and
//! appended to a log on disk; the sender posts what the log holds, oldest first, several requests at a time where the
//! load asks for it, but never two that may have a series in common. The log survives a
//! restart; a kill costs at most what `batch_send_deadline` had gathered. It is bounded: when a server is away for
//! long, the oldest go first, counted. A log that the disk refuses is replaced by a short queue in memory.
//!
//! 5xx, 429 and silence are tried again for ever with growing waits, or when `Retry-After` says; any other status
//! never is: that batch is dropped and counted. At the stop the rest is sent for [`FLUSH_MAX`], then left on disk.
//! Not here: histograms with buckets of their own over 1.0, which has no field for them; they are counted.

mod batch;
mod config;
mod counts;
mod families;
mod log;
mod metrics;
mod older;
mod send;
mod shards;
mod taps;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::Labels;
use tokio::sync::{Notify, mpsc};

use crate::clock::Clock;
use crate::http_client::oauth2::Tokens;
use crate::http_client::{self, HttpClient};
use crate::state::lease::Lease;

pub use config::{Config, MetadataConfig, ProtobufMessage, QueueConfig, RecordedSeries};
pub use taps::{FamilyMetadata, Taps};

use batch::Batcher;
use log::Log;
use metrics::RemoteMetrics;
use send::Sender;
use taps::Tap;

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
        series.pending(log.pending());
        let shared = Arc::new(Shared { log: Mutex::new(log), changed: Notify::new() });
        let (queue, waiting) = mpsc::channel(QUEUE_LEN_MAX);
        let batcher = Batcher::new(config, inputs.external_labels, waiting, shared.clone(), series.clone());
        tasks.spawn("remote-write-batch", batcher.run());
        let client = HttpClient::new(&http_client::Settings {
            basic_auth: config.basic_auth.as_ref(),
            authorization: config.authorization.as_ref(),
            sigv4: config.sigv4.as_ref().map(|sigv4| (SIGNED_SERVICE, sigv4)),
            oauth2: config.oauth2.clone().map(|oauth2| Arc::new(Tokens::new(oauth2))),
            tls: config.tls_config.as_ref(),
            proxies: config.proxies(),
            headers: Some(&config.headers),
            http_headers: Some(&config.http_headers),
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

#[cfg(test)]
mod tests;
