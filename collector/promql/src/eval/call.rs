//! Function calls on scalars and instant vectors.

use super::labels::{absent_labels, reordered};
use super::select::Latest;
use super::topk::sort_from_last;
use super::{Cell, Evaluator, Grid, Row, Window, date};
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
            "start_timestamp" => self.start_timestamp(n, window),
            "sort" | "sort_desc" => self.sort(n, window),
            "sort_by_label" | "sort_by_label_desc" => {
                self.note_sort_in_range_query(n, window);
                self.sort_by_label(n, window, name == "sort_by_label_desc")
            }
            "label_replace" => self.label_replace(n, window),
            "label_join" => self.label_join(n, window),
            "info" => self.info(n, window),
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(n, window),
            "round" => self.round(n, window),
            part if date::is_part(part) => self.date_part(n, window),
            "histogram_quantile" | "histogram_quantiles" => self.histogram_quantiles(n, window),
            "histogram_fraction" => self.histogram_fraction(n, window),
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => {
                self.histogram_property(n, window)
            }
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
                let before = self.live;
                let time = |sample: Latest| Some(Cell::Float(sample.ts as f64 / 1000.0));
                let grid = self.instant_samples(selector, window, time)?;
                // They are looked at step by step and not held; see `gathering`.
                self.live = before;
                grid
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

    /// Since when each sample counts; nothing where that is not known of the samples at all.
    fn start_timestamp(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let Node::Vector(selector) = &n.args[0] else { return Ok(Grid::new(window.steps())) };
        let known = self.options.start_timestamps;
        let before = self.live;
        let start = |sample: Latest| known.then_some(Cell::Float(sample.start as f64 / 1000.0));
        let mut grid = self.instant_samples(selector, window, start)?;
        self.live = before;
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
        let mut scalars = Vec::new();
        for arg in &n.args[1..] {
            scalars.push(self.eval(arg, window)?);
        }
        let bounds = Bounds::new(n.function.name, &scalars);
        let mut grid = self.map_floats(&n.args[0], window, |_, value| value)?;
        let steps = grid.steps;
        for (i, slot) in grid.cells.iter_mut().enumerate() {
            if let Some(Cell::Float(value)) = slot {
                *slot = bounds.clamp(i % steps, *value).map(Cell::Float);
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
            rounded(value, nearest.as_ref().map_or(1.0, |grid| grid.scalar_at(step)))
        })
    }

    fn date_part(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let name = n.function.name;
        match n.args.first() {
            Some(arg) => self.map_floats(arg, window, |_, value| date::part(name, value)),
            None => Ok(Grid::scalar(window.steps(), |step| date::part(name, window.at(step).div_euclid(1000) as f64))),
        }
    }
}

pub(super) fn rounded(value: f64, nearest: f64) -> f64 {
    // The inverse is more often exact than the fraction that people round to.
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// Between what clamp, clamp_min and clamp_max hold values, by step.
pub(super) struct Bounds<'g> {
    min: Option<&'g Grid>,
    max: Option<&'g Grid>,
}

impl<'g> Bounds<'g> {
    /// `scalars` are the arguments after the first.
    pub(super) fn new(function: &str, scalars: &'g [Grid]) -> Self {
        match function {
            "clamp_min" => Bounds { min: scalars.first(), max: None },
            "clamp_max" => Bounds { min: None, max: scalars.first() },
            _ => Bounds { min: scalars.first(), max: scalars.get(1) },
        }
    }

    /// None where nothing lies between the bounds.
    pub(super) fn clamp(&self, step: usize, value: f64) -> Option<f64> {
        let min = self.min.map_or(f64::NEG_INFINITY, |grid| grid.scalar_at(step));
        let max = self.max.map_or(f64::INFINITY, |grid| grid.scalar_at(step));
        if max < min {
            return None;
        }
        let undefined = min.is_nan() || max.is_nan() || value.is_nan();
        Some(if undefined { f64::NAN } else { value.min(max).max(min) })
    }
}

pub(super) fn float_function(name: &str) -> Option<fn(f64) -> f64> {
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
