//! `GET /federate`: the newest sample of every series that is asked for, in the text formats, for another Prometheus.
//!
//! As Prometheus has it (web/federate.go): families of unknown kind, samples with their own times, external labels
//! where a series has none of that name, an empty `instance` where neither has one, and nothing of series that have
//! ended. Native histograms are left out: the text formats have no words for them.

use std::cmp::Ordering;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use telemetry::exposition::{Format, MetricKind, Writer};
use telemetry::labels::METRIC_NAME;
use telemetry::names::label::INSTANCE;
use telemetry::{Labels, Matcher};

use super::Sources;
use crate::query::{self, Latest, QueryError};

pub(super) fn router(sources: Sources) -> Router {
    Router::new().route("/federate", get(federate)).with_state(sources)
}

async fn federate(State(sources): State<Sources>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let selectors = match selectors(query.as_deref().unwrap_or_default()) {
        Ok(selectors) => selectors,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::negotiate(accept);
    match sources.querier.latest(selectors, sources.clock.now()).await {
        Ok(latest) => {
            let external = sources.config.borrow().global.external_labels.clone();
            ([(CONTENT_TYPE, format.content_type())], write(latest, &external, format)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn selectors(query: &str) -> Result<Vec<Vec<Matcher>>, QueryError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(name, _)| name == "match[]").map(|(_, text)| query::selector(&text)).collect()
}

fn write(mut latest: Vec<Latest>, external: &Labels, format: Format) -> String {
    // A family's samples must stand together; within it the order of the labels.
    let name = |latest: &Latest| latest.labels.metric_name().unwrap_or_default().to_owned();
    latest.sort_by(|a, b| match name(a).cmp(&name(b)) {
        Ordering::Equal => a.labels.cmp(&b.labels),
        other => other,
    });
    // Says "none", so that the reader does not put its own name for us there. A label set cannot hold it.
    let no_instance = external.get(INSTANCE).is_none().then_some((INSTANCE, ""));
    let mut writer = Writer::new(format);
    let mut family = None;
    for sample in &latest {
        let Some(name) = sample.labels.metric_name() else { continue };
        if family != Some(name) {
            writer.metadata(name, MetricKind::Unknown, "", "");
            family = Some(name);
        }
        let own = sample.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let added = no_instance.into_iter().chain(external.iter());
        let added = added.filter(|(name, _)| sample.labels.get(name).is_none());
        writer.sample(name, own.chain(added), sample.value, Some(sample.timestamp), None);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use telemetry::Timestamp;

    use super::*;

    #[test]
    fn families_stand_together_and_carry_external_labels_that_they_do_not_have() {
        let sample = |pairs: &[(&str, &str)], millis: i64, value: f64| Latest {
            labels: Labels::from_pairs(pairs.iter().copied()),
            timestamp: Timestamp(millis),
            value,
        };
        let latest = vec![
            sample(&[(METRIC_NAME, "up"), ("instance", "b"), ("job", "x")], 2_500, 1.0),
            sample(&[(METRIC_NAME, "jobs:sum"), ("region", "own")], 1_000, f64::NAN),
            sample(&[(METRIC_NAME, "up"), ("instance", "a")], 2_000, 0.0),
            sample(&[("job", "nameless")], 2_000, 0.0),
        ];
        let external = Labels::from_pairs([("region", "eu"), ("replica", "1")]);
        let text = write(latest.clone(), &external, Format::Prometheus);
        assert_eq!(
            text,
            "# TYPE jobs:sum untyped\n\
             jobs:sum{region=\"own\",instance=\"\",replica=\"1\"} NaN 1000\n\
             # TYPE up untyped\n\
             up{instance=\"a\",region=\"eu\",replica=\"1\"} 0 2000\n\
             up{instance=\"b\",job=\"x\",region=\"eu\",replica=\"1\"} 1 2500\n"
        );
        let text = write(latest, &Labels::empty(), Format::OpenMetrics);
        assert!(text.contains("# TYPE up unknown\nup{instance=\"a\"} 0.0 2\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
