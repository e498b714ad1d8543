//! Quantiles of values and of classic histograms.

/// The quantile of values, interpolated; sorts them.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN is the smallest value here.
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// One bucket of a classic histogram: how many observations were at most `upper_bound`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub upper_bound: f64,
    pub count: f64,
}

/// What had to be done to the buckets to make their counts rise.
pub(super) struct Forced {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
}

/// Relative differences between neighbouring buckets below this are taken for rounding.
const SMALL_DELTA: f64 = 1e-12;

fn sort_and_coalesce(buckets: &mut Vec<Bucket>) {
    buckets.sort_by(|a, b| a.upper_bound.partial_cmp(&b.upper_bound).unwrap_or(std::cmp::Ordering::Equal));
    buckets.dedup_by(|next, kept| {
        let same = next.upper_bound == kept.upper_bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

pub(super) fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Forced>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    sort_and_coalesce(buckets);
    if buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() && buckets.iter().all(|b| b.count.is_nan()) {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    let found = first_index(last, |i| buckets[i].count >= rank);
    let value = if found == last {
        buckets[last - 1].upper_bound
    } else if found == 0 && buckets[0].upper_bound <= 0.0 {
        buckets[0].upper_bound
    } else {
        let end = buckets[found].upper_bound;
        let (mut start, mut count) = (0.0, buckets[found].count);
        if found > 0 {
            start = buckets[found - 1].upper_bound;
            count -= buckets[found - 1].count;
            rank -= buckets[found - 1].count;
        }
        start + (end - start) * (rank / count)
    };
    (value, forced)
}

/// The first index below `n` for which `test` holds, else `n`; `test` must not turn false again.
pub(super) fn first_index(n: usize, test: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if test(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Counts that fall are raised to the one before; tiny differences vanish without a word.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut previous = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let current = bucket.count;
        if current == previous {
            continue;
        }
        if almost_equal(previous, current, SMALL_DELTA) {
            bucket.count = previous;
        } else if current < previous {
            bucket.count = previous;
            let (bound, diff) = (bucket.upper_bound, previous - current);
            let entry = forced.get_or_insert(Forced { min_bucket: bound, max_bucket: bound, max_diff: diff });
            entry.min_bucket = entry.min_bucket.min(bound);
            entry.max_bucket = entry.max_bucket.max(bound);
            entry.max_diff = entry.max_diff.max(diff);
        } else {
            previous = current;
        }
    }
    forced
}

pub(super) fn bucket_fraction(lower: f64, upper: f64, mut buckets: Vec<Bucket>) -> f64 {
    sort_and_coalesce(&mut buckets);
    let Some(last) = buckets.last().filter(|b| b.upper_bound == f64::INFINITY) else { return f64::NAN };
    let count = last.count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut bound = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for bucket in &buckets {
        let interpolate = |value: f64| {
            if bound == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + (bucket.count - rank) * (value - bound) / (bucket.upper_bound - bound)
            }
        };
        for (limit, slot) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if slot.is_none() {
                if bound >= limit {
                    *slot = Some(rank);
                } else if bucket.upper_bound > limit {
                    *slot = Some(interpolate(limit));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = bucket.count;
        bound = bucket.upper_bound;
    }
    let capped = |rank: Option<f64>| rank.map_or(count, |r| if r > count { count } else { r });
    (capped(upper_rank) - capped(lower_rank)) / count
}

/// Equal within a share of their sum; two NaN are equal, a staleness marker only to another.
pub(crate) fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if telemetry::is_stale_nan(a) || telemetry::is_stale_nan(b) {
        return telemetry::is_stale_nan(a) && telemetry::is_stale_nan(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}
