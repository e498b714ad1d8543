//! Keeps the storage small and safe: old samples go, what is logged reaches the disk, a long log becomes a checkpoint.

use std::sync::Arc;
use std::time::Duration;

use service::Shutdown;
use storage::Storage;
use tokio::time::MissedTickBehavior;

use super::WriteMetrics;
use crate::clock::Clock;

/// A loss of power costs this much.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// In syncs: how often old samples go, the log's length is looked at and the gauges move.
const CLEAN_EVERY: u64 = 15;

/// All of it waits for the disk or walks all series, so it runs beside the tasks that serve sockets.
pub(super) struct Upkeep {
    storage: Arc<Storage>,
    clock: Clock,
    metrics: WriteMetrics,
    /// The last complaint; a disk that stays full is reported once.
    failure: Option<String>,
}

impl Upkeep {
    pub(super) fn new(storage: Arc<Storage>, clock: Clock, metrics: WriteMetrics) -> Self {
        Upkeep { storage, clock, metrics, failure: None }
    }

    /// Runs until the writer has ended, then syncs what it wrote last.
    pub(super) async fn run(mut self, ended: Shutdown) {
        let mut ticks = tokio::time::interval(SYNC_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = 0u64;
        while !ended.is_requested() {
            tokio::select! {
                () = ended.requested() => {}
                _ = ticks.tick() => {
                    if tick.is_multiple_of(CLEAN_EVERY) {
                        self.clean().await;
                    }
                    tick += 1;
                }
            }
            self.sync().await;
        }
    }

    async fn clean(&mut self) {
        let (storage, now) = (self.storage.clone(), self.clock.now());
        let work = move || {
            storage.expire(now);
            let checkpoint = if storage.checkpoint_due() { storage.checkpoint() } else { Ok(None) };
            (storage.stats(), checkpoint)
        };
        let (stats, checkpoint) = service::task::beside(work).await;
        match checkpoint {
            Ok(Some(done)) => {
                let storage::Checkpoint { series, bytes, blocks_moved } = done;
                tracing::debug!(series, bytes, blocks_moved, "checkpoint written");
            }
            Ok(None) => {}
            Err(error) => self.note(Some(format!("failed to write a checkpoint: {error}"))),
        }
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.series.set(gauge(stats.series as u64));
        self.metrics.samples.set(gauge(stats.samples as u64));
        self.metrics.sample_bytes.set(gauge(stats.sample_bytes as u64));
        self.metrics.segment_bytes.set(gauge(stats.segment_bytes));
        self.metrics.unreadable.set(gauge(stats.unreadable_total));
        self.metrics.lost.set(gauge(stats.lost_total));
        if let Some(log) = stats.log {
            self.metrics.log_bytes.set(gauge(log.len_bytes));
        }
    }

    async fn sync(&mut self) {
        let storage = self.storage.clone();
        let result = service::task::beside(move || storage.sync()).await;
        self.note(result.err().map(|error| error.to_string()));
    }

    fn note(&mut self, failure: Option<String>) {
        self.metrics.log_failing.set(i64::from(failure.is_some()));
        match &failure {
            Some(error) if self.failure.is_none() => {
                tracing::error!(error, "samples cannot be written to disk and live in memory only");
            }
            None if self.failure.is_some() => tracing::info!("samples are written to disk again"),
            _ => {}
        }
        self.failure = failure;
    }
}
