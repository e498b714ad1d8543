//! The short way: floats read in columns from a [`Snapshot`], series by series, into functions and aggregations that
//! see numbers only. What does not change between evaluations (which series, their groups, their partners in a join)
//! is remembered in the prepared query; labels are only touched for what is new or comes out.
//!
//! Answers, annotations and statistics are those of the general way, to the bit. Whatever does not fit (histograms
//! above all) gives [`Quit::General`], and the general way starts over.

mod buckets;
mod fold;
mod join;
mod kernel;
mod map;
pub(crate) mod memory;
mod pairs;
mod rows;
mod scan;
mod shards;
mod topk;

use std::sync::Arc;

use telemetry::Labels;

use super::{Cell, Evaluator, Grid, Row, Window};
use crate::annotation::Annotations;
use crate::ast::*;
use crate::engine::EvalError;
use crate::source::Snapshot;
use crate::stats::{Stats, Tally};
use memory::key;
pub(crate) use rows::Rows;

/// Stands where a series has no value. No computation yields this NaN, and samples that are it are staleness
/// markers, which mean just that.
const ABSENT: f64 = f64::from_bits(telemetry::STALE_NAN_BITS);

pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == telemetry::STALE_NAN_BITS
}

/// A value that was computed: never taken for an absent one, whatever bits its NaN has.
fn computed(value: f64) -> f64 {
    if is_absent(value) { f64::NAN } else { value }
}

/// Why the short way ends before its goal.
pub(crate) enum Quit {
    /// The general way must do it.
    General,
    Error(EvalError),
}

impl From<EvalError> for Quit {
    fn from(error: EvalError) -> Self {
        Quit::Error(error)
    }
}

pub(super) type Fast<T> = Result<T, Quit>;

/// Which series a node has, known before its values are.
#[derive(Clone)]
pub(crate) struct Shape {
    pub rows: Arc<Rows>,
    pub drop_name: bool,
}

impl Shape {
    /// The labels of all rows, without the names where these are to go.
    pub(crate) fn final_labels(&self, snapshot: &dyn Snapshot) -> Arc<[Labels]> {
        if self.drop_name { self.rows.nameless(snapshot).labels } else { self.rows.labels(snapshot) }
    }
}

/// The values of a node: `rows.len() * steps`, row by row, with [`ABSENT`] among them.
pub(crate) struct Frame {
    pub shape: Shape,
    pub values: Vec<f64>,
    pub steps: usize,
}

impl Frame {
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    pub(crate) fn is_row_empty(&self, row: usize) -> bool {
        self.row(row).iter().all(|value| is_absent(*value))
    }

    /// How many rows have a value at each step.
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.steps];
        self.values.chunks_exact(self.steps).for_each(|row| count(&mut counts, row));
        counts
    }

    pub(crate) fn into_grid(self, snapshot: &dyn Snapshot) -> Grid {
        let mut grid = Grid::new(self.steps);
        for (row, labels) in self.shape.rows.labels(snapshot).iter().enumerate() {
            if self.is_row_empty(row) {
                continue;
            }
            grid.rows.push(Row { labels: labels.clone(), drop_name: self.shape.drop_name });
            grid.cells.extend(self.row(row).iter().map(|value| (!is_absent(*value)).then_some(Cell::Float(*value))));
        }
        grid
    }
}

/// Takes the rows of a node that have values, in order.
trait Consumer {
    /// Comes first, once.
    fn begin(&mut self, evaluator: &mut Evaluator<'_>, shape: &Shape) -> Fast<()>;
    fn row(&mut self, row: usize, values: &[f64]);
}

/// Keeps all rows.
struct Collect {
    frame: Option<Frame>,
    steps: usize,
}

impl Consumer for Collect {
    fn begin(&mut self, evaluator: &mut Evaluator<'_>, shape: &Shape) -> Fast<()> {
        evaluator.check_grid(shape.rows.len(), self.steps)?;
        let values = vec![ABSENT; shape.rows.len() * self.steps];
        self.frame = Some(Frame { shape: shape.clone(), values, steps: self.steps });
        Ok(())
    }

    fn row(&mut self, row: usize, values: &[f64]) {
        if let Some(frame) = &mut self.frame {
            frame.values[row * self.steps..(row + 1) * self.steps].copy_from_slice(values);
        }
    }
}

/// The books as they stood before the short way was tried.
struct Books {
    stats: Stats,
    tally: Tally,
    annotations: Annotations,
    live: usize,
    held_bytes: usize,
    arguments: Vec<usize>,
}

impl<'a> Evaluator<'a> {
    /// The values of `node` by the short way; none where it does not lead there.
    pub(crate) fn try_fast(&mut self, node: &Node, window: Window) -> Result<Option<Frame>, EvalError> {
        if self.snapshot.is_none() || !self.is_fast(node) {
            return Ok(None);
        }
        let books = Books {
            stats: self.stats.clone(),
            tally: self.tally.clone(),
            annotations: self.annotations.clone(),
            live: self.live,
            held_bytes: self.held_bytes,
            arguments: self.arguments.clone(),
        };
        match self.frame(node, window) {
            Ok(frame) => {
                self.arguments = books.arguments;
                Ok(Some(frame))
            }
            Err(Quit::Error(error)) => Err(error),
            Err(Quit::General) => {
                self.memory.general.insert(key(node));
                (self.stats, self.tally, self.annotations) = (books.stats, books.tally, books.annotations);
                (self.live, self.held_bytes, self.arguments) = (books.live, books.held_bytes, books.arguments);
                Ok(None)
            }
        }
    }

    /// The grid of `node` by the short way.
    pub(super) fn try_fast_grid(&mut self, node: &Node, window: Window) -> Result<Option<Grid>, EvalError> {
        let frame = self.try_fast(node, window)?;
        Ok(frame.zip(self.snapshot).map(|(frame, snapshot)| frame.into_grid(snapshot)))
    }

    fn snapshot(&self) -> Fast<&'a dyn Snapshot> {
        self.snapshot.ok_or(Quit::General)
    }

    /// Whether the short way may lead to the node's values.
    fn is_fast(&self, node: &Node) -> bool {
        if self.memory.general.contains(&key(node)) {
            return false;
        }
        match node {
            Node::Vector(n) => n.extension.is_none(),
            Node::Paren(n) => self.is_fast(&n.expr),
            Node::Unary(n) => self.is_fast(&n.expr),
            Node::StepInvariant(n) => self.is_fast(n),
            Node::Aggregate(n) => (fold::folds(n.op) || topk::picks(n.op)) && self.is_fast(&n.expr),
            Node::Call(n) => match n.args.iter().find(|arg| arg.value_type() == ValueType::Matrix) {
                Some(range) => self.is_fast_range(n, range),
                None if n.function.name == "histogram_quantile" => self.is_fast(&n.args[1]),
                None => map::is_fast_function(n) && self.is_fast(&n.args[0]),
            },
            Node::Binary(n) => match (n.lhs.value_type(), n.rhs.value_type()) {
                (ValueType::Vector, ValueType::Scalar) => map::is_fast_operation(n) && self.is_fast(&n.lhs),
                (ValueType::Scalar, ValueType::Vector) => map::is_fast_operation(n) && self.is_fast(&n.rhs),
                (ValueType::Vector, ValueType::Vector) => {
                    join::is_fast(n) && self.is_fast(&n.lhs) && self.is_fast(&n.rhs)
                }
                _ => false,
            },
            Node::Number(_) | Node::String(_) | Node::Matrix(_) | Node::Subquery(_) => false,
        }
    }

    /// All values of a node, with the books kept as [`Evaluator::eval`] keeps them.
    fn frame(&mut self, node: &Node, window: Window) -> Fast<Frame> {
        self.check_stop()?;
        let before = (self.live, self.held_bytes);
        let frame = match node {
            Node::Aggregate(n) if topk::picks(n.op) => self.fast_top(n, node, window)?,
            Node::Aggregate(n) => self.fast_fold(node, n, window)?,
            Node::Call(n) if n.function.name == "histogram_quantile" => self.fast_quantile(node, n, window)?,
            Node::Binary(n) if n.matching.is_some() => self.fast_join(node, n, window)?,
            Node::Paren(n) => self.frame(&n.expr, window)?,
            Node::StepInvariant(n) => self.fast_invariant(n, window)?,
            _ => {
                let mut collect = Collect { frame: None, steps: window.steps() };
                self.feed(node, window, &mut collect)?;
                collect.frame.ok_or(Quit::General)?
            }
        };
        (self.live, self.held_bytes) = before;
        self.charge(frame.values.iter().filter(|value| !is_absent(**value)).count())?;
        self.hold(size_of_val(frame.values.as_slice()))?;
        Ok(frame)
    }

    /// Evaluates once, and repeats the values at every step.
    fn fast_invariant(&mut self, node: &Node, window: Window) -> Fast<Frame> {
        let outer = std::mem::replace(&mut self.tally, Tally::new(None));
        let once = self.frame(node, window.only_start());
        let inner = std::mem::replace(&mut self.tally, outer);
        let Frame { shape, values, .. } = once?;
        let steps = window.steps();
        (0..steps).for_each(|step| self.tally.count(step, inner.samples, 0));
        self.tally.count(0, 0, inner.read);
        self.check_grid(shape.rows.len(), steps)?;
        let values = values.into_iter().flat_map(|value| std::iter::repeat_n(value, steps)).collect();
        Ok(Frame { shape, values, steps })
    }

    /// Hands the node's rows to `consumer`, without keeping them where that is not needed; returns how many values
    /// there were at each step. The books are kept as if the rows were held.
    fn feed(&mut self, node: &Node, window: Window, consumer: &mut dyn Consumer) -> Fast<Vec<usize>> {
        self.check_stop()?;
        match node {
            Node::Paren(n) => return self.feed(&n.expr, window, consumer),
            Node::Vector(n) => return self.feed_instant(node, n, window, consumer),
            Node::Unary(n) => return self.feed_unary(n, window, consumer),
            Node::Call(n) if n.args.iter().any(|arg| arg.value_type() == ValueType::Matrix) => {
                return self.feed_ranges(n, window, consumer);
            }
            Node::Call(n) if n.function.name != "histogram_quantile" => return self.feed_call(n, window, consumer),
            Node::Binary(n) if n.matching.is_none() => return self.feed_operation(n, window, consumer),
            _ => {}
        }
        let frame = self.frame(node, window)?;
        consumer.begin(self, &frame.shape)?;
        let mut counts = vec![0; frame.steps];
        for row in (0..frame.shape.rows.len()).filter(|row| !frame.is_row_empty(*row)) {
            count(&mut counts, frame.row(row));
            consumer.row(row, frame.row(row));
        }
        Ok(counts)
    }

    /// Books what a function of vectors holds step by step, as [`Evaluator::charge_steps`] does.
    fn charge_counts(&mut self, arguments: &[usize], results: &[usize]) -> Fast<()> {
        let mut before = 0;
        for (argument, result) in arguments.iter().zip(results) {
            before += result;
            self.touch(before + argument)?;
        }
        Ok(())
    }
}

/// Adds the row's values to the counts of their steps.
fn count(counts: &mut [usize], row: &[f64]) {
    for (count, value) in counts.iter_mut().zip(row) {
        *count += usize::from(!is_absent(*value));
    }
}
