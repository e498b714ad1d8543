//! Functions and operations that make one float of each.

use super::{ABSENT, Consumer, Fast, Quit, Shape, computed, count, is_absent};
use crate::ast::*;
use crate::eval::binary::scalar_operation;
use crate::eval::call::{Bounds, float_function, rounded};
use crate::eval::{Evaluator, Grid, Window, date};

pub(super) fn is_fast_function(n: &Call) -> bool {
    let name = n.function.name;
    matches!(name, "clamp" | "clamp_min" | "clamp_max" | "round")
        || float_function(name).is_some()
        || (date::is_part(name) && !n.args.is_empty())
}

/// Arithmetic and comparisons. A scalar on the right must be free of selectors: it is evaluated before the vector.
pub(super) fn is_fast_operation(n: &Binary) -> bool {
    let trims = matches!(n.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    !trims && (n.rhs.value_type() == ValueType::Vector || is_constant(&n.rhs))
}

fn is_constant(node: &Node) -> bool {
    match node {
        Node::Number(_) => true,
        Node::Paren(n) => is_constant(&n.expr),
        Node::Unary(n) => is_constant(&n.expr),
        Node::StepInvariant(n) => is_constant(n),
        Node::Binary(n) => is_constant(&n.lhs) && is_constant(&n.rhs),
        Node::Call(n) => n.function.name == "time",
        _ => false,
    }
}

/// Changes rows on their way to `inner`.
struct Mapped<'m> {
    inner: &'m mut dyn Consumer,
    drops_name: bool,
    /// The new value at a step; none where there is none.
    function: &'m dyn Fn(usize, f64) -> Option<f64>,
    scratch: Vec<f64>,
    counts: Vec<usize>,
}

impl Consumer for Mapped<'_> {
    fn begin(&mut self, evaluator: &mut Evaluator<'_>, shape: &Shape) -> Fast<()> {
        self.inner.begin(evaluator, &Shape { drop_name: shape.drop_name || self.drops_name, ..shape.clone() })
    }

    fn row(&mut self, row: usize, values: &[f64]) {
        let mut found = false;
        for (step, (new, value)) in self.scratch.iter_mut().zip(values).enumerate() {
            *new = match is_absent(*value) {
                true => ABSENT,
                false => (self.function)(step, *value).map_or(ABSENT, computed),
            };
            found |= !is_absent(*new);
        }
        if found {
            count(&mut self.counts, &self.scratch);
            self.inner.row(row, &self.scratch);
        }
    }
}

impl Evaluator<'_> {
    /// Feeds `arg` through `function`; returns how many values went in and how many came out at each step.
    fn feed_mapped(
        &mut self,
        arg: &Node,
        window: Window,
        consumer: &mut dyn Consumer,
        drops_name: bool,
        function: &dyn Fn(usize, f64) -> Option<f64>,
    ) -> Fast<(Vec<usize>, Vec<usize>)> {
        let steps = window.steps();
        let mut mapped =
            Mapped { inner: consumer, drops_name, function, scratch: vec![ABSENT; steps], counts: vec![0; steps] };
        let arguments = self.feed(arg, window, &mut mapped)?;
        Ok((arguments, mapped.counts))
    }

    pub(super) fn feed_unary(&mut self, n: &Unary, window: Window, consumer: &mut dyn Consumer) -> Fast<Vec<usize>> {
        if !n.negate {
            return self.feed(&n.expr, window, consumer);
        }
        Ok(self.feed_mapped(&n.expr, window, consumer, true, &|_, value| Some(-value))?.1)
    }

    pub(super) fn feed_operation(
        &mut self,
        n: &Binary,
        window: Window,
        consumer: &mut dyn Consumer,
    ) -> Fast<Vec<usize>> {
        let before = self.live;
        let scalar_right = n.lhs.value_type() == ValueType::Vector;
        let (vector, scalar_node) = if scalar_right { (&n.lhs, &n.rhs) } else { (&n.rhs, &n.lhs) };
        let peak = self.stats.peak_samples;
        let scalar = self.eval(scalar_node, window)?;
        if scalar_right {
            // It comes first here but second in the books.
            (self.live, self.stats.peak_samples) = (before, peak);
        }
        let drops_name = n.op.changes_metric() || n.return_bool;
        let operation = |step: usize, value: f64| {
            let scalar = scalar.scalar_at(step);
            let result = match scalar_right {
                true => scalar_operation(n.op, value, scalar),
                false => scalar_operation(n.op, scalar, value),
            };
            match (n.op.is_comparison(), n.return_bool) {
                (false, _) | (true, true) => Some(result),
                (true, false) => (result == 1.0).then_some(value),
            }
        };
        let (mut arguments, results) = self.feed_mapped(vector, window, consumer, drops_name, &operation)?;
        if scalar_right {
            self.eval(scalar_node, window)?;
        }
        arguments.iter_mut().for_each(|count| *count += 1);
        self.charge_counts(&arguments, &results)?;
        self.live = before;
        self.charge(results.iter().sum())?;
        Ok(results)
    }

    pub(super) fn feed_call(&mut self, n: &Call, window: Window, consumer: &mut dyn Consumer) -> Fast<Vec<usize>> {
        let before = self.live;
        let name = n.function.name;
        let mut scalars: Vec<Grid> = Vec::new();
        for arg in &n.args[1..] {
            scalars.push(self.eval(arg, window)?);
        }
        let (mut arguments, results) = match (name, float_function(name)) {
            (_, Some(function)) => {
                self.feed_mapped(&n.args[0], window, consumer, true, &|_, value| Some(function(value)))?
            }
            ("clamp" | "clamp_min" | "clamp_max", _) => {
                let bounds = Bounds::new(name, &scalars);
                self.feed_mapped(&n.args[0], window, consumer, true, &|step, value| bounds.clamp(step, value))?
            }
            ("round", _) => {
                let nearest = |step| scalars.first().map_or(1.0, |grid| grid.scalar_at(step));
                let round = |step, value| Some(rounded(value, nearest(step)));
                self.feed_mapped(&n.args[0], window, consumer, true, &round)?
            }
            (part, _) if date::is_part(part) => {
                self.feed_mapped(&n.args[0], window, consumer, true, &|_, value| Some(date::part(part, value)))?
            }
            _ => return Err(Quit::General),
        };
        arguments.iter_mut().for_each(|count| *count += scalars.len());
        self.charge_counts(&arguments, &results)?;
        self.live = before;
        self.charge(results.iter().sum())?;
        Ok(results)
    }
}
