//! The `Histogram` message, the same in both protocols but for the start timestamp.

use super::HistogramPoint;
use crate::Timestamp;
use crate::histogram::{CounterResetHint, Histogram, HistogramFault, SCHEMA_MAX, Span, from_spans, to_spans};
use crate::protobuf::{Malformed, Reader, Writer, zigzag};

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

pub(super) fn read(mut message: Reader<'_>) -> Result<HistogramPoint, Malformed> {
    let mut parts = Parts { integral: true, ..Parts::default() };
    let (mut timestamp, mut start) = (0, 0);
    while let Some((number, field)) = message.next()? {
        let histogram = &mut parts.histogram;
        match number {
            1 => histogram.count = field.uint(&message)? as f64,
            2 => {
                histogram.count = field.double(&message)?;
                parts.integral = false;
            }
            3 => histogram.sum = field.double(&message)?,
            4 => histogram.schema = field.sint(&message)? as i32,
            5 => histogram.zero_threshold = field.double(&message)?,
            6 => histogram.zero_count = field.uint(&message)? as f64,
            7 => histogram.zero_count = field.double(&message)?,
            8 => parts.negative.spans.push(read_span(field.message(&message)?)?),
            9 => field.varints(&message, |v| push(&mut parts.negative.deltas, zigzag(v)))?,
            10 => field.doubles(&message, |v| push(&mut parts.negative.counts, v))?,
            11 => parts.positive.spans.push(read_span(field.message(&message)?)?),
            12 => field.varints(&message, |v| push(&mut parts.positive.deltas, zigzag(v)))?,
            13 => field.doubles(&message, |v| push(&mut parts.positive.counts, v))?,
            14 => histogram.counter_reset_hint = hint_of(field.uint(&message)?),
            15 => timestamp = field.int(&message)?,
            16 => field.doubles(&message, |v| histogram.custom_values.push(v))?,
            17 => start = field.int(&message)?,
            _ => {}
        }
    }
    let start = (start != 0).then_some(Timestamp(start));
    Ok(HistogramPoint { timestamp: Timestamp(timestamp), start, histogram: parts.join() })
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

fn hint_of(number: u64) -> CounterResetHint {
    match number {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

pub(super) fn write(w: &mut Writer, timestamp: Timestamp, histogram: &Histogram) {
    let integral = histogram.is_integral();
    if integral {
        w.uint_always(1, histogram.count as u64);
    } else {
        w.double_always(2, histogram.count);
    }
    w.double(3, histogram.sum);
    w.sint(4, i64::from(histogram.schema));
    w.double(5, histogram.zero_threshold);
    if integral {
        w.uint_always(6, histogram.zero_count as u64);
    } else {
        w.double_always(7, histogram.zero_count);
    }
    write_side(w, [8, 9, 10], &histogram.negative, integral);
    write_side(w, [11, 12, 13], &histogram.positive, integral);
    w.uint(
        14,
        match histogram.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::CounterReset => 1,
            CounterResetHint::NotCounterReset => 2,
            CounterResetHint::Gauge => 3,
        },
    );
    w.int(15, timestamp.0);
    w.packed_doubles(16, histogram.custom_values.iter().copied());
}

/// The field numbers are those of the spans, the deltas and the counts.
pub(crate) fn write_side(w: &mut Writer, numbers: [u32; 3], buckets: &[(i32, f64)], integral: bool) {
    for span in to_spans(buckets) {
        w.message(numbers[0], |w| {
            w.sint(1, i64::from(span.offset));
            w.uint(2, u64::from(span.length));
        });
    }
    let counts = buckets.iter().map(|(_, count)| *count);
    if integral {
        let mut last = 0;
        let deltas = counts.map(|count| {
            let delta = count as i64 - last;
            last = count as i64;
            delta
        });
        w.packed_sints(numbers[1], deltas);
    } else {
        w.packed_doubles(numbers[2], counts);
    }
}
