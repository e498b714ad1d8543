//! Histograms as protobuf messages have them, remote write's and the exposition's alike: spans and counts apart.

use super::{Histogram, HistogramFault, SCHEMA_MAX, Span, from_spans};
use crate::protobuf::{Malformed, Reader};

/// Of one sign. Exponential buckets of schema 8 over all floats are half a million; what is sent has hundreds. Counts
/// beyond are not kept, so that the spans do not fit them: a fault of the histogram.
const BUCKETS_MAX: usize = 1 << 19;

/// Schemas up to here are exponential and are reduced to what is stored.
const SCHEMA_REDUCIBLE_MAX: i32 = 52;

/// A message as it stands, before counts and indexes are put together.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) histogram: Histogram,
    pub(crate) integral: bool,
    pub(crate) negative: Side,
    pub(crate) positive: Side,
}

/// The spans and counts of one sign.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) spans: Vec<Span>,
    pub(crate) deltas: Vec<i64>,
    pub(crate) counts: Vec<f64>,
}

impl Side {
    fn buckets(self, integral: bool) -> Result<Vec<(i32, f64)>, HistogramFault> {
        let counts = if integral { running_sums(&self.deltas) } else { self.counts };
        from_spans(&self.spans, &counts)
    }
}

fn running_sums(deltas: &[i64]) -> Vec<f64> {
    let sums = deltas.iter().scan(0i64, |sum, delta| {
        *sum = sum.saturating_add(*delta);
        Some(*sum as f64)
    });
    sums.collect()
}

impl Parts {
    /// # Errors
    /// Whatever Prometheus refuses to store.
    pub(crate) fn join(self) -> Result<Histogram, HistogramFault> {
        let mut histogram = self.histogram;
        if histogram.is_stale() {
            return Ok(histogram);
        }
        histogram.negative = self.negative.buckets(self.integral)?;
        histogram.positive = self.positive.buckets(self.integral)?;
        if histogram.schema <= SCHEMA_REDUCIBLE_MAX {
            histogram.limit_schema(SCHEMA_MAX);
        }
        histogram.check()?;
        if self.integral {
            histogram.check_sum_of_buckets()?;
        }
        Ok(histogram)
    }
}

pub(crate) fn push<T>(list: &mut Vec<T>, value: T) {
    if list.len() < BUCKETS_MAX {
        list.push(value);
    }
}

pub(crate) fn read_span(mut message: Reader<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    while let Some((number, field)) = message.next()? {
        match number {
            1 => span.offset = field.sint(&message)? as i32,
            2 => span.length = field.uint(&message)? as u32,
            _ => {}
        }
    }
    Ok(span)
}
