//! Aggregations that give one value per group: sum, avg, count, min, max, group, stddev, stdvar, quantile, and
//! count_values.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

use super::native::HistogramTotal;
use super::quantile::quantile;
use super::{Cell, Evaluator, Grid, GridBuilder, Row, Window};
use crate::annotation::{Annotations, Operation};
use crate::ast::*;
use crate::engine::EvalError;
use crate::histogram::Histogram;
use crate::kahan::{KahanSum, Mean};
use crate::text::{format_plain, is_label_name};

/// The group of each series.
pub(super) struct Groups {
    pub of_row: Vec<usize>,
    pub labels: Vec<Labels>,
}

impl Groups {
    pub(super) fn new(rows: &[Row], n: &Aggregate) -> Self {
        Groups::by(rows.iter().map(|row| &row.labels), &n.grouping, n.without)
    }

    pub(super) fn by<'r>(rows: impl Iterator<Item = &'r Labels>, grouping: &[String], without: bool) -> Self {
        let mut labels = Vec::new();
        let mut of_row = Vec::new();
        if without {
            let mut numbers: HashMap<Labels, usize> = HashMap::new();
            for row in rows {
                let group = row.retain(|name| name != METRIC_NAME && !grouping.iter().any(|g| g == name));
                let next = labels.len();
                let number = *numbers.entry(group.clone()).or_insert(next);
                if number == next {
                    labels.push(group);
                }
                of_row.push(number);
            }
        } else {
            // Only the values of the grouping labels are looked at; labels are made once per group.
            let mut numbers: HashMap<SmallVec<[&str; 4]>, usize> = HashMap::new();
            for row in rows {
                let key = grouping.iter().map(|name| row.get(name).unwrap_or_default()).collect();
                let next = labels.len();
                let number = *numbers.entry(key).or_insert(next);
                if number == next {
                    labels.push(row.retain(|name| grouping.iter().any(|g| g == name)));
                }
                of_row.push(number);
            }
        }
        Groups { of_row, labels }
    }
}

/// What one group has gathered at one step.
#[derive(Default)]
pub(super) struct Gathered {
    count: f64,
    drop_name: bool,
    floats: Floats,
    has_float: bool,
    has_histogram: bool,
    /// Histograms whose buckets are of different kinds were met: there is no result.
    incompatible: bool,
    histograms: Option<Box<HistogramTotal>>,
}

#[derive(Default)]
enum Floats {
    #[default]
    None,
    Sum(KahanSum),
    Mean(Mean),
    /// The latest, smallest, greatest or constant value.
    Single(f64),
    Variance {
        mean: f64,
        sum_of_squares: f64,
    },
    All(Vec<f64>),
}

impl Gathered {
    pub(super) fn add(&mut self, op: AggregateOp, value: f64) {
        use AggregateOp::*;
        if self.incompatible {
            return;
        }
        self.count += 1.0;
        self.has_float = true;
        match (&mut self.floats, op) {
            (floats @ Floats::None, _) => {
                *floats = match op {
                    Sum => Floats::Sum(KahanSum::starting_at(value)),
                    Avg => Floats::Mean(Mean::starting_at(value)),
                    Stddev | Stdvar => {
                        Floats::Variance { mean: value, sum_of_squares: if value.is_finite() { 0.0 } else { f64::NAN } }
                    }
                    Quantile => Floats::All(vec![value]),
                    Group => Floats::Single(1.0),
                    _ => Floats::Single(value),
                }
            }
            (Floats::Sum(sum), _) => sum.add(value),
            (Floats::Mean(mean), _) => mean.add(value),
            (Floats::Variance { mean, sum_of_squares }, _) => {
                let delta = value - *mean;
                *mean += delta / self.count;
                *sum_of_squares += delta * (value - *mean);
            }
            (Floats::All(values), _) => values.push(value),
            (Floats::Single(max), Max) if *max < value || max.is_nan() => *max = value,
            (Floats::Single(min), Min) if *min > value || min.is_nan() => *min = value,
            (Floats::Single(_), _) => {}
        }
    }

    /// Adds a histogram; false where the aggregation passes it over.
    fn add_histogram(
        &mut self,
        n: &Aggregate,
        histogram: &Histogram,
        metric: &str,
        annotations: &mut Annotations,
    ) -> bool {
        use AggregateOp::*;
        match n.op {
            Sum | Avg => {}
            Count | Group => {
                self.count += 1.0;
                return true;
            }
            op => {
                annotations.histogram_ignored_in_aggregation(op.name(), n.expr.span());
                return false;
            }
        }
        if self.incompatible {
            return true;
        }
        self.count += 1.0;
        self.has_histogram = true;
        let combined = match &mut self.histograms {
            Some(total) if n.op == Sum => total.add(histogram),
            Some(total) => total.add_to_mean(histogram, self.count),
            // After a float there will be no result anyway.
            None if self.has_float => return true,
            slot @ None => {
                *slot = Some(Box::new(HistogramTotal::starting_with(histogram)));
                return true;
            }
        };
        match combined {
            Ok(combined) if combined.bounds_reconciled => {
                annotations.mismatched_custom_buckets(Operation::Aggregation, n.expr.span());
            }
            Ok(_) => {}
            Err(_) => {
                annotations.mixed_schemas(metric, n.expr.span());
                self.incompatible = true;
            }
        }
        true
    }

    fn cell(mut self, n: &Aggregate, param: f64, annotations: &mut Annotations) -> Option<Cell> {
        if self.has_float && self.has_histogram {
            annotations.mixed_floats_histograms_in_aggregation(n.expr.span());
            return None;
        }
        if self.incompatible {
            return None;
        }
        let Some(total) = self.histograms.take() else { return self.result(n.op, param).map(Cell::Float) };
        total.hints.note(annotations, n.expr.span());
        let mut histogram = if n.op == AggregateOp::Sum { total.sum() } else { total.mean(self.count) };
        histogram.compact();
        Some(Cell::Histogram(Arc::new(histogram)))
    }

    pub(super) fn result(self, op: AggregateOp, param: f64) -> Option<f64> {
        if op == AggregateOp::Count {
            return (self.count > 0.0).then_some(self.count);
        }
        Some(match self.floats {
            // Groups of histograms alone.
            Floats::None => return (op == AggregateOp::Group && self.count > 0.0).then_some(1.0),
            Floats::Sum(sum) => sum.value(),
            Floats::Mean(mean) => mean.value(),
            Floats::Single(value) => value,
            Floats::Variance { sum_of_squares, .. } if op == AggregateOp::Stddev => {
                (sum_of_squares / self.count).sqrt()
            }
            Floats::Variance { sum_of_squares, .. } => sum_of_squares / self.count,
            Floats::All(mut values) => quantile(param, &mut values),
        })
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, n: &Aggregate, window: Window) -> Result<Grid, EvalError> {
        use AggregateOp::*;
        match n.op {
            CountValues => self.count_values(n, window),
            Topk | Bottomk | Limitk | LimitRatio => self.top(n, window),
            _ => self.grouped(n, window),
        }
    }

    /// The aggregation's parameter at each step.
    pub(super) fn parameter(&mut self, n: &Aggregate, window: Window) -> Result<Vec<f64>, EvalError> {
        let Some(param) = &n.param else { return Ok(vec![0.0; window.steps()]) };
        let grid = self.eval(param, window)?;
        Ok((0..window.steps()).map(|step| grid.scalar_at(step)).collect())
    }

    fn grouped(&mut self, n: &Aggregate, window: Window) -> Result<Grid, EvalError> {
        let params = self.parameter(n, window)?;
        let input = self.eval(&n.expr, window)?;
        if n.op == AggregateOp::Quantile && !input.rows.is_empty() {
            self.note_invalid_quantiles(n, &params);
        }
        let groups = Groups::new(&input.rows, n);
        let steps = window.steps();
        let mut gathered: Vec<Gathered> = Vec::new();
        gathered.resize_with(groups.labels.len() * steps, Gathered::default);
        for (row, group) in groups.of_row.iter().enumerate() {
            for (step, cell) in input.row(row).iter().enumerate() {
                let Some(cell) = cell else { continue };
                let state = &mut gathered[group * steps + step];
                match cell {
                    Cell::Float(value) => state.add(n.op, *value),
                    Cell::Histogram(histogram) => {
                        let metric = input.rows[row].labels.metric_name().unwrap_or_default();
                        if !state.add_histogram(n, histogram, metric, &mut self.annotations) {
                            continue;
                        }
                    }
                }
                state.drop_name |= input.rows[row].drop_name;
            }
        }
        let mut grid = Grid::new(steps);
        let mut gathered = gathered.into_iter();
        for labels in groups.labels {
            let row = grid.push_row(Row { labels, drop_name: false });
            for (step, state) in gathered.by_ref().take(steps).enumerate() {
                let drop_name = state.drop_name;
                let cell = state.cell(n, params[step], &mut self.annotations);
                if cell.is_some() {
                    grid.cells[row * steps + step] = cell;
                    grid.rows[row].drop_name = drop_name;
                }
            }
            grid.drop_last_if_empty();
        }
        Ok(grid)
    }

    pub(super) fn note_invalid_quantiles(&mut self, n: &Aggregate, params: &[f64]) {
        let span = n.param.as_ref().map_or(n.span, Node::span);
        let (least, greatest) =
            params.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), q| (a.min(*q), b.max(*q)));
        if params.iter().any(|q| q.is_nan()) {
            self.annotations.invalid_quantile(f64::NAN, span);
        }
        if greatest > 1.0 {
            self.annotations.invalid_quantile(greatest, span);
        }
        if least < 0.0 {
            self.annotations.invalid_quantile(least, span);
        }
    }

    fn count_values(&mut self, n: &Aggregate, window: Window) -> Result<Grid, EvalError> {
        let label = match n.param.as_ref().map(Node::unwrap_parens) {
            Some(Node::String(literal)) if is_label_name(&literal.value) => literal.value.clone(),
            Some(node) => return Err(EvalError::Query(format!("invalid label name {node}"))),
            None => return Err(EvalError::Query("count_values needs a label name".to_owned())),
        };
        let input = self.eval(&n.expr, window)?;
        let mut grouping = n.grouping.clone();
        if !n.without {
            grouping.push(label.clone());
        }
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            let labelled: Vec<Labels> = (0..input.rows.len())
                .filter_map(|row| {
                    let value = match input.cell(row, step)? {
                        Cell::Float(value) => format_plain(*value),
                        Cell::Histogram(histogram) => histogram.to_string(),
                    };
                    Some(input.rows[row].labels.with(&label, &value))
                })
                .collect();
            let groups = Groups::by(labelled.iter(), &grouping, n.without);
            let mut counts = vec![0.0; groups.labels.len()];
            for group in groups.of_row {
                counts[group] += 1.0;
            }
            for (labels, count) in groups.labels.iter().zip(counts) {
                builder.emit(step, labels, false, Cell::Float(count))?;
            }
        }
        Ok(builder.finish())
    }
}
