//! What the stage says of itself, under Prometheus' own names, so that its dashboards and alerts apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use service::metrics::Metrics;
use telemetry::{Sample, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RemoteLabels {
    remote_name: String,
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    remote_name: String,
    url: String,
    reason: &'static str,
}

type Float = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone)]
pub(super) struct RemoteMetrics {
    taken: Family<RemoteLabels, Counter>,
    sent: Family<RemoteLabels, Counter>,
    failed: Family<RemoteLabels, Counter>,
    retried: Family<RemoteLabels, Counter>,
    dropped: Family<DroppedLabels, Counter>,
    left: Family<RemoteLabels, Counter>,
    bytes: Family<RemoteLabels, Counter>,
    pending: Family<RemoteLabels, Gauge>,
    log_bytes: Family<RemoteLabels, Gauge>,
    log_failing: Family<RemoteLabels, Gauge>,
    highest: Family<RemoteLabels, Float>,
    highest_sent: Family<RemoteLabels, Float>,
    duration: Family<RemoteLabels, Histogram, fn() -> Histogram>,
}

fn duration_histogram() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0])
}

impl RemoteMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = RemoteMetrics {
            taken: Family::default(),
            sent: Family::default(),
            failed: Family::default(),
            retried: Family::default(),
            dropped: Family::default(),
            left: Family::default(),
            bytes: Family::default(),
            pending: Family::default(),
            log_bytes: Family::default(),
            log_failing: Family::default(),
            highest: Family::default(),
            highest_sent: Family::default(),
            duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
        };
        metrics.register(|registry| {
            let r = registry.sub_registry_with_prefix("prometheus_remote_storage");
            r.register("samples_in", "Samples handed to remote storage", own.taken.clone());
            r.register("samples", "Samples that remote storage has taken", own.sent.clone());
            r.register("samples_failed", "Samples refused for good by remote storage", own.failed.clone());
            r.register("samples_retried", "Samples of requests that are sent again", own.retried.clone());
            r.register("samples_dropped", "Samples dropped before they were sent, by reason", own.dropped.clone());
            let help = "Recorded samples that were left to the replica that holds the lease";
            r.register("samples_left_to_holder", help, own.left.clone());
            r.register("bytes", "Bytes of request bodies sent, compressed", own.bytes.clone());
            r.register("samples_pending", "Samples in the log that wait to be sent", own.pending.clone());
            r.register("log_bytes", "Length of the log on disk", own.log_bytes.clone());
            r.register("log_failing", "1 while the disk refuses the log", own.log_failing.clone());
            let help = "Highest timestamp handed to remote storage, in seconds";
            r.register("highest_timestamp_in_seconds", help, own.highest.clone());
            let help = "Highest timestamp that remote storage has taken, in seconds";
            r.register("queue_highest_sent_timestamp_seconds", help, own.highest_sent.clone());
            r.register("sent_batch_duration_seconds", "Time of successful requests", own.duration.clone());
        });
        own
    }

    pub(super) fn of(&self, name: &str, url: &str) -> RemoteSeries {
        let labels = RemoteLabels { remote_name: name.to_owned(), url: url.to_owned() };
        let series = RemoteSeries(Arc::new(Inner {
            labels,
            metrics: self.clone(),
            highest: AtomicI64::new(i64::MIN),
            highest_sent: AtomicI64::new(i64::MIN),
        }));
        // Counters that stand at 0 from the start can be alerted on.
        series.dropped("log_full", 0);
        let labels = &series.0.labels;
        self.failed.get_or_create(labels).inc_by(0);
        self.retried.get_or_create(labels).inc_by(0);
        self.sent.get_or_create(labels).inc_by(0);
        series
    }
}

/// The metrics of one server.
#[derive(Clone)]
pub(super) struct RemoteSeries(Arc<Inner>);

struct Inner {
    labels: RemoteLabels,
    metrics: RemoteMetrics,
    highest: AtomicI64,
    highest_sent: AtomicI64,
}

impl RemoteSeries {
    pub(super) fn taken(&self, samples: &[Sample]) {
        let Inner { labels, metrics, highest, .. } = &*self.0;
        metrics.taken.get_or_create(labels).inc_by(samples.len() as u64);
        if let Some(newest) = samples.iter().map(|sample| sample.timestamp.0).max() {
            let highest = highest.fetch_max(newest, Ordering::Relaxed).max(newest);
            metrics.highest.get_or_create(labels).set(highest as f64 / 1e3);
        }
    }

    pub(super) fn sent(&self, samples: u64, bytes: usize, newest: Timestamp, took: Duration) {
        let Inner { labels, metrics, highest_sent, .. } = &*self.0;
        metrics.sent.get_or_create(labels).inc_by(samples);
        metrics.bytes.get_or_create(labels).inc_by(bytes as u64);
        metrics.duration.get_or_create(labels).observe(took.as_secs_f64());
        let highest = highest_sent.fetch_max(newest.0, Ordering::Relaxed).max(newest.0);
        metrics.highest_sent.get_or_create(labels).set(highest as f64 / 1e3);
    }

    pub(super) fn failed(&self, samples: u64) {
        self.0.metrics.failed.get_or_create(&self.0.labels).inc_by(samples);
    }

    pub(super) fn retried(&self, samples: u64) {
        self.0.metrics.retried.get_or_create(&self.0.labels).inc_by(samples);
    }

    pub(super) fn dropped(&self, reason: &'static str, samples: u64) {
        let RemoteLabels { remote_name, url } = self.0.labels.clone();
        self.0.metrics.dropped.get_or_create(&DroppedLabels { remote_name, url, reason }).inc_by(samples);
    }

    pub(super) fn left(&self, samples: u64) {
        self.0.metrics.left.get_or_create(&self.0.labels).inc_by(samples);
    }

    pub(super) fn pending(&self, samples: u64) {
        self.0.metrics.pending.get_or_create(&self.0.labels).set(i64::try_from(samples).unwrap_or(i64::MAX));
    }

    pub(super) fn log(&self, bytes: u64, failing: bool) {
        let Inner { labels, metrics, .. } = &*self.0;
        metrics.log_bytes.get_or_create(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics.log_failing.get_or_create(labels).set(i64::from(failing));
    }
}
