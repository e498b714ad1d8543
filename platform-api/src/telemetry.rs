//! Logging and traces of this program: JSON lines to stdout, spans by OTLP over HTTP to
//! `OTEL_EXPORTER_OTLP_ENDPOINT` where that is set.
//!
//! An endpoint that is dead or slow costs the requests nothing: spans wait in a bounded queue, the
//! export runs beside, and what cannot be sent is dropped with one warning a minute.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SdkTracerProvider, SpanData};
use service::config::Env;
use service::logging::Logging;

/// A collector beside us answers in milliseconds.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Spans leave at least this often, so that a trace can be looked at while it matters.
const EXPORT_EVERY: Duration = Duration::from_secs(2);
/// When the queue is full the newest span is dropped.
const SPANS_QUEUED_MAX: usize = 4096;
const SPANS_PER_EXPORT: usize = 512;
/// Between two warnings about the same dead endpoint.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Keeps the export running; [`Telemetry::stop`] sends what is left.
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Starts logging and tracing for the whole process. Call it inside the runtime.
    ///
    /// # Errors
    /// The endpoint is not a URL.
    pub fn start(service: &str, env: &impl Env) -> anyhow::Result<Telemetry> {
        let mut logging = Logging::from_env(service, env);
        // The statements of a healthy database are noise even at debug.
        logging.filter = format!("{},sqlx=warn,hyper_util=info,opentelemetry=warn", logging.filter);
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", service.to_owned()),
                KeyValue::new("service.version", logging.version.clone()),
                KeyValue::new("deployment.environment.name", logging.environment.clone()),
            ])
            .build();
        let mut provider = SdkTracerProvider::builder().with_resource(resource);
        let endpoint = env.get("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|e| !e.is_empty());
        if let Some(endpoint) = &endpoint {
            let config = BatchConfigBuilder::default()
                .with_max_queue_size(SPANS_QUEUED_MAX)
                .with_max_export_batch_size(SPANS_PER_EXPORT)
                .with_scheduled_delay(EXPORT_EVERY)
                .with_max_export_timeout(EXPORT_TIMEOUT)
                .build();
            let processor =
                BatchSpanProcessor::builder(Guarded::new(endpoint)?, Tokio).with_batch_config(config).build();
            provider = provider.with_span_processor(processor);
        }
        let provider = provider.build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("platform-api"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        logging.start_with(layer);
        Ok(Telemetry { provider })
    }

    /// Sends what is queued, within a few seconds.
    pub async fn stop(self) {
        // The SDK's shutdown blocks its thread until the exporting task has answered.
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        let _ = tokio::time::timeout(EXPORT_TIMEOUT, stopped).await;
    }
}

/// The OTLP exporter, whose failures become a warning now and then instead of nothing.
#[derive(Debug)]
struct Guarded {
    inner: SpanExporter,
    endpoint: String,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    warned_at: Option<Instant>,
    spans_lost: usize,
}

impl Guarded {
    fn new(endpoint: &str) -> anyhow::Result<Self> {
        let client =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(1)).timeout(EXPORT_TIMEOUT).build()?;
        let inner = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| anyhow::anyhow!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint:?}: {error}"))?;
        Ok(Guarded { inner, endpoint: endpoint.to_owned(), failures: Mutex::default() })
    }

    fn note(&self, spans: usize, error: &dyn std::fmt::Display) {
        let mut failures = self.failures.lock().expect("no one panics holding it");
        failures.spans_lost += spans;
        if failures.warned_at.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        failures.warned_at = Some(Instant::now());
        let lost = std::mem::take(&mut failures.spans_lost);
        drop(failures);
        tracing::warn!(spans_lost = lost, error = %error, "spans could not be sent to {}", self.endpoint);
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Guarded {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result {
            self.note(spans, error);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
