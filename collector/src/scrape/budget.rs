//! How many series a job's targets may have together. What is over the limit is new series alone: those that a target
//! already has go on, whatever the limit becomes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;

use crate::discovery::Target;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    scrape_job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    scrape_job: String,
    reason: &'static str,
}

/// Why a new series was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeriesRefusal {
    /// The job's `series_limit`.
    JobLimit,
    /// The store takes no more: `storage.series_max`.
    Store,
}

impl SeriesRefusal {
    fn as_str(self) -> &'static str {
        match self {
            SeriesRefusal::JobLimit => "series_limit",
            SeriesRefusal::Store => "store",
        }
    }
}

#[derive(Clone, Default)]
struct BudgetMetrics {
    series: Family<JobLabels, Gauge>,
    limit: Family<JobLabels, Gauge>,
    refused: Family<RefusedLabels, Counter>,
}

/// By job; clones share them.
#[derive(Clone)]
pub(super) struct Budgets {
    jobs: Arc<Mutex<HashMap<Arc<str>, Arc<Budget>>>>,
    metrics: BudgetMetrics,
}

impl Budgets {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = BudgetMetrics::default();
        metrics.register(|r| {
            r.register("collector_scrape_series", "Series that the job's targets have", own.series.clone());
            r.register("collector_scrape_series_limit", "The most that they may have, 0 is any", own.limit.clone());
            let help = "Samples of new series that were refused, by reason";
            r.register("collector_scrape_series_refused", help, own.refused.clone());
        });
        Budgets { jobs: Arc::default(), metrics: own }
    }

    /// The budget of the target's job, with the limit that it has now.
    pub(super) fn of(&self, target: &Target) -> Arc<Budget> {
        let mut jobs = self.jobs.lock().expect("no one panics holding it");
        let budget = jobs.entry(target.pool.clone()).or_insert_with(|| {
            let job = JobLabels { scrape_job: target.pool.to_string() };
            Arc::new(Budget {
                limit: AtomicU64::new(u64::MAX),
                used: AtomicU64::new(0),
                shown: self.metrics.series.get_or_create(&job).clone(),
                shown_limit: self.metrics.limit.get_or_create(&job).clone(),
                metrics: self.metrics.clone(),
                job,
            })
        });
        budget.set_limit(target.settings.limits.series_max);
        budget.clone()
    }
}

/// Of one job.
pub(super) struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
    shown: Gauge,
    shown_limit: Gauge,
    metrics: BudgetMetrics,
    job: JobLabels,
}

impl Budget {
    fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
        self.shown_limit.set(if limit == u64::MAX { 0 } else { i64::try_from(limit).unwrap_or(i64::MAX) });
    }

    /// Takes places for as many of the new series as there is room for; counts the others as refused.
    pub(super) fn take(&self, wanted: usize) -> usize {
        if wanted == 0 {
            return 0;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let mut granted = 0;
        let grant = |used: u64| {
            granted = (wanted as u64).min(limit.saturating_sub(used));
            Some(used + granted)
        };
        // The closure always gives a value.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grant);
        self.show();
        let granted = usize::try_from(granted).unwrap_or(wanted);
        self.refused(SeriesRefusal::JobLimit, wanted - granted);
        granted
    }

    /// Places that are free again.
    pub(super) fn give_back(&self, places: usize) {
        if places > 0 {
            let less = |used: u64| Some(used.saturating_sub(places as u64));
            let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            self.show();
        }
    }

    pub(super) fn refused(&self, reason: SeriesRefusal, count: usize) {
        if count > 0 {
            let labels = RefusedLabels { scrape_job: self.job.scrape_job.clone(), reason: reason.as_str() };
            self.metrics.refused.get_or_create(&labels).inc_by(count as u64);
        }
    }

    fn show(&self) {
        self.shown.set(i64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
    }
}

/// What one target holds of its job's budget; given back when the target is gone.
pub(super) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    pub(super) fn of(budget: Arc<Budget>) -> Self {
        Share { budget, held: 0 }
    }

    /// The same in another job's budget, whatever its limit: the series are there.
    pub(super) fn moved(&self, budget: Arc<Budget>) -> Self {
        budget.used.fetch_add(self.held as u64, Ordering::Relaxed);
        budget.show();
        Share { budget, held: self.held }
    }

    /// Places for new series of a target that has so many. What it holds beyond those comes first: series that it had
    /// under other rules a moment ago.
    pub(super) fn take(&mut self, wanted: usize, series: usize) -> usize {
        let spare = self.held.saturating_sub(series).min(wanted);
        let granted = self.budget.take(wanted - spare);
        self.held += granted;
        spare + granted
    }

    /// The target has so many series now.
    pub(super) fn settle(&mut self, series: usize) {
        self.budget.give_back(self.held.saturating_sub(series));
        self.held = self.held.min(series);
    }

    pub(super) fn refused(&self, reason: SeriesRefusal, count: usize) {
        self.budget.refused(reason, count);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: u64) -> Arc<Budget> {
        let job = JobLabels { scrape_job: "a".to_owned() };
        Arc::new(Budget {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            shown: Gauge::default(),
            shown_limit: Gauge::default(),
            metrics: BudgetMetrics::default(),
            job,
        })
    }

    #[test]
    fn targets_share_what_there_is_and_give_it_back() {
        let whole = budget(10);
        let (mut a, mut b) = (Share::of(whole.clone()), Share::of(whole.clone()));
        assert_eq!((a.take(7, 0), b.take(7, 0)), (7, 3));
        // Of the seven two are gone.
        a.settle(5);
        b.settle(3);
        assert_eq!(b.take(4, 3), 2);
        b.settle(5);
        assert_eq!(whole.shown.get(), 10);
        // New rules: a's five are offered anew, and one more.
        assert_eq!(a.take(6, 0), 5);
        a.settle(5);
        drop(b);
        assert_eq!((whole.shown.get(), a.take(9, 5)), (5, 5));
    }

    #[test]
    fn a_limit_below_what_is_there_takes_nothing_away() {
        let whole = budget(10);
        let mut a = Share::of(whole.clone());
        assert_eq!(a.take(8, 0), 8);
        whole.set_limit(4);
        assert_eq!((a.take(1, 8), whole.shown.get(), whole.shown_limit.get()), (0, 8, 4));
        a.settle(3);
        assert_eq!(a.take(2, 3), 1);
        let other = budget(1);
        let moved = a.moved(other.clone());
        drop(a);
        assert_eq!((whole.shown.get(), other.shown.get()), (0, 4));
        drop(moved);
        assert_eq!(other.shown.get(), 0);
    }
}
