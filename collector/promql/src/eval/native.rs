//! Native histograms in functions and aggregations: totals, means, quantiles, fractions, variance.

use crate::annotation::{Annotations, Operation};
use crate::ast::Span;
use crate::histogram::{Bucket, Combined, CounterResetHint, Histogram, IncompatibleSchemas};
use crate::kahan::KahanSum;

/// Which hints about counter resets were seen among histograms that were combined.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HintsSeen {
    reset: bool,
    no_reset: bool,
}

impl HintsSeen {
    pub(super) fn see(&mut self, histogram: &Histogram) {
        self.reset |= histogram.counter_reset_hint == CounterResetHint::CounterReset;
        self.no_reset |= histogram.counter_reset_hint == CounterResetHint::NotCounterReset;
    }

    pub(super) fn note(self, annotations: &mut Annotations, span: Span) {
        if self.reset && self.no_reset {
            annotations.counter_reset_collision(Operation::Aggregation, span);
        }
    }
}

/// A sum of histograms, or their mean; what rounding loses is kept.
#[derive(Clone, Debug)]
pub(super) struct HistogramTotal {
    total: Histogram,
    compensation: Option<Histogram>,
    /// The mean is adjusted step by step since the sum overflowed.
    incremental: bool,
    pub(super) hints: HintsSeen,
}

impl HistogramTotal {
    pub(super) fn starting_with(histogram: &Histogram) -> Self {
        let mut hints = HintsSeen::default();
        hints.see(histogram);
        HistogramTotal { total: histogram.clone(), compensation: None, incremental: false, hints }
    }

    pub(super) fn add(&mut self, histogram: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        self.hints.see(histogram);
        self.total.add_compensated(histogram, &mut self.compensation)
    }

    /// Adds to a mean; `count` is the number of histograms with this one.
    pub(super) fn add_to_mean(&mut self, histogram: &Histogram, count: f64) -> Result<Combined, IncompatibleSchemas> {
        self.hints.see(histogram);
        if !self.incremental {
            let (mut total, mut compensation) = (self.total.clone(), self.compensation.clone());
            let combined = total.add_compensated(histogram, &mut compensation)?;
            if !total.has_overflow() {
                (self.total, self.compensation) = (total, compensation);
                return Ok(combined);
            }
            self.incremental = true;
            self.total.divide(count - 1.0);
            if let Some(compensation) = &mut self.compensation {
                compensation.divide(count - 1.0);
            }
        }
        let weight = (count - 1.0) / count;
        if let Some(compensation) = &mut self.compensation {
            compensation.scale(weight);
        }
        let mut share = histogram.clone();
        share.divide(count);
        self.total.scale(weight).add_compensated(&share, &mut self.compensation)
    }

    pub(super) fn sum(mut self) -> Histogram {
        if let Some(compensation) = &self.compensation {
            // Both have the same kind of buckets, or adding them up would have failed before.
            let _ = self.total.add(compensation);
        }
        self.total
    }

    pub(super) fn mean(mut self, count: f64) -> Histogram {
        if !self.incremental {
            self.total.divide(count);
            if let Some(compensation) = &mut self.compensation {
                compensation.divide(count);
            }
        }
        self.sum()
    }
}

/// The quantile of a native histogram: linear within custom buckets and the zero bucket, otherwise exponential.
pub(super) fn quantile(q: f64, h: &Histogram, metric: &str, span: Span, annotations: &mut Annotations) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    // Observations of NaN are in the count but in no bucket; then only counting upwards is right.
    let forward = h.sum.is_nan() || q < 0.5;
    let mut rank = if forward { q * h.count } else { (1.0 - q) * h.count };
    let mut buckets = h.buckets();
    if !forward {
        buckets.reverse();
    }
    let mut rest = buckets.into_iter();
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    let mut count = 0.0;
    for next in rest.by_ref() {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bound_zero_bucket(h, &mut bucket);
    }
    // Rounding could make it more.
    count = f64::min(count, h.count);
    if count < rank {
        if h.sum.is_nan() {
            annotations.quantile_is_nan(metric, span);
            return f64::NAN;
        }
        return bucket.upper;
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    if h.sum.is_nan() {
        count += rest.map(|b| b.count).sum::<f64>();
        if count < h.count {
            annotations.quantile_is_skewed(metric, span);
        }
    }
    let fraction = rank / bucket.count;
    if h.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// The zero bucket of a histogram with observations on one side alone ends at zero.
fn bound_zero_bucket(h: &Histogram, bucket: &mut Bucket) {
    if h.negative.is_empty() && !h.positive.is_empty() {
        bucket.lower = 0.0;
    } else if h.positive.is_empty() && !h.negative.is_empty() {
        bucket.upper = 0.0;
    }
}

/// The share of observations between two values.
pub(super) fn fraction(
    (lower, upper): (f64, f64),
    h: &Histogram,
    metric: &str,
    span: Span,
    annotations: &mut Annotations,
) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut count, mut rank) = (0.0, 0.0);
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rest = h.buckets().into_iter();
    for mut bucket in rest.by_ref() {
        count += bucket.count;
        let zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero_bucket {
            bound_zero_bucket(h, &mut bucket);
        }
        let linear = h.uses_custom_buckets() || zero_bucket;
        let rank_at = |value: f64| {
            // Within a bucket without a lower end nothing can be interpolated.
            if linear && bucket.lower == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + bucket.count * bucket.fraction_below(value, linear)
            }
        };
        for (limit, slot) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if slot.is_none() {
                if bucket.lower >= limit {
                    *slot = Some(rank);
                } else if bucket.upper > limit {
                    *slot = Some(rank_at(limit));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    if h.sum.is_nan() {
        count += rest.map(|b| b.count).sum::<f64>();
        if count < h.count {
            annotations.fraction_excludes_nan(metric, span);
        }
    } else {
        count = h.count;
    }
    let capped = |rank: Option<f64>| rank.map_or(count, |r| if r > count { count } else { r });
    (capped(upper_rank) - capped(lower_rank)) / h.count
}

/// The variance, with each bucket's observations taken to lie at its middle.
pub(super) fn variance(h: &Histogram) -> f64 {
    let mean = h.sum / h.count;
    let mut total = KahanSum::default();
    for bucket in h.buckets().iter().filter(|b| b.count != 0.0) {
        let value = if h.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = value - mean;
        total.add(bucket.count * delta * delta);
    }
    total.value() / h.count
}
