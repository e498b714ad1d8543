//! Adding, subtracting and scaling histograms; what it takes to bring two to one layout.

use super::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, IndexedCount, exponential_bound};
use crate::kahan::KahanSum;

/// Exponential and custom buckets cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// What happened while two histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One said that there was a counter reset, the other that there was none.
    pub reset_collision: bool,
    /// Custom bounds differed; only those that both have were kept.
    pub bounds_reconciled: bool,
}

/// The index that a bucket has in a coarser schema.
fn target_index(index: i32, from: i32, to: i32) -> i32 {
    ((index - 1) >> (from - to).min(31)) + 1
}

/// Buckets with what rounding lost of each, in step.
type Pair = (Vec<IndexedCount>, Vec<IndexedCount>);

fn reduce(buckets: &[IndexedCount], from: i32, to: i32) -> Vec<IndexedCount> {
    let mut reduced: Vec<IndexedCount> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let target = target_index(*index, from, to);
        match reduced.last_mut() {
            Some(last) if last.0 == target => last.1 += count,
            _ => reduced.push((target, *count)),
        }
    }
    reduced
}

fn reduce_compensated((buckets, lost): &Pair, from: i32, to: i32) -> Pair {
    let (mut reduced, mut compensation): Pair = Default::default();
    for ((index, count), (_, lost)) in buckets.iter().zip(lost) {
        let target = target_index(*index, from, to);
        match (reduced.last_mut(), compensation.last_mut()) {
            (Some(bucket), Some(comp)) if bucket.0 == target => {
                let mut sum = KahanSum { sum: bucket.1, compensation: comp.1 };
                sum.add(*count);
                sum.add(*lost);
                (bucket.1, comp.1) = (sum.sum, sum.compensation);
            }
            _ => {
                reduced.push((target, *count));
                compensation.push((target, *lost));
            }
        }
    }
    (reduced, compensation)
}

/// Adds `b` to `a`, bucket by bucket. Both are sorted by index.
fn merge(a: &[IndexedCount], b: impl Iterator<Item = IndexedCount>) -> Vec<IndexedCount> {
    let mut merged = Vec::with_capacity(a.len() + b.size_hint().0);
    let mut a = a.iter().copied().peekable();
    for (index, count) in b {
        while let Some(bucket) = a.next_if(|(i, _)| *i < index) {
            merged.push(bucket);
        }
        match a.next_if(|(i, _)| *i == index) {
            Some((_, there)) => merged.push((index, there + count)),
            None => merged.push((index, count)),
        }
    }
    merged.extend(a);
    merged
}

fn merge_compensated((a, a_lost): &Pair, b: impl Iterator<Item = (IndexedCount, f64)>) -> Pair {
    let (mut merged, mut compensation): Pair = Default::default();
    let mut a = a.iter().copied().zip(a_lost.iter().map(|(_, lost)| *lost)).peekable();
    let mut push = |index: i32, count: f64, lost: f64| {
        merged.push((index, count));
        compensation.push((index, lost));
    };
    for ((index, count), lost) in b {
        while let Some(((i, there), there_lost)) = a.next_if(|((i, _), _)| *i < index) {
            push(i, there, there_lost);
        }
        match a.next_if(|((i, _), _)| *i == index) {
            Some(((_, there), there_lost)) => {
                let mut sum = KahanSum { sum: there, compensation: there_lost };
                sum.add(count);
                if lost != 0.0 {
                    sum.add(lost);
                }
                push(index, sum.sum, sum.compensation);
            }
            None => push(index, count, lost),
        }
    }
    for ((index, count), lost) in a {
        push(index, count, lost);
    }
    (merged, compensation)
}

/// The bounds that both have.
fn intersection(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Puts custom buckets into those of a subset of their bounds.
fn rebucket(into: &mut [KahanSum], kept: &[f64], bounds: &[f64], counts: impl Iterator<Item = (i32, f64, f64)>) {
    for (index, count, lost) in counts {
        let bound = usize::try_from(index).ok().and_then(|i| bounds.get(i)).copied().unwrap_or(f64::INFINITY);
        let target = kept.iter().position(|k| *k >= bound).unwrap_or(kept.len());
        into[target].add(count);
        if lost != 0.0 {
            into[target].add(lost);
        }
    }
}

impl Histogram {
    /// Adds `other`.
    pub fn add(&mut self, other: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    /// Subtracts `other`.
    pub fn sub(&mut self, other: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Histogram, sign: f64) -> Result<Combined, IncompatibleSchemas> {
        self.check_compatible(other)?;
        let mut combined = Combined { reset_collision: self.settle_hint(other), bounds_reconciled: false };
        if !self.uses_custom_buckets() {
            let (zero_count, _) = self.reconcile_zero_buckets(other, None);
            self.zero_count += sign * zero_count;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.uses_custom_buckets() {
            if self.custom_values == other.custom_values {
                self.positive = merge(&self.positive, other.positive.iter().map(|(i, c)| (*i, sign * c)));
            } else {
                combined.bounds_reconciled = true;
                self.merge_mismatched(other, sign, None);
            }
            return Ok(combined);
        }
        let schema = self.schema.min(other.schema);
        let threshold = self.zero_threshold;
        let side = |own: &[IndexedCount], theirs: &[IndexedCount]| {
            let own = reduce(own, self.schema, schema);
            let theirs = reduce(theirs, other.schema, schema);
            let outside_zero = theirs.into_iter().skip_while(|(i, _)| exponential_bound(*i, schema) <= threshold);
            merge(&own, outside_zero.map(|(i, c)| (i, sign * c)))
        };
        let (positive, negative) = (side(&self.positive, &other.positive), side(&self.negative, &other.negative));
        (self.positive, self.negative, self.schema) = (positive, negative, schema);
        Ok(combined)
    }

    /// Adds `other`; what rounding loses is kept in `compensation`, a histogram of the same layout.
    pub(crate) fn add_compensated(
        &mut self,
        other: &Histogram,
        compensation: &mut Option<Histogram>,
    ) -> Result<Combined, IncompatibleSchemas> {
        self.check_compatible(other)?;
        let mut combined = Combined { reset_collision: self.settle_hint(other), bounds_reconciled: false };
        let mut c = compensation.take().unwrap_or_else(|| self.zeroed());
        if !self.uses_custom_buckets() {
            let (zero_count, zero_lost) = self.reconcile_zero_buckets(other, Some(&mut c));
            add_to(&mut self.zero_count, &mut c.zero_count, zero_count);
            add_to(&mut self.zero_count, &mut c.zero_count, zero_lost);
        }
        add_to(&mut self.count, &mut c.count, other.count);
        add_to(&mut self.sum, &mut c.sum, other.sum);
        if self.uses_custom_buckets() && self.custom_values != other.custom_values {
            combined.bounds_reconciled = true;
            self.merge_mismatched(other, 1.0, Some(&mut c));
        } else if self.uses_custom_buckets() {
            let own = (std::mem::take(&mut self.positive), std::mem::take(&mut c.positive));
            (self.positive, c.positive) = merge_compensated(&own, other.positive.iter().map(|b| (*b, 0.0)));
        } else {
            let schema = self.schema.min(other.schema);
            let threshold = self.zero_threshold;
            let side = |own: Pair, theirs: &[IndexedCount]| {
                let own = if self.schema > schema { reduce_compensated(&own, self.schema, schema) } else { own };
                let lost = theirs.iter().map(|(i, _)| (*i, 0.0)).collect();
                let theirs = reduce_compensated(&(theirs.to_vec(), lost), other.schema, schema);
                let theirs = theirs.0.into_iter().zip(theirs.1.into_iter().map(|(_, lost)| lost));
                merge_compensated(&own, theirs.skip_while(|((i, _), _)| exponential_bound(*i, schema) <= threshold))
            };
            let positive = side((self.positive.clone(), std::mem::take(&mut c.positive)), &other.positive);
            let negative = side((self.negative.clone(), std::mem::take(&mut c.negative)), &other.negative);
            (self.positive, c.positive) = positive;
            (self.negative, c.negative) = negative;
            self.schema = schema;
            c.schema = schema;
            c.zero_threshold = threshold;
        }
        *compensation = Some(c);
        Ok(combined)
    }

    fn merge_mismatched(&mut self, other: &Histogram, sign: f64, compensation: Option<&mut Histogram>) {
        let kept = intersection(&self.custom_values, &other.custom_values);
        let mut targets = vec![KahanSum::default(); kept.len() + 1];
        let lost = |i: usize| compensation.as_ref().and_then(|c| c.positive.get(i)).map_or(0.0, |(_, lost)| *lost);
        let own = self.positive.iter().enumerate().map(|(i, (index, count))| (*index, *count, lost(i)));
        rebucket(&mut targets, &kept, &self.custom_values, own);
        let theirs = other.positive.iter().map(|(index, count)| (*index, sign * count, 0.0));
        rebucket(&mut targets, &kept, &other.custom_values, theirs);
        let filled: Vec<(i32, KahanSum)> =
            (0..).zip(targets).filter(|(_, sum)| sum.sum != 0.0 || sum.compensation != 0.0).collect();
        self.positive = filled.iter().map(|(i, sum)| (*i, sum.sum)).collect();
        if let Some(c) = compensation {
            c.positive = filled.iter().map(|(i, sum)| (*i, sum.compensation)).collect();
            c.custom_values = kept.clone();
        }
        self.custom_values = kept;
    }

    /// A histogram of the same layout with nothing in it.
    fn zeroed(&self) -> Histogram {
        let empty = |buckets: &[IndexedCount]| buckets.iter().map(|(i, _)| (*i, 0.0)).collect();
        Histogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            custom_values: self.custom_values.clone(),
            positive: empty(&self.positive),
            negative: empty(&self.negative),
            ..Histogram::default()
        }
    }

    pub(crate) fn check_compatible(&self, other: &Histogram) -> Result<(), IncompatibleSchemas> {
        if self.uses_custom_buckets() == other.uses_custom_buckets() { Ok(()) } else { Err(IncompatibleSchemas) }
    }

    /// The hint that a combination has; true where the two contradict each other.
    fn settle_hint(&mut self, other: &Histogram) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        match (self.counter_reset_hint, other.counter_reset_hint) {
            (own, theirs) if own == theirs => {}
            (Gauge, _) | (Unknown, CounterResetHint::CounterReset | CounterResetHint::NotCounterReset) => {}
            (_, Gauge) => self.counter_reset_hint = Gauge,
            (_, Unknown) => self.counter_reset_hint = Unknown,
            _ => {
                self.counter_reset_hint = Unknown;
                return true;
            }
        }
        false
    }

    /// Widens the zero bucket to that of `other`, or works out what `other`'s would hold if it were as wide.
    /// Gives `other`'s zero count, and what rounding lost of it.
    fn reconcile_zero_buckets(&mut self, other: &Histogram, mut compensation: Option<&mut Histogram>) -> (f64, f64) {
        let mut theirs = KahanSum::starting_at(other.zero_count);
        let mut their_threshold = other.zero_threshold;
        // Each pass widens one of the two; NaN thresholds would never meet.
        while their_threshold.partial_cmp(&self.zero_threshold).is_some_and(std::cmp::Ordering::is_ne) {
            if self.zero_threshold > their_threshold {
                (theirs, their_threshold) = other.zero_bucket_of_width(self.zero_threshold, None);
            }
            if their_threshold > self.zero_threshold {
                let (own, threshold) = self.zero_bucket_of_width(their_threshold, compensation.as_deref());
                self.zero_count = own.sum;
                self.zero_threshold = threshold;
                if let Some(c) = compensation.as_deref_mut() {
                    c.zero_count = own.compensation;
                }
                self.empty_buckets_in_zero_bucket(compensation.as_deref_mut());
            }
        }
        (theirs.sum, theirs.compensation)
    }

    /// What the zero bucket would hold if it were at least this wide, and how wide it must be not to cut a bucket.
    fn zero_bucket_of_width(&self, mut width: f64, compensation: Option<&Histogram>) -> (KahanSum, f64) {
        let mut held = KahanSum { sum: 0.0, compensation: compensation.map_or(0.0, |c| c.zero_count) };
        'widened: loop {
            held.sum = self.zero_count;
            if width == self.zero_threshold {
                return (held, width);
            }
            for (i, bucket) in self.positive.iter().enumerate() {
                let b = self.positive_bucket(*bucket);
                if b.lower >= width {
                    break;
                }
                held.add(b.count);
                held.add(compensation.and_then(|c| c.positive.get(i)).map_or(0.0, |(_, lost)| *lost));
                if b.upper > width {
                    if b.count != 0.0 {
                        width = b.upper;
                    }
                    break;
                }
            }
            for (i, bucket) in self.negative.iter().enumerate() {
                let b = self.negative_bucket(*bucket);
                if b.upper <= -width {
                    break;
                }
                held.add(b.count);
                held.add(compensation.and_then(|c| c.negative.get(i)).map_or(0.0, |(_, lost)| *lost));
                if b.lower < -width {
                    if b.count != 0.0 {
                        width = -b.lower;
                        continue 'widened;
                    }
                    break;
                }
            }
            return (held, width);
        }
    }

    fn empty_buckets_in_zero_bucket(&mut self, mut compensation: Option<&mut Histogram>) {
        let inside = |h: &Histogram, i: i32| h.bound(i.saturating_sub(1)) < h.zero_threshold;
        for positive in [true, false] {
            let own = if positive { &self.positive } else { &self.negative };
            let keep: Vec<bool> = own
                .iter()
                .enumerate()
                .map(|(at, (i, count))| {
                    let lost = compensation.as_deref().map_or(0.0, |c| {
                        let side = if positive { &c.positive } else { &c.negative };
                        side.get(at).map_or(0.0, |(_, lost)| *lost)
                    });
                    !inside(self, *i) && (*count != 0.0 || lost != 0.0)
                })
                .collect();
            let retain = |buckets: &mut Vec<IndexedCount>| {
                let mut keep = keep.iter();
                buckets.retain(|_| *keep.next().unwrap_or(&true));
            };
            retain(if positive { &mut self.positive } else { &mut self.negative });
            if let Some(c) = compensation.as_deref_mut() {
                retain(if positive { &mut c.positive } else { &mut c.negative });
            }
        }
    }

    /// Multiplies all counts and the sum.
    pub fn scale(&mut self, factor: f64) -> &mut Self {
        self.each_count(|count| count * factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Divides all counts and the sum; a division by zero leaves no buckets.
    pub fn divide(&mut self, divisor: f64) -> &mut Self {
        self.each_count(|count| count / divisor);
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    fn each_count(&mut self, change: impl Fn(f64) -> f64) {
        for value in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *value = change(*value);
        }
        for (_, count) in self.positive.iter_mut().chain(&mut self.negative) {
            *count = change(*count);
        }
    }

    /// Forgets empty buckets.
    pub fn compact(&mut self) -> &mut Self {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
        self
    }

    pub(crate) fn has_overflow(&self) -> bool {
        [self.zero_count, self.count, self.sum].iter().any(|v| v.is_infinite())
            || self.positive.iter().chain(&self.negative).any(|(_, count)| count.is_infinite())
            || self.custom_values.iter().any(|v| v.is_infinite())
    }

    /// The same in a coarser (or the same) exponential schema.
    pub(crate) fn to_schema(&self, schema: i32) -> Histogram {
        if schema >= self.schema || self.uses_custom_buckets() || schema == CUSTOM_BUCKETS_SCHEMA {
            return self.clone();
        }
        Histogram {
            counter_reset_hint: CounterResetHint::Unknown,
            schema,
            positive: reduce(&self.positive, self.schema, schema),
            negative: reduce(&self.negative, self.schema, schema),
            ..self.clone()
        }
    }

    /// Equal to the bit; hints do not count.
    pub fn same_value(&self, other: &Histogram) -> bool {
        let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let side = |a: &[IndexedCount], b: &[IndexedCount]| {
            let filled =
                |buckets: &[IndexedCount]| buckets.iter().filter(|(_, c)| *c != 0.0).copied().collect::<Vec<_>>();
            let (a, b) = (filled(a), filled(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && bits(x.1, y.1))
        };
        self.schema == other.schema
            && bits(self.count, other.count)
            && bits(self.sum, other.sum)
            && self.custom_values == other.custom_values
            && self.zero_threshold == other.zero_threshold
            && bits(self.zero_count, other.zero_count)
            && side(&self.positive, &other.positive)
            && side(&self.negative, &other.negative)
    }

    /// Whether the counts must have started anew after `previous`.
    pub fn is_reset_after(&self, previous: &Histogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::CounterReset => return true,
            CounterResetHint::NotCounterReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return self.is_reset_between_bounds(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero, width) = previous.zero_bucket_of_width(self.zero_threshold, None);
        if width != self.zero_threshold || self.zero_count < previous_zero.sum {
            return true;
        }
        let fell = |own: &[IndexedCount], theirs: &[IndexedCount]| {
            let theirs =
                if self.uses_custom_buckets() { theirs.to_vec() } else { reduce(theirs, previous.schema, self.schema) };
            let inside_zero = |i: i32| !self.uses_custom_buckets() && self.bound(i) <= self.zero_threshold;
            theirs.iter().skip_while(|(i, _)| self.zero_threshold != 0.0 && inside_zero(*i)).any(|(index, count)| {
                match own.binary_search_by(|(i, _)| i.cmp(index)) {
                    Ok(at) => own[at].1 < *count,
                    Err(_) => *count != 0.0,
                }
            })
        };
        fell(&self.positive, &previous.positive) || fell(&self.negative, &previous.negative)
    }

    /// Compares what lies between the custom bounds that both histograms have.
    fn is_reset_between_bounds(&self, previous: &Histogram) -> bool {
        let kept = intersection(&self.custom_values, &previous.custom_values);
        let rolled_up = |h: &Histogram| {
            let mut sums = vec![KahanSum::default(); kept.len() + 1];
            rebucket(&mut sums, &kept, &h.custom_values, h.positive.iter().map(|(i, c)| (*i, *c, 0.0)));
            sums
        };
        rolled_up(self).iter().zip(rolled_up(previous)).any(|(own, theirs)| own.sum < theirs.sum)
    }
}

fn add_to(sum: &mut f64, lost: &mut f64, value: f64) {
    let mut total = KahanSum { sum: *sum, compensation: *lost };
    total.add(value);
    (*sum, *lost) = (total.sum, total.compensation);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(schema: i32, positive: &[IndexedCount]) -> Histogram {
        let count = positive.iter().map(|(_, c)| c).sum();
        Histogram { schema, count, sum: count, positive: positive.to_vec(), ..Histogram::default() }
    }

    #[test]
    fn the_sum_of_two_schemas_has_the_coarser_one() {
        let mut a = exponential(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]);
        a.add(&exponential(0, &[(1, 10.0), (5, 1.0)])).unwrap();
        assert_eq!(a.schema, 0);
        assert_eq!(a.positive, [(1, 13.0), (2, 4.0), (5, 1.0)]);
        assert_eq!(a.count, 18.0);
    }

    #[test]
    fn a_fallen_bucket_is_a_reset_even_if_the_count_rose() {
        let before = exponential(0, &[(0, 5.0), (1, 5.0)]);
        let after = exponential(0, &[(0, 4.0), (1, 50.0)]);
        assert!(after.is_reset_after(&before));
        assert!(!exponential(0, &[(0, 5.0), (1, 6.0)]).is_reset_after(&before));
    }

    #[test]
    fn custom_and_exponential_buckets_do_not_mix() {
        let custom = Histogram { schema: CUSTOM_BUCKETS_SCHEMA, ..Histogram::default() };
        assert_eq!(exponential(0, &[]).add(&custom), Err(IncompatibleSchemas));
    }

    #[test]
    fn a_wider_zero_bucket_swallows_what_it_covers() {
        let mut narrow = exponential(0, &[(-1, 1.0), (0, 2.0), (1, 3.0)]);
        let wide = Histogram { zero_threshold: 1.0, zero_count: 1.0, count: 1.0, ..Histogram::default() };
        narrow.add(&wide).unwrap();
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (1.0, 4.0));
        assert_eq!(narrow.positive, [(1, 3.0)]);
    }
}
