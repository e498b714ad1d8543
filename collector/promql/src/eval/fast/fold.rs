//! Aggregations that give one value per group, fed row by row; the groups of rows are remembered.

use std::sync::Arc;

use super::memory::key;
use super::rows::Rows;
use super::{ABSENT, Consumer, Fast, Frame, Quit, Shape, computed, is_absent};
use crate::ast::*;
use crate::eval::aggregate::{Gathered, Groups};
use crate::eval::{Evaluator, Window};
use crate::kahan::{KahanSum, Mean};

pub(super) fn folds(op: AggregateOp) -> bool {
    use AggregateOp::*;
    matches!(op, Sum | Avg | Count | Min | Max | Group | Stddev | Stdvar | Quantile)
}

/// Which group each row is in.
#[derive(Clone)]
pub(super) struct Grouping {
    input: Arc<Rows>,
    /// Empty where all rows are in one group.
    of_row: Arc<[u32]>,
    pub groups: Arc<Rows>,
    /// The groups in an order in which they came once, for as long as they come so.
    reordered: Option<(Vec<u32>, Arc<Rows>)>,
}

impl Grouping {
    pub(super) fn of(&self, row: usize) -> usize {
        self.of_row.get(row).map_or(0, |group| *group as usize)
    }
}

impl Evaluator<'_> {
    /// The groups of an aggregation's input.
    pub(super) fn grouping(&mut self, node: &Node, n: &Aggregate, input: &Arc<Rows>) -> Fast<Grouping> {
        if let Some(known) = self.memory.groupings.get(&key(node))
            && Arc::ptr_eq(&known.input, input)
        {
            return Ok(known.clone());
        }
        let (of_row, labels) = if n.grouping.is_empty() && !n.without {
            (Vec::new(), vec![telemetry::Labels::empty()])
        } else {
            let snapshot = self.snapshot()?;
            let Groups { of_row, labels } = Groups::by(input.labels(snapshot).iter(), &n.grouping, n.without);
            let narrow = |group: usize| u32::try_from(group).map_err(|_| Quit::General);
            (of_row.into_iter().map(narrow).collect::<Fast<Vec<u32>>>()?, labels)
        };
        let groups = Arc::new(Rows::of_labels(labels));
        let grouping = Grouping { input: input.clone(), of_row: of_row.into(), groups, reordered: None };
        self.memory.groupings.insert(key(node), grouping.clone());
        Ok(grouping)
    }

    pub(super) fn fast_fold(&mut self, node: &Node, n: &Aggregate, window: Window) -> Fast<Frame> {
        let params = self.parameter(n, window)?;
        let mut fold = Fold {
            node,
            n,
            steps: window.steps(),
            grouping: None,
            state: State::Count,
            order: Vec::new(),
            counts: Vec::new(),
            drop_name: false,
        };
        self.feed(&n.expr, window, &mut fold)?;
        let Fold { grouping, state, order, counts, steps, drop_name, .. } = fold;
        let mut grouping = grouping.ok_or(Quit::General)?;
        if n.op == AggregateOp::Quantile && !order.is_empty() {
            self.note_invalid_quantiles(n, &params);
        }
        let mut values = state.values(n.op, counts, &params);
        let mut rows = grouping.groups.clone();
        if !order.is_sorted() {
            // Series that have no samples come first among the rows; groups stand in the order of those that have.
            values = order.iter().flat_map(|g| &values[*g as usize * steps..][..steps]).copied().collect();
            rows = self.reordered(node, &mut grouping, order)?;
        }
        Ok(Frame { shape: Shape { rows, drop_name }, values, steps })
    }

    fn reordered(&mut self, node: &Node, grouping: &mut Grouping, order: Vec<u32>) -> Fast<Arc<Rows>> {
        if let Some((known, rows)) = &grouping.reordered
            && *known == order
        {
            return Ok(rows.clone());
        }
        let labels = grouping.groups.labels(self.snapshot()?);
        let rows = Arc::new(Rows::of_labels(order.iter().map(|g| labels[*g as usize].clone()).collect()));
        grouping.reordered = Some((order, rows.clone()));
        self.memory.groupings.insert(key(node), grouping.clone());
        Ok(rows)
    }
}

/// What groups have gathered: `groups * steps` of each.
enum State {
    Count,
    Sum(Vec<KahanSum>),
    Avg(Vec<Mean>),
    Extreme(Vec<f64>),
    Other(Vec<Gathered>),
}

impl State {
    fn new(op: AggregateOp, cells: usize) -> Self {
        use AggregateOp::*;
        match op {
            Count | Group => State::Count,
            Sum => State::Sum(vec![KahanSum::default(); cells]),
            Avg => State::Avg(vec![Mean::starting_at(0.0); cells]),
            Min | Max => State::Extreme(vec![ABSENT; cells]),
            _ => State::Other(std::iter::repeat_with(Gathered::default).take(cells).collect()),
        }
    }

    fn add(&mut self, op: AggregateOp, cell: usize, first: bool, value: f64) {
        match self {
            State::Count => {}
            State::Sum(sums) if first => sums[cell] = KahanSum::starting_at(value),
            State::Sum(sums) => sums[cell].add(value),
            State::Avg(means) if first => means[cell] = Mean::starting_at(value),
            State::Avg(means) => means[cell].add(value),
            State::Extreme(values) => {
                let best = values[cell];
                let wins = if op == AggregateOp::Max { best < value } else { best > value };
                if wins || first || best.is_nan() {
                    values[cell] = value;
                }
            }
            State::Other(gathered) => gathered[cell].add(op, value),
        }
    }

    fn values(self, op: AggregateOp, counts: Vec<u32>, params: &[f64]) -> Vec<f64> {
        let present = |value: f64, count: u32| if count > 0 { computed(value) } else { ABSENT };
        let steps = params.len();
        match self {
            State::Count if op == AggregateOp::Group => counts.into_iter().map(|n| present(1.0, n)).collect(),
            State::Count => counts.into_iter().map(|n| present(f64::from(n), n)).collect(),
            State::Sum(sums) => sums.into_iter().zip(counts).map(|(sum, n)| present(sum.value(), n)).collect(),
            State::Avg(means) => means.into_iter().zip(counts).map(|(mean, n)| present(mean.value(), n)).collect(),
            State::Extreme(values) => values,
            State::Other(gathered) => {
                let value = |(cell, state): (usize, Gathered)| state.result(op, params[cell % steps]);
                gathered.into_iter().enumerate().map(|cell| value(cell).map_or(ABSENT, computed)).collect()
            }
        }
    }
}

struct Fold<'n> {
    node: &'n Node,
    n: &'n Aggregate,
    steps: usize,
    grouping: Option<Grouping>,
    state: State,
    counts: Vec<u32>,
    /// Groups in the order in which their first series with a value came.
    order: Vec<u32>,
    drop_name: bool,
}

impl Consumer for Fold<'_> {
    fn begin(&mut self, evaluator: &mut Evaluator<'_>, shape: &Shape) -> Fast<()> {
        let grouping = evaluator.grouping(self.node, self.n, &shape.rows)?;
        evaluator.check_grid(grouping.groups.len(), self.steps)?;
        let cells = grouping.groups.len() * self.steps;
        (self.counts, self.state) = (vec![0; cells], State::new(self.n.op, cells));
        (self.grouping, self.drop_name) = (Some(grouping), shape.drop_name);
        Ok(())
    }

    fn row(&mut self, row: usize, values: &[f64]) {
        let Some(grouping) = &self.grouping else { return };
        let group = grouping.of(row);
        if let [value] = values {
            let first = self.counts[group] == 0;
            if first {
                self.order.push(group as u32);
            }
            self.counts[group] += 1;
            return self.state.add(self.n.op, group, first, *value);
        }
        let cells = group * self.steps..(group + 1) * self.steps;
        // A group's first row leaves a count behind.
        if self.counts[cells.clone()].iter().all(|count| *count == 0) {
            self.order.push(group as u32);
        }
        for (cell, value) in cells.zip(values).filter(|(_, value)| !is_absent(**value)) {
            self.state.add(self.n.op, cell, self.counts[cell] == 0, *value);
            self.counts[cell] += 1;
        }
    }
}
