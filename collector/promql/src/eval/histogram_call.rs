//! Functions on histograms: native ones as they are, classic ones put together from their buckets.

use std::sync::Arc;

use hashbrown::HashMap;
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

use super::labels::text;
use super::quantile::{Bucket, bucket_fraction, bucket_quantile};
use super::{Cell, Evaluator, Grid, GridBuilder, Window, native};
use crate::ast::*;
use crate::engine::EvalError;
use crate::histogram::Histogram;

impl Evaluator<'_> {
    pub(super) fn histogram_property(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let property: fn(&Histogram) -> f64 = match n.function.name {
            "histogram_count" => |h| h.count,
            "histogram_sum" => |h| h.sum,
            "histogram_avg" => |h| h.sum / h.count,
            "histogram_stddev" => |h| native::variance(h).sqrt(),
            _ => native::variance,
        };
        let mut grid = self.eval(&n.args[0], window)?;
        for slot in &mut grid.cells {
            *slot = match slot.take() {
                Some(Cell::Histogram(histogram)) => Some(Cell::Float(property(&histogram))),
                _ => None,
            };
        }
        for row in &mut grid.rows {
            row.drop_name = true;
        }
        Ok(grid.without_empty_rows())
    }

    /// `histogram_quantile(q, v)`, and `histogram_quantiles(v, "label", q, …)`, which labels each quantile.
    pub(super) fn histogram_quantiles(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (vector, label, first) = match n.function.name {
            "histogram_quantile" => (1, None, 0),
            _ => (0, Some(text(&n.args[1])?), 2),
        };
        let mut quantiles = Vec::new();
        let arguments = if label.is_some() { &n.args[first..] } else { &n.args[..1] };
        for arg in arguments {
            quantiles.push((self.eval(arg, window)?, arg.span()));
        }
        let input = self.eval(&n.args[vector], window)?;
        let span = n.args[vector].span();
        let histograms = Histograms::new(self, &input, span);
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            for (grid, quantile_span) in &quantiles {
                let q = grid.scalar_at(step);
                if !(0.0..=1.0).contains(&q) {
                    self.annotations.invalid_quantile(q, *quantile_span);
                }
            }
            let present = histograms.at(self, &input, step, span);
            for (grid, _) in &quantiles {
                let q = grid.scalar_at(step);
                for (labels, histogram) in &present {
                    let metric = labels.get(METRIC_NAME).unwrap_or_default();
                    let value = match histogram {
                        OneHistogram::Native(h) => native::quantile(q, h, metric, span, &mut self.annotations),
                        OneHistogram::Classic(buckets) => {
                            let (value, forced) = bucket_quantile(q, &mut buckets.clone());
                            if let Some(forced) = forced {
                                let bounds = (forced.min_bucket, forced.max_bucket);
                                let ts = window.at(step);
                                self.annotations.forced_monotonicity(metric, span, ts, bounds, forced.max_diff);
                            }
                            value
                        }
                    };
                    match label {
                        Some(label) => {
                            let labels = labels.with(label, &open_metrics_float(q));
                            builder.emit(step, &labels, true, Cell::Float(value))?;
                        }
                        None => builder.emit(step, labels, true, Cell::Float(value))?,
                    }
                }
            }
        }
        Ok(builder.finish())
    }

    pub(super) fn histogram_fraction(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (lower, upper) = (self.eval(&n.args[0], window)?, self.eval(&n.args[1], window)?);
        let input = self.eval(&n.args[2], window)?;
        let span = n.args[2].span();
        let histograms = Histograms::new(self, &input, span);
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            let limits = (lower.scalar_at(step), upper.scalar_at(step));
            for (labels, histogram) in histograms.at(self, &input, step, span) {
                let metric = labels.get(METRIC_NAME).unwrap_or_default();
                let value = match histogram {
                    OneHistogram::Native(h) => native::fraction(limits, &h, metric, span, &mut self.annotations),
                    OneHistogram::Classic(buckets) => bucket_fraction(limits.0, limits.1, buckets),
                };
                builder.emit(step, labels, true, Cell::Float(value))?;
            }
        }
        Ok(builder.finish())
    }
}

/// A number as OpenMetrics writes it in labels: always with a point or an exponent.
fn open_metrics_float(value: f64) -> String {
    let text = crate::text::format_general(value);
    if value.is_finite() && !text.contains(['e', '.']) { format!("{text}.0") } else { text }
}

/// A histogram at one step.
enum OneHistogram {
    Native(Arc<Histogram>),
    Classic(Vec<Bucket>),
}

/// The rows of a vector sorted into histograms.
struct Histograms {
    /// Labels of each classic histogram: those of its buckets without `le`.
    labels: Vec<Labels>,
    /// Row and upper bound of each classic histogram's buckets.
    buckets: Vec<Vec<(usize, f64)>>,
    /// Rows that hold native histograms at some step, with the classic histogram of the same labels.
    native: Vec<(usize, Option<usize>)>,
}

impl Histograms {
    fn new(evaluator: &mut Evaluator<'_>, input: &Grid, span: Span) -> Self {
        let mut histograms = Histograms { labels: Vec::new(), buckets: Vec::new(), native: Vec::new() };
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
                histograms.buckets.push(Vec::new());
            }
            histograms.buckets[number].push((index, upper_bound));
        }
        for (index, row) in input.rows.iter().enumerate() {
            if input.row(index).iter().any(|cell| matches!(cell, Some(Cell::Histogram(_)))) {
                histograms.native.push((index, numbers.get(&row.labels).copied()));
            }
        }
        histograms
    }

    /// The histograms at one step; one that is there both natively and classically is neither.
    fn at<'s>(
        &'s self,
        evaluator: &mut Evaluator<'_>,
        input: &'s Grid,
        step: usize,
        span: Span,
    ) -> Vec<(&'s Labels, OneHistogram)> {
        let mut classic: Vec<Vec<Bucket>> = self.buckets.iter().map(|rows| present(input, rows, step)).collect();
        let mut found = Vec::new();
        for (row, twin) in &self.native {
            let Some(Cell::Histogram(histogram)) = input.cell(*row, step) else { continue };
            let labels = &input.rows[*row].labels;
            match twin.map(|twin| &mut classic[twin]) {
                Some(buckets) if !buckets.is_empty() => {
                    let metric = labels.get(METRIC_NAME).unwrap_or_default();
                    evaluator.annotations.mixed_classic_native(metric, span);
                    buckets.clear();
                }
                _ => found.push((labels, OneHistogram::Native(histogram.clone()))),
            }
        }
        let classic = self.labels.iter().zip(classic).filter(|(_, buckets)| !buckets.is_empty());
        found.extend(classic.map(|(labels, buckets)| (labels, OneHistogram::Classic(buckets))));
        found
    }
}

fn present(input: &Grid, rows: &[(usize, f64)], step: usize) -> Vec<Bucket> {
    let bucket = |(row, upper_bound): &(usize, f64)| match input.cell(*row, step) {
        Some(Cell::Float(count)) => Some(Bucket { upper_bound: *upper_bound, count: *count }),
        _ => None,
    };
    rows.iter().filter_map(bucket).collect()
}

/// A bucket's bound as Go parses floats.
pub(super) fn parse_bound(text: &str) -> Option<f64> {
    text.parse().ok()
}
