//! A query's tree as JSON, in the form that Prometheus 3 gives to its own web UI (web/api/v1/translate_ast.go).

use promql::ast::{
    Aggregate, At, Binary, BinaryOp, Call, Card, DurationExpr, DurationKind, DurationNode, Extension, MatrixSelector,
    Node, NumberLiteral, Subquery, VectorMatching, VectorSelector,
};
use serde_json::{Value, json};
use telemetry::Matcher;
use telemetry::labels::METRIC_NAME;

pub(super) fn node(node: &Node) -> Value {
    match node {
        Node::Number(literal) => json!({ "type": "numberLiteral", "val": plain(literal.value) }),
        Node::String(literal) => json!({ "type": "stringLiteral", "val": literal.value }),
        Node::Vector(selector) => vector(selector),
        Node::Matrix(selector) => matrix(selector),
        Node::Subquery(subquery) => self::subquery(subquery),
        Node::Aggregate(aggregate) => self::aggregate(aggregate),
        Node::Binary(binary) => self::binary(binary),
        Node::Unary(unary) => json!({
            "type": "unaryExpr",
            "op": if unary.negate { "-" } else { "+" },
            "expr": self::node(&unary.expr),
        }),
        Node::Paren(paren) => json!({ "type": "parenExpr", "expr": self::node(&paren.expr) }),
        Node::Call(call) => self::call(call),
        Node::StepInvariant(inner) => self::node(inner),
    }
}

fn vector(selector: &VectorSelector) -> Value {
    json!({
        "type": "vectorSelector",
        "name": selector.name,
        "offset": selector.offset_ms,
        "offsetExpr": duration(selector.offset_expr.as_deref()),
        "matchers": matchers(selector),
        "timestamp": timestamp(selector.at),
        "startOrEnd": start_or_end(selector.at),
        "anchored": selector.extension == Some(Extension::Anchored),
        "smoothed": selector.extension == Some(Extension::Smoothed),
    })
}

fn matrix(matrix: &MatrixSelector) -> Value {
    let mut json = vector(&matrix.selector);
    json["type"] = "matrixSelector".into();
    json["range"] = matrix.range_ms.into();
    json["rangeExpr"] = duration(matrix.range_expr.as_deref());
    json
}

fn subquery(subquery: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": node(&subquery.expr),
        "range": subquery.range_ms,
        "rangeExpr": duration(subquery.range_expr.as_deref()),
        "offset": subquery.offset_ms,
        "offsetExpr": duration(subquery.offset_expr.as_deref()),
        "step": subquery.step_ms,
        "stepExpr": duration(subquery.step_expr.as_deref()),
        "timestamp": timestamp(subquery.at),
        "startOrEnd": start_or_end(subquery.at),
    })
}

fn aggregate(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.name(),
        "expr": node(&aggregate.expr),
        "param": aggregate.param.as_ref().map(node),
        "grouping": aggregate.grouping,
        "without": aggregate.without,
    })
}

fn binary(binary: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": binary.op.symbol(),
        "lhs": node(&binary.lhs),
        "rhs": node(&binary.rhs),
        "matching": binary.matching.as_ref().map(matching),
        "bool": binary.return_bool,
    })
}

fn matching(matching: &VectorMatching) -> Value {
    let card = match matching.card {
        Card::OneToOne => "one-to-one",
        Card::ManyToOne => "many-to-one",
        Card::OneToMany => "one-to-many",
        Card::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": matching.fill_left, "rhs": matching.fill_right },
    })
}

fn call(call: &Call) -> Value {
    let function = call.function;
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": function.args.iter().map(|kind| kind.api_name()).collect::<Vec<_>>(),
            "variadic": function.variadic,
            "returnType": function.returns.api_name(),
        },
        "args": call.args.iter().map(node).collect::<Vec<_>>(),
    })
}

/// The name that stands before the braces comes last among the matchers.
fn matchers(selector: &VectorSelector) -> Vec<Value> {
    let is_name = |m: &&Matcher| !selector.name.is_empty() && m.name == METRIC_NAME && m.value == selector.name;
    let (names, others): (Vec<&Matcher>, Vec<&Matcher>) = selector.matchers.iter().partition(is_name);
    let json = |m: &Matcher| json!({ "name": m.name, "value": m.value, "type": m.op.to_string() });
    others.into_iter().chain(names).map(json).collect()
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Time(millis)) => Some(millis),
        Some(At::Start | At::End) | None => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        Some(At::Time(_)) | None => None,
    }
}

fn duration(expr: Option<&DurationExpr>) -> Value {
    let Some(expr) = expr else { return Value::Null };
    let (op, lhs, rhs) = match &expr.kind {
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Plus(inner) => (BinaryOp::Add.symbol(), None, Some(inner)),
        DurationKind::Minus(inner) => (BinaryOp::Sub.symbol(), None, Some(inner)),
        DurationKind::MinOf(lhs, rhs) => ("min_of", Some(lhs), Some(rhs)),
        DurationKind::MaxOf(lhs, rhs) => ("max_of", Some(lhs), Some(rhs)),
        DurationKind::Binary(op, lhs, rhs) => (op.symbol(), Some(lhs), Some(rhs)),
    };
    let side = |side: Option<&Box<DurationNode>>| side.map(|node| duration_node(node));
    json!({ "type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": expr.wrapped })
}

fn duration_node(node: &DurationNode) -> Value {
    match node {
        DurationNode::Literal(NumberLiteral { value, duration, .. }) => {
            json!({ "type": "numberLiteral", "val": plain(*value), "duration": duration })
        }
        DurationNode::Expr(expr) => duration(Some(expr)),
    }
}

/// Without an exponent, as Go's `FormatFloat(v, 'f', -1, 64)`.
fn plain(value: f64) -> String {
    match () {
        () if value.is_finite() => format!("{value}"),
        () if value.is_nan() => "NaN".to_owned(),
        () if value > 0.0 => "+Inf".to_owned(),
        () => "-Inf".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(query: &str) -> Value {
        node(promql::parse(query).expect(query).root())
    }

    fn up() -> Value {
        json!({
            "type": "vectorSelector", "name": "up", "offset": 0, "offsetExpr": null, "timestamp": null,
            "startOrEnd": null, "anchored": false, "smoothed": false,
            "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
        })
    }

    #[test]
    fn a_selector_lists_its_name_after_its_matchers() {
        assert_eq!(tree("up"), up());
        let mut expected = up();
        expected["offset"] = (-60_000).into();
        expected["startOrEnd"] = "end".into();
        expected["matchers"] = json!([
            { "name": "job", "value": "a|b", "type": "=~" },
            { "name": "x", "value": "", "type": "!=" },
            { "name": "__name__", "value": "up", "type": "=" },
        ]);
        assert_eq!(tree(r#"up{job=~"a|b", x!=""} @ end() offset -1m"#), expected);
        let mut expected = up();
        expected["type"] = "matrixSelector".into();
        expected["range"] = 300_000.into();
        expected["rangeExpr"] = Value::Null;
        expected["timestamp"] = 1_500.into();
        assert_eq!(tree("up[5m] @ 1.5"), expected);
    }

    #[test]
    fn operators_say_how_their_sides_match() {
        let expected = json!({
            "type": "binaryExpr", "op": "/", "bool": false, "lhs": up(), "rhs": up(),
            "matching": {
                "card": "many-to-one", "labels": ["job"], "on": true, "include": ["team"],
                "fillValues": { "lhs": null, "rhs": null },
            },
        });
        assert_eq!(tree("up / on(job) group_left(team) up"), expected);
        assert_eq!(tree("up and up")["matching"]["card"], "many-to-many");
        let expected = json!({
            "type": "binaryExpr", "op": ">", "bool": true, "matching": null,
            "lhs": { "type": "numberLiteral", "val": "1" },
            "rhs": { "type": "unaryExpr", "op": "-", "expr": { "type": "numberLiteral", "val": "+Inf" } },
        });
        assert_eq!(tree("1 > bool -(Inf)")["rhs"]["expr"]["type"], "parenExpr");
        let mut got = tree("1 > bool -(Inf)");
        got["rhs"]["expr"] = got["rhs"]["expr"]["expr"].take();
        assert_eq!(got, expected);
    }

    #[test]
    fn calls_carry_their_signature_and_aggregations_their_grouping() {
        let expected = json!({
            "type": "call",
            "func": { "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector" },
            "args": [up()],
        });
        assert_eq!(tree("round(up)"), expected);
        let expected = json!({
            "type": "aggregation", "op": "topk", "without": true, "grouping": ["instance"], "expr": up(),
            "param": { "type": "numberLiteral", "val": "3" },
        });
        assert_eq!(tree("topk without(instance) (3, up)"), expected);
        assert_eq!(tree("sum(up)")["grouping"], json!([]));
        assert_eq!(tree("sum(up)")["param"], Value::Null);
        let expected = json!({
            "type": "subquery", "expr": up(), "range": 600_000, "rangeExpr": null, "offset": 0, "offsetExpr": null,
            "step": 0, "stepExpr": null, "timestamp": null, "startOrEnd": null,
        });
        assert_eq!(tree("up[10m:]"), expected);
    }
}
