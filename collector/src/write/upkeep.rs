//! Keeps the storage small and safe: old samples go, what is logged reaches the disk, a long log becomes a checkpoint.

use std::sync::Arc;
use std::time::Duration;

use service::Shutdown;
use storage::{Expired, Stats, Storage};
use tokio::time::MissedTickBehavior;

use super::memory::Watermark;
use super::{RefusedLabels, WriteMetrics};
use crate::clock::Clock;

/// A loss of power costs this much.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// In syncs: how often old samples go and the gauges move, and a checkpoint that failed is tried again.
const CLEAN_EVERY: u64 = 15;

/// All of it waits for the disk or walks all series, so it runs beside the tasks that serve sockets.
pub(super) struct Upkeep {
    storage: Arc<Storage>,
    clock: Clock,
    metrics: WriteMetrics,
    /// The last complaint; a disk that stays full is reported once.
    failure: Option<String>,
    checkpoint_failed: bool,
    spill_failed: bool,
    memory: Option<Watermark>,
    /// What was counted so far.
    expired: Expired,
}

impl Upkeep {
    pub(super) fn new(storage: Arc<Storage>, clock: Clock, metrics: WriteMetrics, memory: Option<Watermark>) -> Self {
        let expired = Expired::default();
        Upkeep {
            storage,
            clock,
            metrics,
            failure: None,
            checkpoint_failed: false,
            spill_failed: false,
            memory,
            expired,
        }
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
                    self.look_at_memory();
                    let cleans = tick.is_multiple_of(CLEAN_EVERY);
                    if cleans {
                        self.clean().await;
                    }
                    if (cleans || !self.checkpoint_failed) && self.storage.checkpoint_due() {
                        self.checkpoint().await;
                    } else if (cleans || !self.spill_failed) && self.storage.spill_due() {
                        self.spill().await;
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
            (storage.fit(now), storage.stats())
        };
        let (fitted, stats) = service::task::beside(work).await;
        match fitted {
            Ok(Some(storage::Fitted { oldest, dropped })) => {
                let oldest = oldest.as_millis();
                tracing::info!(oldest, dropped, "the oldest samples went for want of room (storage.retention_size)");
            }
            Ok(None) => {}
            Err(error) => self.note(Some(format!("failed to write a checkpoint: {error}"))),
        }
        self.show(&stats);
    }

    fn look_at_memory(&mut self) {
        if let Some(mark) = &mut self.memory {
            self.storage.memory_is_short(mark.look(&self.metrics));
        }
    }

    fn show(&mut self, stats: &Stats) {
        let Expired { by_time, by_size } = stats.expired_total;
        for (reason, count) in [("time", by_time - self.expired.by_time), ("size", by_size - self.expired.by_size)] {
            self.metrics.expired.get_or_create(&RefusedLabels { reason }).inc_by(count);
        }
        self.expired = stats.expired_total;
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.series.set(gauge(stats.series as u64));
        self.metrics.samples.set(gauge(stats.samples as u64));
        self.metrics.sample_bytes.set(gauge(stats.sample_bytes as u64));
        self.metrics.disk_bytes.set(gauge(stats.disk_bytes));
        self.metrics.segment_bytes.set(gauge(stats.segment_bytes));
        self.metrics.unreadable.set(gauge(stats.unreadable_total));
        self.metrics.lost.set(gauge(stats.lost_total));
        if let Some(log) = &stats.log {
            self.metrics.log_bytes.set(gauge(log.len_bytes));
        }
    }

    async fn checkpoint(&mut self) {
        let storage = self.storage.clone();
        let checkpoint = service::task::beside(move || storage.checkpoint()).await;
        self.checkpoint_failed = checkpoint.is_err();
        match checkpoint {
            Ok(Some(done)) => {
                let storage::Checkpoint { series, bytes, blocks_moved } = done;
                tracing::debug!(series, bytes, blocks_moved, "checkpoint written");
            }
            Ok(None) => {}
            Err(error) => self.note(Some(format!("failed to write a checkpoint: {error}"))),
        }
    }

    /// Memory is what it is for; samples are as safe without it.
    async fn spill(&mut self) {
        let storage = self.storage.clone();
        let spilled = service::task::beside(move || storage.spill()).await;
        self.spill_failed = spilled.is_err();
        match spilled {
            Ok(blocks) => tracing::debug!(blocks, "sealed blocks moved to disk"),
            Err(error) => tracing::warn!(%error, "sealed blocks cannot be moved to disk and stay in memory"),
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
