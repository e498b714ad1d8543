//! Our engine over our storage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use promql::ast::ValueType;
use promql::{Answer, Engine, EvalError, Limits, Options, Prepared, Source, Stop};
use storage::{Exemplar, Storage};
use telemetry::{Labels, Matcher, Timestamp};
use tokio::sync::Semaphore;

use super::cardinality::Cardinality;
use super::source::StorageSource;
use super::{Config, Latest, QueryError, QueryOptions, Window};

/// Prepared queries kept: rules and dashboards ask the same few hundred for ever.
const PREPARED_MAX: usize = 1024;

pub struct Embedded {
    engine: Engine,
    source: StorageSource,
    timeout: Duration,
    threads: usize,
    turns: Semaphore,
    prepared: Mutex<HashMap<Arc<str>, Arc<Prepared>>>,
}

impl Embedded {
    pub fn new(config: &Config, storage: Arc<Storage>) -> Self {
        let limits = Limits { max_samples: config.samples_max, ..Limits::default() };
        Embedded {
            engine: Engine::new(limits),
            source: StorageSource(storage),
            timeout: config.timeout,
            threads: config.threads_max,
            turns: Semaphore::new(config.concurrency_max),
            prepared: Mutex::default(),
        }
    }

    pub(super) async fn instant(
        self: Arc<Self>,
        expr: &str,
        at: Timestamp,
        asked: QueryOptions,
    ) -> Result<Answer, QueryError> {
        let begun = Instant::now();
        let query = self.prepared(expr)?;
        let work =
            move |this: &Self, options: Options<'_>| this.engine.instant_prepared(&query, &this.source, at, options);
        self.evaluate(begun, asked, work).await
    }

    pub(super) async fn range(
        self: Arc<Self>,
        expr: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        asked: QueryOptions,
    ) -> Result<Answer, QueryError> {
        let begun = Instant::now();
        let query = self.prepared(expr)?;
        let kind = query.expr().value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::NoRange(kind));
        }
        let work = move |this: &Self, options: Options<'_>| {
            this.engine.range_prepared(&query, &this.source, start, end, step, options)
        };
        self.evaluate(begun, asked, work).await
    }

    /// The query with what it remembers of the series that it found before.
    fn prepared(&self, text: &str) -> Result<Arc<Prepared>, QueryError> {
        let mut prepared = self.prepared.lock().expect("no one panics holding it");
        if let Some(query) = prepared.get(text) {
            return Ok(query.clone());
        }
        let query = Arc::new(Prepared::new(promql::parse(text)?));
        if prepared.len() >= PREPARED_MAX {
            // Rare (ad-hoc queries only), and a query is prepared again in little time.
            prepared.clear();
        }
        prepared.insert(text.into(), query.clone());
        Ok(query)
    }

    pub(super) async fn series(self: Arc<Self>, selectors: Vec<Vec<Matcher>>, window: Window) -> Vec<Labels> {
        self.list(selectors, move |storage, matchers| storage.series_labels(matchers, window.start, window.end)).await
    }

    pub(super) async fn label_names(self: Arc<Self>, selectors: Vec<Vec<Matcher>>, window: Window) -> Vec<String> {
        let selectors = or_everything(selectors);
        self.list(selectors, move |storage, matchers| storage.label_names(matchers, window.start, window.end)).await
    }

    pub(super) async fn label_values(
        self: Arc<Self>,
        name: String,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Vec<String> {
        let selectors = or_everything(selectors);
        let values =
            move |storage: &Storage, matchers: &[_]| storage.label_values(&name, matchers, window.start, window.end);
        self.list(selectors, values).await
    }

    pub(super) async fn latest(
        self: Arc<Self>,
        selectors: Vec<Vec<Matcher>>,
        at: Timestamp,
    ) -> Result<Vec<Latest>, QueryError> {
        self.beside(move |this| {
            let start = at - this.engine.limits().lookback;
            // Selectors may overlap; a series is told once.
            let mut latest = BTreeMap::new();
            for matchers in &selectors {
                let found = this.source.select(matchers, start, at);
                for series in found.map_err(|error| QueryError::Source(EvalError::Source(error)))? {
                    if let Some((timestamp, value)) =
                        series.samples.last().filter(|(_, v)| !telemetry::is_stale_nan(*v))
                    {
                        latest.insert(series.labels, (*timestamp, *value));
                    }
                }
            }
            let told = latest.into_iter().map(|(labels, (timestamp, value))| Latest { labels, timestamp, value });
            Ok(told.collect())
        })
        .await
    }

    pub(super) async fn exemplars(
        self: Arc<Self>,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        self.beside(move |this| this.source.0.exemplars().select(&selectors, window.start, window.end)).await
    }

    pub(super) async fn cardinality(self: Arc<Self>, limit: usize) -> Cardinality {
        self.beside(move |this| {
            let series = this.source.0.series_labels(&[], Timestamp::MIN, Timestamp::MAX);
            Cardinality { extent: this.source.0.extent(), ..Cardinality::of(&series, limit) }
        })
        .await
    }

    /// What any of the selectors finds, sorted, each once.
    async fn list<T, F>(self: Arc<Self>, selectors: Vec<Vec<Matcher>>, find: F) -> Vec<T>
    where
        T: Ord + Send + 'static,
        F: Fn(&Storage, &[Matcher]) -> Vec<T> + Send + 'static,
    {
        self.beside(move |this| {
            let found: BTreeSet<T> = selectors.iter().flat_map(|matchers| find(&this.source.0, matchers)).collect();
            found.into_iter().collect()
        })
        .await
    }

    /// Ends the work when the time is up or when nobody waits for the answer any more.
    async fn evaluate<F>(self: Arc<Self>, begun: Instant, asked: QueryOptions, work: F) -> Result<Answer, QueryError>
    where
        F: FnOnce(&Embedded, Options<'_>) -> Result<Answer, EvalError> + Send + 'static,
    {
        let timeout = asked.timeout.map_or(self.timeout, |wanted| wanted.min(self.timeout));
        let deadline = begun + timeout;
        let this = self.clone();
        let waits_since = Instant::now();
        let turn = tokio::time::timeout(timeout, this.turns.acquire()).await;
        let _turn = turn.map_err(|_| QueryError::Timeout(timeout))?.expect("the semaphore is never closed");
        let waited = waits_since.elapsed();
        let waiting = Arc::new(());
        let waits = Arc::downgrade(&waiting);
        let stop = move || match () {
            () if waits.strong_count() == 0 => Some(Stop::Cancelled),
            () if Instant::now() >= deadline => Some(Stop::TimedOut),
            () => None,
        };
        let clock = move || begun.elapsed();
        let evaluated = self.beside(move |this| {
            // A time limit of nothing at all is over before the engine looks at the clock.
            if let Some(Stop::TimedOut) = stop() {
                return Err(EvalError::TimedOut);
            }
            let QueryOptions { lookback, step_stats, .. } = asked;
            let (stop, clock) = (Some(&stop as _), Some(&clock as _));
            work(this, Options { stop, clock, lookback, step_stats, threads: this.threads, ..Options::default() })
        });
        let evaluated = evaluated.await;
        drop(waiting);
        match evaluated {
            Ok(mut answer) => {
                answer.stats.timings.queued(waited);
                Ok(answer)
            }
            Err(EvalError::TimedOut) => Err(QueryError::Timeout(timeout)),
            Err(error) => Err(error.into()),
        }
    }

    /// Evaluation is computation: it runs beside the tasks that serve sockets, never on them.
    async fn beside<T, F>(self: Arc<Self>, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Embedded) -> T + Send + 'static,
    {
        service::task::beside(move || work(&self)).await
    }
}

/// No selector stands for all series, as the label endpoints have it.
fn or_everything(selectors: Vec<Vec<Matcher>>) -> Vec<Vec<Matcher>> {
    if selectors.is_empty() { vec![Vec::new()] } else { selectors }
}
