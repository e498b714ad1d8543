//! The single writer into storage: batches come in from scrapes and recording rules, each is acknowledged with
//! what became of it.
//!
//! Behind it the upkeep of what is stored: old samples go, the log on disk is synced and kept short.
//!
//! The queue is bounded and a writer that is behind makes its senders wait; nothing is dropped here.

mod memory;
mod upkeep;

use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Shutdown;
use service::metrics::Metrics;
use storage::{AppendReport, Exemplar, ExemplarRefusal, Group, JobLimits, Kept, Row, RowReport, Storage};
use telemetry::{HistogramSample, Labels, Sample, stale_nan};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::config::{Config, ConfigWatch};
use crate::remote_write::{FamilyMetadata, Taps};
pub use memory::Watermark;
use upkeep::Upkeep;

/// Batches that may wait; a batch is one scrape or one rule group, so this is seconds of a large fleet.
const QUEUE_LEN_MAX: usize = 64;

/// The writer has ended: the program is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the writer has stopped")]
pub struct WriteClosed;

/// Where samples come from: what rules recorded is sent on by one replica alone, what is pushed is held to the limits of
/// its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Pushed,
    Rules,
}

enum Batch {
    Samples { samples: Vec<Sample>, origin: Origin, done: oneshot::Sender<AppendReport> },
    Histograms { samples: Vec<HistogramSample>, origin: Origin, done: oneshot::Sender<AppendReport> },
    Row { group: Arc<Place>, row: Row, histograms: Vec<HistogramSample>, done: oneshot::Sender<(Row, RowReport)> },
}

/// Hands batches to the writer; clones share its queue. The writer ends when the last handle is gone.
#[derive(Clone)]
pub struct WriteHandle {
    queue: mpsc::Sender<Batch>,
    storage: Arc<Storage>,
    clock: Clock,
    exemplars: ExemplarMetrics,
    taps: Arc<OnceLock<Taps>>,
}

/// Hands the rows of one target to the writer.
pub struct RowWriter {
    queue: mpsc::Sender<Batch>,
    group: Arc<Place>,
}

/// A group, and the labels of its slots where samples are sent on: rows name slots alone.
struct Place {
    group: Group,
    labels: Mutex<Vec<Option<Labels>>>,
}

impl Place {
    fn new(group: Group) -> Self {
        Place { group, labels: Mutex::default() }
    }

    /// The row as samples with labels.
    fn samples(&self, row: &Row, report: &RowReport) -> Vec<Sample> {
        let mut known = self.labels.lock().expect("no one panics holding it");
        let mut samples = Vec::with_capacity(row.len());
        let mut push = |labels: Option<&Labels>, timestamp, value| {
            samples.extend(labels.map(|labels| Sample { labels: labels.clone(), timestamp, value }));
        };
        let of = |known: &[Option<Labels>], slot: u32| known.get(slot as usize).cloned().flatten();
        row.values.iter().for_each(|(slot, value)| push(of(&known, *slot).as_ref(), row.time, *value));
        row.timed.iter().for_each(|(slot, time, value)| push(of(&known, *slot).as_ref(), *time, *value));
        row.ended.iter().for_each(|slot| push(of(&known, *slot).as_ref(), row.time, stale_nan()));
        for slot in &row.released {
            if let Some(place) = known.get_mut(*slot as usize) {
                *place = None;
            }
        }
        for (new, slot) in row.new.iter().zip(&report.slots) {
            let Some(slot) = slot.map(|slot| slot as usize) else { continue };
            if known.len() <= slot {
                known.resize(slot + 1, None);
            }
            known[slot] = Some(new.labels.clone());
            push(Some(&new.labels), new.time.unwrap_or(row.time), new.value);
        }
        samples
    }
}

impl RowWriter {
    /// Waits for room, then for the row and the native histograms of the same scrape to be stored. The row comes back
    /// for its memory; the report is of the row alone.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn write(&self, row: Row, histograms: Vec<HistogramSample>) -> Result<(Row, RowReport), WriteClosed> {
        let (done, report) = oneshot::channel();
        let batch = Batch::Row { group: self.group.clone(), row, histograms, done };
        self.queue.send(batch).await.map_err(|_| WriteClosed)?;
        report.await.map_err(|_| WriteClosed)
    }
}

impl WriteHandle {
    /// Waits for room, then for the samples to be stored.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn write(&self, samples: Vec<Sample>, origin: Origin) -> Result<AppendReport, WriteClosed> {
        let (done, report) = oneshot::channel();
        self.queue.send(Batch::Samples { samples, origin, done }).await.map_err(|_| WriteClosed)?;
        report.await.map_err(|_| WriteClosed)
    }

    /// Waits for room, then for native histograms to be stored.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn write_histograms(
        &self,
        samples: Vec<HistogramSample>,
        origin: Origin,
    ) -> Result<AppendReport, WriteClosed> {
        let (done, report) = oneshot::channel();
        self.queue.send(Batch::Histograms { samples, origin, done }).await.map_err(|_| WriteClosed)?;
        report.await.map_err(|_| WriteClosed)
    }

    /// Keeps exemplars, each with the labels of its series; returns how many. Never waits: they have a ring of their
    /// own, in which the newest take the place of the oldest. What is not kept is counted.
    pub fn exemplars(&self, exemplars: Vec<(Labels, Exemplar)>) -> usize {
        let now = self.clock.now();
        let taps = self.taps.get().filter(|taps| !taps.is_empty());
        let (mut kept, mut sent_on) = (0, Vec::new());
        for (series, exemplar) in exemplars {
            let copy = taps.map(|_| exemplar.clone());
            let result = self.storage.exemplars().append(&series, exemplar, now);
            // Targets repeat theirs at every scrape: only what is new is sent on.
            let is_new = matches!(result, Ok(Kept::Added | Kept::InPlaceOfOldest));
            kept += usize::from(self.exemplars.count(result));
            sent_on.extend(copy.filter(|_| is_new).map(|exemplar| (series, exemplar)));
        }
        if let Some(taps) = taps {
            taps.exemplars(sent_on);
        }
        kept
    }

    /// Whether what is stored goes on to other servers.
    pub fn sends_on(&self) -> bool {
        self.taps.get().is_some_and(|taps| !taps.is_empty())
    }

    /// Tells the servers that samples are sent on to what is known of metrics. Never waits.
    pub fn metadata(&self, metadata: Vec<FamilyMetadata>) {
        if let Some(taps) = self.taps.get() {
            taps.metadata(metadata);
        }
    }

    /// A place for the rows of a target, of which about `rows_kept` stay quick to read.
    pub fn rows(&self, rows_kept: usize) -> RowWriter {
        RowWriter { queue: self.queue.clone(), group: Arc::new(Place::new(self.storage.group(rows_kept))) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

#[derive(Clone, Default)]
struct WriteMetrics {
    appended: Counter,
    refused: Family<RefusedLabels, Counter>,
    series: Gauge,
    samples: Gauge,
    sample_bytes: Gauge,
    disk_bytes: Gauge,
    expired: Family<RefusedLabels, Counter>,
    memory_limit: Gauge,
    memory_short: Gauge,
    log_bytes: Gauge,
    log_failing: Gauge,
    segment_bytes: Gauge,
    unreadable: Gauge,
    lost: Gauge,
}

impl WriteMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = WriteMetrics::default();
        metrics.register(|r| {
            r.register("collector_storage_samples_appended", "Samples stored", own.appended.clone());
            r.register("collector_storage_samples_refused", "Samples not stored, by reason", own.refused.clone());
            r.register("collector_storage_series", "Series in the store", own.series.clone());
            r.register("collector_storage_samples", "Samples in the store", own.samples.clone());
            r.register(
                "collector_storage_sample_bytes",
                "Memory of the samples; those on disk alone take none",
                own.sample_bytes.clone(),
            );
            let help = "Files of the store: logs, checkpoints, segments";
            r.register("collector_storage_disk_bytes", help, own.disk_bytes.clone());
            let help = "Samples that are not kept any more, by reason: `time` for storage.retention, `size` for storage.retention_size";
            r.register("collector_storage_samples_expired", help, own.expired.clone());
            let help = "Resident memory over which new series are refused (storage.memory_limit); 0 is no mark";
            r.register("collector_storage_memory_limit_bytes", help, own.memory_limit.clone());
            let help = "1 while memory is over the mark and new series are refused";
            r.register("collector_storage_memory_short", help, own.memory_short.clone());
            r.register("collector_storage_log_bytes", "Length of the log on disk", own.log_bytes.clone());
            let help = "1 while the disk refuses samples, which then live in memory only, or a checkpoint of them";
            r.register("collector_storage_log_failing", help, own.log_failing.clone());
            r.register("collector_storage_segment_bytes", "Samples on disk alone", own.segment_bytes.clone());
            let help = "Reads of samples on disk that failed, so that an answer went without them, since the start";
            r.register("collector_storage_unreadable", help, own.unreadable.clone());
            let help = "Samples that the start missed on disk: files of the data directory were gone or damaged";
            r.register("collector_storage_samples_lost", help, own.lost.clone());
        });
        own
    }
}

/// What became of exemplars.
#[derive(Clone, Default)]
struct ExemplarMetrics {
    appended: Counter,
    dropped: Family<RefusedLabels, Counter>,
}

impl ExemplarMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = ExemplarMetrics::default();
        metrics.register(|r| {
            r.register("collector_storage_exemplars_appended", "Exemplars kept", own.appended.clone());
            let help = "Exemplars not kept, by reason; `replaced` were, until newer ones took their place";
            r.register("collector_storage_exemplars_dropped", help, own.dropped.clone());
        });
        own
    }

    /// Counts what became of an exemplar; whether it is kept.
    fn count(&self, kept: Result<Kept, ExemplarRefusal>) -> bool {
        let dropped = |reason| _ = self.dropped.get_or_create(&RefusedLabels { reason }).inc();
        match kept {
            Ok(Kept::Repeated) => {}
            Ok(Kept::Added) => _ = self.appended.inc(),
            Ok(Kept::InPlaceOfOldest) => {
                self.appended.inc();
                dropped("replaced");
            }
            Ok(Kept::Off) => dropped("switched_off"),
            Err(refusal) => dropped(refusal.as_str()),
        }
        matches!(kept, Ok(Kept::Repeated | Kept::Added | Kept::InPlaceOfOldest))
    }
}

/// Owns appends to the storage.
pub struct Writer {
    queue: mpsc::Receiver<Batch>,
    storage: Arc<Storage>,
    clock: Clock,
    metrics: WriteMetrics,
    taps: Arc<OnceLock<Taps>>,
    memory: Option<Watermark>,
    pushed: PushedLimits,
}

/// The limits of what is pushed, as the configuration has them now.
#[derive(Default)]
struct PushedLimits {
    config: Option<ConfigWatch>,
    /// Of which the limits are.
    of: Option<Arc<Config>>,
    limits: JobLimits,
}

impl PushedLimits {
    fn now(&mut self) -> &JobLimits {
        if let Some(watched) = &self.config {
            let config = watched.borrow().clone();
            if self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &config)) {
                self.limits = config.pushed_series_limits();
                self.of = Some(config);
            }
        }
        &self.limits
    }
}

impl Writer {
    pub fn new(storage: Arc<Storage>, clock: Clock, metrics: &Metrics) -> (Self, WriteHandle) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let exemplars = ExemplarMetrics::register(metrics);
        let taps = Arc::new(OnceLock::new());
        let handle = WriteHandle { queue: sender, storage: storage.clone(), clock, exemplars, taps: taps.clone() };
        let metrics = WriteMetrics::register(metrics);
        let (memory, pushed) = (None, PushedLimits::default());
        (Writer { queue, storage, clock, metrics, taps, memory, pushed }, handle)
    }

    /// Takes no new series while memory is over the mark.
    pub fn watch_memory(&mut self, mark: Option<Watermark>) {
        self.memory = mark;
    }

    /// Holds what is pushed to the `series_limit` of its job.
    pub fn limit_pushed(&mut self, config: ConfigWatch) {
        self.pushed.config = Some(config);
    }

    /// Hands everything that is written from now on to these, too. Only the first call counts.
    pub fn send_on(&self, taps: Taps) {
        let _ = self.taps.set(taps);
    }

    /// Runs until the last [`WriteHandle`] is dropped and the queue is empty; then all that was acknowledged is on
    /// disk.
    ///
    /// # Errors
    /// Never; refused samples are counted, a disk that refuses is reported.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let ended = Shutdown::new();
        let upkeep = Upkeep::new(self.storage.clone(), self.clock, self.metrics.clone(), self.memory.take());
        let upkeep = service::task::spawn("storage-upkeep", upkeep.run(ended.clone()));
        while let Some(batch) = self.queue.recv().await {
            self.append(batch);
        }
        ended.request();
        upkeep.await.context("the storage's upkeep panicked")
    }

    /// The sender may have given up waiting; the samples are stored all the same.
    fn append(&mut self, batch: Batch) {
        let now = self.clock.now();
        let none = Taps::default();
        let taps = self.taps.get().unwrap_or(&none);
        match batch {
            Batch::Samples { samples, origin, done } => {
                let report = match origin {
                    Origin::Pushed => self.storage.append_pushed(&samples, now, self.pushed.now()),
                    Origin::Rules => self.storage.append(&samples, now),
                };
                self.count(&report);
                // With what was refused: nobody knows which those are, and the receiver refuses them, too.
                match origin {
                    Origin::Pushed => taps.samples(samples),
                    Origin::Rules => taps.recorded(samples),
                }
                let _ = done.send(report);
            }
            Batch::Histograms { samples, origin, done } => {
                let report = match origin {
                    Origin::Pushed => self.storage.append_pushed_histograms(&samples, now, self.pushed.now()),
                    Origin::Rules => self.storage.append_histograms(&samples, now),
                };
                self.count(&report);
                match origin {
                    Origin::Pushed => taps.histograms(samples),
                    Origin::Rules => taps.recorded_histograms(samples),
                }
                let _ = done.send(report);
            }
            Batch::Row { group, row, histograms, done } => {
                if !histograms.is_empty() {
                    self.count(&self.storage.append_histograms(&histograms, now));
                    taps.histograms(histograms);
                }
                let report = self.storage.append_row(&group.group, &row, now);
                self.count(&report.append);
                if !taps.is_empty() {
                    taps.samples(group.samples(&row, &report));
                }
                let _ = done.send((row, report));
            }
        }
    }

    fn count(&self, report: &AppendReport) {
        self.metrics.appended.inc_by(report.appended as u64);
        for (reason, count) in report.refused.iter() {
            self.metrics.refused.get_or_create(&RefusedLabels { reason: reason.as_str() }).inc_by(count);
        }
    }
}
