//! Native histograms: a side column of the few series that have them. Each is kept whole; they are not compressed.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::Histogram;
use telemetry::histogram::{CounterResetHint, IndexedCount};

use crate::Refusal;
use crate::column::{Reader, push_varint, unzigzag, zigzag};
use crate::series::Insert;

/// By series id; sorted by time, one per time.
#[derive(Default)]
pub(crate) struct Histograms {
    by_series: BTreeMap<u32, Vec<(i64, Arc<Histogram>)>>,
    pub(crate) count: usize,
}

impl Histograms {
    pub(crate) fn insert(
        &mut self,
        id: u32,
        time: i64,
        histogram: &Histogram,
        lag_max: i64,
    ) -> Result<Insert, Refusal> {
        let column = self.by_series.entry(id).or_default();
        let newest = column.last().map(|(newest, _)| *newest);
        let within = newest.is_none_or(|newest| time == newest || newest.saturating_sub(time) <= lag_max);
        match column.binary_search_by_key(&time, |(at, _)| *at) {
            Ok(at) if encode(&column[at].1) == encode(histogram) => Ok(Insert::Repeated),
            Ok(_) if within => Err(Refusal::Duplicate),
            Err(at) if within => {
                column.insert(at, (time, Arc::new(histogram.clone())));
                self.count += 1;
                Ok(Insert::Added)
            }
            _ => Err(Refusal::OutOfOrder),
        }
    }

    /// The histograms after `start` and up to `end`.
    pub(crate) fn within(&self, id: u32, start: i64, end: i64) -> &[(i64, Arc<Histogram>)] {
        let Some(column) = self.by_series.get(&id) else { return &[] };
        let from = column.partition_point(|(time, _)| *time <= start);
        let to = column.partition_point(|(time, _)| *time <= end);
        &column[from..to.max(from)]
    }

    pub(crate) fn has(&self, id: u32) -> bool {
        self.by_series.contains_key(&id)
    }

    pub(crate) fn expire(&mut self, oldest: i64) {
        let count = &mut self.count;
        self.by_series.retain(|_, column| {
            let old = column.partition_point(|(time, _)| *time < oldest);
            column.drain(..old);
            *count -= old;
            !column.is_empty()
        });
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.count -= self.by_series.remove(&id).map_or(0, |column| column.len());
    }

    pub(crate) fn restore(&mut self, id: u32, column: Vec<(i64, Arc<Histogram>)>) {
        self.count += column.len();
        self.by_series.insert(id, column);
    }
}

/// Counts that are whole numbers follow as variable-length integers.
const WHOLE_COUNTS: u8 = 0x80;

pub(crate) fn encode(histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    let whole = histogram.is_integral();
    let hint = match histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::CounterReset => 1,
        CounterResetHint::NotCounterReset => 2,
        CounterResetHint::Gauge => 3,
    };
    out.push(hint | if whole { WHOLE_COUNTS } else { 0 });
    push_varint(&mut out, zigzag(i64::from(histogram.schema)));
    push_float(&mut out, histogram.zero_threshold);
    push_float(&mut out, histogram.sum);
    push_count(&mut out, histogram.zero_count, whole);
    push_count(&mut out, histogram.count, whole);
    for buckets in [&histogram.positive, &histogram.negative] {
        push_varint(&mut out, buckets.len() as u64);
        for (index, count) in buckets {
            push_varint(&mut out, zigzag(i64::from(*index)));
            push_count(&mut out, *count, whole);
        }
    }
    push_varint(&mut out, histogram.custom_values.len() as u64);
    histogram.custom_values.iter().for_each(|bound| push_float(&mut out, *bound));
    out
}

/// None for what [`encode`] cannot have written.
pub(crate) fn decode(bytes: &[u8]) -> Option<Histogram> {
    let mut reader = Reader::new(bytes);
    let first = reader.byte()?;
    let whole = first & WHOLE_COUNTS != 0;
    let counter_reset_hint = match first & !WHOLE_COUNTS {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => return None,
    };
    let schema = i32::try_from(unzigzag(reader.varint()?)).ok()?;
    let zero_threshold = f64::from_bits(reader.u64()?);
    let sum = f64::from_bits(reader.u64()?);
    let zero_count = read_count(&mut reader, whole)?;
    let count = read_count(&mut reader, whole)?;
    let positive = read_buckets(&mut reader, whole)?;
    let negative = read_buckets(&mut reader, whole)?;
    let custom_len = reader.varint()?;
    let mut custom_values = Vec::new();
    for _ in 0..custom_len {
        custom_values.push(f64::from_bits(reader.u64()?));
    }
    reader.is_empty().then_some(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive,
        negative,
        custom_values,
    })
}

fn read_buckets(reader: &mut Reader<'_>, whole: bool) -> Option<Vec<IndexedCount>> {
    let len = reader.varint()?;
    let mut buckets = Vec::new();
    // Each takes bytes, so a length that lies ends at the end of them.
    for _ in 0..len {
        let index = i32::try_from(unzigzag(reader.varint()?)).ok()?;
        buckets.push((index, read_count(reader, whole)?));
    }
    Some(buckets)
}

fn push_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn push_count(out: &mut Vec<u8>, count: f64, whole: bool) {
    match whole {
        true => push_varint(out, count as u64),
        false => push_float(out, count),
    }
}

fn read_count(reader: &mut Reader<'_>, whole: bool) -> Option<f64> {
    match whole {
        true => reader.varint().map(|count| count as f64),
        false => reader.u64().map(f64::from_bits),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histograms() -> impl Strategy<Value = Histogram> {
        let count = prop_oneof![(0..1000u32).prop_map(f64::from), Just(0.5), Just(1e300)];
        let buckets = prop::collection::vec((any::<i32>(), count.clone()), 0..5);
        let float = prop_oneof![Just(telemetry::stale_nan()), any::<f64>()];
        (0..4u8, -60..10i32, float.clone(), float, count, buckets.clone(), buckets, any::<bool>()).prop_map(
            |(hint, schema, sum, zero_threshold, count, positive, negative, custom)| Histogram {
                counter_reset_hint: [
                    CounterResetHint::Unknown,
                    CounterResetHint::CounterReset,
                    CounterResetHint::NotCounterReset,
                    CounterResetHint::Gauge,
                ][usize::from(hint)],
                schema,
                zero_threshold,
                zero_count: count,
                count,
                sum,
                positive,
                negative,
                custom_values: if custom { vec![0.1, 2.5] } else { Vec::new() },
            },
        )
    }

    proptest! {
        #[test]
        fn histograms_come_back_bit_for_bit(histogram in histograms()) {
            let bytes = encode(&histogram);
            prop_assert_eq!(decode(&bytes).map(|again| encode(&again)), Some(bytes));
        }

        #[test]
        fn nonsense_is_refused_or_decoded_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
