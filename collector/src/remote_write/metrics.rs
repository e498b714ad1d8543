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
use telemetry::Timestamp;

use super::counts::Counts;

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

/// By what is counted, in the order of [`Counts::each`].
const KINDS: [&str; 4] = ["samples", "histograms", "exemplars", "metadata"];

/// Why things are dropped, where that may happen without anybody's doing: counters that stand at 0 can be alerted on.
const DROPPED_FROM_THE_START: [&str; 1] = ["log_full"];

/// Of one kind.
#[derive(Clone, Default)]
struct OfKind {
    taken: Family<RemoteLabels, Counter>,
    sent: Family<RemoteLabels, Counter>,
    failed: Family<RemoteLabels, Counter>,
    retried: Family<RemoteLabels, Counter>,
    dropped: Family<DroppedLabels, Counter>,
    pending: Family<RemoteLabels, Gauge>,
}

#[derive(Clone)]
pub(super) struct RemoteMetrics {
    kinds: [OfKind; 4],
    left: Family<RemoteLabels, Counter>,
    bytes: Family<RemoteLabels, Counter>,
    shards: Family<RemoteLabels, Gauge>,
    shards_max: Family<RemoteLabels, Gauge>,
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
            kinds: Default::default(),
            left: Family::default(),
            bytes: Family::default(),
            shards: Family::default(),
            shards_max: Family::default(),
            log_bytes: Family::default(),
            log_failing: Family::default(),
            highest: Family::default(),
            highest_sent: Family::default(),
            duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
        };
        metrics.register(|registry| {
            let r = registry.sub_registry_with_prefix("prometheus_remote_storage");
            for (kind, of) in KINDS.iter().zip(&own.kinds) {
                r.register(format!("{kind}_in"), format!("Handed to remote storage: {kind}"), of.taken.clone());
                r.register(*kind, format!("Taken by remote storage: {kind}"), of.sent.clone());
                let help = format!("Refused for good by remote storage: {kind}");
                r.register(format!("{kind}_failed"), help, of.failed.clone());
                r.register(
                    format!("{kind}_retried"),
                    format!("In requests that are sent again: {kind}"),
                    of.retried.clone(),
                );
                let help = format!("Dropped before they were sent, by reason: {kind}");
                r.register(format!("{kind}_dropped"), help, of.dropped.clone());
                let help = format!("In the log, waiting to be sent: {kind}");
                r.register(format!("{kind}_pending"), help, of.pending.clone());
            }
            let help = "Recorded samples that were left to the replica that holds the lease";
            r.register("samples_left_to_holder", help, own.left.clone());
            r.register("bytes", "Bytes of request bodies sent, compressed", own.bytes.clone());
            r.register(
                "shards",
                "Parts that series are divided into, each with a request at a time",
                own.shards.clone(),
            );
            r.register("shards_max", "The most shards that there may be", own.shards_max.clone());
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
        DROPPED_FROM_THE_START.into_iter().for_each(|reason| series.drop_one(0, reason, 0));
        let labels = &series.0.labels;
        let of_samples = &self.kinds[0];
        for counter in [&of_samples.failed, &of_samples.retried, &of_samples.sent] {
            counter.get_or_create(labels).inc_by(0);
        }
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
    pub(super) fn taken(&self, counts: Counts, newest: Option<Timestamp>) {
        let Inner { labels, metrics, highest, .. } = &*self.0;
        self.add(counts, |of| &of.taken);
        if let Some(newest) = newest {
            let highest = highest.fetch_max(newest.0, Ordering::Relaxed).max(newest.0);
            metrics.highest.get_or_create(labels).set(highest as f64 / 1e3);
        }
    }

    /// A request that was taken; without samples `newest` is the least of all times.
    pub(super) fn sent(&self, counts: Counts, bytes: usize, newest: Timestamp, took: Duration) {
        let Inner { labels, metrics, highest_sent, .. } = &*self.0;
        self.add(counts, |of| &of.sent);
        metrics.bytes.get_or_create(labels).inc_by(bytes as u64);
        metrics.duration.get_or_create(labels).observe(took.as_secs_f64());
        let highest = highest_sent.fetch_max(newest.0, Ordering::Relaxed).max(newest.0);
        if highest > i64::MIN {
            metrics.highest_sent.get_or_create(labels).set(highest as f64 / 1e3);
        }
    }

    pub(super) fn failed(&self, counts: Counts) {
        self.add(counts, |of| &of.failed);
    }

    pub(super) fn retried(&self, counts: Counts) {
        self.add(counts, |of| &of.retried);
    }

    /// Kinds that nothing was counted of stay away: a server that gets no histograms has no such series.
    fn add(&self, counts: Counts, counter: impl Fn(&OfKind) -> &Family<RemoteLabels, Counter>) {
        let Inner { labels, metrics, .. } = &*self.0;
        for (of, count) in metrics.kinds.iter().zip(counts.each()).filter(|(_, count)| *count > 0) {
            counter(of).get_or_create(labels).inc_by(count);
        }
    }

    pub(super) fn dropped(&self, reason: &'static str, counts: Counts) {
        for (kind, count) in counts.each().into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.drop_one(kind, reason, count);
        }
    }

    fn drop_one(&self, kind: usize, reason: &'static str, count: u64) {
        let RemoteLabels { remote_name, url } = self.0.labels.clone();
        let labels = DroppedLabels { remote_name, url, reason };
        self.0.metrics.kinds[kind].dropped.get_or_create(&labels).inc_by(count);
    }

    pub(super) fn left(&self, samples: u64) {
        self.0.metrics.left.get_or_create(&self.0.labels).inc_by(samples);
    }

    pub(super) fn pending(&self, counts: Counts) {
        for (kind, count) in counts.each().into_iter().enumerate() {
            let pending = &self.0.metrics.kinds[kind].pending;
            pending.get_or_create(&self.0.labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn shards(&self, count: usize, max: usize) {
        let Inner { labels, metrics, .. } = &*self.0;
        metrics.shards.get_or_create(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.shards_max.get_or_create(labels).set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    pub(super) fn log(&self, bytes: u64, failing: bool) {
        let Inner { labels, metrics, .. } = &*self.0;
        metrics.log_bytes.get_or_create(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics.log_failing.get_or_create(labels).set(i64::from(failing));
    }
}
