//! Tree to values. An instant vector over all steps of a query is one grid of cells, series by series; a range
//! vector is the samples themselves, over which windows slide.

mod aggregate;
mod binary;
mod call;
pub(crate) mod date;
mod extended;
mod fast;
pub(crate) use fast::memory::Memory;
pub(crate) use fast::{Frame, is_absent};
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
use crate::source::{Snapshot, Source};
use crate::stats::{Stats, Tally};

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

    fn bytes(&self) -> usize {
        size_of_val(self.cells.as_slice()) + size_of_val(self.rows.as_slice())
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
    /// A subquery's, which has counted what it read.
    pub from_subquery: bool,
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
    /// The source's columns, where it has some.
    pub snapshot: Option<&'a dyn Snapshot>,
    pub memory: Memory,
    pub annotations: Annotations,
    pub stats: Stats,
    /// Samples counted by step, of the query or of the subquery that is being evaluated.
    pub tally: Tally,
    limits: &'a Limits,
    lookback_ms: i64,
    options: Options<'a>,
    /// Samples held now.
    live: usize,
    /// Bytes of grids and of samples loaded that are held now.
    held_bytes: usize,
    /// How many samples the arguments of the node that is being evaluated have at each step.
    arguments: Vec<usize>,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(source: &'a dyn Source, limits: &'a Limits, options: Options<'a>) -> Self {
        let lookback = options.lookback.unwrap_or(limits.lookback);
        Evaluator {
            source,
            snapshot: None,
            memory: Memory::default(),
            annotations: Annotations::default(),
            stats: Stats::default(),
            tally: Tally::default(),
            limits,
            lookback_ms: i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX),
            options,
            live: 0,
            held_bytes: 0,
            arguments: Vec::new(),
        }
    }

    /// Books samples that are now held.
    fn charge(&mut self, samples: usize) -> Result<(), EvalError> {
        self.live += samples;
        self.touch(0)
    }

    /// Sees to it that `samples` may be held for a moment besides what is held.
    fn touch(&mut self, samples: usize) -> Result<(), EvalError> {
        let held = self.live + samples;
        self.stats.peak_samples = self.stats.peak_samples.max(held as u64);
        if held > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        Ok(())
    }

    /// Books memory that is now held.
    fn hold(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > self.limits.max_bytes {
            return Err(EvalError::TooManyBytes { limit: self.limits.max_bytes });
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

    /// Sees to it that so many steps can be held at all.
    pub(crate) fn check_steps(&self, window: Window) -> Result<(), EvalError> {
        self.check_grid(1, window.steps())
    }

    /// Cells take memory before they have values: a grid may not be far larger than the samples allowed.
    fn check_grid(&self, rows: usize, steps: usize) -> Result<(), EvalError> {
        let cells = rows.saturating_mul(steps);
        if cells / 4 > self.limits.max_samples {
            return Err(EvalError::TooManySamples { limit: self.limits.max_samples });
        }
        if cells.saturating_mul(size_of::<Option<Cell>>()).saturating_add(self.held_bytes) > self.limits.max_bytes {
            return Err(EvalError::TooManyBytes { limit: self.limits.max_bytes });
        }
        Ok(())
    }

    /// Books what a function of vectors holds step by step: its arguments' samples of that step, and its results up
    /// to there.
    fn charge_steps(&mut self, arguments: &[usize], grid: &Grid) -> Result<(), EvalError> {
        let mut results = vec![0; grid.steps];
        for row in grid.cells.chunks_exact(grid.steps) {
            for (sum, cell) in results.iter_mut().zip(row) {
                *sum += cell.as_ref().map_or(0, Cell::weight);
            }
        }
        let mut before = 0;
        for (step, result) in results.into_iter().enumerate() {
            before += result;
            self.touch(before + arguments.get(step).copied().unwrap_or_default())?;
        }
        Ok(())
    }

    fn note_argument(&mut self, grid: &Grid) {
        if self.arguments.len() < grid.steps {
            self.arguments.resize(grid.steps, 0);
        }
        for row in grid.cells.chunks_exact(grid.steps) {
            for (count, cell) in self.arguments.iter_mut().zip(row) {
                *count += usize::from(cell.is_some());
            }
        }
    }

    /// The instant vector or scalar that `node` is at each step.
    pub(crate) fn eval(&mut self, node: &Node, window: Window) -> Result<Grid, EvalError> {
        self.check_stop()?;
        self.check_grid(1, window.steps())?;
        let before = (self.live, self.held_bytes);
        if let Some(grid) = self.try_fast_grid(node, window)? {
            self.held_bytes = before.1;
            self.hold(grid.bytes())?;
            self.note_argument(&grid);
            return Ok(grid);
        }
        let siblings = std::mem::take(&mut self.arguments);
        let grid = self.eval_node(node, window)?;
        let arguments = std::mem::replace(&mut self.arguments, siblings);
        match gathering(node) {
            Gathering::Arguments => self.charge_steps(&arguments, &grid)?,
            Gathering::Samples => {
                self.note_argument(&grid);
                let arguments = std::mem::take(&mut self.arguments);
                self.charge_steps(&arguments, &grid)?;
            }
            Gathering::None => {}
        }
        (self.live, self.held_bytes) = before;
        self.charge(grid.weight())?;
        self.hold(grid.bytes())?;
        self.note_argument(&grid);
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
        let outer = std::mem::replace(&mut self.tally, Tally::new(None));
        let once = self.eval(node, window.only_start())?;
        let inner = std::mem::replace(&mut self.tally, outer);
        let steps = window.steps();
        // As if each step had done the work; but it was read once.
        (0..steps).for_each(|step| self.tally.count(step, inner.samples, 0));
        self.tally.count(0, 0, inner.read);
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
        if !ranges.from_subquery {
            let weight = |s: &RangeSeries| s.floats.len() + weight(&s.histograms);
            let samples = ranges.series.iter().map(weight).sum();
            self.charge(samples)?;
            self.tally.count(0, samples as u64, samples as u64);
        }
        Ok(ranges)
    }

    /// The range vector that `node` is: a range selector or a subquery.
    pub(crate) fn range_vector(&mut self, node: &Node, window: Window) -> Result<RangeVector, EvalError> {
        match node {
            Node::Matrix(n) => self.range_selector(n, window),
            Node::Subquery(n) => self.subquery(n, window, false),
            Node::Paren(n) => self.range_vector(&n.expr, window),
            Node::StepInvariant(n) => self.range_vector(n, window.only_start()),
            _ => {
                let kind = node.value_type().documented();
                Err(EvalError::Query(format!("unexpected {kind} where a range vector is needed")))
            }
        }
    }

    /// `argument`: of a function, which counts the samples of its windows itself.
    fn subquery(&mut self, n: &Subquery, window: Window, argument: bool) -> Result<RangeVector, EvalError> {
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
            let outer = std::mem::replace(&mut self.tally, Tally::new(Some(inner.steps())));
            let grid = self.eval(&n.expr, inner)?.merge_where_names_go();
            let tally = std::mem::replace(&mut self.tally, outer);
            if argument {
                self.tally.read_by_subquery(&tally, inner, window, (n.offset_ms, n.range_ms));
            } else {
                self.tally.count(window.steps() - 1, tally.samples, 0);
                self.tally.read_by_subquery(&tally, inner, window, (0, 0));
            }
            series = ranges_of_grid(grid, inner);
        }
        let (range_ms, offset_ms) = (n.range_ms, n.offset_ms);
        Ok(RangeVector { series, range_ms, offset_ms, at, extension: None, from_subquery: true })
    }
}

/// What a node's evaluation holds at each step besides its results.
enum Gathering {
    /// The values of its arguments at that step.
    Arguments,
    /// The samples at which it looks.
    Samples,
    None,
}

fn gathering(node: &Node) -> Gathering {
    match node {
        Node::Binary(_) => Gathering::Arguments,
        Node::Aggregate(n) if n.op == AggregateOp::CountValues => Gathering::Arguments,
        Node::Call(n) => match n.function.name {
            "label_replace" | "label_join" | "info" => Gathering::None,
            "timestamp" | "start_timestamp" if matches!(n.args.first(), Some(Node::Vector(_))) => Gathering::Samples,
            _ if n.args.iter().any(|arg| arg.value_type() == ValueType::Matrix) => Gathering::None,
            _ => Gathering::Arguments,
        },
        _ => Gathering::None,
    }
}

/// How many samples' space histograms take.
fn weight(histograms: &[(Timestamp, Arc<Histogram>)]) -> usize {
    histograms.iter().map(|(_, histogram)| histogram.sample_weight()).sum()
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
