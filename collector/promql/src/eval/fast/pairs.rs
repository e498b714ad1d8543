//! Windows for functions that the general way has: samples put together again.

use telemetry::{Labels, Timestamp};

use super::kernel::Kernel;
use super::{ABSENT, Fast, Quit, computed};
use crate::ast::*;
use crate::eval::over_time::{RangeCall, Slice};
use crate::eval::{Cell, Evaluator, Grid};

/// Functions without a form for columns that look at floats alone.
pub(super) const OVER_PAIRS: [&str; 13] = [
    "changes",
    "deriv",
    "double_exponential_smoothing",
    "mad_over_time",
    "predict_linear",
    "quantile_over_time",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// How the windows are worked on.
pub(super) enum Work<'n> {
    Columns(Kernel),
    Pairs(Pairs<'n>),
}

impl Work<'_> {
    pub(super) fn take(&mut self, times: &[i64], values: &[f64]) {
        if let Work::Pairs(pairs) = self {
            let pair = |(time, value): (&i64, &f64)| (Timestamp::from_millis(*time), *value);
            pairs.pairs.clear();
            pairs.pairs.extend(times.iter().zip(values).map(pair));
        }
    }
}

/// A function that the general way has, over samples put together.
pub(super) struct Pairs<'n> {
    call: RangeCall<'n>,
    pairs: Vec<(Timestamp, f64)>,
    labels: Labels,
}

impl<'n> Pairs<'n> {
    pub(super) fn new(n: &'n Call, scalars: usize) -> Self {
        let call = RangeCall { name: n.function.name, span: n.args[0].span(), scalars: vec![0.0; scalars] };
        Pairs { call, pairs: Vec::new(), labels: Labels::empty() }
    }

    pub(super) fn set_scalars(&mut self, scalars: &[Grid], step: usize) {
        for (value, grid) in self.call.scalars.iter_mut().zip(scalars) {
            *value = grid.scalar_at(step);
        }
    }

    pub(super) fn value(
        &self,
        evaluator: &mut Evaluator<'_>,
        samples: std::ops::Range<usize>,
        edges: (i64, i64),
        (range_ms, ts): (i64, i64),
    ) -> Fast<f64> {
        let slice = Slice::of_floats(&self.pairs[samples], edges, range_ms, ts, &self.labels);
        match evaluator.range_function(&self.call, &slice)? {
            Some(Cell::Float(value)) => Ok(computed(value)),
            Some(Cell::Histogram(_)) => Err(Quit::General),
            None => Ok(ABSENT),
        }
    }
}
