//! The series of a node: numbers of the source, or labels that an operation made.

use std::sync::{Arc, OnceLock};

use hashbrown::HashSet;
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, MatchOp, Matcher};

use super::memory::{Selection, key};
use super::{Evaluator, Fast, Quit};
use crate::ast::*;
use crate::eval::without_metadata;
use crate::source::{Selected, SeriesId, Snapshot};

/// Series in a fixed order. Two nodes have the same rows only if they share them, so that what was worked out for
/// rows holds as long as the `Arc` is the same.
pub(crate) struct Rows {
    selected: Option<Arc<Selected>>,
    len: usize,
    /// The metric that all rows surely have.
    metric: Option<String>,
    labels: OnceLock<Vec<Labels>>,
    nameless: OnceLock<Nameless>,
}

/// Labels after the names have gone.
pub(crate) struct Nameless {
    pub labels: Vec<Labels>,
    pub distinct: bool,
}

impl Rows {
    pub(super) fn of_labels(labels: Vec<Labels>) -> Self {
        let len = labels.len();
        Rows { selected: None, len, metric: None, labels: labels.into(), nameless: OnceLock::new() }
    }

    fn of_selected(selected: Arc<Selected>, matchers: &[Matcher]) -> Self {
        let named = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty());
        Rows {
            len: selected.ids.len(),
            selected: Some(selected),
            metric: named.map(|m| m.value.clone()),
            labels: OnceLock::new(),
            nameless: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn ids(&self) -> &[SeriesId] {
        self.selected.as_ref().map_or(&[], |selected| &selected.ids)
    }

    /// The labels of all rows; asked of the source when they are needed first.
    pub(crate) fn labels(&self, snapshot: &dyn Snapshot) -> &[Labels] {
        self.labels.get_or_init(|| self.ids().iter().map(|id| snapshot.labels(*id)).collect())
    }

    /// The labels of one row, without asking for all.
    pub(super) fn label(&self, row: usize, snapshot: &dyn Snapshot) -> Labels {
        match (self.labels.get(), self.ids().get(row)) {
            (None, Some(id)) => snapshot.labels(*id),
            _ => self.labels(snapshot).get(row).cloned().unwrap_or_default(),
        }
    }

    /// The metric that all rows have, where that is known without looking.
    pub(super) fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// The labels that rows end up with when names are to go.
    pub(crate) fn nameless(&self, snapshot: &dyn Snapshot) -> &Nameless {
        self.nameless.get_or_init(|| {
            let labels: Vec<Labels> = self.labels(snapshot).iter().map(without_metadata).collect();
            let distinct = labels.iter().collect::<HashSet<_>>().len() == labels.len();
            Nameless { labels, distinct }
        })
    }
}

impl Evaluator<'_> {
    /// The series of a selector: what was found before as long as no series came or went.
    pub(super) fn selection(&mut self, node: &Node, n: &VectorSelector) -> Fast<Arc<Rows>> {
        let snapshot = self.snapshot()?;
        let (epoch, key) = (snapshot.epoch(), key(node));
        if let Some(known) = self.memory.selections.get(&key)
            && known.epoch == epoch
        {
            return Ok(known.rows.clone());
        }
        let selected = snapshot.resolve(&n.matchers).map_err(|e| Quit::Error(crate::EvalError::Source(e)))?;
        if let Some(known) = self.memory.selections.get_mut(&key)
            && (Arc::ptr_eq(&known.selected, &selected) || known.selected.ids == selected.ids)
        {
            known.epoch = epoch;
            return Ok(known.rows.clone());
        }
        let rows = Arc::new(Rows::of_selected(selected.clone(), &n.matchers));
        self.memory.selections.insert(key, Selection { selected, epoch, rows: rows.clone() });
        Ok(rows)
    }
}
