//! Tree to values. An instant vector over all steps of a query is one grid of cells, series by series; a range
//! vector is the samples themselves, over which windows slide.

mod aggregate;
mod binary;
mod call;
pub(crate) mod date;
mod extended;
mod histogram_call;
mod info;

mod labels;
mod native;
mod native_rate;
mod over_time;
mod quantile;
pub(crate) use quantile::almost_equal;
mod rate;
mod select;
mod topk;

use std::sync::Arc;

use hashbrown::HashMap;
use telemetry::{Labels, Timestamp};

use crate::annotation::Annotations;
use crate::ast::*;
use crate::engine::{EvalError, Limits, Options, Stop};
use crate::histogram::{CounterResetHint, Histogram};
use crate::source::Source;
use crate::value::Stats;

/// The times at which a part of a query is evaluated, in milliseconds; at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub start: i64,
    pub end: i64,
    pub interval: i64,
}

impl Window {
    pub(crate) fn steps(self) -> usize {
        usize::try_from(self.end.saturating_sub(self.start) / self.interval).unwrap_or(0).saturating_add(1)
    }

    pub(crate) fn at(self, step: usize) -> i64 {
        self.start + step as i64 * self.interval
    }

    pub(crate) fn is_instant(self) -> bool {
        self.start == self.end
    }

    fn only_start(self) -> Window {
        Window { end: self.start, ..self }
    }

    /// The last time at which something is evaluated; `end` need not be one.
    pub(crate) fn last(self) -> i64 {
        self.at(self.steps() - 1)
    }
}

/// One sample's value.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Cell {
    fn weight(&self) -> usize {
        match self {
            Cell::Float(_) => 1,
            Cell::Histogram(histogram) => histogram.sample_weight(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub labels: Labels,
    /// The metric's name no longer fits, and goes when the whole query is done.
    pub drop_name: bool,
}

/// An instant vector (or a scalar: one row without labels) at every step.
#[derive(Debug)]
pub(crate) struct Grid {
    pub rows: Vec<Row>,
    /// `rows.len() * steps` cells, row by row.
    pub cells: Vec<Option<Cell>>,
    pub steps: usize,
}

impl Grid {
    pub(crate) fn new(steps: usize) -> Self {
        Grid { rows: Vec::new(), cells: Vec::new(), steps }
    }

    pub(crate) fn scalar(steps: usize, value: impl Fn(usize) -> f64) -> Self {
        let row = Row { labels: Labels::empty(), drop_name: false };
        Grid { rows: vec![row], cells: (0..steps).map(|i| Some(Cell::Float(value(i)))).collect(), steps }
    }

    pub(crate) fn row(&self, index: usize) -> &[Option<Cell>] {
        &self.cells[index * self.steps..(index + 1) * self.steps]
    }

    pub(crate) fn cell(&self, row: usize, step: usize) -> Option<&Cell> {
        self.cells[row * self.steps + step].as_ref()
    }

    /// The value of a scalar at a step.
    pub(crate) fn scalar_at(&self, step: usize) -> f64 {
        match self.cells.get(step) {
            Some(Some(Cell::Float(value))) => *value,
            _ => f64::NAN,
        }
    }

    pub(crate) fn push_row(&mut self, row: Row) -> usize {
        self.rows.push(row);
        self.cells.resize(self.rows.len() * self.steps, None);
        self.rows.len() - 1
    }

    /// Takes the last row back if nothing was put into it.
    pub(crate) fn drop_last_if_empty(&mut self) {
        let Some(last) = self.rows.len().checked_sub(1) else { return };
        if self.row(last).iter().all(Option::is_none) {
            self.rows.pop();
            self.cells.truncate(last * self.steps);
        }
    }

    fn weight(&self) -> usize {
        self.cells.iter().flatten().map(Cell::weight).sum()
    }

    /// Keeps the rows that have a value somewhere.
    pub(crate) fn without_empty_rows(self) -> Grid {
        let steps = self.steps;
        let mut kept = Grid::new(steps);
        let mut cells = self.cells.into_iter();
        for row in self.rows {
            kept.rows.push(row);
            kept.cells.extend(cells.by_ref().take(steps));
            kept.drop_last_if_empty();
        }
        kept
    }

    /// Applies the pending removal of names; series that thereby become one are merged if they can be.
    pub(crate) fn without_dropped_names(mut self) -> Result<Grid, EvalError> {
        for row in self.rows.iter_mut().filter(|row| row.drop_name) {
            row.labels = without_metadata(&row.labels);
        }
        self.merge_same_labelsets()
    }

    /// Merges series that will be one when names have gone, where they can be: a function over a range has to see
    /// them as one.
    fn merge_where_names_go(self) -> Grid {
        if self.rows.iter().all(|row| !row.drop_name) {
            return self;
        }
        let finally = |row: &Row| if row.drop_name { without_metadata(&row.labels) } else { row.labels.clone() };
        let mut count: HashMap<Labels, usize> = HashMap::with_capacity(self.rows.len());
        for row in &self.rows {
            *count.entry(finally(row)).or_default() += 1;
        }
        if count.len() == self.rows.len() {
            return self;
        }
        let mut renamed = Grid { rows: self.rows.clone(), cells: self.cells.clone(), steps: self.steps };
        for row in &mut renamed.rows {
            let labels = finally(row);
            if count.get(&labels).is_some_and(|n| *n > 1) {
                *row = Row { labels, drop_name: false };
            }
        }
        renamed.merge_same_labelsets().unwrap_or(self)
    }

    /// Series with the same labels become one, unless they have values at the same time.
    pub(crate) fn merge_same_labelsets(self) -> Result<Grid, EvalError> {
        if self.rows.len() < 2 {
            return Ok(self);
        }
        let mut first: HashMap<&Labels, usize> = HashMap::with_capacity(self.rows.len());
        let targets: Vec<usize> = self
            .rows
            .iter()
            .map(|row| {
                let next = first.len();
                *first.entry(&row.labels).or_insert(next)
            })
            .collect();
        let distinct = first.len() == self.rows.len();
        drop(first);
        if distinct {
            return Ok(self);
        }
        let steps = self.steps;
        let mut merged = Grid::new(steps);
        let mut cells = self.cells.into_iter();
        for (row, target) in self.rows.into_iter().zip(targets) {
            if target == merged.rows.len() {
                merged.push_row(row);
            }
            for (step, cell) in cells.by_ref().take(steps).enumerate().filter(|(_, cell)| cell.is_some()) {
                let slot = &mut merged.cells[target * steps + step];
                if slot.is_some() {
                    return Err(same_labelset());
                }
                *slot = cell;
            }
        }
        Ok(merged)
    }
}

/// Rows that are put together step by step, found by their labels.
pub(crate) struct GridBuilder {
    grid: Grid,
    by_labels: HashMap<Labels, usize>,
    instant: bool,
}

impl GridBuilder {
    pub(crate) fn new(window: Window) -> Self {
        GridBuilder { grid: Grid::new(window.steps()), by_labels: HashMap::new(), instant: window.is_instant() }
    }

    pub(crate) fn emit(&mut self, step: usize, labels: &Labels, drop_name: bool, cell: Cell) -> Result<(), EvalError> {
        let row = || Row { labels: labels.clone(), drop_name };
        // The order of an instant vector is the order in which it was made; a clash shows when names have gone.
        let index = if self.instant {
            self.grid.push_row(row())
        } else {
            match self.by_labels.get(labels) {
                Some(index) => *index,
                None => {
                    let index = self.grid.push_row(row());
                    self.by_labels.insert(labels.clone(), index);
                    index
                }
            }
        };
        let slot = &mut self.grid.cells[index * self.grid.steps + step];
        if slot.is_some() {
            return Err(same_labelset());
        }
        *slot = Some(cell);
        Ok(())
    }

    pub(crate) fn finish(self) -> Grid {
        self.grid
    }
}

/// The samples of one series in a range vector, staleness markers taken out.
#[derive(Debug)]
pub(crate) struct RangeSeries {
    pub labels: Labels,
    pub drop_name: bool,
    pub floats: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
    pub float_starts: Vec<i64>,
    pub histogram_starts: Vec<i64>,
}

/// A range vector: at time t its window is `(t - offset - range, t - offset]`, or one fixed window under `@`.
#[derive(Debug)]
pub(crate) struct RangeVector {
    pub series: Vec<RangeSeries>,
    pub range_ms: i64,
    pub offset_ms: i64,
    pub at: Option<i64>,
    pub extension: Option<Extension>,
}

impl RangeVector {
    /// The end of the window at evaluation time `ts`.
    pub(crate) fn window_end(&self, ts: i64) -> i64 {
        self.at.unwrap_or(ts).saturating_sub(self.offset_ms)
    }
}

pub(crate) fn same_labelset() -> EvalError {
    EvalError::Query("vector cannot contain metrics with the same labelset".to_owned())
}

/// The labels that describe the metric itself.
pub(crate) fn is_metadata_label(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata_label(name)) {
        labels.retain(|name| !is_metadata_label(name))
    } else {
        labels.clone()
    }
}

pub(crate) struct Evaluator<'a> {
    pub source: &'a dyn Source,
    pub annotations: Annotations,
    pub stats: Stats,
    limits: &'a Limits,
    lookback_ms: i64,
    options: Options<'a>,
    /// Samples held now.
    live: usize,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(source: &'a dyn Source, limits: &'a Limits, options: Options<'a>) -> Self {
        let lookback = options.lookback.unwrap_or(limits.lookback);
        Evaluator {
            source,
            annotations: Annotations::default(),
            stats: Stats::default(),
            limits,
            lookback_ms: i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX),
            options,
            live: 0,
        }
    }

    /// Books samples that are now held.
    fn charge(&mut self, samples: usize) -> Result<(), EvalError> {
        self.live += samples;
        self.stats.peak_samples = self.stats.peak_samples.max(self.live as u64);
        if self.live > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), EvalError> {
        match self.options.stop.and_then(|stop| stop()) {
            None => Ok(()),
            Some(Stop::TimedOut) => Err(EvalError::TimedOut),
            Some(Stop::Cancelled) => Err(EvalError::Cancelled),
        }
    }

    /// Cells take memory before they have values: a grid may not be far larger than the samples allowed.
    fn check_grid(&self, rows: usize, steps: usize) -> Result<(), EvalError> {
        if rows.saturating_mul(steps) / 4 > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        Ok(())
    }

    /// The instant vector or scalar that `node` is at each step.
    pub(crate) fn eval(&mut self, node: &Node, window: Window) -> Result<Grid, EvalError> {
        self.check_stop()?;
        self.check_grid(1, window.steps())?;
        let before = self.live;
        let grid = self.eval_node(node, window)?;
        self.live = before;
        self.charge(grid.weight())?;
        Ok(grid)
    }

    fn eval_node(&mut self, node: &Node, window: Window) -> Result<Grid, EvalError> {
        match node {
            Node::Number(n) => Ok(Grid::scalar(window.steps(), |_| n.value)),
            Node::Vector(n) if n.extension == Some(Extension::Smoothed) => self.smoothed_selector(n, window),
            Node::Vector(n) => self.instant_selector(n, window),
            Node::Aggregate(n) => self.aggregate(n, window),
            Node::Binary(n) => self.binary(n, window),
            Node::Unary(n) => self.unary(n, window),
            Node::Paren(n) => self.eval(&n.expr, window),
            Node::Call(n) => self.call(n, window),
            Node::StepInvariant(n) => self.step_invariant(n, window),
            Node::String(_) | Node::Matrix(_) | Node::Subquery(_) => {
                let kind = node.value_type().documented();
                Err(EvalError::Query(format!("unexpected {kind} where an instant vector is needed")))
            }
        }
    }

    fn unary(&mut self, n: &Unary, window: Window) -> Result<Grid, EvalError> {
        let mut grid = self.eval(&n.expr, window)?;
        if n.negate {
            for row in &mut grid.rows {
                row.drop_name = true;
            }
            for cell in grid.cells.iter_mut().flatten() {
                match cell {
                    Cell::Float(value) => *value = -*value,
                    Cell::Histogram(histogram) => {
                        Arc::make_mut(histogram).scale(-1.0);
                    }
                }
            }
        }
        Ok(grid)
    }

    /// Evaluates once, and repeats the values at every step.
    fn step_invariant(&mut self, node: &Node, window: Window) -> Result<Grid, EvalError> {
        let once = self.eval(node, window.only_start())?;
        let steps = window.steps();
        if steps == 1 {
            return Ok(once);
        }
        self.check_grid(once.rows.len(), steps)?;
        let cells = once.cells.into_iter().flat_map(|cell| std::iter::repeat_n(cell, steps)).collect();
        Ok(Grid { rows: once.rows, cells, steps })
    }

    /// The range vector that is the result of a query.
    pub(crate) fn final_range_vector(&mut self, node: &Node, window: Window) -> Result<RangeVector, EvalError> {
        let mut ranges = self.range_vector(node, window)?;
        self.with_edges(&mut ranges, window)?;
        Ok(ranges)
    }

    /// The range vector that `node` is: a range selector or a subquery.
    pub(crate) fn range_vector(&mut self, node: &Node, window: Window) -> Result<RangeVector, EvalError> {
        match node {
            Node::Matrix(n) => self.range_selector(n, window),
            Node::Subquery(n) => self.subquery(n, window),
            Node::Paren(n) => self.range_vector(&n.expr, window),
            Node::StepInvariant(n) => self.range_vector(n, window.only_start()),
            _ => {
                let kind = node.value_type().documented();
                Err(EvalError::Query(format!("unexpected {kind} where a range vector is needed")))
            }
        }
    }

    fn subquery(&mut self, n: &Subquery, window: Window) -> Result<RangeVector, EvalError> {
        let at = match n.at {
            Some(At::Time(ms)) => Some(ms),
            _ => None,
        };
        let default_step = i64::try_from(self.limits.default_step.as_millis()).unwrap_or(60_000).max(1);
        let interval = if n.step_ms > 0 { n.step_ms } else { default_step };
        let first = at.unwrap_or(window.start).saturating_sub(n.offset_ms).saturating_sub(n.range_ms);
        let end = at.unwrap_or(window.last()).saturating_sub(n.offset_ms);
        // The first multiple of the step after the range's (excluded) beginning.
        let mut start = interval * (first / interval);
        if start <= first {
            start += interval;
        }
        let mut series = Vec::new();
        if start <= end {
            let inner = Window { start, end, interval };
            let grid = self.eval(&n.expr, inner)?.merge_where_names_go();
            series = ranges_of_grid(grid, inner);
        }
        Ok(RangeVector { series, range_ms: n.range_ms, offset_ms: n.offset_ms, at, extension: None })
    }
}

fn ranges_of_grid(grid: Grid, window: Window) -> Vec<RangeSeries> {
    let steps = grid.steps;
    let mut cells = grid.cells.into_iter();
    let to_range = |row: Row| {
        let mut series = RangeSeries {
            labels: row.labels,
            drop_name: row.drop_name,
            floats: Vec::new(),
            histograms: Vec::new(),
            float_starts: Vec::new(),
            histogram_starts: Vec::new(),
        };
        for (step, cell) in cells.by_ref().take(steps).enumerate() {
            let timestamp = Timestamp::from_millis(window.at(step));
            match cell {
                Some(Cell::Float(value)) => series.floats.push((timestamp, value)),
                Some(Cell::Histogram(histogram)) => series.histograms.push((timestamp, without_reset_hint(histogram))),
                None => {}
            }
        }
        series
    };
    grid.rows.into_iter().map(to_range).collect()
}

/// A subquery may pass over samples or repeat them, so what they say of the sample before no longer holds.
fn without_reset_hint(mut histogram: Arc<Histogram>) -> Arc<Histogram> {
    if matches!(histogram.counter_reset_hint, CounterResetHint::CounterReset | CounterResetHint::NotCounterReset) {
        Arc::make_mut(&mut histogram).counter_reset_hint = CounterResetHint::Unknown;
    }
    histogram
}
