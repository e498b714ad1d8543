//! What became of a batch, and what the store says about itself.

/// Why a sample was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Older than the series' newest sample and outside the out-of-order window.
    OutOfOrder,
    /// The series has another value at that time.
    Duplicate,
    /// Before the retention.
    TooOld,
    /// Too far ahead of now.
    TooNew,
    /// The series is new and there are as many as are allowed.
    SeriesLimit,
    /// The series is new and pushed, and its job has as many as are allowed; see [`crate::JobLimits`].
    JobSeriesLimit,
    /// The series is new and memory is short; see [`crate::Storage::memory_is_short`].
    MemoryLimit,
    /// A row names a slot whose series is gone.
    UnknownSeries,
    /// A late sample, and the block that it belongs to cannot be read from disk.
    Unreadable,
}

impl Refusal {
    pub const ALL: [Refusal; 9] = [
        Refusal::OutOfOrder,
        Refusal::Duplicate,
        Refusal::TooOld,
        Refusal::TooNew,
        Refusal::SeriesLimit,
        Refusal::JobSeriesLimit,
        Refusal::MemoryLimit,
        Refusal::UnknownSeries,
        Refusal::Unreadable,
    ];

    /// The value of the metric's label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::OutOfOrder => "out_of_order",
            Refusal::Duplicate => "duplicate",
            Refusal::TooOld => "too_old",
            Refusal::TooNew => "too_new",
            Refusal::SeriesLimit => "series_limit",
            Refusal::JobSeriesLimit => "job_series_limit",
            Refusal::MemoryLimit => "memory_limit",
            Refusal::UnknownSeries => "unknown_series",
            Refusal::Unreadable => "unreadable",
        }
    }
}

/// Samples refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts([u64; Refusal::ALL.len()]);

impl RefusedCounts {
    pub fn get(&self, reason: Refusal) -> u64 {
        self.0[reason as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn count(&mut self, reason: Refusal) {
        self.0[reason as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &RefusedCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendReport {
    pub appended: usize,
    pub refused: RefusedCounts,
}

impl AppendReport {
    pub(crate) fn count(&mut self, result: Result<(), Refusal>) {
        match result {
            Ok(()) => self.appended += 1,
            Err(refusal) => self.refused.count(refusal),
        }
    }
}

/// The store's own numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub series: usize,
    pub samples: usize,
    /// Native histograms.
    pub histograms: usize,
    pub appended_total: u64,
    pub refused_total: RefusedCounts,
    pub series_created_total: u64,
    /// Memory of the samples, without labels and index.
    pub sample_bytes: usize,
    /// None for a store in memory.
    pub log: Option<LogStats>,
    /// Of all files in the directory: logs, checkpoints, segments.
    pub disk_bytes: u64,
    /// Samples that were dropped since the start.
    pub expired_total: Expired,
    /// Files of sealed blocks, and their bytes.
    pub segments: usize,
    pub segment_bytes: u64,
    /// Blocks that were wanted from a segment and could not be read, each time counted.
    pub unreadable_total: u64,
    /// Samples that the start missed in segments.
    pub lost_total: u64,
}

/// Samples and histograms that are not kept any more, by what they had to go for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub by_time: u64,
    pub by_size: u64,
}

/// How the log on disk is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    pub len_bytes: u64,
    pub written_bytes_total: u64,
    pub errors_total: u64,
    /// Why samples are kept in memory only, until a checkpoint succeeds.
    pub failure: Option<String>,
}
