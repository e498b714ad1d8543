//! What the demo saw, as JSON for `--report`.

use serde::Serialize;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Services of which at least one task is scraped and up.
    pub services_up: u64,
    /// Scrape targets that are up, the collector itself included.
    pub targets_up: u64,
    /// HTTP requests that the load generator made.
    pub requests: u64,
    pub alert: Alert,
    /// CloudWatch dashboards that AWS lists.
    pub dashboards_published: u64,
    pub scaling: Scaling,
    /// OTLP exports that the sidecars forwarded.
    pub trace_exports: u64,
    /// What could not be shown on this machine, and why.
    pub not_shown: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Alert {
    pub name: String,
    /// From the start of the fault until the alert fires in the collector, in seconds.
    pub fired_after_s: Option<f64>,
    /// Whether Alertmanager's API shows it.
    pub delivered: bool,
    /// Error lines of the failing task in the alert's annotations.
    pub evidence_lines: u64,
    /// The trace id in the annotations.
    pub trace_id: Option<String>,
    /// Whether a line of the service's log carries that trace id.
    pub trace_in_log: bool,
    /// Whether a span of that trace came out of the sidecar.
    pub trace_exported: bool,
    /// From the end of the fault until the alert is resolved, in seconds.
    pub resolved_after_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Scaling {
    pub resource: String,
    /// `[min, max]` of the scalable target in AWS.
    pub before: Option<[i64; 2]>,
    pub after: Option<[i64; 2]>,
}

impl Report {
    /// What of the story did not come true; empty when all did.
    pub fn missing(&self, with_alertmanager: bool) -> Vec<String> {
        let alert = &self.alert;
        let checks = [
            (self.services_up >= 6, format!("6 services up (saw {})", self.services_up)),
            (self.requests > 0, "requests made by the load generator".to_owned()),
            (alert.fired_after_s.is_some(), format!("{} fired", alert.name)),
            (alert.delivered || !with_alertmanager, format!("{} delivered to Alertmanager", alert.name)),
            (alert.evidence_lines > 0, "the failing task's error lines in the alert".to_owned()),
            (alert.trace_id.is_some(), "a trace id in the alert".to_owned()),
            (alert.trace_in_log, "the alert's trace id in the service's log".to_owned()),
            (alert.trace_exported, "the alert's trace among the exported spans".to_owned()),
            (alert.resolved_after_s.is_some(), format!("{} resolved", alert.name)),
            (self.dashboards_published >= 5, format!("5 dashboards published (saw {})", self.dashboards_published)),
            (
                self.scaling.before.is_some()
                    && self.scaling.after.is_some()
                    && self.scaling.before != self.scaling.after,
                format!(
                    "changed bounds of {} ({:?} -> {:?})",
                    self.scaling.resource, self.scaling.before, self.scaling.after
                ),
            ),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
    }
}
