//! topk and bottomk: the best of each group, found without the labels of the others.

use std::sync::Arc;

use super::fold::Grouping;
use super::rows::Rows;
use super::{ABSENT, Consumer, Fast, Frame, Quit, Shape, is_absent};
use crate::ast::*;
use crate::eval::topk::Heap;
use crate::eval::{Evaluator, Window};

pub(super) fn picks(op: AggregateOp) -> bool {
    matches!(op, AggregateOp::Topk | AggregateOp::Bottomk)
}

struct Top<'n> {
    node: &'n Node,
    n: &'n Aggregate,
    params: Vec<f64>,
    grouping: Option<Grouping>,
    /// One for each group and step.
    heaps: Vec<Heap>,
    order: Vec<usize>,
    /// All values, where more than one step is asked for.
    input: Option<Frame>,
    shape: Option<Shape>,
    max_rows: usize,
}

impl Consumer for Top<'_> {
    fn begin(&mut self, evaluator: &mut Evaluator<'_>, shape: &Shape) -> Fast<()> {
        let steps = self.params.len();
        let grouping = evaluator.grouping(self.node, self.n, &shape.rows)?;
        evaluator.check_grid(grouping.groups.len(), steps)?;
        let reverse = self.n.op == AggregateOp::Bottomk;
        self.heaps = (0..grouping.groups.len() * steps).map(|_| Heap::new(reverse)).collect();
        if steps > 1 {
            evaluator.check_grid(shape.rows.len(), steps)?;
            let values = vec![ABSENT; shape.rows.len() * steps];
            self.input = Some(Frame { shape: shape.clone(), values, steps });
        }
        self.max_rows = shape.rows.len();
        (self.grouping, self.shape) = (Some(grouping), Some(shape.clone()));
        Ok(())
    }

    fn row(&mut self, row: usize, values: &[f64]) {
        let Some(grouping) = &self.grouping else { return };
        let (group, steps) = (grouping.of(row), self.params.len());
        let heaps = &mut self.heaps[group * steps..(group + 1) * steps];
        if steps == 1 && heaps[0].is_empty() {
            self.order.push(group);
        }
        for ((heap, value), param) in heaps.iter_mut().zip(values).zip(&self.params) {
            if *param >= 1.0 && !is_absent(*value) {
                heap.offer((row, *value), (*param as usize).min(self.max_rows));
            }
        }
        if let Some(input) = &mut self.input {
            input.values[row * steps..(row + 1) * steps].copy_from_slice(values);
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn fast_top(&mut self, n: &Aggregate, node: &Node, window: Window) -> Fast<Frame> {
        let params = self.parameter(n, window)?;
        let mut top = Top {
            node,
            n,
            params,
            grouping: None,
            heaps: Vec::new(),
            order: Vec::new(),
            input: None,
            shape: None,
            max_rows: 0,
        };
        self.feed(&n.expr, window, &mut top)?;
        let Top { params, heaps, order, input, shape, .. } = top;
        let shape = shape.ok_or(Quit::General)?;
        let steps = params.len();
        if !self.check_parameters(n, &params)? {
            let rows = Arc::new(Rows::of_labels(Vec::new()));
            return Ok(Frame { shape: Shape { rows, ..shape }, values: Vec::new(), steps });
        }
        let Some(mut input) = input else {
            // The answer of an instant query stands in the order of rank.
            let snapshot = self.snapshot()?;
            let mut heaps: Vec<Option<Heap>> = heaps.into_iter().map(Some).collect();
            let picked = order.into_iter().filter_map(|group| heaps[group].take()).flat_map(Heap::into_sorted);
            let (labels, values) = picked.map(|(row, value)| (shape.rows.label(row, snapshot), value)).unzip();
            return Ok(Frame { shape: Shape { rows: Arc::new(Rows::of_labels(labels)), ..shape }, values, steps });
        };
        let mut picked = vec![false; input.values.len()];
        for (i, heap) in heaps.into_iter().enumerate() {
            heap.into_sorted().into_iter().for_each(|(row, _)| picked[row * steps + i % steps] = true);
        }
        input.values.iter_mut().zip(picked).filter(|(_, picked)| !picked).for_each(|(value, _)| *value = ABSENT);
        Ok(input)
    }
}
