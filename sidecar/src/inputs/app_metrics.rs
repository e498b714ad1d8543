//! The app's own metrics, read from its `/metrics` on loopback when somebody asks for ours.
//!
//! In: text 0.0.4, OpenMetrics or protobuf. Out: families, within the budget of series. One reading serves all who ask
//! within a second. A native histogram of the protobuf format is passed on as what the other two can say of it: its
//! count and sum, and its classic buckets where it has them.
//! A failed reading is data: the answer then has no families of the app and says so in `sidecar_app_scrape_up`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus_client::metrics::family::Family as MetricFamily;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::exposition::protobuf::{self, Exposed};
use telemetry::exposition::{self, Family, Format};
use telemetry::names::sidecar as names;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::pipeline::enrich::Enrich;
use crate::pipeline::limit::Budget;

#[derive(Clone, Debug)]
pub struct Config {
    /// None: the app has no metrics.
    pub url: Option<String>,
    pub timeout: Duration,
    /// A larger exposition is a mistake that would cost the task its memory.
    pub body_bytes_max: usize,
    /// Of one metric.
    pub series_max: usize,
}

/// The texts first: they are what every exporter has been tried with.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,\
    application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,*/*;q=0.1";

/// Several collectors that scrape in the same second share one reading of the app.
const SHARED_FOR: Duration = Duration::from_secs(1);

pub struct AppMetrics {
    url: Option<String>,
    timeout: Duration,
    body_bytes_max: usize,
    client: reqwest::Client,
    enrich: Enrich,
    last: Mutex<Last>,
    up: Gauge,
    series: Gauge,
    cut: Cut,
    reduced: Gauge,
    duration: Gauge<f64, std::sync::atomic::AtomicU64>,
}

type Cut = MetricFamily<[(&'static str, String); 1], Gauge>;

struct Last {
    at: Option<Instant>,
    families: Arc<Vec<Family>>,
    failed: bool,
    budget: Budget,
}

impl Config {
    pub fn build(&self, client: reqwest::Client, enrich: Enrich, metrics: &Metrics) -> AppMetrics {
        let budget = Budget::new(self.series_max);
        let app = AppMetrics {
            url: self.url.clone(),
            timeout: self.timeout,
            body_bytes_max: self.body_bytes_max,
            client,
            enrich,
            last: Mutex::new(Last { at: None, families: Arc::default(), failed: false, budget }),
            up: Gauge::default(),
            series: Gauge::default(),
            cut: Cut::default(),
            reduced: Gauge::default(),
            duration: Gauge::default(),
        };
        if app.url.is_some() {
            metrics.register(|r| {
                r.register(names::APP_SCRAPE_UP, "1 when the app's metrics could be read", app.up.clone());
                r.register(names::APP_SCRAPE_SERIES, "Samples of the app's last exposition", app.series.clone());
                let help = "Native histograms of the app of which only count and sum are passed on";
                r.register(names::APP_NATIVE_HISTOGRAMS_REDUCED, help, app.reduced.clone());
                r.register(names::APP_SERIES_CUT, "Series of a metric beyond its budget", app.cut.clone());
                r.register(
                    names::APP_SCRAPE_DURATION_SECONDS,
                    "How long the last reading of the app's metrics took",
                    app.duration.clone(),
                );
            });
        }
        app
    }
}

impl AppMetrics {
    /// The app's families, read now or less than a second ago; none where they could not be read in time.
    /// `patience` is how long the one who asks us will wait, where it said so.
    pub async fn families(&self, patience: Option<Duration>) -> Arc<Vec<Family>> {
        let Some(url) = &self.url else { return Arc::default() };
        // Whoever comes second waits for the first one's reading.
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| at.elapsed() < SHARED_FOR) {
            return last.families.clone();
        }
        // Nobody will ask for the old ones again: two readings never lie side by side.
        last.families = Arc::default();
        let begun = Instant::now();
        let timeout = patience.map_or(self.timeout, |patience| patience.min(self.timeout));
        let read = tokio::time::timeout(timeout, self.read(url)).await;
        let read = read.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {timeout:?}")));
        self.duration.set(begun.elapsed().as_secs_f64());
        last.at = Some(Instant::now());
        match read {
            Ok(Exposed { mut families, reduced }) => {
                self.reduced.set(reduced as i64);
                if last.failed {
                    tracing::info!(url, "the app's metrics can be read again");
                }
                last.failed = false;
                self.up.set(1);
                self.series.set(families.iter().map(|f| f.samples.len() as i64).sum());
                self.cut.clear();
                for (metric, series) in last.budget.apply(&mut families) {
                    self.cut.get_or_create(&[("metric", metric)]).set(series as i64);
                }
                self.enrich.families(&mut families);
                last.families = Arc::new(families);
            }
            Err(error) => {
                if !last.failed {
                    tracing::warn!(url, error = format!("{error:#}"), "the app's metrics cannot be read");
                }
                last.failed = true;
                self.up.set(0);
                self.series.set(0);
                last.families = Arc::default();
            }
        }
        last.families.clone()
    }

    async fn read(&self, url: &str) -> anyhow::Result<Exposed> {
        let request = self.client.get(url).header(reqwest::header::ACCEPT, ACCEPT);
        let mut answer = request.send().await?.error_for_status()?;
        let content_type = answer.headers().get(reqwest::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        // Many small servers name no type, or a foreign one, for the classic format.
        let is_protobuf = content_type.is_some_and(protobuf::is_content_type);
        let format = content_type.and_then(Format::from_content_type).unwrap_or(Format::Prometheus);
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > self.body_bytes_max {
                bail!("the exposition is larger than {} bytes (SIDECAR_APP_METRICS_MAX)", self.body_bytes_max);
            }
            body.extend_from_slice(&chunk);
        }
        if is_protobuf {
            return Ok(protobuf::parse(&body)?);
        }
        let body = std::str::from_utf8(&body).context("the exposition is not UTF-8")?;
        Ok(Exposed { families: exposition::parse(body, format)?, reduced: 0 })
    }
}
