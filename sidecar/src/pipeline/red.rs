//! Rate, errors and duration of an app that has no metrics, from the server spans that it sends.
//!
//! `http_requests_total` and `http_request_duration_seconds` with method, route and status, and the trace's id as
//! exemplar. The path is the span's `http.route` and never what stood in the URL, so that its values are few; a span
//! without a route counts under `unmatched`. Spans that the app itself sampled out were never here: the rate is that of
//! the spans that came. Where the app has the same metrics, its own are exposed and these are not.

use telemetry::exposition::Exemplar;
use telemetry::names::app as names;
use telemetry::{Labels, Timestamp};

use super::aggregate::{Aggregate, Event, Shape};
use crate::inputs::otlp::spans::{self, Head};
use crate::inputs::otlp::wire::{NotProtobuf, fields, int_of, key_of, text_of, value_of};
use crate::inputs::statsd::SECONDS;

#[derive(Clone)]
pub struct Red(Aggregate);

/// RFC 9110 and PATCH; others are a client's invention and have no end.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const ROUTE_CHARS_MAX: usize = 200;

impl Red {
    pub fn new(aggregate: Aggregate) -> Self {
        Red(aggregate)
    }

    /// # Errors
    /// Where the bytes are no protobuf.
    pub fn observe(&self, request: &[u8]) -> Result<(), NotProtobuf> {
        spans::each(request, |span| {
            let head = Head::of(span)?;
            if head.is_server {
                self.server_span(span, &head);
            }
            Ok(())
        })
    }

    fn server_span(&self, span: &[u8], head: &Head) {
        let (mut method, mut route, mut status) = (None, None, None);
        for pair in fields(span).filter(|f| f.number == 9).filter_map(|f| f.value.bytes()) {
            match key_of(pair) {
                // The second name is that of the conventions before 1.23.
                b"http.request.method" | b"http.method" => method = text_of(value_of(pair)),
                b"http.route" => route = text_of(value_of(pair)),
                b"http.response.status_code" | b"http.status_code" => status = int_of(value_of(pair)),
                _ => {}
            }
        }
        // A server span of something else.
        let Some(method) = method else { return };
        let method = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(method)).unwrap_or("_OTHER");
        let route = match route.filter(|route| !route.is_empty()) {
            Some(route) => route.char_indices().nth(ROUTE_CHARS_MAX).map_or(route, |(end, _)| &route[..end]),
            None => "unmatched",
        };
        let status = match status.filter(|status| (100..600).contains(status)) {
            Some(status) => status.to_string(),
            // The handler ended without an answer.
            None if head.is_error => "500".to_owned(),
            None => "unknown".to_owned(),
        };
        let seconds = head.duration_nanos() as f64 / 1e9;
        let exemplar = exemplar(head, seconds);
        let labels = Labels::from_pairs([("method", method), ("path", route), ("status", status.as_str())]);
        let help = "Requests, counted from server spans.";
        let of_one = exemplar.clone().map(|exemplar| Exemplar { value: 1.0, ..exemplar });
        self.0.take((names::HTTP_REQUESTS_TOTAL, help), &labels, Shape::Counter, &Event::Add(1.0), of_one);
        let help = "Duration of requests, from server spans.";
        // As the platform's services have it: no status on durations.
        let labels = labels.retain(|name| name != "status");
        let (shape, event) = (Shape::Histogram(SECONDS), Event::Observe { value: seconds, weight: 1.0 });
        self.0.take((names::HTTP_REQUEST_DURATION_SECONDS, help), &labels, shape, &event, exemplar);
    }
}

fn exemplar(head: &Head, value: f64) -> Option<Exemplar> {
    if head.trace_id == [0; 16] {
        return None;
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let labels = Labels::from_pairs([("span_id", hex(&head.span_id)), ("trace_id", hex(&head.trace_id))]);
    let millis = i64::try_from(head.end_nanos / 1_000_000).unwrap_or(i64::MAX);
    Some(Exemplar { labels, value, timestamp: Some(Timestamp::from_millis(millis)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::otlp::json;
    use telemetry::exposition::{Format, write};

    #[test]
    fn server_spans_become_requests_by_route_and_never_by_path() {
        let span = |kind: u32, millis: u64, attributes: &str| {
            format!(
                r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","kind":{kind},
                    "startTimeUnixNano":"1000000000","endTimeUnixNano":"{}","attributes":[{attributes}]}}"#,
                1_000_000_000 + millis * 1_000_000,
            )
        };
        let text = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
        let int = |key: &str, value: u32| format!(r#"{{"key":"{key}","value":{{"intValue":"{value}"}}}}"#);
        let spans = [
            span(
                2,
                30,
                &[
                    text("http.request.method", "GET"),
                    text("http.route", "/orders/{id}"),
                    text("url.path", "/orders/17"),
                    int("http.response.status_code", 200),
                ]
                .join(","),
            ),
            span(
                2,
                300,
                &[text("http.method", "get"), text("http.route", "/orders/{id}"), int("http.status_code", 200)]
                    .join(","),
            ),
            span(2, 1, &[text("http.request.method", "BREW"), text("url.path", "/pot/4711")].join(",")),
            // A client's span, and a server's of another protocol.
            span(3, 1, &text("http.request.method", "GET")),
            span(2, 1, &text("rpc.system", "grpc")),
        ];
        let request = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
        let request = json::to_protobuf(request.as_bytes(), &json::TRACES).expect("transcodes");
        let aggregate = Aggregate::new(2, 10);
        Red::new(aggregate.clone()).observe(&request).expect("protobuf");
        let text = write(&aggregate.families(), Format::OpenMetrics);
        for line in [
            r#"http_requests_total{method="GET",path="/orders/{id}",status="200"} 2.0 # {span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"} 1.0 1.300"#,
            r#"http_requests_total{method="_OTHER",path="unmatched",status="unknown"} 1.0 # {span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"} 1.0 1.001"#,
            r#"http_request_duration_seconds_bucket{le="0.05",method="GET",path="/orders/{id}"} 1.0 # {span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"} 0.03 1.030"#,
            r#"http_request_duration_seconds_count{method="GET",path="/orders/{id}"} 2.0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
        }
        assert!(!text.contains("4711") && !text.contains("/orders/17"), "{text}");
        telemetry::exposition::strict::check(text.as_bytes()).expect("OpenMetrics 1.0");
    }
}
