//! Keeps the storage small and safe: old samples go, what is logged reaches the disk, a long log becomes a checkpoint.

use std::io;
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
    /// What the disk refuses at the moment; each is reported once.
    log_fails: bool,
    checkpoint_fails: bool,
    spill_fails: bool,
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
            log_fails: false,
            checkpoint_fails: false,
            spill_fails: false,
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
                    let checkpoint_wanted = self.checkpoint_fails || self.storage.checkpoint_due();
                    if (cleans || !self.checkpoint_fails) && checkpoint_wanted {
                        self.checkpoint().await;
                    } else if (cleans || !self.spill_fails) && self.storage.spill_due() {
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
            Err(error) => self.note_checkpoint(Some(&error)),
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
        self.note_checkpoint(checkpoint.as_ref().err());
        if let Ok(Some(storage::Checkpoint { series, bytes, blocks_moved })) = checkpoint {
            tracing::debug!(series, bytes, blocks_moved, "checkpoint written");
        }
    }

    /// Memory is what it is for; samples are as safe without it.
    async fn spill(&mut self) {
        let storage = self.storage.clone();
        let spilled = service::task::beside(move || storage.spill()).await;
        let fault = "sealed blocks cannot be moved to disk and stay in memory";
        tell(&mut self.spill_fails, spilled.as_ref().err(), fault, "sealed blocks are moved to disk again");
        if let Ok(blocks) = spilled {
            tracing::debug!(blocks, "sealed blocks moved to disk");
        }
    }

    async fn sync(&mut self) {
        let storage = self.storage.clone();
        let result = service::task::beside(move || storage.sync()).await;
        let fault = "samples cannot be written to disk and live in memory only";
        tell(&mut self.log_fails, result.err().as_ref(), fault, "samples are written to disk again");
        self.show_failing();
    }

    /// What is appended is in the log meanwhile, which grows until the disk has room for a checkpoint or for neither.
    fn note_checkpoint(&mut self, failure: Option<&io::Error>) {
        let fault = "a checkpoint of the samples cannot be written, and the log grows until one can";
        tell(&mut self.checkpoint_fails, failure, fault, "a checkpoint of the samples is written again");
        self.show_failing();
    }

    fn show_failing(&self) {
        self.metrics.log_failing.set(i64::from(self.log_fails || self.checkpoint_fails));
    }
}

/// Each fault once, however often it is met, and its end.
fn tell(fails: &mut bool, error: Option<&io::Error>, fault: &str, end: &str) {
    match error {
        Some(error) if !*fails => tracing::error!(%error, "{fault}"),
        None if *fails => tracing::info!("{end}"),
        _ => {}
    }
    *fails = error.is_some();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_checkpoint_that_cannot_be_written_is_told_until_one_is_however_well_the_log_does() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(Storage::open(directory.path(), storage::Config::default()).unwrap().0);
        let mut upkeep = Upkeep::new(storage, Clock::System, WriteMetrics::default(), None);
        upkeep.sync().await;
        assert_eq!(upkeep.metrics.log_failing.get(), 0);
        // It takes no byte.
        symlink("/dev/full", directory.path().join("checkpoint-00000001.unfinished")).unwrap();
        upkeep.checkpoint().await;
        upkeep.sync().await;
        upkeep.clean().await;
        assert_eq!(upkeep.metrics.log_failing.get(), 1);
        upkeep.checkpoint().await;
        assert_eq!(upkeep.metrics.log_failing.get(), 0);
    }
}
