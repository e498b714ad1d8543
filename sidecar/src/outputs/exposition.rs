//! `GET /metrics`: the app's families, the task's and our own, in one answer, in the format asked for.
//!
//! Every series gets the labels service, environment and task_id. Where a series has such a label with
//! another value already, that one is kept as `exported_<name>`, as Prometheus does. Our own names stand
//! apart (`sidecar_`, `app_probe_`, `ecs_`); a family of the app that takes one of them is left out and counted.

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
use service::metrics::Metrics;
use telemetry::Labels;
use telemetry::exposition::{self, Family, FamilySample, Format, MetricKind, Writer};
use telemetry::names::{label, sidecar as names, without_total};

use crate::identity::Identity;
use crate::inputs::app_metrics::AppMetrics;
use crate::inputs::ecs_task::TaskView;

#[derive(Clone)]
pub struct Exposition(Arc<Inner>);

struct Inner {
    standard: Vec<(&'static str, String)>,
    app: AppMetrics,
    task: TaskView,
    own: Metrics,
    refused: Counter,
}

/// What our own families' names begin with; the process' own figures are renamed to fit.
const OWN_PREFIXES: [&str; 3] = ["sidecar_", "app_probe_", "ecs_"];

impl Exposition {
    pub fn new(identity: &Identity, app: AppMetrics, task: TaskView, own: Metrics) -> Self {
        let refused = Counter::default();
        own.register(|r| {
            r.register(
                without_total(names::APP_FAMILIES_REFUSED_TOTAL),
                "Families of the app left out because their name is one of ours",
                refused.clone(),
            );
        });
        Exposition(Arc::new(Inner { standard: identity.labels(), app, task, own, refused }))
    }

    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(answer)).with_state(self.clone())
    }

    /// The whole exposition; `patience` is how long the one who asks will wait.
    pub async fn text(&self, format: Format, patience: Option<Duration>) -> String {
        let Inner { standard, app, task, own, refused } = &*self.0;
        // The app first: reading it changes what we have to say of ourselves.
        let app = app.families(patience).await;
        let task = task.families();
        let mut writer = Writer::new(format);
        let mut written: HashSet<&str> = HashSet::new();
        let own = own_families(own);
        for family in task.iter().chain(&own) {
            written.insert(&family.name);
            write(&mut writer, family, standard);
        }
        for family in app.iter() {
            if OWN_PREFIXES.iter().any(|prefix| family.name.starts_with(prefix)) || !written.insert(&family.name) {
                refused.inc();
                continue;
            }
            write(&mut writer, family, standard);
        }
        writer.finish()
    }
}

async fn answer(State(exposition): State<Exposition>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let format = Format::negotiate(accept);
    let text = exposition.text(format, patience(&headers)).await;
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
    families.extend(cpu_wait());
    for family in &mut families {
        if !OWN_PREFIXES.iter().any(|prefix| family.name.starts_with(prefix)) {
            family.name.insert_str(0, "sidecar_");
            family.samples.iter_mut().for_each(|sample| sample.name.insert_str(0, "sidecar_"));
        }
    }
    families
}

/// How long this program waited for a CPU (proc_pid_schedstat: time run, time waited, both in
/// nanoseconds, of the thread that does all the work). It shares the task's CPU with the app, so its
/// waiting tells of the app's; Fargate reports no throttling.
fn cpu_wait() -> Option<Family> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanos: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let sample = FamilySample {
        name: names::CPU_WAIT_SECONDS_TOTAL.to_owned(),
        labels: Labels::empty(),
        value: nanos as f64 / 1e9,
        timestamp: None,
        exemplar: None,
    };
    Some(Family {
        name: without_total(names::CPU_WAIT_SECONDS_TOTAL).to_owned(),
        kind: MetricKind::Counter,
        help: "Time in which the sidecar wanted a CPU and had none; the app beside it waited as well.".to_owned(),
        unit: String::new(),
        samples: vec![sample],
    })
}

fn write(writer: &mut Writer, family: &Family, standard: &[(&'static str, String)]) {
    let mut labelled = family.clone();
    for sample in &mut labelled.samples {
        sample.labels = with_standard(&sample.labels, standard);
    }
    writer.family(&labelled);
}

fn with_standard(labels: &Labels, standard: &[(&'static str, String)]) -> Labels {
    let mut builder = labels.to_builder();
    for (name, value) in standard {
        if let Some(other) = labels.get(name).filter(|other| other != value) {
            let mut exported = format!("{}{name}", label::EXPORTED_PREFIX);
            while labels.get(&exported).is_some() {
                exported.insert_str(0, label::EXPORTED_PREFIX);
            }
            builder.set(&exported, other);
        }
        builder.set(name, value);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard() -> Vec<(&'static str, String)> {
        [("environment", "prod"), ("service", "order"), ("task_id", "t1")].map(|(n, v)| (n, v.to_owned())).to_vec()
    }

    #[test]
    fn standard_labels_do_not_clash_with_the_app_s() {
        for (before, after) in [
            (vec![("path", "/")], r#"{environment="prod", path="/", service="order", task_id="t1"}"#),
            (vec![("service", "order")], r#"{environment="prod", service="order", task_id="t1"}"#),
            (
                vec![("service", "payment")],
                r#"{environment="prod", exported_service="payment", service="order", task_id="t1"}"#,
            ),
            (
                vec![("service", "a"), ("exported_service", "b")],
                r#"{environment="prod", exported_exported_service="a", exported_service="b", service="order", task_id="t1"}"#,
            ),
        ] {
            assert_eq!(with_standard(&Labels::from_pairs(before), &standard()).to_string(), after);
        }
    }
}
