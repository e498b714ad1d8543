//! The `Histogram` message, the same in both protocols but for the start timestamp.

use super::HistogramPoint;
use crate::Timestamp;
use crate::histogram::wire::{Parts, push, read_span};
use crate::histogram::{CounterResetHint, Histogram, to_spans};
use crate::protobuf::{Malformed, Reader, Writer, zigzag};

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
