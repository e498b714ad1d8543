//! Function calls on scalars and instant vectors.

use hashbrown::HashMap;
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

use super::labels::{absent_labels, reordered};
use super::quantile::{Bucket, bucket_fraction, bucket_quantile};
use super::topk::sort_from_last;
use super::{Cell, Evaluator, Grid, GridBuilder, Row, Window, date};
use crate::ast::*;
use crate::engine::EvalError;

impl Evaluator<'_> {
    pub(super) fn call(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        if let Some(range_arg) = n.args.iter().position(|arg| arg.value_type() == ValueType::Matrix) {
            return self.range_call(n, range_arg, window);
        }
        let name = n.function.name;
        match name {
            "time" => Ok(Grid::scalar(window.steps(), |i| window.at(i) as f64 / 1000.0)),
            "pi" => Ok(Grid::scalar(window.steps(), |_| std::f64::consts::PI)),
            "min_of" | "max_of" => self.scalar_extreme(n, window),
            "vector" => self.eval(&n.args[0], window),
            "scalar" => self.scalar(n, window),
            "absent" => self.absent(n, window),
            "timestamp" => self.timestamp(n, window),
            "sort" | "sort_desc" => self.sort(n, window),
            "sort_by_label" | "sort_by_label_desc" => {
                self.note_sort_in_range_query(n, window);
                self.sort_by_label(n, window, name == "sort_by_label_desc")
            }
            "label_replace" => self.label_replace(n, window),
            "label_join" => self.label_join(n, window),
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(n, window),
            "round" => self.round(n, window),
            "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year" => {
                self.date_part(n, window)
            }
            "histogram_quantile" => self.histogram_quantile(n, window),
            "histogram_fraction" => self.histogram_fraction(n, window),
            _ => match float_function(name) {
                Some(function) => self.map_floats(&n.args[0], window, |_, value| function(value)),
                None => Err(EvalError::Query(format!("function {name} is not supported"))),
            },
        }
    }

    /// Applies a function to every float; histograms vanish, names go.
    fn map_floats(
        &mut self,
        arg: &Node,
        window: Window,
        function: impl Fn(usize, f64) -> f64,
    ) -> Result<Grid, EvalError> {
        let mut grid = self.eval(arg, window)?;
        let steps = grid.steps;
        for (i, slot) in grid.cells.iter_mut().enumerate() {
            match slot {
                Some(Cell::Float(value)) => *value = function(i % steps, *value),
                _ => *slot = None,
            }
        }
        for row in &mut grid.rows {
            row.drop_name = true;
        }
        Ok(grid.without_empty_rows())
    }

    fn scalar_extreme(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (a, b) = (self.eval(&n.args[0], window)?, self.eval(&n.args[1], window)?);
        let max = n.function.name == "max_of";
        Ok(Grid::scalar(window.steps(), |i| {
            let (a, b) = (a.scalar_at(i), b.scalar_at(i));
            // As Go's math.Min and math.Max: NaN wins, unless an infinity settles the matter.
            if max && (a == f64::INFINITY || b == f64::INFINITY) {
                f64::INFINITY
            } else if !max && (a == f64::NEG_INFINITY || b == f64::NEG_INFINITY) {
                f64::NEG_INFINITY
            } else if a.is_nan() || b.is_nan() {
                f64::NAN
            } else if max {
                a.max(b)
            } else {
                a.min(b)
            }
        }))
    }

    fn scalar(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let grid = self.eval(&n.args[0], window)?;
        Ok(Grid::scalar(window.steps(), |step| {
            let mut floats = (0..grid.rows.len()).filter_map(|row| match grid.cell(row, step) {
                Some(Cell::Float(value)) => Some(*value),
                _ => None,
            });
            match (floats.next(), floats.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        }))
    }

    fn absent(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let found = self.eval(&n.args[0], window)?;
        let mut grid = Grid::new(window.steps());
        grid.push_row(Row { labels: absent_labels(&n.args[0]), drop_name: false });
        for (step, slot) in grid.cells.iter_mut().enumerate() {
            if (0..found.rows.len()).all(|row| found.cell(row, step).is_none()) {
                *slot = Some(Cell::Float(1.0));
            }
        }
        grid.drop_last_if_empty();
        Ok(grid)
    }

    fn timestamp(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let mut grid = match &n.args[0] {
            Node::Vector(selector) => {
                self.instant_samples(selector, window, |_, ts| Cell::Float(ts as f64 / 1000.0))?
            }
            arg => {
                let mut grid = self.eval(arg, window)?;
                let steps = grid.steps;
                for (i, slot) in grid.cells.iter_mut().enumerate().filter(|(_, slot)| slot.is_some()) {
                    *slot = Some(Cell::Float(window.at(i % steps) as f64 / 1000.0));
                }
                grid
            }
        };
        for row in &mut grid.rows {
            row.drop_name = true;
        }
        Ok(grid)
    }

    fn note_sort_in_range_query(&mut self, n: &Call, window: Window) {
        if !window.is_instant() {
            self.annotations.sort_in_range_query(n.span);
        }
    }

    fn sort(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        self.note_sort_in_range_query(n, window);
        let mut grid = self.eval(&n.args[0], window)?;
        for slot in grid.cells.iter_mut() {
            if matches!(slot, Some(Cell::Histogram(_))) {
                *slot = None;
            }
        }
        let grid = grid.without_empty_rows();
        if !window.is_instant() {
            return Ok(grid);
        }
        let value = |row: usize| match grid.cell(row, 0) {
            Some(Cell::Float(value)) => *value,
            _ => f64::NAN,
        };
        let mut order: Vec<(usize, f64)> = (0..grid.rows.len()).map(|row| (row, value(row))).collect();
        sort_from_last(&mut order, n.function.name == "sort");
        let order: Vec<usize> = order.into_iter().map(|(row, _)| row).collect();
        Ok(reordered(grid, &order))
    }

    fn clamp(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let first = self.eval(&n.args[1], window)?;
        let second = match n.args.get(2) {
            Some(arg) => Some(self.eval(arg, window)?),
            None => None,
        };
        let bounds = |step: usize| match (n.function.name, &second) {
            ("clamp_min", _) => (first.scalar_at(step), f64::INFINITY),
            ("clamp_max", _) => (f64::NEG_INFINITY, first.scalar_at(step)),
            (_, Some(second)) => (first.scalar_at(step), second.scalar_at(step)),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let mut grid = self.map_floats(&n.args[0], window, |step, value| {
            let (min, max) = bounds(step);
            if min.is_nan() || max.is_nan() || value.is_nan() { f64::NAN } else { value.min(max).max(min) }
        })?;
        let steps = grid.steps;
        for (i, slot) in grid.cells.iter_mut().enumerate() {
            let (min, max) = bounds(i % steps);
            if max < min {
                *slot = None;
            }
        }
        Ok(grid.without_empty_rows())
    }

    fn round(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let nearest = match n.args.get(1) {
            Some(arg) => Some(self.eval(arg, window)?),
            None => None,
        };
        self.map_floats(&n.args[0], window, |step, value| {
            // The inverse is more often exact than the fraction that people round to.
            let inverse = 1.0 / nearest.as_ref().map_or(1.0, |grid| grid.scalar_at(step));
            (value * inverse + 0.5).floor() / inverse
        })
    }

    fn date_part(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let name = n.function.name;
        match n.args.first() {
            Some(arg) => self.map_floats(arg, window, |_, value| date::part(name, value)),
            None => Ok(Grid::scalar(window.steps(), |step| date::part(name, window.at(step).div_euclid(1000) as f64))),
        }
    }

    fn histogram_quantile(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let quantiles = self.eval(&n.args[0], window)?;
        let input = self.eval(&n.args[1], window)?;
        let classic = ClassicHistograms::new(self, &input, n.args[1].span());
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            let q = quantiles.scalar_at(step);
            if !(0.0..=1.0).contains(&q) {
                self.annotations.invalid_quantile(q, n.args[0].span());
            }
            for group in 0..classic.labels.len() {
                let Some(buckets) = classic.buckets(&input, group, step) else { continue };
                let (value, forced) = bucket_quantile(q, buckets);
                let labels = &classic.labels[group];
                if let Some(forced) = forced {
                    let metric = labels.get(METRIC_NAME).unwrap_or_default();
                    let bounds = (forced.min_bucket, forced.max_bucket);
                    let (span, ts) = (n.args[1].span(), window.at(step));
                    self.annotations.forced_monotonicity(metric, span, ts, bounds, forced.max_diff);
                }
                builder.emit(step, labels, true, Cell::Float(value))?;
            }
        }
        Ok(builder.finish())
    }

    fn histogram_fraction(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (lower, upper) = (self.eval(&n.args[0], window)?, self.eval(&n.args[1], window)?);
        let input = self.eval(&n.args[2], window)?;
        let classic = ClassicHistograms::new(self, &input, n.args[2].span());
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            for group in 0..classic.labels.len() {
                let Some(buckets) = classic.buckets(&input, group, step) else { continue };
                let value = bucket_fraction(lower.scalar_at(step), upper.scalar_at(step), buckets);
                builder.emit(step, &classic.labels[group], true, Cell::Float(value))?;
            }
        }
        Ok(builder.finish())
    }
}

/// The rows of a vector that are buckets of classic histograms, by histogram.
struct ClassicHistograms {
    /// Labels of each histogram: those of its buckets without `le`.
    labels: Vec<Labels>,
    /// Row and upper bound of each histogram's buckets.
    rows: Vec<Vec<(usize, f64)>>,
}

impl ClassicHistograms {
    fn new(evaluator: &mut Evaluator<'_>, input: &Grid, span: Span) -> Self {
        let mut histograms = ClassicHistograms { labels: Vec::new(), rows: Vec::new() };
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        for (index, row) in input.rows.iter().enumerate() {
            if !input.row(index).iter().any(|cell| matches!(cell, Some(Cell::Float(_)))) {
                continue;
            }
            let bound = row.labels.get("le").unwrap_or_default();
            let Some(upper_bound) = parse_bound(bound) else {
                let metric = row.labels.get(METRIC_NAME).unwrap_or_default();
                evaluator.annotations.bad_bucket_label(metric, bound, span);
                continue;
            };
            let labels = row.labels.retain(|name| name != "le");
            let next = histograms.labels.len();
            let number = *numbers.entry(labels.clone()).or_insert(next);
            if number == next {
                histograms.labels.push(labels);
                histograms.rows.push(Vec::new());
            }
            histograms.rows[number].push((index, upper_bound));
        }
        histograms
    }

    fn buckets(&self, input: &Grid, group: usize, step: usize) -> Option<Vec<Bucket>> {
        let bucket = |(row, upper_bound): &(usize, f64)| match input.cell(*row, step) {
            Some(Cell::Float(count)) => Some(Bucket { upper_bound: *upper_bound, count: *count }),
            _ => None,
        };
        let buckets: Vec<Bucket> = self.rows[group].iter().filter_map(bucket).collect();
        (!buckets.is_empty()).then_some(buckets)
    }
}

fn parse_bound(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return None,
    })
}
