//! Our engine over our storage: the only place where `promql` and `storage` meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promql::{Answer, Engine, Expr, Limits, Series, Source, SourceError};
use storage::Storage;
use telemetry::{Matcher, Timestamp};

use super::{Config, QueryError};

/// Parsed expressions kept: rules and dashboards ask the same few hundred for ever.
const PARSED_MAX: usize = 1024;

pub struct Embedded {
    engine: Engine,
    source: StorageSource,
    timeout: Duration,
    parsed: Mutex<HashMap<Arc<str>, Arc<Expr>>>,
}

struct StorageSource(Arc<Storage>);

impl Source for StorageSource {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let series = self.0.select(matchers, start, end);
        Ok(series.into_iter().map(|s| Series { labels: s.labels, samples: s.samples }).collect())
    }
}

impl Embedded {
    pub fn new(config: &Config, storage: Arc<Storage>) -> Self {
        let limits = Limits { max_samples: config.samples_max, ..Limits::default() };
        Embedded {
            engine: Engine::new(limits),
            source: StorageSource(storage),
            timeout: config.timeout,
            parsed: Mutex::default(),
        }
    }

    pub async fn instant(self: Arc<Self>, expr: &str, at: Timestamp) -> Result<Answer, QueryError> {
        let expr = self.parse(expr)?;
        self.evaluate(move |this| this.engine.instant(&expr, &this.source, at)).await
    }

    pub async fn range(
        self: Arc<Self>,
        expr: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    ) -> Result<Answer, QueryError> {
        let expr = self.parse(expr)?;
        self.evaluate(move |this| this.engine.range(&expr, &this.source, start, end, step)).await
    }

    fn parse(&self, text: &str) -> Result<Arc<Expr>, QueryError> {
        let mut parsed = self.parsed.lock().expect("no one panics holding it");
        if let Some(expr) = parsed.get(text) {
            return Ok(expr.clone());
        }
        let expr = Arc::new(promql::parse(text)?);
        if parsed.len() >= PARSED_MAX {
            // Rare (ad-hoc queries only), and a query is parsed again in microseconds.
            parsed.clear();
        }
        parsed.insert(text.into(), expr.clone());
        Ok(expr)
    }

    /// Evaluation is computation: it runs beside the tasks that serve sockets, never on them.
    async fn evaluate<F>(self: Arc<Self>, work: F) -> Result<Answer, QueryError>
    where
        F: FnOnce(&Embedded) -> Result<Answer, promql::EvalError> + Send + 'static,
    {
        let timeout = self.timeout;
        let work = tokio::task::spawn_blocking(move || work(&self));
        match tokio::time::timeout(timeout, work).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(join)) => std::panic::resume_unwind(join.into_panic()),
            Err(_) => Err(QueryError::Timeout(timeout)),
        }
    }
}
