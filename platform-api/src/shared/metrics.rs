//! The platform's standard metrics (requirements 20-37), by the names and labels of `telemetry::names`.
//!
//! `path` is the route's template, never the path that a client sent: labels stay bounded. Duration and
//! count of requests carry the newest trace id as exemplar.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sqlx::PgPool;
use telemetry::names::{app, without_total};

use super::db::Query;

/// Up to ten seconds, the request timeout; 2 s stands in it because the latency alert asks about it.
const DURATION_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0];
/// A query on a warm index takes a fraction of a millisecond.
const QUERY_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];
/// A look into a map in memory.
const CACHE_BUCKETS: [f64; 5] = [0.000_001, 0.000_01, 0.000_1, 0.001, 0.01];
/// From an empty body to the body limit of 1 MiB.
const SIZE_BUCKETS: [f64; 7] = [128.0, 512.0, 2048.0, 8192.0, 32_768.0, 262_144.0, 1_048_576.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    path: String,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    query_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache_name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    queue: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationTypeLabels {
    operation_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CurrencyLabels {
    currency: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabel {
    trace_id: String,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;
type TracedDurations =
    Family<RouteLabels, HistogramWithExemplars<TraceLabel>, fn() -> HistogramWithExemplars<TraceLabel>>;

/// One answered request.
pub struct Answered<'a> {
    pub method: &'static str,
    /// The route's template, or `unmatched`.
    pub path: &'a str,
    pub status: u16,
    pub took: Duration,
    pub request_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    pub trace_id: Option<String>,
}

/// How the handling of a queued job ended; the label `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    Completed,
    /// Will be tried again.
    Failed,
    /// Given up.
    Dead,
}

/// Every metric of the platform; each service registers all but the users' figures.
pub struct AppMetrics {
    requests: Family<RequestLabels, CounterWithExemplar<TraceLabel, u64, AtomicU64>>,
    request_duration: TracedDurations,
    request_size: Durations<RouteLabels>,
    response_size: Durations<RouteLabels>,
    query_duration: Durations<QueryLabels>,
    cache_hits: Family<CacheLabels, Counter>,
    cache_misses: Family<CacheLabels, Counter>,
    cache_duration: Durations<OperationLabels>,
    jobs: Family<JobLabels, Counter>,
    job_duration: Durations<QueueLabels>,
    queue_depth: Family<QueueLabels, Gauge>,
    queue_oldest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    operations: Family<OperationTypeLabels, Counter>,
    orders: Family<StatusLabels, Counter>,
    revenue: Family<CurrencyLabels, Counter>,
}

fn durations<L: Clone + std::hash::Hash + Eq>(new: fn() -> Histogram) -> Durations<L> {
    Family::new_with_constructor(new)
}

impl AppMetrics {
    pub fn register(r: &mut Registry) -> Self {
        let m = AppMetrics {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| {
                HistogramWithExemplars::new(DURATION_BUCKETS.into_iter())
            }),
            request_size: durations(|| Histogram::new(SIZE_BUCKETS)),
            response_size: durations(|| Histogram::new(SIZE_BUCKETS)),
            query_duration: durations(|| Histogram::new(QUERY_BUCKETS)),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            cache_duration: durations(|| Histogram::new(CACHE_BUCKETS)),
            jobs: Family::default(),
            job_duration: durations(|| Histogram::new(DURATION_BUCKETS)),
            queue_depth: Family::default(),
            queue_oldest: Family::default(),
            operations: Family::default(),
            orders: Family::default(),
            revenue: Family::default(),
        };
        r.register(without_total(app::HTTP_REQUESTS_TOTAL), "Requests answered", m.requests.clone());
        r.register(app::HTTP_REQUEST_DURATION_SECONDS, "Time from request to answer", m.request_duration.clone());
        r.register(app::HTTP_REQUEST_SIZE_BYTES, "Size of request bodies", m.request_size.clone());
        r.register(app::HTTP_RESPONSE_SIZE_BYTES, "Size of answer bodies", m.response_size.clone());
        r.register(app::DB_QUERY_DURATION_SECONDS, "Time that database queries take", m.query_duration.clone());
        r.register(without_total(app::CACHE_HITS_TOTAL), "Look-ups that found an entry", m.cache_hits.clone());
        r.register(without_total(app::CACHE_MISSES_TOTAL), "Look-ups that found none", m.cache_misses.clone());
        r.register(app::CACHE_OPERATION_DURATION_SECONDS, "Time that cache operations take", m.cache_duration.clone());
        r.register(without_total(app::QUEUE_JOBS_TOTAL), "Jobs handled, by outcome", m.jobs.clone());
        r.register(app::QUEUE_JOB_DURATION_SECONDS, "Time that the handling of a job takes", m.job_duration.clone());
        r.register(app::QUEUE_DEPTH, "Jobs that wait", m.queue_depth.clone());
        r.register(app::QUEUE_OLDEST_JOB_AGE_SECONDS, "Age of the oldest waiting job", m.queue_oldest.clone());
        r.register(without_total(app::OPERATIONS_TOTAL), "Business operations done", m.operations.clone());
        r.register(without_total(app::ORDERS_TOTAL), "Orders that reached a state", m.orders.clone());
        r.register(
            without_total(app::ORDER_REVENUE_MINOR_UNITS_TOTAL),
            "Money captured, in minor units of the currency",
            m.revenue.clone(),
        );
        m
    }

    pub fn answered(&self, a: &Answered<'_>) {
        let trace = |id: &Option<String>| id.clone().map(|trace_id| TraceLabel { trace_id });
        let now = Some(SystemTime::now());
        let route = RouteLabels { method: a.method, path: a.path.to_owned() };
        let labels = RequestLabels { method: a.method, path: a.path.to_owned(), status: a.status.into() };
        self.requests.get_or_create(&labels).inc_by(1, trace(&a.trace_id), now);
        self.request_duration.get_or_create(&route).observe(a.took.as_secs_f64(), trace(&a.trace_id), now);
        if let Some(bytes) = a.request_bytes {
            self.request_size.get_or_create(&route).observe(bytes as f64);
        }
        if let Some(bytes) = a.response_bytes {
            self.response_size.get_or_create(&route).observe(bytes as f64);
        }
    }

    pub fn db_query(&self, query: Query, took: Duration) {
        self.query_duration.get_or_create(&QueryLabels { query_type: query.as_str() }).observe(took.as_secs_f64());
    }

    pub fn cache_lookup(&self, cache_name: &'static str, hit: bool, took: Duration) {
        let counters = if hit { &self.cache_hits } else { &self.cache_misses };
        counters.get_or_create(&CacheLabels { cache_name }).inc();
        self.cache_operation("get", took);
    }

    pub fn cache_operation(&self, operation: &'static str, took: Duration) {
        self.cache_duration.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }

    pub fn job(&self, queue: &str, outcome: JobOutcome, took: Duration) {
        let status = match outcome {
            JobOutcome::Completed => "completed",
            JobOutcome::Failed => "failed",
            JobOutcome::Dead => "dead",
        };
        // A counter that first appears with its first increase shows none: a failed attempt announces `dead`.
        for status in ["completed", "failed", "dead"] {
            drop(self.jobs.get_or_create(&JobLabels { queue: queue.to_owned(), status }));
        }
        self.jobs.get_or_create(&JobLabels { queue: queue.to_owned(), status }).inc();
        self.job_duration.get_or_create(&QueueLabels { queue: queue.to_owned() }).observe(took.as_secs_f64());
    }

    pub fn queue(&self, queue: &str, depth: i64, oldest_age_s: f64) {
        let labels = QueueLabels { queue: queue.to_owned() };
        self.queue_depth.get_or_create(&labels).set(depth);
        self.queue_oldest.get_or_create(&labels).set(oldest_age_s);
    }

    pub fn operation(&self, operation_type: &'static str) {
        self.operations.get_or_create(&OperationTypeLabels { operation_type }).inc();
    }

    pub fn order_reached(&self, status: &'static str) {
        self.orders.get_or_create(&StatusLabels { status }).inc();
    }

    pub fn revenue(&self, currency: &str, minor_units: i64) {
        let amount = u64::try_from(minor_units).unwrap_or(0);
        self.revenue.get_or_create(&CurrencyLabels { currency: currency.to_owned() }).inc_by(amount);
    }
}

/// The pool's figures, read when they are asked for.
#[derive(Debug)]
pub struct PoolFigures(pub PgPool);

impl Collector for PoolFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let idle = self.0.num_idle() as i64;
        let size = i64::from(self.0.size());
        let figures = [
            (app::DB_CONNECTIONS_ACTIVE, "Database connections in use", (size - idle).max(0)),
            (app::DB_CONNECTIONS_IDLE, "Database connections open and unused", idle),
            (
                app::DB_CONNECTIONS_MAX,
                "Database connections that the pool may open",
                i64::from(self.0.options().get_max_connections()),
            ),
        ];
        for (name, help, value) in figures {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    kid: String,
}

/// The age of the key that signs tokens, where it is known.
pub fn register_token_key(r: &mut Registry, kid: &str, created: chrono::DateTime<chrono::Utc>) {
    let family = Family::<KeyLabels, Gauge>::default();
    family.get_or_create(&KeyLabels { kid: kid.to_owned() }).set(created.timestamp());
    let help = "When the key that signs tokens was made, seconds since the epoch";
    r.register(app::TOKEN_KEY_CREATED_TIMESTAMP_SECONDS, help, family);
}

/// The users' figures; only the user service has them.
#[derive(Clone, Default)]
pub struct UserFigures {
    pub active: Gauge,
    pub registered: Gauge,
}

impl UserFigures {
    pub fn register(r: &mut Registry) -> Self {
        let figures = UserFigures::default();
        let help = "Users who were given an access token within its lifetime";
        r.register(app::USERS_ACTIVE_TOTAL, help, figures.active.clone());
        r.register(app::USERS_ACTIVE, help, figures.active.clone());
        r.register(app::USERS_REGISTERED, "Accounts that exist", figures.registered.clone());
        figures
    }
}
