//! Native histograms: counts in exponential or custom buckets, as one sample; the form that all wire formats are read
//! into and written from.
//!
//! Buckets are kept as (index, count), sorted by index; a bucket that is not there is empty. Of exponential buckets,
//! index i reaches from above `2^((i-1) * 2^-schema)` up to `2^(i * 2^-schema)`; of custom ones, up to the i-th custom
//! value. On the wire the indexes are spans: gaps and lengths (prometheus prompb/types.proto, `BucketSpan`).

pub(crate) mod wire;

use crate::Timestamp;

/// Whether the counts may have started anew since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    CounterReset,
    NotCounterReset,
    Gauge,
}

/// The schema of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// Exponential schemas that are stored.
pub const SCHEMA_MIN: i32 = -4;
pub const SCHEMA_MAX: i32 = 8;

/// A bucket's index and its count.
pub type IndexedCount = (i32, f64);

/// A histogram with float counts; counts below 2^53 are exact.
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

/// A histogram of one series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    pub labels: crate::Labels,
    pub timestamp: Timestamp,
    pub histogram: Histogram,
}

/// Why a histogram cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HistogramFault {
    #[error("schema {0} is neither -4 to 8 nor -53")]
    Schema(i32),
    #[error("the spans hold {spans} buckets, but {counts} counts are there")]
    SpanLength { spans: u64, counts: usize },
    #[error("a span goes back, or leaves the range of indexes")]
    SpanOffset,
    #[error("a bucket's count is {0}")]
    Count(f64),
    #[error("the buckets hold {buckets} observations, the count is {count}")]
    Sum { buckets: f64, count: f64 },
    #[error("custom values that do not increase, or are not finite")]
    CustomValues,
    #[error("custom buckets with a zero bucket, negative buckets or more buckets than bounds")]
    CustomBuckets,
}

impl Histogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The staleness marker of a histogram series is one whose sum is the marker.
    pub fn stale() -> Histogram {
        Histogram { sum: crate::stale_nan(), ..Histogram::default() }
    }

    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// What Prometheus demands of a histogram before it stores it (model/histogram, `Validate`).
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), HistogramFault> {
        if self.uses_custom_buckets() {
            self.check_custom()?;
        } else if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            return Err(HistogramFault::Schema(self.schema));
        }
        let counts = self.positive.iter().chain(&self.negative).map(|(_, count)| *count);
        match counts.chain([self.zero_count, self.count]).find(|count| *count < 0.0) {
            Some(count) => Err(HistogramFault::Count(count)),
            None => Ok(()),
        }
    }

    /// What integer counts promise beyond [`Histogram::check`]: that the buckets hold all observations but NaNs.
    /// Float counts do not: sums of floats differ in the last digits.
    ///
    /// # Errors
    /// Buckets that hold more, or less without a NaN among the observations.
    pub fn check_sum_of_buckets(&self) -> Result<(), HistogramFault> {
        let buckets = self.positive.iter().chain(&self.negative).fold(self.zero_count, |sum, (_, count)| sum + count);
        if buckets > self.count || (buckets < self.count && !self.sum.is_nan()) {
            return Err(HistogramFault::Sum { buckets, count: self.count });
        }
        Ok(())
    }

    fn check_custom(&self) -> Result<(), HistogramFault> {
        let increasing = self.custom_values.windows(2).all(|pair| pair[0] < pair[1]);
        if !increasing || !self.custom_values.iter().all(|bound| bound.is_finite()) {
            return Err(HistogramFault::CustomValues);
        }
        let in_bounds = |(index, _): &IndexedCount| (0..=self.custom_values.len() as i64).contains(&i64::from(*index));
        let no_zero = self.zero_count == 0.0 && self.zero_threshold == 0.0 && self.negative.is_empty();
        if no_zero && self.positive.iter().all(in_bounds) { Ok(()) } else { Err(HistogramFault::CustomBuckets) }
    }

    /// Whether all counts are whole numbers that a float holds exactly: such a histogram is sent with integer counts.
    pub fn is_integral(&self) -> bool {
        let whole = |count: f64| count.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&count);
        let buckets = self.positive.iter().chain(&self.negative);
        whole(self.count) && whole(self.zero_count) && buckets.into_iter().all(|(_, count)| whole(*count))
    }

    /// A bucket that is not there is empty, so those that are empty need not be.
    pub fn drop_empty_buckets(&mut self) {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
    }

    /// Halves the resolution until the schema is at most `schema_max`; custom buckets stay as they are.
    pub fn limit_schema(&mut self, schema_max: i32) {
        if self.uses_custom_buckets() || self.schema <= schema_max {
            return;
        }
        let shift = self.schema.saturating_sub(schema_max).clamp(0, 31);
        for side in [&mut self.positive, &mut self.negative] {
            *side = merge_buckets(side, shift);
        }
        self.schema = schema_max;
    }
}

/// Two neighbours become one with each step.
fn merge_buckets(buckets: &[IndexedCount], shift: i32) -> Vec<IndexedCount> {
    let mut merged: Vec<IndexedCount> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = ((i64::from(*index) - 1) >> shift) as i32 + 1;
        match merged.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => merged.push((index, *count)),
        }
    }
    merged
}

/// A run of buckets: how far it starts behind the end of the one before (the first: its index), and its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// Gives each count its index.
///
/// # Errors
/// Spans that do not fit the counts, go back or leave the range of indexes.
pub fn from_spans(spans: &[Span], counts: &[f64]) -> Result<Vec<IndexedCount>, HistogramFault> {
    let length = spans.iter().map(|span| u64::from(span.length)).sum();
    if length != counts.len() as u64 {
        return Err(HistogramFault::SpanLength { spans: length, counts: counts.len() });
    }
    let mut buckets = Vec::with_capacity(counts.len());
    let mut rest = counts.iter();
    let mut next = 0i64;
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err(HistogramFault::SpanOffset);
        }
        next += i64::from(span.offset);
        for count in rest.by_ref().take(span.length as usize) {
            buckets.push((i32::try_from(next).map_err(|_| HistogramFault::SpanOffset)?, *count));
            next += 1;
        }
    }
    Ok(buckets)
}

/// The runs of indexes that follow each other.
pub fn to_spans(buckets: &[IndexedCount]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i64;
    for (index, _) in buckets {
        let index = i64::from(*index);
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            // Saturates only for indexes that lie further apart than any two of one schema.
            _ => spans.push(Span { offset: i32::try_from(index - next).unwrap_or(i32::MAX), length: 1 }),
        }
        next = index + 1;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_indexes_say_the_same() {
        let buckets = vec![(-2, 1.0), (-1, 2.0), (3, 4.0), (4, 0.0)];
        let spans = to_spans(&buckets);
        assert_eq!(spans, [Span { offset: -2, length: 2 }, Span { offset: 3, length: 2 }]);
        assert_eq!(from_spans(&spans, &[1.0, 2.0, 4.0, 0.0]).unwrap(), buckets);
        assert_eq!(from_spans(&spans, &[1.0]), Err(HistogramFault::SpanLength { spans: 4, counts: 1 }));
        let back = [Span { offset: 0, length: 1 }, Span { offset: -1, length: 1 }];
        assert_eq!(from_spans(&back, &[1.0, 1.0]), Err(HistogramFault::SpanOffset));
        let huge = [Span { offset: i32::MAX, length: 2 }];
        assert_eq!(from_spans(&huge, &[1.0, 1.0]), Err(HistogramFault::SpanOffset));
    }

    #[test]
    fn a_coarser_schema_merges_the_buckets_that_it_covers() {
        // At schema 1, buckets 1 and 2 reach up to 2^0.5 and 2; at schema 0, bucket 1 reaches from 1 to 2.
        let mut histogram = Histogram {
            schema: 1,
            count: 10.0,
            positive: vec![(-1, 1.0), (0, 2.0), (1, 3.0), (2, 4.0)],
            ..Histogram::default()
        };
        histogram.limit_schema(0);
        assert_eq!((histogram.schema, histogram.positive), (0, vec![(0, 3.0), (1, 7.0)]));
    }

    #[test]
    fn faults_are_found() {
        let sound = Histogram { count: 3.0, sum: 1.0, positive: vec![(1, 3.0)], ..Histogram::default() };
        assert_eq!(sound.check(), Ok(()));
        let with = |change: fn(&mut Histogram)| {
            let mut histogram = sound.clone();
            change(&mut histogram);
            histogram.check().unwrap_err()
        };
        assert_eq!(with(|h| h.schema = 9), HistogramFault::Schema(9));
        assert_eq!(with(|h| h.positive[0].1 = -1.0), HistogramFault::Count(-1.0));
        assert_eq!(with(|h| h.schema = -53), HistogramFault::CustomBuckets);
        assert_eq!(sound.check_sum_of_buckets(), Ok(()));
        let more = Histogram { count: 2.0, ..sound.clone() };
        assert_eq!(more.check_sum_of_buckets(), Err(HistogramFault::Sum { buckets: 3.0, count: 2.0 }));
        let unbucketed = Histogram { count: 4.0, ..sound.clone() };
        assert!(unbucketed.check_sum_of_buckets().is_err());
        assert_eq!(Histogram { sum: f64::NAN, ..unbucketed }.check_sum_of_buckets(), Ok(()));
    }
}
