//! The tree for one evaluation: durations worked out, `@ start()` and `@ end()` settled, superfluous parentheses
//! gone, and whatever has one value for all steps marked so that it is evaluated once.

use crate::ast::*;
use crate::eval::Window;
use crate::parse::MAX_SECONDS;

/// Functions whose value depends on the time of evaluation even where their arguments do not.
const TIME_DEPENDENT: [&str; 14] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
];

struct Preparation {
    window: Window,
    step_ms: i64,
}

/// What is known of a part: whether it has one value for all steps, and whether marking it so saves anything.
#[derive(Clone, Copy)]
struct Invariance {
    invariant: bool,
    wrap: bool,
}

const VARIES: Invariance = Invariance { invariant: false, wrap: false };

/// `step_ms` is zero for an instant query.
pub(crate) fn prepare(root: &Node, window: Window, step_ms: i64) -> Result<Node, String> {
    let mut root = root.clone();
    mark_histogram_stats(&mut root, Some(false));
    let preparation = Preparation { window, step_ms };
    let invariance = preparation.visit(&mut root)?;
    if invariance.wrap {
        wrap(&mut root);
    }
    Ok(root)
}

/// Marks selectors of which a function far out needs only the counts and sums of histograms. `stats` is whether
/// such a function is further out, or none where something needs the buckets.
fn mark_histogram_stats(node: &mut Node, stats: Option<bool>) {
    match node {
        Node::Number(_) | Node::String(_) => {}
        Node::Vector(n) => n.histogram_stats = stats == Some(true),
        Node::Matrix(n) => n.selector.histogram_stats = stats == Some(true),
        // Resets between a subquery's steps show only in the buckets.
        Node::Subquery(n) => mark_histogram_stats(&mut n.expr, None),
        Node::Aggregate(n) => {
            mark_histogram_stats(&mut n.expr, stats);
            if let Some(param) = &mut n.param {
                mark_histogram_stats(param, stats);
            }
        }
        Node::Binary(n) => {
            let trims = matches!(n.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
            let stats = if trims { None } else { stats };
            mark_histogram_stats(&mut n.lhs, stats);
            mark_histogram_stats(&mut n.rhs, stats);
        }
        Node::Unary(n) => mark_histogram_stats(&mut n.expr, stats),
        Node::Paren(n) => mark_histogram_stats(&mut n.expr, stats),
        Node::Call(n) => {
            let stats = match n.function.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" => stats.map(|_| true),
                "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => None,
                _ => stats,
            };
            for arg in &mut n.args {
                mark_histogram_stats(arg, stats);
            }
        }
        Node::StepInvariant(n) => mark_histogram_stats(n, stats),
    }
}

fn wrap(node: &mut Node) {
    let placeholder = Node::Number(NumberLiteral { value: 0.0, duration: false, span: Span::default() });
    let inner = std::mem::replace(node, placeholder);
    *node = Node::StepInvariant(Box::new(inner));
}

/// Takes the parentheses off.
fn unwrap(node: &mut Node) {
    while let Node::Paren(paren) = node {
        let placeholder = Node::Number(NumberLiteral { value: 0.0, duration: false, span: Span::default() });
        *node = std::mem::replace(&mut paren.expr, placeholder);
    }
}

impl Preparation {
    fn visit(&self, node: &mut Node) -> Result<Invariance, String> {
        if let Some(value) = self.query_context(node) {
            *node = Node::Number(NumberLiteral { value, duration: false, span: node.span() });
        }
        match node {
            Node::Number(_) | Node::String(_) => Ok(Invariance { invariant: true, wrap: false }),
            Node::Vector(n) => {
                let invariant = self.selector(n)?;
                Ok(Invariance { invariant, wrap: invariant })
            }
            Node::Matrix(n) => {
                if let Some(expr) = n.range_expr.take() {
                    n.range_ms = self.duration(&expr, false)?;
                }
                // Functions over range vectors see to it that the range is read once.
                Ok(Invariance { invariant: self.selector(&mut n.selector)?, wrap: false })
            }
            Node::Subquery(n) => self.subquery(n),
            Node::Aggregate(n) => {
                unwrap(&mut n.expr);
                let mut param = Invariance { invariant: true, wrap: false };
                if let Some(node) = &mut n.param {
                    unwrap(node);
                    param = self.visit(node)?;
                }
                let inner = self.visit(&mut n.expr)?;
                if inner.invariant && param.invariant {
                    return Ok(Invariance { invariant: true, wrap: true });
                }
                if inner.wrap {
                    wrap(&mut n.expr);
                }
                if let Some(node) = &mut n.param
                    && param.wrap
                {
                    wrap(node);
                }
                Ok(VARIES)
            }
            Node::Binary(n) => {
                let (left, right) = (self.visit(&mut n.lhs)?, self.visit(&mut n.rhs)?);
                if left.invariant && right.invariant {
                    return Ok(Invariance { invariant: true, wrap: true });
                }
                if left.wrap {
                    wrap(&mut n.lhs);
                }
                if right.wrap {
                    wrap(&mut n.rhs);
                }
                Ok(VARIES)
            }
            Node::Unary(n) => self.visit(&mut n.expr),
            Node::Paren(n) => self.visit(&mut n.expr),
            Node::Call(n) => self.call(n),
            Node::StepInvariant(_) => Ok(Invariance { invariant: true, wrap: false }),
        }
    }

    /// `start()`, `end()`, `range()` and `step()` are constants of a query.
    fn query_context(&self, node: &Node) -> Option<f64> {
        let Node::Call(call) = node else { return None };
        let Window { start, end, .. } = self.window;
        match call.function.name {
            "start" => Some(start as f64 / 1000.0),
            "end" => Some(end as f64 / 1000.0),
            "range" => Some((end - start) as f64 / 1000.0),
            "step" => Some(if start == end { 0.0 } else { self.step_ms as f64 / 1000.0 }),
            _ => None,
        }
    }

    fn selector(&self, n: &mut VectorSelector) -> Result<bool, String> {
        if let Some(expr) = n.offset_expr.take() {
            n.offset_ms = self.duration(&expr, true)?;
        }
        n.at = self.settle(n.at);
        Ok(n.at.is_some())
    }

    fn settle(&self, at: Option<At>) -> Option<At> {
        at.map(|at| match at {
            At::Time(ms) => At::Time(ms),
            At::Start => At::Time(self.window.start),
            At::End => At::Time(self.window.end),
        })
    }

    fn subquery(&self, n: &mut Subquery) -> Result<Invariance, String> {
        if let Some(expr) = n.offset_expr.take() {
            n.offset_ms = self.duration(&expr, true)?;
        }
        if let Some(expr) = n.range_expr.take() {
            n.range_ms = self.duration(&expr, false)?;
        }
        if let Some(expr) = n.step_expr.take() {
            n.step_ms = self.duration(&expr, false)?;
        }
        let inner = self.visit(&mut n.expr)?;
        if inner.invariant {
            wrap(&mut n.expr);
        }
        n.at = self.settle(n.at);
        Ok(Invariance { invariant: n.at.is_some(), wrap: false })
    }

    fn call(&self, n: &mut Call) -> Result<Invariance, String> {
        let mut args = Vec::with_capacity(n.args.len());
        for arg in &mut n.args {
            unwrap(arg);
            args.push(self.visit(arg)?);
        }
        let all = args.iter().all(|a| a.invariant);
        // `timestamp(x @ 1)` is the sample's time, `timestamp(abs(x @ 1))` the time of evaluation.
        let safe = match n.function.name {
            "timestamp" => matches!(n.args.first(), Some(Node::Vector(_))),
            name => !TIME_DEPENDENT.contains(&name),
        };
        if all && safe {
            return Ok(Invariance { invariant: true, wrap: true });
        }
        for (arg, invariance) in n.args.iter_mut().zip(args) {
            if invariance.wrap {
                wrap(arg);
            }
        }
        Ok(VARIES)
    }

    fn duration(&self, expr: &DurationExpr, may_be_negative: bool) -> Result<i64, String> {
        let seconds = self.seconds(expr)?;
        let place = format!("{}:{}", expr.span.start, expr.span.end);
        if !seconds.is_finite() {
            return Err(format!("{place}: duration is NaN or infinite"));
        }
        if seconds <= 0.0 && !may_be_negative {
            return Err(format!("{place}: duration must be greater than 0"));
        }
        if seconds.abs() > MAX_SECONDS {
            return Err(format!("{place}: duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, String> {
        let value = |node: &DurationNode| match node {
            DurationNode::Literal(n) => Ok(n.value),
            DurationNode::Expr(expr) => self.seconds(expr),
        };
        Ok(match &expr.kind {
            DurationKind::Step => self.step_ms as f64 / 1000.0,
            DurationKind::Range => (self.window.end - self.window.start) as f64 / 1000.0,
            DurationKind::Plus(inner) => value(inner)?,
            DurationKind::Minus(inner) => -value(inner)?,
            DurationKind::MinOf(a, b) => value(a)?.min(value(b)?),
            DurationKind::MaxOf(a, b) => value(a)?.max(value(b)?),
            DurationKind::Binary(op, a, b) => {
                let (a, b) = (value(a)?, value(b)?);
                let place = format!("{}:{}", expr.span.start, expr.span.end);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div if b == 0.0 => return Err(format!("{place}: division by zero")),
                    BinaryOp::Mod if b == 0.0 => return Err(format!("{place}: modulo by zero")),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod => a % b,
                    _ => a.powf(b),
                }
            }
        })
    }
}
