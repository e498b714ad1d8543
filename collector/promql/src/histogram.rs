//! Native histograms: counts in exponential or custom buckets, as one sample.

/// Whether the counts may have started anew since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    CounterReset,
    NotCounterReset,
    Gauge,
}

/// Consecutive buckets: `offset` is the gap to the span before, or the index of the first bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSpan {
    pub offset: i32,
    pub length: u32,
}

/// The schema of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A histogram with float counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub counter_reset_hint: CounterResetHint,
    /// -4 to 8 for exponential buckets (a bucket's bound is `2^(2^-schema)` times the one before).
    pub schema: i32,
    /// The zero bucket's half width.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, without `+Inf`.
    pub custom_values: Vec<f64>,
}

impl Histogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// What a histogram costs against the limit of samples: as many samples as its memory is worth.
    pub(crate) fn sample_weight(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let buckets = self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len();
        (spans * 8 + buckets * 8 + 168 + 8) / 16
    }
}
