//! Aggregations that pick series: topk, bottomk, limitk, limit_ratio.

use super::aggregate::Groups;
use super::{Cell, Evaluator, Grid, Window};
use crate::ast::*;
use crate::engine::EvalError;

/// A candidate: its row and its value.
pub(super) type Candidate = (usize, f64);

/// The k largest (or, with `reverse`, smallest) values in a heap whose root goes first. The heap is kept step for
/// step as Prometheus keeps its own, so that among equal values the same series win.
pub(super) struct Heap {
    items: Vec<Candidate>,
    reverse: bool,
}

impl Heap {
    pub(super) fn new(reverse: bool) -> Self {
        Heap { items: Vec::new(), reverse }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn less(&self, i: usize, j: usize) -> bool {
        before(self.items[i].1, self.items[j].1, self.reverse)
    }

    fn push(&mut self, item: Candidate) {
        self.items.push(item);
        let mut child = self.items.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.less(child, parent) {
                break;
            }
            self.items.swap(parent, child);
            child = parent;
        }
    }

    fn replace_root(&mut self, item: Candidate) {
        self.items[0] = item;
        let mut parent = 0;
        loop {
            let mut child = 2 * parent + 1;
            if child >= self.items.len() {
                return;
            }
            if child + 1 < self.items.len() && self.less(child + 1, child) {
                child += 1;
            }
            if !self.less(child, parent) {
                return;
            }
            self.items.swap(parent, child);
            parent = child;
        }
    }

    pub(super) fn offer(&mut self, item: Candidate, k: usize) {
        if self.items.len() < k {
            return self.push(item);
        }
        let root = self.items[0].1;
        let better = if self.reverse { root > item.1 } else { root < item.1 };
        if better || (root.is_nan() && !item.1.is_nan()) {
            self.replace_root(item);
        }
    }

    pub(super) fn into_sorted(mut self) -> Vec<Candidate> {
        sort_from_last(&mut self.items, self.reverse);
        self.items
    }
}

/// The order of values with NaN before everything.
fn before(a: f64, b: f64, reverse: bool) -> bool {
    a.is_nan() || if reverse { a > b } else { a < b }
}

/// Sorts so that what `before` puts last comes first: descending (ascending with `reverse`), NaN at the end.
pub(super) fn sort_from_last<T>(items: &mut [(T, f64)], reverse: bool) {
    if items.len() <= 12 {
        // Short lists as Go sorts them, which shows among equal values.
        for i in 1..items.len() {
            let mut j = i;
            while j > 0 && before(items[j - 1].1, items[j].1, reverse) {
                items.swap(j, j - 1);
                j -= 1;
            }
        }
        return;
    }
    items.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) if reverse => a.total_cmp(b),
        (false, false) => b.total_cmp(a),
    });
}

impl Evaluator<'_> {
    pub(super) fn top(&mut self, n: &Aggregate, window: Window) -> Result<Grid, EvalError> {
        let params = self.parameter(n, window)?;
        let input = self.eval(&n.expr, window)?;
        if !self.check_parameters(n, &params)? {
            return Ok(Grid::new(window.steps()));
        }
        let groups = Groups::new(&input.rows, n);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.labels.len()];
        for (row, group) in groups.of_row.iter().enumerate() {
            members[*group].push(row);
        }
        // Instant: rows in the order of rank. Range: the input's rows with what was not picked taken out.
        let mut order = Vec::new();
        let mut picked = vec![false; input.cells.len()];
        for (step, param) in params.iter().enumerate() {
            if step % 64 == 0 {
                self.check_stop()?;
            }
            for rows in &members {
                for row in self.pick(n, &input, rows, step, *param) {
                    picked[row * input.steps + step] = true;
                    if window.is_instant() {
                        order.push(row);
                    }
                }
            }
        }
        if window.is_instant() {
            let mut grid = Grid::new(1);
            for row in order {
                grid.rows.push(input.rows[row].clone());
                grid.cells.push(input.cells[row].clone());
            }
            return Ok(grid);
        }
        let mut grid = input;
        for (cell, picked) in grid.cells.iter_mut().zip(picked) {
            if !picked {
                *cell = None;
            }
        }
        Ok(grid.without_empty_rows())
    }

    /// False where nothing can be picked at any step.
    pub(super) fn check_parameters(&mut self, n: &Aggregate, params: &[f64]) -> Result<bool, EvalError> {
        let (least, greatest) =
            params.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), p| (a.min(*p), b.max(*p)));
        let nan = params.iter().any(|p| p.is_nan());
        let error = |message: String| Err(EvalError::Query(message));
        if n.op == AggregateOp::LimitRatio {
            if least == 0.0 && greatest == 0.0 && !nan {
                return Ok(false);
            }
            if nan {
                return error("Ratio value is NaN".to_owned());
            }
            let span = n.param.as_ref().map_or(n.span, Node::span);
            if greatest > 1.0 {
                self.annotations.invalid_ratio(greatest, 1.0, span);
            }
            if least < -1.0 {
                self.annotations.invalid_ratio(least, -1.0, span);
            }
            return Ok(true);
        }
        if greatest < 1.0 && !nan {
            return Ok(false);
        }
        let show = |value: f64| crate::text::format_general(value);
        if nan {
            error("Parameter value is NaN".to_owned())
        } else if least <= i64::MIN as f64 {
            error(format!("Scalar value {} underflows int64", show(least)))
        } else if greatest >= i64::MAX as f64 {
            error(format!("Scalar value {} overflows int64", show(greatest)))
        } else {
            Ok(true)
        }
    }

    /// The rows of one group that are picked at one step, best first.
    fn pick(&mut self, n: &Aggregate, input: &Grid, rows: &[usize], step: usize, param: f64) -> Vec<usize> {
        let present = || rows.iter().copied().filter(|row| input.cell(*row, step).is_some());
        let k = if param >= 1.0 { (param as usize).min(input.rows.len()) } else { 0 };
        match n.op {
            AggregateOp::Limitk => present().take(k).collect(),
            AggregateOp::LimitRatio => {
                present().filter(|row| in_ratio(&input.rows[*row].labels, param.clamp(-1.0, 1.0))).collect()
            }
            _ if k == 0 => Vec::new(),
            op => {
                let mut heap =
                    Heap { items: Vec::with_capacity(k.min(rows.len())), reverse: op == AggregateOp::Bottomk };
                for row in present() {
                    match input.cell(row, step) {
                        Some(Cell::Float(value)) => heap.offer((row, *value), k),
                        _ => self.annotations.histogram_ignored_in_aggregation(op.name(), n.span),
                    }
                }
                heap.into_sorted().into_iter().map(|(row, _)| row).collect()
            }
        }
    }
}

/// Whether a series belongs to the given share of all series: each series has a fixed place between 0 and 1,
/// a negative share takes the other end.
fn in_ratio(labels: &telemetry::Labels, ratio: f64) -> bool {
    let place = super::labels::hash(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}
