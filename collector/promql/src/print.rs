//! Tree to text, as Prometheus' `Expr.String()` writes it.

mod pretty;

use std::fmt;

use telemetry::MatchOp;

use crate::ast::*;
use crate::text::{format_millis, format_plain, is_plain_label_name, quote, quote_bytes};

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Number(n) => f.write_str(&number(n)),
            Node::String(n) => f.write_str(&string(n)),
            Node::Vector(n) => vector(f, n),
            Node::Matrix(n) => matrix(f, n),
            Node::Subquery(n) => {
                write!(f, "{}{}", n.expr, subquery_times(n))
            }
            Node::Aggregate(n) => aggregate(f, n),
            Node::Binary(n) => {
                write!(f, "{} {} {}", n.lhs, operator(n), n.rhs)
            }
            Node::Unary(n) => write!(f, "{}{}", if n.negate { '-' } else { '+' }, n.expr),
            Node::Paren(n) => write!(f, "({})", n.expr),
            Node::Call(n) => {
                write!(f, "{}(", n.function.name)?;
                for (i, arg) in n.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Node::StepInvariant(n) => n.fmt(f),
        }
    }
}

fn number(n: &NumberLiteral) -> String {
    if n.duration { format_millis((n.value * 1e9) as i64 / 1_000_000) } else { format_plain(n.value) }
}

fn string(n: &StringLiteral) -> String {
    match &n.bytes {
        Some(bytes) => quote_bytes(bytes),
        None => quote(&n.value),
    }
}

fn duration(ms: i64, expr: &Option<Box<DurationExpr>>) -> String {
    match expr {
        Some(expr) => expr.to_string(),
        None => format_millis(ms),
    }
}

fn at(at: Option<At>) -> String {
    match at {
        None => String::new(),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        Some(At::Time(ms)) => format!(" @ {:.3}", ms as f64 / 1000.0),
    }
}

fn offset(ms: i64, expr: &Option<Box<DurationExpr>>) -> String {
    if ms == 0 && expr.is_none() { String::new() } else { format!(" offset {}", duration(ms, expr)) }
}

fn extension(extension: Option<Extension>) -> &'static str {
    match extension {
        None => "",
        Some(Extension::Anchored) => " anchored",
        Some(Extension::Smoothed) => " smoothed",
    }
}

fn vector(f: &mut fmt::Formatter<'_>, n: &VectorSelector) -> fmt::Result {
    f.write_str(&selector(n))?;
    write!(f, "{}{}{}", at(n.at), extension(n.extension), offset(n.offset_ms, &n.offset_expr))
}

fn matrix(f: &mut fmt::Formatter<'_>, n: &MatrixSelector) -> fmt::Result {
    let s = &n.selector;
    write!(f, "{}[{}]", selector(s), duration(n.range_ms, &n.range_expr))?;
    write!(f, "{}{}{}", extension(s.extension), at(s.at), offset(s.offset_ms, &s.offset_expr))
}

/// Name and matchers, the matchers sorted as text.
fn selector(n: &VectorSelector) -> String {
    let name_in_front = |m: &&telemetry::Matcher| {
        m.name == telemetry::labels::METRIC_NAME && m.op == MatchOp::Equal && m.value == n.name && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = n
        .matchers
        .iter()
        .filter(|m| !name_in_front(m))
        .map(|m| format!("{}{}{}", label(&m.name), m.op, quote(&m.value)))
        .collect();
    if matchers.is_empty() {
        return if n.name.is_empty() { "{}".to_owned() } else { n.name.clone() };
    }
    matchers.sort();
    format!("{}{{{}}}", n.name, matchers.join(","))
}

fn label(name: &str) -> String {
    if is_plain_label_name(name) { name.to_owned() } else { quote(name) }
}

fn labels(names: &[String]) -> String {
    names.iter().map(|name| label(name)).collect::<Vec<_>>().join(", ")
}

/// An aggregation up to its parentheses.
fn aggregate_head(n: &Aggregate) -> String {
    let name = n.op.name();
    match (n.without, n.grouping.is_empty()) {
        (true, _) => format!("{name} without ({}) ", labels(&n.grouping)),
        (false, false) => format!("{name} by ({}) ", labels(&n.grouping)),
        (false, true) => name.to_owned(),
    }
}

fn aggregate(f: &mut fmt::Formatter<'_>, n: &Aggregate) -> fmt::Result {
    write!(f, "{}(", aggregate_head(n))?;
    if let Some(param) = &n.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", n.expr)
}

/// A subquery's range, step and modifiers.
fn subquery_times(n: &Subquery) -> String {
    let mut text = format!("[{}:", duration(n.range_ms, &n.range_expr));
    if n.step_ms != 0 || n.step_expr.is_some() {
        text.push_str(&duration(n.step_ms, &n.step_expr));
    }
    text + "]" + &at(n.at) + &offset(n.offset_ms, &n.offset_expr)
}

/// An operator with all that stands between it and its right side.
fn operator(n: &Binary) -> String {
    let modifier = if n.return_bool { " bool" } else { "" };
    let mut text = format!("{}{modifier}", n.op.symbol());
    if let Some(matching) = &n.matching {
        // Writing into a string cannot fail.
        let _ = write_matching(&mut text, matching);
    }
    text
}

fn write_matching(f: &mut impl fmt::Write, m: &VectorMatching) -> fmt::Result {
    let grouped = matches!(m.card, Card::ManyToOne | Card::OneToMany);
    if !m.labels.is_empty() || m.on || grouped {
        write!(f, " {} ({})", if m.on { "on" } else { "ignoring" }, labels(&m.labels))?;
    }
    if grouped {
        let side = if m.card == Card::ManyToOne { "left" } else { "right" };
        write!(f, " group_{side} ({})", labels(&m.include))?;
    }
    let show = |value: f64| crate::text::format_general(value);
    match (m.fill_left, m.fill_right) {
        (Some(left), Some(right)) if left == right => write!(f, " fill ({})", show(left)),
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", show(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", show(right))?;
            }
            Ok(())
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_str("(")?;
        }
        match &self.kind {
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Plus(inner) => write!(f, "{inner}")?,
            DurationKind::Minus(inner) => write!(f, "-{inner}")?,
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})")?,
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})")?,
            DurationKind::Binary(op, a, b) => write!(f, "{a} {} {b}", op.symbol())?,
        }
        if self.wrapped {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for DurationNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationNode::Literal(n) => f.write_str(&number(n)),
            DurationNode::Expr(expr) => expr.fmt(f),
        }
    }
}
