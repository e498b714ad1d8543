//! Which metrics a rule asks for that nothing exposes: a misspelt name is an alert that never fires.
//!
//! In: the names that a running engine knows. Names that the checked files record count as known.

use std::collections::BTreeSet;

use promql::Expr;
use promql::ast::{Node, VectorSelector};

use super::super::file::{RuleFile, RuleKind};
use super::expression::children;
use super::{Code, Found};

/// What the engine makes itself.
const BUILT_IN: [&str; 4] = ["up", "ALERTS", "ALERTS_FOR_STATE", "scrape_"];
/// A name that shares less with ours is another name, not a misspelt one.
const NEAREST_DISTANCE_MAX: f64 = 0.4;

/// Names of metrics that there are.
#[derive(Clone, Debug, Default)]
pub struct KnownMetrics(BTreeSet<String>);

impl KnownMetrics {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        KnownMetrics(names.into_iter().collect())
    }

    /// Adds what the recording rules of a file will write.
    pub fn add_recorded(&mut self, file: &RuleFile) {
        let rules = file.groups.iter().flat_map(|group| &group.rules);
        let recorded = rules.filter_map(|rule| match &rule.kind {
            RuleKind::Record { name } => Some(name.clone()),
            RuleKind::Alert { .. } => None,
        });
        self.0.extend(recorded);
    }

    fn has(&self, name: &str) -> bool {
        let is_built_in =
            BUILT_IN.iter().any(|known| name == *known || (known.ends_with('_') && name.starts_with(known)));
        is_built_in || self.0.contains(name)
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let distance = |other: &&String| 1.0 - strsim::normalized_damerau_levenshtein(name, other);
        let nearest = self.0.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        (distance(&nearest) <= NEAREST_DISTANCE_MAX).then_some(nearest.as_str())
    }

    /// One finding per name.
    pub(super) fn findings(&self, expr: &Expr) -> Vec<Found> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        self.visit(expr.root(), &mut |selector| {
            let name = selector.name.as_str();
            if name.is_empty() || self.has(name) || !seen.insert(name.to_owned()) {
                return;
            }
            let nearest = self.nearest(name).map(|nearest| format!("; the nearest name is {nearest}"));
            let message = format!("no target exposes {name}{}", nearest.unwrap_or_default());
            found.push((Code::UnknownMetric, Some(selector.span), message));
        });
        found
    }

    /// Every selector but those whose absence is what is asked about.
    fn visit<'a>(&self, node: &'a Node, found: &mut impl FnMut(&'a VectorSelector)) {
        match node {
            Node::Vector(selector) => found(selector),
            Node::Matrix(matrix) => found(&matrix.selector),
            Node::Call(call) if call.function.name.starts_with("absent") => {}
            other => children(other).into_iter().for_each(|child| self.visit(child, found)),
        }
    }
}
