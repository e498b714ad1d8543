//! Functions of one window of floats in columns, without staleness markers.

use super::ABSENT;
use crate::kahan::{KahanSum, Mean};

/// A function that has a form for columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// rate, increase, delta.
    Rise {
        counter: bool,
        per_second: bool,
    },
    /// irate, idelta.
    LastRise {
        counter: bool,
    },
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Present,
    Last,
    First,
}

impl Function {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Function::Rise { counter: true, per_second: true },
            "increase" => Function::Rise { counter: true, per_second: false },
            "delta" => Function::Rise { counter: false, per_second: false },
            "irate" => Function::LastRise { counter: true },
            "idelta" => Function::LastRise { counter: false },
            "sum_over_time" => Function::Sum,
            "avg_over_time" => Function::Avg,
            "min_over_time" => Function::Min,
            "max_over_time" => Function::Max,
            "count_over_time" => Function::Count,
            "present_over_time" => Function::Present,
            "last_over_time" => Function::Last,
            "first_over_time" => Function::First,
            _ => return None,
        })
    }
}

/// Works on one series after the other; remembers how far the samples' times lie apart, which is the same for all
/// series that were scraped together.
pub(super) struct Kernel {
    function: Function,
    range_seconds: f64,
    extent: Extent,
}

/// How extrapolation sees the times of a window's samples.
#[derive(Default)]
struct Extent {
    /// First and last sample, how many, and the window.
    of: (i64, i64, usize, i64, i64),
    sampled: f64,
    to_start: f64,
    to_end: f64,
    /// The factor where nothing but the times decides.
    factor: f64,
}

/// Whether every value is at least the one before: then there is no NaN among two or more values, and no counter
/// reset.
#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must count as a fall; asked so, the loop is vectorized")]
pub(super) fn never_falls(values: &[f64]) -> bool {
    // No early exit, for the same reason.
    !values.iter().zip(values.get(1..).unwrap_or_default()).fold(false, |falls, (a, b)| falls | !(a <= b))
}

pub(super) fn has_nan(values: &[f64]) -> bool {
    values.iter().fold(false, |found, value| found | value.is_nan())
}

impl Kernel {
    pub(super) fn new(function: Function, range_ms: i64) -> Self {
        Kernel { function, range_seconds: range_ms as f64 / 1000.0, extent: Extent::default() }
    }

    /// The value of a window `(start, end]` that has samples; `rising` where [`never_falls`] is known to hold.
    pub(super) fn value(&mut self, times: &[i64], values: &[f64], (start, end): (i64, i64), rising: bool) -> f64 {
        let (Some(first), Some(last)) = (values.first(), values.last()) else { return ABSENT };
        match self.function {
            Function::Rise { counter, per_second } => {
                self.rise(times, values, (start, end), counter, per_second, rising)
            }
            Function::LastRise { counter } => last_rise(times, values, counter),
            Function::Sum => {
                let mut sum = KahanSum::default();
                values.iter().for_each(|value| sum.add(*value));
                if sum.sum.is_infinite() { sum.sum } else { sum.value() }
            }
            Function::Avg => {
                let mut mean = Mean::starting_at(*first);
                values[1..].iter().for_each(|value| mean.add(*value));
                mean.value()
            }
            Function::Min if rising => *first,
            Function::Min => values.iter().fold(*first, |min, v| if *v < min || min.is_nan() { *v } else { min }),
            Function::Max => values.iter().fold(*first, |max, v| if *v > max || max.is_nan() { *v } else { max }),
            Function::Count => values.len() as f64,
            Function::Present => 1.0,
            Function::Last => *last,
            Function::First => *first,
        }
    }

    fn rise(
        &mut self,
        times: &[i64],
        values: &[f64],
        (start, end): (i64, i64),
        counter: bool,
        per_second: bool,
        rising: bool,
    ) -> f64 {
        let n = values.len();
        if n < 2 || times.len() < n {
            return ABSENT;
        }
        let (first, last) = (values[0], values[n - 1]);
        let mut rise = last - first;
        if counter && !rising {
            for pair in values.windows(2) {
                if pair[1] < pair[0] {
                    rise += pair[0];
                }
            }
        }
        let of = (times[0], times[n - 1], n, start, end);
        if self.extent.of != of {
            self.extent = Extent::new(of);
            self.extent.factor = self.factor(self.extent.to_start, per_second);
        }
        let mut factor = self.extent.factor;
        if counter && rise > 0.0 && first >= 0.0 {
            let zero = self.extent.sampled * (first / rise);
            if zero < self.extent.to_start {
                factor = self.factor(zero, per_second);
            }
        }
        rise * factor
    }

    /// By how much the rise between the samples is to be multiplied to be that over the window.
    fn factor(&self, to_start: f64, per_second: bool) -> f64 {
        let Extent { sampled, to_end, .. } = self.extent;
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if per_second { factor / self.range_seconds } else { factor }
    }
}

impl Extent {
    /// As in [`rate`](crate::eval::rate): the series goes on to the window's edge, or ends half an interval on.
    fn new(of: (i64, i64, usize, i64, i64)) -> Self {
        let (first, last, n, start, end) = of;
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let mut to_start = seconds(first - start);
        let mut to_end = seconds(end - last);
        let sampled = seconds(last - first);
        let average = sampled / (n - 1) as f64;
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        Extent { of, sampled, to_start, to_end, factor: 0.0 }
    }
}

fn last_rise(times: &[i64], values: &[f64], counter: bool) -> f64 {
    let n = values.len();
    if n < 2 || times.len() < n {
        return ABSENT;
    }
    let seconds = (times[n - 1] - times[n - 2]) as f64 / 1000.0;
    let (previous, value) = (values[n - 2], values[n - 1]);
    if seconds == 0.0 {
        return ABSENT;
    }
    match counter {
        true if value < previous => value / seconds,
        true => (value - previous) / seconds,
        false => value - previous,
    }
}
