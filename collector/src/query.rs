//! Questions in PromQL to wherever the samples are: an expression and a time in, an answer out.
//!
//! Rules, API, UI, publishing and scaling all ask here and none of them knows which engine answers.

pub mod cardinality;
mod embedded;
mod remote;
mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use promql::ast::ValueType;
use promql::{Answer, EvalError};
use serde::{Deserialize, Serialize};
use service::config::Secret;
use service::sigv4;
use storage::Exemplar;
use telemetry::{Labels, Matcher, Timestamp};

use crate::http_client::{check_one_auth, parse_url, resolve_secrets};
use crate::scrape::{Authorization, BasicAuth};
use crate::tls::TlsConfig;
use cardinality::Cardinality;
pub use embedded::Embedded;
pub use remote::Remote;

/// Why there is no answer; the API's status and error type follow from it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no PromQL: the asker's fault.
    #[error("{0}")]
    Parse(#[from] promql::ParseError),
    /// It is, but yields nothing that has a value at each step.
    #[error("invalid expression type {:?} for range query, must be Scalar or instant Vector", .0.documented())]
    NoRange(ValueType),
    /// It is, but cannot be evaluated: many-to-many matching, too many samples.
    #[error("{0}")]
    Execution(promql::EvalError),
    #[error("query timed out in expression evaluation: it took longer than {}", telemetry::duration::format(*.0))]
    Timeout(Duration),
    /// Nobody waited for the answer any more.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// The samples could not be read: not the asker's fault.
    #[error("{0}")]
    Source(promql::EvalError),
    /// An engine elsewhere said so, or did not answer.
    #[error("{message}")]
    Remote { kind: RemoteKind, message: String },
}

/// What an engine elsewhere calls the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    BadData,
    Execution,
    Timeout,
    /// It does not answer, or not in Prometheus' way.
    Unavailable,
}

impl From<EvalError> for QueryError {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Cancelled => QueryError::Cancelled,
            EvalError::Source(_) => QueryError::Source(error),
            error => QueryError::Execution(error),
        }
    }
}

/// What one query may do differently from the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryOptions {
    /// Less time than the configuration allows; more is not given.
    pub timeout: Option<Duration>,
    /// How far back an instant selector looks for a sample, in place of five minutes.
    pub lookback: Option<Duration>,
    /// Count samples for each step.
    pub step_stats: bool,
}

/// The matchers of a series selector: `up{job="a"}`.
///
/// # Errors
/// Text that is no selector.
pub fn selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    Ok(promql::parse_selector(text)?)
}

/// A series' newest sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    pub labels: Labels,
    pub timestamp: Timestamp,
    pub value: f64,
}

/// A span of time, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// The `query:` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A query that takes longer is given up.
    #[serde(with = "service::config::duration")]
    pub timeout: Duration,
    /// Samples that one query may load.
    pub samples_max: usize,
    /// Queries that are evaluated at the same time; further ones wait, and their waiting counts as time.
    pub concurrency_max: usize,
    /// Threads that one range query over many series may use; answers do not depend on it. As many as there are
    /// processors, at most 4, where it is not set.
    pub threads_max: usize,
    /// Ask this Prometheus API instead of the samples here; the path of its `api/v1/query` without that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Sent with every question to `url`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Sign for Amazon Managed Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<sigv4::Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
}

impl Default for Config {
    fn default() -> Self {
        // Prometheus' own defaults: --query.timeout, --query.max-samples and --query.max-concurrency.
        Config {
            timeout: Duration::from_secs(120),
            samples_max: 50_000_000,
            concurrency_max: 20,
            threads_max: std::thread::available_parallelism().map_or(1, |processors| processors.get().min(4)),
            url: None,
            headers: BTreeMap::new(),
            basic_auth: None,
            authorization: None,
            sigv4: None,
            tls_config: None,
        }
    }
}

impl Config {
    /// # Errors
    /// A limit under which no query could run.
    pub fn check(&self) -> Result<(), String> {
        match () {
            () if self.timeout.is_zero() => Err("query: timeout cannot be 0".to_owned()),
            () if self.concurrency_max == 0 => Err("query: concurrency_max cannot be 0".to_owned()),
            () if self.threads_max == 0 => Err("query: threads_max cannot be 0; 1 uses one thread".to_owned()),
            () => self.check_remote().map_err(|why| format!("query: {why}")),
        }
    }

    fn check_remote(&self) -> Result<(), String> {
        let (basic, header) = (self.basic_auth.as_ref(), self.authorization.as_ref());
        let said_how = basic.is_some() || header.is_some() || self.sigv4.is_some() || self.tls_config.is_some();
        match &self.url {
            Some(url) => drop(parse_url(url)?),
            None if said_how || !self.headers.is_empty() => {
                return Err("headers, credentials and tls_config need a url".to_owned());
            }
            None => {}
        }
        check_one_auth(basic, header, self.sigv4.as_ref(), None)?;
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::check)
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        resolve_secrets(self.basic_auth.as_mut(), self.authorization.as_mut(), base);
        self.tls_config.iter_mut().for_each(|tls| tls.resolve_paths(base));
    }
}

/// A closed set of engines, cheap to clone.
#[derive(Clone)]
pub enum Querier {
    /// Our engine over our storage.
    Embedded(Arc<Embedded>),
    /// An engine elsewhere, over its own samples.
    Remote(Arc<Remote>),
}

impl Querier {
    /// The value of `expr` at one time.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn instant(&self, expr: &str, at: Timestamp) -> Result<Answer, QueryError> {
        self.instant_with(expr, at, QueryOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn instant_with(&self, expr: &str, at: Timestamp, options: QueryOptions) -> Result<Answer, QueryError> {
        match self {
            Querier::Embedded(engine) => engine.clone().instant(expr, at, options).await,
            Querier::Remote(engine) => engine.instant(expr, at, options).await,
        }
    }

    /// The values of `expr` from `start` to `end`, one every `step`.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn range(
        &self,
        expr: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    ) -> Result<Answer, QueryError> {
        self.range_with(expr, start, end, step, QueryOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn range_with(
        &self,
        expr: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: QueryOptions,
    ) -> Result<Answer, QueryError> {
        match self {
            Querier::Embedded(engine) => engine.clone().range(expr, start, end, step, options).await,
            Querier::Remote(engine) => engine.range(expr, (start, end), step, options).await,
        }
    }

    /// The series that any of the selectors match.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn series(&self, selectors: Vec<Vec<Matcher>>, window: Window) -> Result<Vec<Labels>, QueryError> {
        match self {
            Querier::Embedded(engine) => Ok(engine.clone().series(selectors, window).await),
            Querier::Remote(engine) => engine.series(selectors, window).await,
        }
    }

    /// The label names of those series; without selectors, of all.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn label_names(&self, selectors: Vec<Vec<Matcher>>, window: Window) -> Result<Vec<String>, QueryError> {
        match self {
            Querier::Embedded(engine) => Ok(engine.clone().label_names(selectors, window).await),
            Querier::Remote(engine) => engine.label_names(selectors, window).await,
        }
    }

    /// The values that a label has in those series; without selectors, in all.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn label_values(
        &self,
        name: &str,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Result<Vec<String>, QueryError> {
        match self {
            Querier::Embedded(engine) => Ok(engine.clone().label_values(name.to_owned(), selectors, window).await),
            Querier::Remote(engine) => engine.label_values(name, selectors, window).await,
        }
    }

    /// The newest sample of every series that any of the selectors match, not older than the lookback of queries.
    /// Series that have ended are left out, and so are native histograms.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn latest(&self, selectors: Vec<Vec<Matcher>>, at: Timestamp) -> Result<Vec<Latest>, QueryError> {
        match self {
            Querier::Embedded(engine) => engine.clone().latest(selectors, at).await,
            Querier::Remote(engine) => engine.latest(selectors, at).await,
        }
    }

    /// The exemplars within the window of the series that any of the selectors match, by series.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn exemplars(
        &self,
        selectors: Vec<Vec<Matcher>>,
        window: Window,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        match self {
            Querier::Embedded(engine) => Ok(engine.clone().exemplars(selectors, window).await),
            Querier::Remote(engine) => engine.exemplars(selectors, window).await,
        }
    }

    /// Which names and values make how many series; at most `limit` of each kind.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn cardinality(&self, limit: usize) -> Result<Cardinality, QueryError> {
        match self {
            Querier::Embedded(engine) => Ok(engine.clone().cardinality(limit).await),
            Querier::Remote(_) => Err(QueryError::Remote {
                kind: RemoteKind::Unavailable,
                message: "the samples are elsewhere: ask the remote engine for its cardinality".to_owned(),
            }),
        }
    }
}
