//! Where the sidecars' traces end in the demo: an OTLP/HTTP endpoint that keeps the newest bodies, so
//! that a trace id can be looked up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use service::Shutdown;
use telemetry::trace::TraceId;

/// Bodies beyond this many bytes push out the oldest.
const KEPT_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Default)]
pub struct TraceSink(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bodies: VecDeque<Bytes>,
    bytes: usize,
    exports: u64,
}

impl TraceSink {
    /// Serves on a free port of loopback until the shutdown.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(shutdown: &Shutdown) -> anyhow::Result<(Self, SocketAddr)> {
        let sink = TraceSink::default();
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the trace sink's port").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/v1/traces", post(take))
            .layer(DefaultBodyLimit::max(16 << 20))
            .with_state(sink.clone());
        service::task::spawn("trace sink", service::http::serve(listener, router, shutdown.clone()));
        Ok((sink, address))
    }

    /// How many exports have come in.
    pub fn exports(&self) -> u64 {
        self.0.lock().expect("no one panics holding it").exports
    }

    /// Whether a span of this trace is among the newest bodies; ids are raw bytes in OTLP's protobuf.
    pub fn has(&self, trace: TraceId) -> bool {
        let kept = self.0.lock().expect("no one panics holding it");
        kept.bodies.iter().any(|body| body.windows(16).any(|window| window == trace.as_bytes()))
    }
}

/// An empty protobuf message is the success answer of OTLP.
async fn take(State(sink): State<TraceSink>, body: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], Bytes) {
    let mut kept = sink.0.lock().expect("no one panics holding it");
    kept.exports += 1;
    kept.bytes += body.len();
    kept.bodies.push_back(body);
    while kept.bytes > KEPT_BYTES_MAX {
        kept.bytes -= kept.bodies.pop_front().map_or(kept.bytes, |oldest| oldest.len());
    }
    ([(CONTENT_TYPE, "application/x-protobuf")], Bytes::new())
}
