//! What surrounds every request: an id, a span that continues the caller's trace, a time limit, a body
//! limit, security headers, the metrics, one log line, and problem+json for whatever failed.
//!
//! Probes and /metrics stay outside: they would drown the service's own traffic in the figures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use telemetry::trace::TraceParent;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::error::ApiError;
use super::metrics::Answered;
use super::{Platform, fault, trace};

const BODY_BYTES_MAX: usize = 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer ids are not somebody's correlation id.
const REQUEST_ID_LEN_MAX: usize = 64;
/// The label and route of a request that no route takes: its path is the client's invention.
const UNMATCHED: &str = "unmatched";

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Of an API nothing is to be rendered, framed, run or remembered.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // The filter that this header once steered is gone from browsers and was itself a hole.
    (header::X_XSS_PROTECTION, "0"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    (HeaderName::from_static("permissions-policy"), "geolocation=(), microphone=(), camera=()"),
];

/// Puts everything round `routes`; outermost last.
pub fn surround(routes: Router<Platform>, platform: Platform) -> Router {
    routes
        .fallback(|| async { ApiError::not_found("route") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the route does not know this method")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(platform.clone(), fault::inject))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(platform.clone(), observe))
        .with_state(platform)
}

fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::internal(format!("a handler panicked: {}", text.unwrap_or("without a text"))).into_response()
}

async fn observe(State(platform): State<Platform>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str).to_owned();
    let id = request_id(request.headers());
    let parent = header_text(request.headers(), trace::TRACEPARENT).and_then(TraceParent::parse);
    let request_bytes = request.body().size_hint().exact();
    let span = trace::request_span(
        &trace::RequestFacts {
            id: &id,
            method,
            route: &route,
            path: request.uri().path(),
            ip: &client_ip(&request, platform.trusted_proxy_hops),
            user_agent: header_text(request.headers(), header::USER_AGENT.as_str()),
        },
        parent,
    );

    let mut response = async {
        let timed_out = |_| {
            let detail = "the request took longer than we let it";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "request_timeout", detail).into_response()
        };
        let response = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
        finish(response.unwrap_or_else(timed_out), &id, started, &format!("{method} {route}"))
    }
    .instrument(span.clone())
    .await;

    let status = response.status();
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(opentelemetry::trace::Status::error(status.to_string()));
    }
    platform.metrics.answered(&Answered {
        method,
        path: &route,
        status: status.as_u16(),
        took: started.elapsed(),
        request_bytes,
        response_bytes: response.body().size_hint().exact(),
        trace_id: trace::traceparent_of(&span).map(|t| t.trace_id.to_string()),
    });
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Writes the problem's body where there is one, and the request's log line. A failure's line says by itself what
/// failed and why: it may be all that an alert carries.
fn finish(mut response: Response, request_id: &str, started: Instant, what: &str) -> Response {
    let status = response.status().as_u16();
    let problem = response.extensions_mut().remove::<ApiError>();
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    let (code, cause) = problem.as_ref().map_or((None, None), |p| (Some(p.code), p.cause.as_deref()));
    match response.status().is_server_error() {
        true => {
            let why = cause.or(code).unwrap_or("no cause given");
            tracing::error!(status, code, cause, duration_ms, "{what} answered {status}: {why}");
        }
        false => tracing::info!(status, code, cause, duration_ms, "request answered"),
    }
    let Some(problem) = problem else { return response };
    let body = problem.body(request_id).to_string();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED.as_u16() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    *response.body_mut() = Body::from(body);
    response
}

/// Methods are a label: a client's invention becomes OTHER.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// The caller's id if it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        (1..=REQUEST_ID_LEN_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    header_text(headers, REQUEST_ID.as_str()).filter(sane).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The peer's address, or what the outermost of our own proxies saw: whatever a client wrote into
/// X-Forwarded-For stands further left and is not believed.
fn client_ip(request: &Request, trusted_hops: usize) -> String {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip().to_string()).unwrap_or_default();
    let Some(hops_back) = trusted_hops.checked_sub(1) else { return peer };
    let forwarded = header_text(request.headers(), "x-forwarded-for").unwrap_or_default();
    forwarded
        .rsplit(',')
        .nth(hops_back)
        .map(str::trim)
        .filter(|ip| ip.parse::<std::net::IpAddr>().is_ok())
        .map_or(peer, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(forwarded: &str) -> Request {
        let mut request = Request::builder().header("x-forwarded-for", forwarded).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 9], 4711))));
        request
    }

    #[test]
    fn forwarded_addresses_are_believed_only_as_far_as_our_own_proxies_wrote_them() {
        let spoofed = request("6.6.6.6, 198.51.100.7");
        assert_eq!(client_ip(&spoofed, 0), "10.0.0.9");
        assert_eq!(client_ip(&spoofed, 1), "198.51.100.7");
        assert_eq!(client_ip(&request("not an address"), 1), "10.0.0.9");
    }

    #[test]
    fn a_strange_request_id_is_replaced() {
        let id =
            |value: &'static str| request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(value))]));
        assert_eq!(id("checkout-42"), "checkout-42");
        for strange in ["", "a b", "<script>", "x\"y"] {
            assert!(Uuid::parse_str(&id(strange)).is_ok(), "{strange}");
        }
    }
}
