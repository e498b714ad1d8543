//! Types: what may be combined with what. Also settles the kind of matching of each binary operation.

use super::{Parse, fault};
use crate::ast::*;
use crate::text::quote;

pub(super) fn check(node: &mut Node, text: &str) -> Parse<ValueType> {
    match node {
        Node::Aggregate(n) => check_aggregate(n, text)?,
        Node::Binary(n) => check_binary(n, text)?,
        Node::Call(n) => check_call(n, text)?,
        Node::Paren(n) => {
            check(&mut n.expr, text)?;
        }
        Node::Unary(n) => {
            let kind = check(&mut n.expr, text)?;
            if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(kind.documented())
                );
                return fault(node.span(), message);
            }
        }
        Node::Subquery(n) => {
            let kind = check(&mut n.expr, text)?;
            if kind != ValueType::Vector {
                let message = format!("subquery is only allowed on instant vector, got {} instead", kind.api_name());
                return fault(n.span, message);
            }
        }
        Node::Matrix(n) => check_selector(&n.selector)?,
        Node::Vector(n) => check_selector(n)?,
        Node::StepInvariant(n) => {
            check(n, text)?;
        }
        Node::Number(_) | Node::String(_) => {}
    }
    Ok(node.value_type())
}

fn expect(node: &mut Node, want: ValueType, context: &str, text: &str) -> Parse<()> {
    let kind = check(node, text)?;
    if kind != want {
        let message = format!("expected type {} in {context}, got {}", want.documented(), kind.documented());
        return fault(node.span(), message);
    }
    Ok(())
}

fn check_aggregate(n: &mut Aggregate, text: &str) -> Parse<()> {
    expect(&mut n.expr, ValueType::Vector, "aggregation expression", text)?;
    let want = if n.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
    if let Some(param) = &mut n.param {
        expect(param, want, "aggregation parameter", text)?;
    }
    Ok(())
}

fn check_binary(n: &mut Binary, text: &str) -> Parse<()> {
    let left = check(&mut n.lhs, text)?;
    let right = check(&mut n.rhs, text)?;
    let (whole, op, op_span) = (n.span(), n.op, operator_span(n, text));
    if n.return_bool && !op.is_comparison() {
        return fault(op_span, "bool modifier can only be used on comparison operators");
    }
    if op.is_comparison() && !n.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        return fault(op_span, "comparisons between scalars must use BOOL modifier");
    }
    let Some(matching) = &mut n.matching else { return Ok(()) };
    if op.is_set() && matching.card == Card::OneToOne {
        matching.card = Card::ManyToMany;
    }
    if matching.on
        && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
    {
        let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
        return fault(op_span, message);
    }
    for (kind, side) in [(left, &n.lhs), (right, &n.rhs)] {
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return fault(side.span(), message);
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if left != ValueType::Vector || right != ValueType::Vector {
        if !matching.labels.is_empty() {
            return fault(whole, "vector matching only allowed between instant vectors");
        }
        if fills {
            return fault(whole, "filling in missing series only allowed between instant vectors");
        }
        if op.is_set() {
            let message = format!("set operator {} not allowed in binary scalar expression", quote(op.symbol()));
            return fault(whole, message);
        }
        n.matching = None;
    } else if op.is_set() {
        if matching.card != Card::ManyToMany {
            return fault(whole, format!("no grouping allowed for {} operation", quote(op.symbol())));
        }
        if fills {
            return fault(whole, "filling in missing series not allowed for set operators");
        }
    }
    Ok(())
}

/// The operator and its modifiers, without the blanks round them.
fn operator_span(n: &Binary, text: &str) -> Span {
    let bytes = text.as_bytes();
    let blank = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_whitespace);
    let mut span = Span { start: n.lhs.span().end, end: n.rhs.span().start };
    while blank(span.start) {
        span.start += 1;
    }
    while span.end > span.start && blank(span.end - 1) {
        span.end -= 1;
    }
    span
}

fn check_call(n: &mut Call, text: &str) -> Parse<()> {
    let function = n.function;
    let (listed, given, name) = (function.args.len(), n.args.len(), quote(function.name));
    if function.variadic == 0 {
        if given != listed {
            return fault(n.span, format!("expected {listed} argument(s) in call to {name}, got {given}"));
        }
    } else {
        let least = listed - 1;
        if given < least {
            return fault(n.span, format!("expected at least {least} argument(s) in call to {name}, got {given}"));
        }
        let most = least + usize::try_from(function.variadic).unwrap_or(usize::MAX - least);
        if given > most {
            return fault(n.span, format!("expected at most {most} argument(s) in call to {name}, got {given}"));
        }
    }
    let info = function.name == "info";
    for (i, arg) in n.args.iter_mut().enumerate() {
        let want = function.args[i.min(listed - 1)];
        if info && i == 1 {
            check_info_selector(arg, n.span)?;
            continue;
        }
        let kind = check(arg, text)?;
        if kind != want {
            let message =
                format!("expected type {} in call to function {name}, got {}", want.documented(), kind.documented());
            return fault(arg.span(), message);
        }
    }
    Ok(())
}

/// The second argument of `info` names labels, not a metric, and may match everything.
fn check_info_selector(arg: &Node, call: Span) -> Parse<()> {
    let kind = arg.value_type();
    if kind != ValueType::Vector {
        let message = format!("expected type instant vector in call to function \"info\", got {}", kind.documented());
        return fault(call, message);
    }
    match arg {
        Node::Vector(n) if n.name.is_empty() => Ok(()),
        Node::Vector(n) => fault(n.span, "expected label selectors only, got vector selector instead"),
        _ => fault(arg.span(), "expected label selectors only"),
    }
}

fn check_selector(n: &VectorSelector) -> Parse<()> {
    if !n.name.is_empty() {
        let inside = n.matchers.split_last().map_or(&[][..], |(_, rest)| rest);
        if let Some(twice) = inside.iter().find(|m| m.name == telemetry::labels::METRIC_NAME) {
            let message = format!("metric name must not be set twice: {} or {}", quote(&n.name), quote(&twice.value));
            return fault(n.span, message);
        }
        return Ok(());
    }
    if n.matchers.iter().all(|m| m.matches("")) {
        return fault(n.span, "vector selector must contain at least one non-empty matcher");
    }
    Ok(())
}
