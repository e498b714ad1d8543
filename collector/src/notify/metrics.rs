//! What the notify stage counts about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabel {
    alertmanager: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    alertmanager: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Default)]
pub(super) struct NotifyMetrics {
    sent: Family<ReceiverLabel, Counter>,
    errors: Family<ErrorLabels, Counter>,
    dropped: Family<ReasonLabel, Counter>,
    queue_len: Family<ReceiverLabel, Gauge>,
    queue_len_max: Gauge,
    alertmanagers: Gauge,
    evidence: Family<OutcomeLabel, Counter>,
}

impl NotifyMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let new = NotifyMetrics::default();
        new.queue_len_max.set(super::QUEUE_LEN_MAX as i64);
        // A counter that first appears with its first increase shows no increase.
        for reason in ["queue_full", "refused", "stopping", "expired", "relabelled"] {
            drop(new.dropped.get_or_create(&ReasonLabel { reason }));
        }
        metrics.register(|r| {
            r.register("collector_notifications_sent", "Alerts that an Alertmanager took", new.sent.clone());
            r.register(
                "collector_notifications_errors",
                "Requests to an Alertmanager that failed, by reason",
                new.errors.clone(),
            );
            r.register("collector_notifications_dropped", "Alerts that were given up, by reason", new.dropped.clone());
            r.register(
                "collector_notifications_queue_length",
                "Alerts that wait for an Alertmanager",
                new.queue_len.clone(),
            );
            r.register(
                "collector_notifications_queue_capacity",
                "Alerts that may wait for one Alertmanager",
                new.queue_len_max.clone(),
            );
            r.register("collector_alertmanagers", "Alertmanagers that get alerts", new.alertmanagers.clone());
            r.register("collector_evidence", "Lookups of evidence for firing alerts, by outcome", new.evidence.clone());
        });
        new
    }

    pub(super) fn sent(&self, alertmanager: &str, alerts: usize) {
        self.sent.get_or_create(&ReceiverLabel { alertmanager: alertmanager.to_owned() }).inc_by(alerts as u64);
    }

    pub(super) fn failed(&self, alertmanager: &str, reason: &'static str) {
        self.errors.get_or_create(&ErrorLabels { alertmanager: alertmanager.to_owned(), reason }).inc();
    }

    pub(super) fn dropped(&self, reason: &'static str, alerts: usize) {
        if alerts > 0 {
            self.dropped.get_or_create(&ReasonLabel { reason }).inc_by(alerts as u64);
        }
    }

    pub(super) fn queued(&self, alertmanager: &str, alerts: usize) {
        self.queue_len.get_or_create(&ReceiverLabel { alertmanager: alertmanager.to_owned() }).set(alerts as i64);
    }

    pub(super) fn alertmanagers(&self, count: usize) {
        self.alertmanagers.set(count as i64);
    }

    pub(super) fn evidence(&self, outcome: &'static str) {
        self.evidence.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
