//! Samples in memory, and on disk.
//!
//! In: batches of samples. Out: the samples of the series that matchers select, within a range of time.
//!
//! Promised: readers run beside the one writer and see each batch wholly or not at all; a series' samples come
//! sorted by time, one per time; what is refused is counted by its reason. No sockets, no tasks, no clock: `now` is
//! an argument. Metadata of metrics (HELP, TYPE) is not kept here, the scraper knows it.
//!
//! ```
//! use storage::{Config, Storage};
//! use telemetry::{Labels, Matcher, Sample, Timestamp};
//!
//! let storage = Storage::new(Config::default());
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "order")]);
//! let now = Timestamp::from_millis(60_000);
//! let report = storage.append(&[Sample { labels, timestamp: now, value: 1.0 }], now);
//! assert_eq!((report.appended, report.refused.total()), (1, 0));
//!
//! let series = storage.select(&[Matcher::equal("job", "order")], Timestamp(0), now);
//! assert_eq!(series[0].samples, [(now, 1.0)]);
//! ```

mod admission;
mod block;
mod column;
mod disk;
mod exemplars;
mod extent;
mod group;
mod head;
mod histograms;
mod index;
mod own_hot;
mod plain;
mod range;
mod report;
mod retention;
mod rows;
mod scan;
mod series;
mod sheet;
mod sheets;
mod spill;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use telemetry::{Histogram, HistogramSample, Labels, Matcher, Sample, Timestamp};

pub use admission::JobLimits;
pub use disk::{Checkpoint, OpenError, Recovery};
pub use exemplars::{Exemplar, ExemplarRefusal, Exemplars, Kept};
pub use extent::Extent;
pub use group::Group;
pub use report::{AppendReport, Expired, LogStats, Refusal, RefusedCounts, Stats};
pub use retention::Fitted;
pub use rows::{NewSeries, Row, RowReport};
pub use scan::{Columns, SeriesId};

use admission::Admission;
use block::DecodedTimes;
use disk::segment::BlockReader;
use disk::{Directory, Disk};
use head::{Head, Span};
use range::SampleRange;

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Samples older than this are refused, and dropped by [`Storage::expire`].
    pub retention: Duration,
    /// Bytes that all files may have together; beyond them [`Storage::fit`] drops the oldest samples.
    pub size_max: Option<u64>,
    /// How far behind its series' newest sample a sample may lie.
    pub out_of_order_window: Duration,
    /// How far ahead of `now` a sample may lie; a clock gone wrong must not block a series for years.
    pub future_tolerance: Duration,
    /// Series that may be active at once; samples of series known already are never refused for this.
    pub series_max: Option<usize>,
    /// Exemplars that are kept, over all series; 0 keeps none.
    pub exemplars_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            retention: Duration::from_secs(6 * 3600),
            size_max: None,
            out_of_order_window: Duration::ZERO,
            future_tolerance: Duration::from_secs(600),
            series_max: None,
            // As in Prometheus; at a few hundred bytes each some tens of MiB when full.
            exemplars_max: 100_000,
        }
    }
}

/// A series' labels and its samples, sorted by time; staleness markers included.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
}

/// The store. Cheap to share behind an `Arc`; see the crate's documentation.
pub struct Storage {
    config: Config,
    head: RwLock<Head>,
    /// Samples before this time have expired and are not shown, even where their memory is not freed yet.
    oldest: AtomicI64,
    /// None for a store in memory; the lock lets one checkpoint be written at a time.
    disk: Option<Mutex<Disk>>,
    checkpoint_len: AtomicU64,
    /// Samples that were appended when blocks were moved to disk last.
    spilled_at: AtomicU64,
    /// Where the files are.
    path: Option<PathBuf>,
    memory_is_short: AtomicBool,
    expired_by_time: AtomicU64,
    expired_by_size: AtomicU64,
    exemplars: Exemplars,
    /// See [`Recovery::samples_lost`].
    lost: u64,
}

impl Storage {
    /// A store in memory.
    pub fn new(config: Config) -> Self {
        Storage::over(Head::default(), i64::MIN, None, config)
    }

    /// A store on disk; reads what the directory holds. What [`Storage::append`] acknowledges from now on survives
    /// the end of the process, and after [`Storage::sync`] the loss of power.
    ///
    /// # Errors
    /// When another process uses the directory, when its files are of another version or damaged where they must not
    /// be, or when they cannot be read. A torn end of the log is no error: it is cut, and reported.
    pub fn open(directory: &Path, config: Config) -> Result<(Self, Recovery), OpenError> {
        let (head, oldest, recovery, mut disk) = disk::recover(Directory::lock(directory)?)?;
        if let Some(size_max) = config.size_max {
            disk.segments.fit_to(size_max);
        }
        let path = Some(directory.to_owned());
        let lost = recovery.samples_lost;
        let checkpoint_len = AtomicU64::new(disk.directory.checkpoint_len());
        Ok((Storage { lost, checkpoint_len, path, ..Storage::over(head, oldest, Some(disk), config) }, recovery))
    }

    /// A store in memory with what a log's records say, up to the first that cannot be. For fuzzing: files are read
    /// record by record behind a checksum, which mutations do not pass.
    #[doc(hidden)]
    pub fn replayed<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Self {
        let (head, oldest) = disk::replay_all(records);
        Storage::over(head, oldest, None, Config::default())
    }

    /// The labels of the series in a checkpoint's records, up to the first record that cannot be. For fuzzing, too.
    #[doc(hidden)]
    pub fn labels_in_checkpoint<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Vec<Labels> {
        disk::labels_in(records)
    }

    /// The times and values of a block that these bytes are, if they can be. For fuzzing: bytes of a segment are read behind a
    /// checksum.
    #[doc(hidden)]
    pub fn block_of(times: &[u8], values: &[u8], count: u16) -> Option<(Vec<i64>, Vec<f64>)> {
        let mut decoded = Vec::new();
        column::append_values(values, usize::from(count), &mut decoded, &mut Vec::new())?;
        Some((column::decode_times(times, usize::from(count))?, decoded))
    }

    fn over(head: Head, oldest: i64, disk: Option<Disk>, config: Config) -> Self {
        Storage {
            exemplars: Exemplars::new(config.exemplars_max, config.future_tolerance),
            config,
            head: RwLock::new(head),
            oldest: AtomicI64::new(oldest),
            disk: disk.map(Mutex::new),
            checkpoint_len: AtomicU64::new(0),
            spilled_at: AtomicU64::new(spill::NEVER),
            path: None,
            memory_is_short: AtomicBool::new(false),
            expired_by_time: AtomicU64::new(0),
            expired_by_size: AtomicU64::new(0),
            lost: 0,
        }
    }

    /// What traces samples came from; in memory only, even where samples are on disk.
    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// Stores a batch. A sample that equals one already stored counts as appended: senders repeat themselves.
    ///
    /// A full disk does not stop this: samples then live in memory only, [`Stats::log`] says so, and a later
    /// [`Storage::checkpoint`] that succeeds makes up for it.
    pub fn append(&self, samples: &[Sample], now: Timestamp) -> AppendReport {
        self.append_samples(samples, now, self.admission())
    }

    /// The same for samples that are pushed: of jobs that have as many series as they may, no new ones are taken.
    pub fn append_pushed(&self, samples: &[Sample], now: Timestamp, limits: &JobLimits) -> AppendReport {
        self.append_samples(samples, now, Admission { by_job: Some(limits), ..self.admission() })
    }

    fn append_samples(&self, samples: &[Sample], now: Timestamp, admission: Admission<'_>) -> AppendReport {
        let span = Span::new(&self.config, self.oldest_at(now), now);
        let mut head = self.write();
        let mut report = AppendReport::default();
        for sample in samples {
            report.count(head.append(sample, admission, span));
        }
        head.appended(&report);
        report
    }

    /// Stores native histograms. They are in order among themselves; a series may have floats too, at other times.
    pub fn append_histograms(&self, samples: &[HistogramSample], now: Timestamp) -> AppendReport {
        self.append_native(samples, now, self.admission())
    }

    /// The same for histograms that are pushed; see [`Storage::append_pushed`].
    pub fn append_pushed_histograms(
        &self,
        samples: &[HistogramSample],
        now: Timestamp,
        limits: &JobLimits,
    ) -> AppendReport {
        self.append_native(samples, now, Admission { by_job: Some(limits), ..self.admission() })
    }

    fn append_native(&self, samples: &[HistogramSample], now: Timestamp, admission: Admission<'_>) -> AppendReport {
        let span = Span::new(&self.config, self.oldest_at(now), now);
        let mut head = self.write();
        let mut report = AppendReport::default();
        for sample in samples {
            report.count(head.append_histogram(sample, admission, span));
        }
        head.appended(&report);
        report
    }

    /// A place for the rows of a target, of which about `rows_kept` stay plain numbers: as many as the usual queries
    /// want.
    pub fn group(&self, rows_kept: usize) -> Group {
        let held = Arc::new(());
        Group::new(self.write().open_group(rows_kept, Arc::downgrade(&held)), held)
    }

    /// Stores a row: one lock, one time and one look at each series' place, where [`Storage::append`] has to find
    /// each series by its labels. Otherwise the same.
    pub fn append_row(&self, group: &Group, row: &Row, now: Timestamp) -> RowReport {
        let span = Span::new(&self.config, self.oldest_at(now), now);
        let mut head = self.write();
        let report = head.append_row(group.id, row, self.admission(), span);
        head.appended(&report.append);
        report
    }

    /// The series that all matchers accept and that have samples after `start` and up to `end`, in no promised order.
    pub fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<SeriesData> {
        let start = self.clamp(start);
        let head = self.read();
        let part = |(id, labels): (u32, Labels)| {
            let series = &head.series[id as usize];
            let histograms = head.histograms.within(id, start, end.0).iter();
            let histograms: Vec<_> =
                histograms.map(|(time, histogram)| (Timestamp(*time), histogram.clone())).collect();
            (labels, head.range(series, start, end.0), histograms)
        };
        let parts: Vec<(Labels, SampleRange, _)> = head.matching(matchers).map(part).collect();
        let mut reader = BlockReader::new(&head.segments);
        // Blocks never change: they are decoded while the writer goes on.
        drop(head);
        let mut decoded = DecodedTimes::default();
        let data = parts.into_iter().map(|(labels, range, histograms)| {
            let samples = range.into_samples(&mut decoded, &mut reader);
            SeriesData { labels, samples, histograms }
        });
        data.filter(|series| !series.samples.is_empty() || !series.histograms.is_empty()).collect()
    }

    /// Rises when series come or go.
    pub fn epoch(&self) -> u64 {
        self.read().index.epoch()
    }

    /// The label sets that [`Storage::select`] would return, sorted.
    pub fn series_labels(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<Labels> {
        let start = self.clamp(start);
        let head = self.read();
        let mut decoded = DecodedTimes::default();
        let live = head.matching(matchers).filter(|(id, _)| head.has_samples(&mut decoded, *id, start, end.0));
        let mut labels: Vec<Labels> = live.map(|(_, labels)| labels).collect();
        drop(head);
        labels.sort();
        labels
    }

    /// The names of the labels of all series that match, sorted.
    pub fn label_names(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<String> {
        let start = self.clamp(start);
        let head = self.read();
        let mut decoded = DecodedTimes::default();
        let mut names = std::collections::BTreeSet::new();
        for (id, labels) in head.matching(matchers) {
            if head.has_samples(&mut decoded, id, start, end.0) {
                for (name, _) in labels.iter() {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        names.into_iter().collect()
    }

    /// The values of a label over all series that match, sorted.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<String> {
        let start = self.clamp(start);
        let head = self.read();
        let mut decoded = DecodedTimes::default();
        let mut values = std::collections::BTreeSet::new();
        for (id, labels) in head.matching(matchers) {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
                && head.has_samples(&mut decoded, id, start, end.0)
            {
                values.insert(value.to_owned());
            }
        }
        values.into_iter().collect()
    }

    /// While it is, new series are refused; samples of those that are known are taken.
    pub fn memory_is_short(&self, is_short: bool) {
        self.memory_is_short.store(is_short, Ordering::Relaxed);
    }

    fn admission(&self) -> Admission<'static> {
        let memory_is_short = self.memory_is_short.load(Ordering::Relaxed);
        Admission { series_max: self.config.series_max, memory_is_short, by_job: None }
    }

    pub fn stats(&self) -> Stats {
        let disk_bytes = self.disk_bytes();
        let head = self.read();
        Stats {
            series: head.index.len(),
            samples: head.samples,
            histograms: head.histograms.count,
            appended_total: head.appended_total,
            refused_total: head.refused_total,
            series_created_total: head.index.created_total(),
            sample_bytes: head.sample_bytes(),
            disk_bytes,
            expired_total: Expired {
                by_time: self.expired_by_time.load(Ordering::Relaxed),
                by_size: self.expired_by_size.load(Ordering::Relaxed),
            },
            segments: head.segments.usage().0,
            segment_bytes: head.segments.usage().1,
            lost_total: self.lost,
            unreadable_total: head.segments.unreadable_total(),
            log: head.log.as_ref().map(|log| LogStats {
                len_bytes: log.len(),
                written_bytes_total: log.written_total,
                errors_total: log.errors_total,
                failure: log.failure().map(str::to_owned),
            }),
        }
    }

    /// The oldest time that is kept; never goes back, even if the clock does.
    fn oldest_at(&self, now: Timestamp) -> i64 {
        (now - self.config.retention).0.max(self.oldest.load(Ordering::Relaxed))
    }

    /// An exclusive start that hides what has expired.
    fn clamp(&self, start: Timestamp) -> i64 {
        start.0.max(self.oldest.load(Ordering::Relaxed).saturating_sub(1))
    }

    fn read(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().expect("no thread panics while it writes")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().expect("no thread panics while it writes")
    }
}

#[cfg(test)]
mod tests;
