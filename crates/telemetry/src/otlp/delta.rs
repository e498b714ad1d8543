//! Running totals of delta streams. A classic histogram's series add up one by one, so floats and native histograms
//! are all that is kept.

use std::collections::HashMap;

use super::PointFault;
use crate::histogram::{Histogram, IndexedCount};
use crate::{Labels, Timestamp};

/// Streams that are kept; a further one is refused, and counted, until others end.
const STREAMS_MAX: usize = 500_000;

#[derive(Default)]
pub(super) struct Deltas {
    streams: HashMap<Labels, Stream>,
}

struct Stream {
    /// Of its newest point.
    at: Timestamp,
    /// When that came in.
    seen: Timestamp,
    total: Total,
}

enum Total {
    Float(f64),
    Histogram(Histogram),
}

impl Deltas {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn forget(&mut self, before: Timestamp) {
        self.streams.retain(|_, stream| stream.seen >= before);
    }

    /// The total with this delta.
    pub(super) fn add(
        &mut self,
        labels: &Labels,
        at: Timestamp,
        seen: Timestamp,
        delta: f64,
    ) -> Result<f64, PointFault> {
        let stream = self.stream(labels, at, seen, || Total::Float(0.0))?;
        match &mut stream.total {
            Total::Float(total) => {
                *total += delta;
                Ok(*total)
            }
            Total::Histogram(_) => Err(PointFault::Histogram),
        }
    }

    pub(super) fn add_histogram(
        &mut self,
        labels: &Labels,
        at: Timestamp,
        seen: Timestamp,
        delta: &Histogram,
    ) -> Result<Histogram, PointFault> {
        let empty = || {
            let Histogram { schema, zero_threshold, .. } = *delta;
            Total::Histogram(Histogram { schema, zero_threshold, ..Histogram::default() })
        };
        let stream = self.stream(labels, at, seen, empty)?;
        match &mut stream.total {
            Total::Histogram(total) => {
                add_histograms(total, delta);
                Ok(total.clone())
            }
            Total::Float(_) => Err(PointFault::Histogram),
        }
    }

    fn stream(
        &mut self,
        labels: &Labels,
        at: Timestamp,
        seen: Timestamp,
        empty: impl FnOnce() -> Total,
    ) -> Result<&mut Stream, PointFault> {
        if !self.streams.contains_key(labels) {
            if self.streams.len() >= STREAMS_MAX {
                return Err(PointFault::DeltaStreams);
            }
            self.streams.insert(labels.clone(), Stream { at: Timestamp(i64::MIN), seen, total: empty() });
        }
        let stream = self.streams.get_mut(labels).ok_or(PointFault::DeltaStreams)?;
        if at <= stream.at {
            return Err(PointFault::OldDelta);
        }
        (stream.at, stream.seen) = (at, seen);
        Ok(stream)
    }
}

/// At the coarser of the two schemas and the wider of the two zero buckets.
fn add_histograms(total: &mut Histogram, delta: &Histogram) {
    let mut delta = delta.clone();
    let schema = total.schema.min(delta.schema);
    total.limit_schema(schema);
    delta.limit_schema(schema);
    // Widening moves an edge out to the end of a bucket that lies across it, so the other may have to follow.
    while total.zero_threshold != delta.zero_threshold {
        let threshold = total.zero_threshold.max(delta.zero_threshold);
        widen_zero(total, threshold);
        widen_zero(&mut delta, threshold);
    }
    total.count += delta.count;
    total.sum += delta.sum;
    total.zero_count += delta.zero_count;
    total.positive = added(&total.positive, &delta.positive);
    total.negative = added(&total.negative, &delta.negative);
}

/// Buckets that begin within the zero bucket go into it, and its edge to where the last of them ends.
fn widen_zero(histogram: &mut Histogram, mut threshold: f64) {
    if histogram.zero_threshold >= threshold {
        return;
    }
    let width = (-f64::from(histogram.schema)).exp2();
    let bound = |index: i32| (f64::from(index) * width).exp2();
    for side in [&mut histogram.positive, &mut histogram.negative] {
        let (inside, outside): (Vec<IndexedCount>, Vec<IndexedCount>) =
            side.iter().copied().partition(|(index, _)| bound(index.saturating_sub(1)) < threshold);
        histogram.zero_count += inside.iter().map(|(_, count)| count).sum::<f64>();
        threshold = inside.last().map_or(threshold, |(index, _)| threshold.max(bound(*index)));
        *side = outside;
    }
    histogram.zero_threshold = threshold;
}

fn added(a: &[IndexedCount], b: &[IndexedCount]) -> Vec<IndexedCount> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut sum = Vec::with_capacity(a.len().max(b.len()));
    while let (Some((i, x)), Some((j, y))) = (a.peek(), b.peek()) {
        match i.cmp(j) {
            std::cmp::Ordering::Equal => {
                sum.push((*i, x + y));
                a.next();
                b.next();
            }
            std::cmp::Ordering::Less => sum.extend(a.next()),
            std::cmp::Ordering::Greater => sum.extend(b.next()),
        }
    }
    sum.extend(a.chain(b));
    sum
}
