//! Our parser beside another one (the crate promql-parser): random queries, whole and damaged, get the same verdict and
//! the same tree.

use std::time::{Duration, SystemTime};

use promql::ast::{At, Node, VectorMatching, VectorSelector};
use promql_parser::parser::{self as peer, AtModifier, LabelModifier, Offset, VectorMatchCardinality};

use crate::differential::{Random, vector};

const SEED: u64 = 20_261_121;
const CASES: usize = 20_000;

/// A tree in brackets, the same text for the same meaning from either parser.
fn ours(node: &Node) -> String {
    match node {
        Node::Number(n) => number(n.value),
        Node::String(n) => format!("{:?}", n.value),
        Node::Vector(n) => our_selector(n),
        Node::Matrix(n) => format!("[{} range {}]", our_selector(&n.selector), n.range_ms),
        Node::Subquery(n) => {
            let (expr, place) = (ours(&n.expr), our_place(n.offset_ms, n.at));
            format!("[{expr} range {} step {}{place}]", n.range_ms, n.step_ms)
        }
        Node::Aggregate(n) => {
            let param = n.param.as_ref().map(ours).unwrap_or_default();
            let modifier = if n.without { "without" } else { "by" };
            format!("({} {modifier} {} {param} {})", n.op.name(), sorted(&n.grouping), ours(&n.expr))
        }
        Node::Binary(n) => {
            let matching = n.matching.as_ref().map(our_matching).unwrap_or_default();
            let bool = if n.return_bool { " bool" } else { "" };
            format!("({} {}{bool}{matching} {})", ours(&n.lhs), n.op.symbol(), ours(&n.rhs))
        }
        Node::Unary(n) if n.negate => format!("(- {})", ours(&n.expr)),
        // They forget the sign, which Prometheus keeps.
        Node::Unary(n) => ours(&n.expr),
        Node::Paren(n) => format!("({})", ours(&n.expr)),
        Node::Call(n) => {
            let args: Vec<String> = n.args.iter().map(ours).collect();
            format!("{}({})", n.function.name, args.join(", "))
        }
        Node::StepInvariant(_) => unreachable!("only in prepared trees"),
    }
}

fn theirs(expr: &peer::Expr) -> String {
    match expr {
        peer::Expr::NumberLiteral(n) => number(n.val),
        peer::Expr::StringLiteral(n) => format!("{:?}", n.val),
        peer::Expr::VectorSelector(n) => their_selector(n),
        peer::Expr::MatrixSelector(n) => format!("[{} range {}]", their_selector(&n.vs), n.range.as_millis()),
        peer::Expr::Subquery(n) => {
            let (expr, place) = (theirs(&n.expr), their_place(n.offset.as_ref(), n.at.as_ref()));
            let step = n.step.unwrap_or_default().as_millis();
            format!("[{expr} range {} step {step}{place}]", n.range.as_millis())
        }
        peer::Expr::Aggregate(n) => {
            let param = n.param.as_ref().map(|param| theirs(param)).unwrap_or_default();
            let (modifier, labels) = match &n.modifier {
                Some(LabelModifier::Exclude(labels)) => ("without", labels.labels.as_slice()),
                Some(LabelModifier::Include(labels)) => ("by", labels.labels.as_slice()),
                None => ("by", &[][..]),
            };
            format!("({} {modifier} {} {param} {})", n.op, sorted(labels), theirs(&n.expr))
        }
        peer::Expr::Binary(n) => {
            let (mut bool, mut matching) = ("", String::new());
            if let Some(modifier) = &n.modifier {
                bool = modifier.bool_str().trim_end();
                matching = their_matching(modifier);
            }
            let bool = if bool.is_empty() { String::new() } else { format!(" {bool}") };
            let op = n.op;
            format!("({} {op}{bool}{matching} {})", theirs(&n.lhs), theirs(&n.rhs))
        }
        peer::Expr::Unary(n) => format!("(- {})", theirs(&n.expr)),
        peer::Expr::Paren(n) => format!("({})", theirs(&n.expr)),
        peer::Expr::Call(n) => {
            let args: Vec<String> = n.args.args.iter().map(|arg| theirs(arg)).collect();
            format!("{}({})", n.func.name, args.join(", "))
        }
        peer::Expr::Extension(_) => unreachable!("the parser makes none"),
    }
}

fn number(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{:x}", value.to_bits()) }
}

fn sorted(labels: &[String]) -> String {
    let mut labels = labels.to_vec();
    labels.sort();
    labels.dedup();
    format!("{labels:?}")
}

fn our_selector(selector: &VectorSelector) -> String {
    let matchers = selector.matchers.iter().filter(|m| selector.name.is_empty() || m.name != "__name__");
    let matchers = matchers.map(|m| format!("{}{}{:?}", m.name, m.op, m.value)).collect();
    written(&selector.name, matchers, &our_place(selector.offset_ms, selector.at))
}

fn their_selector(selector: &peer::VectorSelector) -> String {
    let matchers = selector.matchers.matchers.iter().map(|m| format!("{}{}{:?}", m.name, m.op, m.value)).collect();
    let place = their_place(selector.offset.as_ref(), selector.at.as_ref());
    written(selector.name.as_deref().unwrap_or_default(), matchers, &place)
}

fn written(name: &str, mut matchers: Vec<String>, place: &str) -> String {
    matchers.sort();
    format!("{name}{{{}}}{place}", matchers.join(","))
}

fn our_place(offset_ms: i64, at: Option<At>) -> String {
    let at = match at {
        None => String::new(),
        Some(At::Time(ms)) => format!(" @ {ms}"),
        Some(At::Start) => " @ start".to_owned(),
        Some(At::End) => " @ end".to_owned(),
    };
    format!(" offset {offset_ms}{at}")
}

fn their_place(offset: Option<&Offset>, at: Option<&AtModifier>) -> String {
    let ms = |duration: &Duration| i64::try_from(duration.as_millis()).unwrap();
    let offset = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => ms(duration),
        Some(Offset::Neg(duration)) => -ms(duration),
    };
    let at = at.map(|at| match at {
        AtModifier::Start => At::Start,
        AtModifier::End => At::End,
        AtModifier::At(time) => At::Time(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => ms(&after),
            Err(before) => -ms(&before.duration()),
        }),
    });
    our_place(offset, at)
}

fn our_matching(matching: &VectorMatching) -> String {
    use promql::ast::Card;
    let side = match matching.card {
        Card::OneToOne | Card::ManyToMany => String::new(),
        Card::ManyToOne => format!(" group_left {}", sorted(&matching.include)),
        Card::OneToMany => format!(" group_right {}", sorted(&matching.include)),
    };
    let on = if matching.on { "on" } else { "ignoring" };
    if matching.labels.is_empty() && !matching.on { side } else { format!(" {on} {}{side}", sorted(&matching.labels)) }
}

fn their_matching(modifier: &peer::BinModifier) -> String {
    let side = match &modifier.card {
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => String::new(),
        VectorMatchCardinality::ManyToOne(labels) => format!(" group_left {}", sorted(&labels.labels)),
        VectorMatchCardinality::OneToMany(labels) => format!(" group_right {}", sorted(&labels.labels)),
    };
    match &modifier.matching {
        Some(LabelModifier::Include(labels)) => format!(" on {}{side}", sorted(&labels.labels)),
        Some(LabelModifier::Exclude(labels)) if !labels.is_empty() => {
            format!(" ignoring {}{side}", sorted(&labels.labels))
        }
        _ => side,
    }
}

/// The query with a piece of it gone, doubled or taken from elsewhere.
fn damaged(query: &str, random: &mut Random) -> String {
    const PIECES: [&str; 24] = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "sum",
        "by",
        "on",
        "bool",
        "offset",
        "@",
        "5m",
        "1",
        "-",
        "and",
        "==",
        "group_left",
        "rate",
        "le",
        "\"x\"",
        "=~",
        ":",
    ];
    let mut tokens: Vec<&str> = query.split_inclusive([' ', '(', ')', '[', ']', '{', '}', ',']).collect();
    let at = random.below(tokens.len());
    match random.below(3) {
        0 => drop(tokens.remove(at)),
        1 => tokens.insert(at, random.pick(&PIECES)),
        _ => tokens[at] = random.pick(&PIECES),
    }
    tokens.concat()
}

fn compared(query: &str) -> Result<bool, String> {
    let (we, they) = (promql::parse(query), peer::parse(query));
    match (we, they) {
        (Err(_), Err(_)) => Ok(false),
        (Ok(we), Ok(they)) if ours(we.root()) == theirs(&they) => Ok(true),
        (Ok(we), Ok(they)) => Err(format!("{query}\n  we: {}\n  they: {}", ours(we.root()), theirs(&they))),
        // Prometheus 3 groups by any UTF-8 name, they by names without colons.
        (Ok(_), Err(error)) if error.contains("is not valid label in grouping opts") => Ok(true),
        (Ok(_), Err(error)) => Err(format!("{query}\n  only they refuse: {error}")),
        (Err(error), Ok(_)) => Err(format!("{query}\n  only we refuse: {error}")),
    }
}

#[test]
fn another_parser_sees_the_same_trees() {
    let mut random = Random(SEED);
    let (mut taken, mut differences) = (0, Vec::new());
    for _ in 0..CASES {
        let mut query = vector(&mut random, 4);
        if random.below(2) == 0 {
            query = damaged(&query, &mut random);
        }
        match compared(&query) {
            Ok(accepted) => taken += usize::from(accepted),
            Err(difference) => differences.push(difference),
        }
    }
    differences.sort_by_key(String::len);
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "seed {SEED}: {} of {CASES} differ:\n{shown}", differences.len());
    assert!((CASES / 2..CASES - CASES / 10).contains(&taken), "{taken} of {CASES} are queries: too few or too many");
}
