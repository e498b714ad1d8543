//! Native histograms: counts in exponential or custom buckets, as one sample.
//!
//! Buckets are kept as (index, count), sorted by index; a bucket that is not there is empty. Of exponential
//! buckets, index i reaches up to `2^(i * 2^-schema)`; of custom ones, up to the i-th custom value.

mod arithmetic;
mod notation;
mod trim;

use std::fmt;

pub use arithmetic::{Combined, IncompatibleSchemas};
pub use telemetry::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, IndexedCount};
pub use trim::Keep;

use crate::text::format_general;

/// A histogram with float counts, as the engine reckons with it: what the wire formats carry, without what they
/// demand. In the middle of an expression counts may be negative and custom buckets may have been dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub counter_reset_hint: CounterResetHint,
    /// -4 to 8 for exponential buckets, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// The zero bucket's half width.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive: Vec<IndexedCount>,
    pub negative: Vec<IndexedCount>,
    /// Upper bounds of custom buckets, without `+Inf`.
    pub custom_values: Vec<f64>,
}

impl From<&telemetry::Histogram> for Histogram {
    fn from(stored: &telemetry::Histogram) -> Self {
        Histogram {
            counter_reset_hint: stored.counter_reset_hint,
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count: stored.zero_count,
            count: stored.count,
            sum: stored.sum,
            positive: stored.positive.clone(),
            negative: stored.negative.clone(),
            custom_values: stored.custom_values.clone(),
        }
    }
}

/// To be stored: whoever takes it checks it.
impl From<Histogram> for telemetry::Histogram {
    fn from(own: Histogram) -> Self {
        telemetry::Histogram {
            counter_reset_hint: own.counter_reset_hint,
            schema: own.schema,
            zero_threshold: own.zero_threshold,
            zero_count: own.zero_count,
            count: own.count,
            sum: own.sum,
            positive: own.positive,
            negative: own.negative,
            custom_values: own.custom_values,
        }
    }
}

/// A bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

impl Bucket {
    /// Which share of the bucket lies below `value`, which must lie in it. On a logarithmic scale exponential
    /// buckets are all equally wide.
    pub(crate) fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper) = (self.lower.abs().log2(), self.upper.abs().log2());
        let value_log = value.abs().log2();
        if value > 0.0 { (value_log - lower) / (upper - lower) } else { 1.0 - (value_log - upper) / (lower - upper) }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) =
            (if self.lower_inclusive { '[' } else { '(' }, if self.upper_inclusive { ']' } else { ')' });
        let (lower, upper) = (format_general(self.lower), format_general(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", format_general(self.count))
    }
}

/// The upper bound of the exponential bucket with this index.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    let exponent = if schema < 0 {
        f64::from(index) * f64::from(1 << schema.unsigned_abs().min(30))
    } else {
        f64::from(index) / f64::from(1 << schema.min(30))
    };
    // The last bucket of regular numbers ends at the greatest of them; the one after it holds infinities.
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

impl Histogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The upper bound of the positive bucket with this index.
    pub(crate) fn bound(&self, index: i32) -> f64 {
        if !self.uses_custom_buckets() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Ok(index) => self.custom_values.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }

    pub(crate) fn positive_bucket(&self, (index, count): IndexedCount) -> Bucket {
        let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
        self.bucket(lower, upper, index, count)
    }

    pub(crate) fn negative_bucket(&self, (index, count): IndexedCount) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.saturating_sub(1)));
        self.bucket(lower, upper, index, count)
    }

    fn bucket(&self, lower: f64, upper: f64, index: i32, count: f64) -> Bucket {
        let (lower_inclusive, upper_inclusive) =
            if self.uses_custom_buckets() { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count }
    }

    pub(crate) fn zero_bucket(&self) -> Bucket {
        let width = self.zero_threshold;
        Bucket { lower: -width, upper: width, lower_inclusive: true, upper_inclusive: true, count: self.zero_count }
    }

    /// All buckets from the lowest to the highest; those that reach into the zero bucket are cut off at its edge.
    pub fn buckets(&self) -> Vec<Bucket> {
        let width = self.zero_threshold;
        let negative = self.negative.iter().rev().map(|b| {
            let mut bucket = self.negative_bucket(*b);
            if bucket.upper < 0.0 && bucket.upper > -width {
                bucket.upper = -width;
            }
            bucket
        });
        let positive = self.positive.iter().map(|b| {
            let mut bucket = self.positive_bucket(*b);
            if bucket.lower > 0.0 && bucket.lower < width {
                bucket.lower = width;
            }
            bucket
        });
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        negative.chain(zero).chain(positive).collect()
    }

    /// What a histogram costs against the limit of samples: as many samples as its memory is worth.
    pub(crate) fn sample_weight(&self) -> usize {
        let runs = |buckets: &[IndexedCount]| {
            buckets.windows(2).filter(|pair| pair[0].0 + 1 != pair[1].0).count() + usize::from(!buckets.is_empty())
        };
        let spans = runs(&self.positive) + runs(&self.negative);
        let buckets = self.positive.len() + self.negative.len() + self.custom_values.len();
        (spans * 8 + buckets * 8 + 168 + 8) / 16
    }
}

/// As `count_values` names it: `{count:4, sum:5, (0.5,1]:1, (1,2]:3}`.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_general(self.count), format_general(self.sum))?;
        for bucket in self.negative.iter().rev().filter(|(_, count)| *count != 0.0) {
            write!(f, ", {}", self.negative_bucket(*bucket))?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.positive.iter().filter(|(_, count)| *count != 0.0) {
            write!(f, ", {}", self.positive_bucket(*bucket))?;
        }
        f.write_str("}")
    }
}
