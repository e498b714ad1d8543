//! `GET /metrics`: the app's families, the task's and our own, in one answer, in the format asked for.
//!
//! Families come here with their standard labels on them. Our own names stand apart (`sidecar_`,
//! `app_probe_`, `ecs_`); a family of the app that takes one of them is left out and counted.

mod protobuf;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as MetricFamily;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::exposition::{self, Family, Format, Writer};
use telemetry::names::{sidecar as names, without_total};

use crate::inputs::app_metrics::AppMetrics;
use crate::inputs::ecs_task::TaskView;
use crate::inputs::otlp::metrics::OtlpSeries;
use crate::pipeline::aggregate::Aggregate;
use crate::pipeline::enrich::Enrich;

#[derive(Clone)]
pub struct Exposition(Arc<Inner>);

struct Inner {
    enrich: Enrich,
    app: AppMetrics,
    sources: Vec<Source>,
    overflowed: Overflowed,
    task: TaskView,
    own: Metrics,
    refused: Counter,
}

/// Series of the app that others send to us.
pub enum Source {
    Events(Aggregate),
    Otlp(OtlpSeries),
}

impl Source {
    fn families(&self) -> Vec<Family> {
        match self {
            Source::Events(aggregate) => aggregate.families(),
            Source::Otlp(series) => series.families(),
        }
    }

    fn overflowed(&self) -> Vec<(String, u64)> {
        match self {
            Source::Events(aggregate) => aggregate.overflowed(),
            Source::Otlp(series) => series.overflowed(),
        }
    }
}

type Overflowed = MetricFamily<[(&'static str, String); 1], Gauge>;

/// What our own families' names begin with; the process' own figures are renamed to fit.
const OWN_PREFIXES: [&str; 3] = ["sidecar_", "app_probe_", "ecs_"];

impl Exposition {
    pub fn new(enrich: Enrich, app: AppMetrics, sources: Vec<Source>, task: TaskView, own: Metrics) -> Self {
        let (refused, overflowed) = (Counter::default(), Overflowed::default());
        own.register(|r| {
            r.register(
                without_total(names::APP_FAMILIES_REFUSED_TOTAL),
                "Families of the app left out because their name is one of ours",
                refused.clone(),
            );
            r.register(
                names::EVENTS_OVERFLOWED,
                "Events and data points that found no series of their own",
                overflowed.clone(),
            );
        });
        Exposition(Arc::new(Inner { enrich, app, sources, overflowed, task, own, refused }))
    }

    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(answer)).with_state(self.clone())
    }

    /// The whole exposition; `patience` is how long the one who asks will wait.
    pub async fn text(&self, format: Format, patience: Option<Duration>) -> String {
        let mut writer = Writer::new(format);
        self.families(patience, |family| writer.family(family)).await;
        writer.finish()
    }

    /// Every family once, for `take`. Where several sources have the same one, the first has it: the task and
    /// ourselves, the app's own exposition, statsd, spans.
    pub async fn families(&self, patience: Option<Duration>, mut take: impl FnMut(&Family)) {
        let Inner { enrich, app, sources, overflowed, task, own, refused } = &*self.0;
        // The app first: reading it changes what we have to say of ourselves.
        let app = app.families(patience).await;
        let task = task.families();
        let mut summed: Vec<Family> = sources.iter().flat_map(Source::families).collect();
        enrich.families(&mut summed);
        for (metric, events) in sources.iter().flat_map(Source::overflowed) {
            overflowed.get_or_create(&[("metric", metric)]).set(events as i64);
        }
        let mut written: HashSet<&str> = HashSet::new();
        let mut own = own_families(own);
        enrich.families(&mut own);
        own.extend(self.0.task.starvation());
        for family in task.iter().chain(&own) {
            written.insert(&family.name);
            take(family);
        }
        for family in app.iter().chain(&summed) {
            if OWN_PREFIXES.iter().any(|prefix| family.name.starts_with(prefix)) || !written.insert(&family.name) {
                refused.inc();
                continue;
            }
            take(family);
        }
    }
}

async fn answer(State(exposition): State<Exposition>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let patience = patience(&headers);
    if protobuf::is_preferred(accept) {
        let mut body = Vec::new();
        exposition.families(patience, |family| protobuf::put_family(&mut body, family)).await;
        return ([(CONTENT_TYPE, protobuf::CONTENT_TYPE)], body).into_response();
    }
    let format = Format::negotiate(accept);
    let text = exposition.text(format, patience).await;
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

/// Prometheus says how long it will wait; a fifth of that is left for the way back, so that an app that
/// hangs costs its own metrics and not everybody's.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get("x-prometheus-scrape-timeout-seconds")?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds * 0.8).ok()
}

/// Our own metrics as families. The process' figures carry every client's names, which the app uses too.
fn own_families(own: &Metrics) -> Vec<Family> {
    let mut families = exposition::parse(&own.expose(), Format::OpenMetrics).unwrap_or_else(|error| {
        tracing::error!(error = %error, "our own metrics do not parse");
        Vec::new()
    });
    for family in &mut families {
        if !OWN_PREFIXES.iter().any(|prefix| family.name.starts_with(prefix)) {
            family.name.insert_str(0, "sidecar_");
            family.samples.iter_mut().for_each(|sample| sample.name.insert_str(0, "sidecar_"));
        }
    }
    families
}
