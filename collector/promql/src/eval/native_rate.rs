//! How native histograms rise over a range.

use std::sync::Arc;

use telemetry::Timestamp;

use super::Evaluator;
use super::over_time::{RangeCall, Slice};
use super::rate::is_start_reset;
use crate::annotation::Operation;
use crate::histogram::{CounterResetHint, Histogram};

/// Whether the histogram at `i` began anew after the one before it, which is taken to be `previous`.
fn is_reset(slice: &Slice<'_>, i: usize, previous: &Histogram) -> bool {
    starts_anew(slice, i) || slice.histograms[i].1.is_reset_after(previous)
}

pub(super) fn starts_anew(slice: &Slice<'_>, i: usize) -> bool {
    let (starts, histograms) = (slice.histogram_starts, slice.histograms);
    i < starts.len()
        && is_start_reset(starts[i - 1], histograms[i - 1].0.as_millis(), starts[i], histograms[i].0.as_millis())
}

impl Evaluator<'_> {
    fn note_counter(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>, histogram: &Histogram) {
        if histogram.counter_reset_hint == CounterResetHint::Gauge {
            self.annotations.not_counter(slice.metric(), call.span);
        }
    }

    /// The rise between the first and the last of at least two histograms; nothing where they cannot be combined.
    pub(super) fn histogram_rise(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
    ) -> Option<Histogram> {
        let points: &[(Timestamp, Arc<Histogram>)] = slice.histograms;
        let (first, last) = (&points[0].1, &points[points.len() - 1].1);
        if counter {
            self.note_counter(call, slice, first);
            self.note_counter(call, slice, last);
        }
        let mut previous: Arc<Histogram> = first.clone();
        let second = &points[1].1;
        if counter && is_reset(slice, 1, &previous) {
            // What was before a reset does not matter, nor does its layout.
            previous = Arc::new(Histogram {
                schema: second.schema,
                custom_values: second.custom_values.clone(),
                ..Histogram::default()
            });
        }
        let custom = previous.uses_custom_buckets();
        let mut schema = last.schema.min(previous.schema);
        let mut mixed = last.uses_custom_buckets() != custom;
        for (_, histogram) in &points[1..points.len() - 1] {
            if counter && !mixed {
                self.note_counter(call, slice, histogram);
                schema = schema.min(histogram.schema);
                mixed |= histogram.uses_custom_buckets() != custom;
            }
        }
        if mixed {
            self.annotations.mixed_schemas(slice.metric(), call.span);
            return None;
        }
        let mut rise = last.to_schema(schema);
        self.combine(call, slice, &mut rise, &previous, Operation::Subtraction)?;
        if counter {
            self.note_overlap(call, slice);
            for (i, (_, histogram)) in points.iter().enumerate().skip(1) {
                if is_reset(slice, i, &previous) {
                    self.combine(call, slice, &mut rise, &previous, Operation::Addition)?;
                }
                previous = histogram.clone();
            }
        } else if first.counter_reset_hint != CounterResetHint::Gauge
            || last.counter_reset_hint != CounterResetHint::Gauge
        {
            self.annotations.not_gauge(slice.metric(), call.span);
        }
        rise.counter_reset_hint = CounterResetHint::Gauge;
        rise.compact();
        Some(rise)
    }

    fn note_overlap(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) {
        let starts = slice.histogram_starts;
        let overlap = (1..starts.len()).any(|i| {
            let previous = slice.histograms[i - 1].0.as_millis();
            starts[i] != 0 && starts[i] < previous && starts[i] != starts[i - 1]
        });
        if overlap {
            self.annotations.start_time_overlap(slice.metric(), call.span);
        }
    }

    /// Adds or subtracts; nothing, and a warning, where the kinds of buckets differ.
    pub(super) fn combine(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        histogram: &mut Histogram,
        other: &Histogram,
        operation: Operation,
    ) -> Option<()> {
        let combined = match operation {
            Operation::Subtraction => histogram.sub(other),
            _ => histogram.add(other),
        };
        let Ok(combined) = combined else {
            self.annotations.mixed_schemas(slice.metric(), call.span);
            return None;
        };
        if combined.bounds_reconciled {
            self.annotations.mismatched_custom_buckets(operation, call.span);
        }
        Some(())
    }

    /// The rise between the last two samples, both histograms.
    pub(super) fn instant_histogram_rise(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
    ) -> Option<Histogram> {
        let last = slice.histograms.len() - 1;
        let (previous, current) = (&slice.histograms[last - 1].1, &slice.histograms[last].1);
        let gauges = [previous, current].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
        if counter && gauges.contains(&true) {
            self.annotations.not_counter(slice.metric(), call.span);
        }
        if !counter && gauges.contains(&false) {
            self.annotations.not_gauge(slice.metric(), call.span);
        }
        let mut rise = (**current).clone();
        if !counter || !is_reset(slice, last, previous) {
            self.combine(call, slice, &mut rise, previous, Operation::Subtraction)?;
        }
        rise.counter_reset_hint = CounterResetHint::Gauge;
        rise.compact();
        Some(rise)
    }
}
