//! The series of a node: numbers of the source, or labels that an operation made.

use std::sync::{Arc, Mutex, PoisonError};

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
    labels: Mutex<Option<Arc<[Labels]>>>,
    nameless: Mutex<Option<Nameless>>,
}

/// Rows whose labels a prepared query keeps from one evaluation to the next; those of more rows are asked for again
/// where they are needed, which is but rarely.
const LABELS_KEPT_MAX: usize = 10_000;

/// Labels after the names have gone.
#[derive(Clone)]
pub(crate) struct Nameless {
    pub labels: Arc<[Labels]>,
    pub distinct: bool,
}

/// What is in the slot, made first if need be.
fn get_or_make<T: Clone>(slot: &Mutex<Option<T>>, make: impl FnOnce() -> T) -> T {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(make).clone()
}

impl Rows {
    pub(super) fn of_labels(labels: Vec<Labels>) -> Self {
        let len = labels.len();
        let labels = Mutex::new(Some(labels.into()));
        Rows { selected: None, len, metric: None, labels, nameless: Mutex::default() }
    }

    fn of_selected(selected: Arc<Selected>, matchers: &[Matcher]) -> Self {
        let named = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty());
        Rows {
            len: selected.ids.len(),
            selected: Some(selected),
            metric: named.map(|m| m.value.clone()),
            labels: Mutex::default(),
            nameless: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn ids(&self) -> &[SeriesId] {
        self.selected.as_ref().map_or(&[], |selected| &selected.ids)
    }

    /// The labels of all rows; asked of the source when they are needed first.
    pub(crate) fn labels(&self, snapshot: &dyn Snapshot) -> Arc<[Labels]> {
        get_or_make(&self.labels, || self.ids().iter().map(|id| snapshot.labels(*id)).collect())
    }

    /// Lets go of labels that would take much memory, if they can be had again.
    pub(super) fn shed(&self) {
        if self.len > LABELS_KEPT_MAX {
            *self.nameless.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if self.selected.is_some() {
                *self.labels.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }

    /// The labels of one row, without asking for all.
    pub(super) fn label(&self, row: usize, snapshot: &dyn Snapshot) -> Labels {
        match self.ids().get(row) {
            Some(id) => snapshot.labels(*id),
            None => self.labels(snapshot).get(row).cloned().unwrap_or_default(),
        }
    }

    /// The metric that all rows have, where that is known without looking.
    pub(super) fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// The labels that rows end up with when names are to go.
    pub(crate) fn nameless(&self, snapshot: &dyn Snapshot) -> Nameless {
        get_or_make(&self.nameless, || {
            let labels: Arc<[Labels]> = self.labels(snapshot).iter().map(without_metadata).collect();
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
