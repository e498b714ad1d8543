//! What an expression says about itself: pure walks over its tree.

use promql::Expr;
use promql::ast::{Aggregate, Binary, BinaryOp, Call, Node, ValueType, VectorSelector};
use telemetry::MatchOp;
use telemetry::names::label;

use super::{Code, Found};

const RATES: [&str; 3] = ["rate", "irate", "increase"];
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];
/// Labels that only one task has.
const TASK_LABELS: [&str; 4] = [label::TASK_ID, label::INSTANCE, "task_arn", "container_id"];

/// Findings that hold for recording rules too.
pub(super) fn findings(expr: &Expr) -> Vec<Found> {
    let mut found = Vec::new();
    walk(expr.root(), &mut |node| match node {
        Node::Call(call) if RATES.contains(&call.function.name) => found.extend(rate_of_gauge(call)),
        Node::Call(call) if call.function.name == "histogram_quantile" => found.extend(quantile(call)),
        Node::Binary(binary) if binary.op == BinaryOp::Div => found.extend(unlike_ratio(binary)),
        Node::Binary(binary) if binary.op.is_comparison() => found.extend(absolute_errors(binary)),
        Node::Vector(selector) => found.extend(contradiction(selector)),
        Node::Matrix(matrix) => found.extend(contradiction(&matrix.selector)),
        _ => {}
    });
    found
}

/// Findings about what an alert makes of the result.
pub(super) fn alert_findings(expr: &Expr) -> Vec<Found> {
    let mut found = Vec::new();
    if !filters(expr.root()) {
        let message = "filters nothing: it fires as long as the series exist".to_owned();
        found.push((Code::AlwaysFires, Some(expr.root().span()), message));
    }
    if keeps_task_labels(expr.root()) {
        let message = "keeps the labels of single tasks: one incident is as many alerts as there are tasks".to_owned();
        found.push((Code::SplitByTask, Some(expr.root().span()), message));
    }
    found
}

/// Whether no series is asked for: `vector(1)`.
pub(super) fn is_constant(expr: &Expr) -> bool {
    let mut selects = false;
    walk(expr.root(), &mut |node| selects |= matches!(node, Node::Vector(_) | Node::Matrix(_)));
    !selects
}

fn walk<'a>(node: &'a Node, visit: &mut impl FnMut(&'a Node)) {
    visit(node);
    for child in children(node) {
        walk(child, visit);
    }
}

/// The nodes directly below one.
pub(in crate::rules) fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Subquery(subquery) => vec![&subquery.expr],
        Node::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).collect(),
        Node::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Node::Unary(unary) => vec![&unary.expr],
        Node::Paren(paren) => vec![&paren.expr],
        Node::Call(call) => call.args.iter().collect(),
        Node::StepInvariant(inner) => vec![inner],
        Node::Number(_) | Node::String(_) | Node::Vector(_) | Node::Matrix(_) => Vec::new(),
    }
}

fn bare(node: &Node) -> &Node {
    match node {
        Node::Paren(paren) => bare(&paren.expr),
        Node::StepInvariant(inner) => bare(inner),
        other => other,
    }
}

fn rate_of_gauge(call: &Call) -> Option<Found> {
    let Node::Matrix(matrix) = bare(call.args.first()?) else { return None };
    let name = matrix.selector.name.as_str();
    // A recorded series says nothing of its kind in its name's end.
    let is_counter =
        name.is_empty() || name.contains(':') || COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    let message = format!("{} of {name}, whose name is not that of a counter", call.function.name);
    (!is_counter).then_some((Code::RateOfGauge, Some(call.span), message))
}

fn quantile(call: &Call) -> Option<Found> {
    let argument = call.args.get(1)?;
    let mut has_rate = false;
    let mut names = Vec::new();
    let mut without_le = false;
    walk(argument, &mut |node| match node {
        Node::Call(call) => has_rate |= RATES.contains(&call.function.name) || call.function.name == "delta",
        Node::Vector(selector) => names.push(selector.name.as_str()),
        Node::Matrix(matrix) => names.push(matrix.selector.name.as_str()),
        Node::Aggregate(aggregate) => without_le |= drops_label(aggregate, "le"),
        _ => {}
    });
    let is_classic = names.iter().any(|name| name.ends_with("_bucket"));
    let message = if without_le && is_classic {
        "the aggregation drops le, so that there is no histogram left"
    } else if !has_rate && !names.iter().all(|name| name.contains(':') || name.is_empty()) {
        "histogram_quantile without rate is the quantile since the start, or nothing"
    } else {
        return None;
    };
    Some((Code::QuantileOfNothing, Some(call.span), message.to_owned()))
}

fn drops_label(aggregate: &Aggregate, name: &str) -> bool {
    aggregate.grouping.iter().any(|label| label == name) == aggregate.without
}

/// A division of rates that are matched by all their labels although they select different values of one.
fn unlike_ratio(binary: &Binary) -> Option<Found> {
    let matching = binary.matching.as_ref()?;
    let (left, right) = (lone_rate(&binary.lhs)?, lone_rate(&binary.rhs)?);
    let is_matched_by_all = !matching.on && matching.labels.is_empty();
    let selected = |selector: &VectorSelector| {
        let named = selector.matchers.iter().filter(|matcher| matcher.name != telemetry::labels::METRIC_NAME);
        named.map(ToString::to_string).collect::<Vec<_>>()
    };
    let message = "the sides select different series but are matched by all labels: sum both by those of the alert";
    (is_matched_by_all && selected(left) != selected(right))
        .then(|| (Code::RatioOfUnlikeSeries, Some(binary.span()), message.to_owned()))
}

/// The selector of `rate(x[5m])` that no aggregation stands round.
fn lone_rate(node: &Node) -> Option<&VectorSelector> {
    let Node::Call(call) = bare(node) else { return None };
    match bare(call.args.first()?) {
        Node::Matrix(matrix) if RATES.contains(&call.function.name) => Some(&matrix.selector),
        _ => None,
    }
}

/// `rate(x{status=~"5.."}[5m]) > 0.05`, summed or not.
fn absolute_errors(binary: &Binary) -> Option<Found> {
    if binary.rhs.value_type() != ValueType::Scalar {
        return None;
    }
    let mut node = bare(&binary.lhs);
    while let Node::Aggregate(aggregate) = node {
        node = bare(&aggregate.expr);
    }
    let selector = lone_rate(node)?;
    let is_error = |name: &str, value: &str| {
        let by_status = ["status", "code", "status_code"].contains(&name) && value.starts_with('5');
        by_status || value.eq_ignore_ascii_case("error")
    };
    let selects_errors = selector.matchers.iter().any(|matcher| {
        matches!(matcher.op, MatchOp::Equal | MatchOp::Regex) && is_error(&matcher.name, &matcher.value)
    });
    let message = "errors per second against a fixed number: divide by all requests".to_owned();
    selects_errors.then(|| (Code::AbsoluteErrorRate, Some(binary.span()), message))
}

/// Two equality matchers on one label that cannot both hold.
fn contradiction(selector: &VectorSelector) -> Option<Found> {
    let equal = || selector.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal);
    let clash = equal().find(|a| selector.matchers.iter().any(|b| a.name == b.name && !b.matches(&a.value)))?;
    let message = format!("no series has {clash} and what else is asked of {}", clash.name);
    Some((Code::NeverFires, Some(selector.span), message))
}

/// Whether some elements of the result may be missing because of their values.
fn filters(node: &Node) -> bool {
    match bare(node) {
        Node::Binary(binary) if binary.op.is_comparison() => !binary.return_bool,
        Node::Binary(binary) => match binary.op {
            BinaryOp::And | BinaryOp::Unless => true,
            BinaryOp::Or => filters(&binary.lhs) || filters(&binary.rhs),
            _ => filters(&binary.lhs) || filters(&binary.rhs),
        },
        Node::Call(call) if call.function.name.starts_with("absent") => true,
        // A name like `job:slo_breach:bool` may have been filtered when it was recorded.
        Node::Vector(selector) => selector.name.contains(':') || selector.name.starts_with("ALERTS"),
        other => children(other).into_iter().any(filters),
    }
}

/// Whether elements of the result may carry labels that only one task has.
fn keeps_task_labels(node: &Node) -> bool {
    let has_task = |labels: &[String]| labels.iter().any(|name| TASK_LABELS.contains(&name.as_str()));
    match bare(node) {
        Node::Number(_) | Node::String(_) => false,
        // Recorded names say at which level they were aggregated, and it is never the task.
        Node::Vector(selector) => !selector.name.contains(':') && !pins_task(selector),
        Node::Matrix(matrix) => !matrix.selector.name.contains(':') && !pins_task(&matrix.selector),
        Node::Aggregate(aggregate) if !aggregate.without => {
            let picks = ["topk", "bottomk", "limitk", "limit_ratio"].contains(&aggregate.op.name());
            has_task(&aggregate.grouping) || (picks && keeps_task_labels(&aggregate.expr))
        }
        Node::Aggregate(aggregate) => {
            keeps_task_labels(&aggregate.expr)
                && !TASK_LABELS[..2].iter().all(|name| aggregate.grouping.iter().any(|g| g == name))
        }
        Node::Call(call) if call.function.name.starts_with("absent") => false,
        Node::Binary(binary) => match (&binary.matching, binary.op) {
            (_, BinaryOp::And | BinaryOp::Unless) => keeps_task_labels(&binary.lhs),
            (_, BinaryOp::Or) => keeps_task_labels(&binary.lhs) || keeps_task_labels(&binary.rhs),
            (Some(matching), op) if matching.on && !op.is_comparison() && matching.include.is_empty() => {
                has_task(&matching.labels)
            }
            _ => keeps_task_labels(&binary.lhs) || keeps_task_labels(&binary.rhs),
        },
        other => children(other).into_iter().any(keeps_task_labels),
    }
}

/// One task is meant: its label is asked for by value.
fn pins_task(selector: &VectorSelector) -> bool {
    selector.matchers.iter().any(|matcher| matcher.op == MatchOp::Equal && TASK_LABELS.contains(&matcher.name.as_str()))
}
