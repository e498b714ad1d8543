//! Which rules of a group may be evaluated at the same time. Pure.
//!
//! In a group each rule sees what the ones above it have just written, and what the ones below it wrote last time.
//! Rules that neither read what the other writes nor write the same series can run beside each other without
//! anybody being able to tell. Whatever cannot be judged by its text (a selector without a name, a template that
//! asks) is taken to read everything.

use std::collections::BTreeSet;

use promql::ast::{Node, VectorSelector};

use super::file::{RuleKind, RuleSpec};
use super::lint::children;

const ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// Names of metrics; None is all of them.
type Names = Option<BTreeSet<String>>;

struct Touches {
    reads: Names,
    writes: BTreeSet<String>,
}

/// Per rule its turn: rules of one turn may run together, turns follow each other.
pub(super) fn turns(rules: &[RuleSpec]) -> Vec<usize> {
    let touches: Vec<Touches> = rules.iter().map(Touches::of).collect();
    let mut turns: Vec<usize> = Vec::with_capacity(rules.len());
    for (index, rule) in touches.iter().enumerate() {
        let before = touches[..index].iter().zip(&turns).filter(|(other, _)| rule.conflicts(other));
        turns.push(before.map(|(_, turn)| turn + 1).max().unwrap_or(0));
    }
    turns
}

impl Touches {
    fn of(rule: &RuleSpec) -> Self {
        let (writes, asks) = match &rule.kind {
            RuleKind::Record { name } => (BTreeSet::from([name.clone()]), false),
            RuleKind::Alert { annotations, .. } => {
                let mut texts = annotations.iter().chain(&rule.labels);
                (ALERTS.map(str::to_owned).into(), texts.any(|(_, text)| text.source().contains("query")))
            }
        };
        let reads = match (asks, promql::parse(&rule.expr)) {
            (false, Ok(expr)) => {
                let mut names = Some(BTreeSet::new());
                read(expr.root(), &mut names);
                names
            }
            _ => None,
        };
        Touches { reads, writes }
    }

    fn conflicts(&self, other: &Touches) -> bool {
        // Two alerting rules both write ALERTS, but never the same series of it: the alert's name tells them apart,
        // and two of one name are told apart by their labels or are a mistake that Prometheus does not order either.
        let both_record = |name: &String| other.writes.contains(name) && !ALERTS.contains(&name.as_str());
        self.reads_any(&other.writes) || other.reads_any(&self.writes) || self.writes.iter().any(both_record)
    }

    fn reads_any(&self, written: &BTreeSet<String>) -> bool {
        self.reads.as_ref().is_none_or(|names| !names.is_disjoint(written))
    }
}

fn read(node: &Node, names: &mut Names) {
    match node {
        Node::Vector(selector) => add(selector, names),
        Node::Matrix(matrix) => add(&matrix.selector, names),
        other => children(other).into_iter().for_each(|child| read(child, names)),
    }
}

fn add(selector: &VectorSelector, names: &mut Names) {
    match (selector.name.as_str(), names.as_mut()) {
        ("", _) => *names = None,
        (name, Some(known)) => drop(known.insert(name.to_owned())),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use telemetry::Labels;
    use url::Url;

    use super::super::file::{NameValidation, parse};
    use super::super::template::Globals;
    use super::*;

    fn of(rules: &str) -> Vec<usize> {
        let external_url = Url::parse("http://localhost/").expect("a URL");
        let globals = Globals { external_url, external_labels: Labels::empty() };
        let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
        let file = parse(&text, Path::new("r.yml"), &globals, NameValidation::Utf8).expect(rules);
        turns(&file.groups[0].rules)
    }

    #[test]
    fn who_reads_what_another_writes_waits_for_it_and_others_do_not() {
        for (rules, expected) in [
            ("{record: a, expr: x}, {record: b, expr: y}, {alert: C, expr: z > 0}", vec![0, 0, 0]),
            ("{record: a, expr: x}, {record: b, expr: a}, {alert: C, expr: b > 0}", vec![0, 1, 2]),
            // Reads what a later one writes: it must see the last value, not the new one.
            ("{record: a, expr: b}, {record: b, expr: x}", vec![0, 1]),
            // Its own last value orders nobody.
            ("{record: a, expr: a + x}, {record: b, expr: y}", vec![0, 0]),
            // The same series from two rules: the later one is the last.
            ("{record: a, expr: x}, {record: a, expr: y}", vec![0, 1]),
            ("{alert: A, expr: x}, {alert: B, expr: 'ALERTS == 1'}, {alert: C, expr: y}", vec![0, 1, 2]),
            // Nobody knows what these read.
            ("{record: a, expr: x}, {record: b, expr: '{job=\"x\"}'}, {record: c, expr: y}", vec![0, 1, 2]),
            (
                "{record: a, expr: x}, {alert: B, expr: y, annotations: {s: '{{ query \"a\" }}'}}, {record: c, expr: y}",
                vec![0, 1, 2],
            ),
        ] {
            assert_eq!(of(rules), expected, "{rules}");
        }
    }
}
