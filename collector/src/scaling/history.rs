//! What was decided: a row in `state` per decision, the newest ones at hand for the status.

use std::collections::{BTreeMap, VecDeque};

use super::HistoryEntry;
use super::schedule::Bounds;
use crate::state::{ScalingEntry, State};

/// The status shows this many.
const SHOWN_MAX: usize = 50;

pub(super) struct History {
    state: State,
    shown: VecDeque<HistoryEntry>,
    loaded: bool,
    /// Outcome and reason per resource: what goes on unchanged is written once.
    last: BTreeMap<String, (String, String)>,
}

impl History {
    pub(super) fn new(state: State) -> Self {
        History { state, shown: VecDeque::new(), loaded: false, last: BTreeMap::new() }
    }

    /// Reads what earlier runs of the collector decided.
    pub(super) async fn load(&mut self) {
        if self.loaded {
            return;
        }
        match self.state.scaling_history(None, SHOWN_MAX as u32).await {
            Ok(rows) => {
                self.loaded = true;
                self.shown.extend(rows.into_iter().map(HistoryEntry::from));
                self.shown.truncate(SHOWN_MAX);
            }
            Err(error) => tracing::warn!(error = %error, "the scaling history cannot be read"),
        }
    }

    /// True when it is news.
    pub(super) async fn add(&mut self, entry: HistoryEntry) -> bool {
        let said = (entry.outcome.clone(), entry.reason.clone());
        let repeated = self.last.insert(entry.resource.clone(), said.clone()) == Some(said);
        if repeated && entry.outcome != "applied" {
            return false;
        }
        if let Err(error) = self.state.append_scaling(&row(&entry)).await {
            tracing::warn!(resource = entry.resource, error = %error, "a scaling decision is not remembered");
        }
        self.shown.push_front(entry);
        self.shown.truncate(SHOWN_MAX);
        true
    }

    /// The next trouble of this resource is news again.
    pub(super) fn settle(&mut self, resource: &str) {
        self.last.remove(resource);
    }

    pub(super) fn shown(&self) -> Vec<HistoryEntry> {
        self.shown.iter().cloned().collect()
    }
}

fn row(entry: &HistoryEntry) -> ScalingEntry {
    let bound = |bounds: Option<Bounds>, of: fn(Bounds) -> u32| bounds.map(|b| i64::from(of(b)));
    ScalingEntry {
        at: entry.at,
        resource: entry.resource.clone(),
        schedule: entry.schedule.clone(),
        outcome: entry.outcome.clone(),
        min_before: bound(entry.before, |b| b.min),
        max_before: bound(entry.before, |b| b.max),
        min_after: bound(entry.after, |b| b.min),
        max_after: bound(entry.after, |b| b.max),
        reason: entry.reason.clone(),
    }
}

impl From<ScalingEntry> for HistoryEntry {
    fn from(row: ScalingEntry) -> Self {
        let bounds = |min: Option<i64>, max: Option<i64>| {
            Some(Bounds { min: u32::try_from(min?).ok()?, max: u32::try_from(max?).ok()? })
        };
        HistoryEntry {
            at: row.at,
            resource: row.resource,
            schedule: row.schedule,
            outcome: row.outcome,
            before: bounds(row.min_before, row.max_before),
            after: bounds(row.min_after, row.max_after),
            reason: row.reason,
        }
    }
}
