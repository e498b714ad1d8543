//! Cutting a histogram off above or below a value: the operators `</` and `>/`.

use super::{Bucket, Histogram};

/// Which part stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Below,
    Above,
}

impl Histogram {
    /// Keeps what lies below or above `limit`; of the bucket that `limit` cuts, the share that interpolation gives.
    /// Where anything is cut, the sum is estimated anew from the middles of the buckets.
    pub fn trim(&mut self, limit: f64, keep: Keep) -> &mut Self {
        let custom = self.uses_custom_buckets();
        let (mut count, mut sum, mut trimmed) = (0.0, 0.0, false);
        let mut filled = [false, false];
        for (side, positive) in [true, false].into_iter().enumerate() {
            let mut buckets = std::mem::take(if positive { &mut self.positive } else { &mut self.negative });
            for entry in buckets.iter_mut().filter(|(_, count)| *count != 0.0) {
                filled[side] = true;
                let bucket = if positive { self.positive_bucket(*entry) } else { self.negative_bucket(*entry) };
                let (inside, cut) = match keep {
                    Keep::Below => (bucket.upper <= limit, bucket.lower < limit),
                    Keep::Above => (bucket.lower >= limit, bucket.upper > limit),
                };
                if inside {
                    count += bucket.count;
                    sum += middle(bucket.lower, bucket.upper, positive, custom) * bucket.count;
                } else if cut {
                    let (kept, middle) = cut_bucket(bucket, limit, keep, positive, custom);
                    count += kept;
                    sum += middle * kept;
                    trimmed |= entry.1 != kept;
                    entry.1 = kept;
                } else {
                    entry.1 = 0.0;
                    trimmed = true;
                }
            }
            *(if positive { &mut self.positive } else { &mut self.negative }) = buckets;
        }
        if self.zero_count > 0.0 {
            let (kept, middle) = cut_zero_bucket(self.zero_bucket(), limit, filled, keep);
            trimmed |= self.zero_count != kept;
            self.zero_count = kept;
            sum += middle * kept;
            count += kept;
        }
        if trimmed {
            (self.count, self.sum) = (count, sum);
            self.compact();
        }
        self
    }
}

/// How much of a cut bucket stays, and where its middle then is.
fn cut_bucket(bucket: Bucket, limit: f64, keep: Keep, positive: bool, custom: bool) -> (f64, f64) {
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return cut_open_bucket(bucket, limit, keep);
    }
    let below = if limit <= bucket.lower {
        0.0
    } else if limit >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(limit, custom)
    };
    match keep {
        Keep::Below => (below, middle(bucket.lower, limit, positive, custom)),
        Keep::Above => (bucket.count - below, middle(limit, bucket.upper, positive, custom)),
    }
}

/// A bucket without an end: what lies in it is taken to lie at the end it has, or from zero on.
fn cut_open_bucket(b: Bucket, limit: f64, keep: Keep) -> (f64, f64) {
    let finite = |value: f64| if value.is_infinite() { 0.0 } else { value };
    let positive_upper = b.upper > limit && b.upper != f64::INFINITY;
    if b.lower == f64::NEG_INFINITY {
        return match keep {
            Keep::Below if limit >= b.upper => (b.count, 0.0),
            Keep::Below if limit > 0.0 && b.upper > 0.0 && b.upper != f64::INFINITY => {
                (b.count * limit / b.upper, limit / 2.0)
            }
            Keep::Below if b.upper <= 0.0 => (b.count, limit),
            Keep::Above if limit <= b.lower => (b.count, 0.0),
            Keep::Above if limit >= 0.0 && positive_upper => {
                (b.count * (1.0 - limit / b.upper), (limit + b.upper) / 2.0)
            }
            _ => (0.0, finite(b.upper)),
        };
    }
    match keep {
        Keep::Above if limit >= b.lower => (b.count, limit),
        _ => (0.0, finite(b.lower)),
    }
}

/// `filled`: whether there are positive and negative observations outside the zero bucket.
fn cut_zero_bucket(zero: Bucket, limit: f64, filled: [bool; 2], keep: Keep) -> (f64, f64) {
    let [positive, negative] = filled;
    let lower = if positive && !negative { 0.0 } else { zero.lower };
    let upper = if negative && !positive { 0.0 } else { zero.upper };
    let whole = (zero.count, (lower + upper) / 2.0);
    match keep {
        Keep::Below if limit <= lower => (0.0, 0.0),
        Keep::Below if limit >= upper => whole,
        Keep::Below => (zero.count * ((limit - lower) / (upper - lower)), (lower + limit) / 2.0),
        Keep::Above if limit <= lower => whole,
        Keep::Above if limit >= upper => (0.0, 0.0),
        Keep::Above => (zero.count * ((upper - limit) / (upper - lower)), (limit + upper) / 2.0),
    }
}

/// Where the observations between two bounds lie on average.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let geometric = (lower * upper).abs().sqrt();
            if positive { geometric } else { -geometric }
        }
    }
}
