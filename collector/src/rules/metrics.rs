//! What the rules stage counts about itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::Timestamp;

use super::group::Group;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    rule_group: String,
}

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Default)]
pub(super) struct RuleMetrics {
    evaluations: Family<GroupLabel, Counter>,
    failures: Family<GroupLabel, Counter>,
    missed: Family<GroupLabel, Counter>,
    last_duration: Family<GroupLabel, FloatGauge>,
    last_evaluation: Family<GroupLabel, FloatGauge>,
    interval: Family<GroupLabel, FloatGauge>,
    groups: Gauge,
    rules: Gauge,
    reload_successful: Gauge,
    reload_success_time: FloatGauge,
}

impl RuleMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let new = RuleMetrics::default();
        new.reload_successful.set(1);
        metrics.register(|r| {
            r.register("collector_rule_evaluations", "Evaluations of rules", new.evaluations.clone());
            r.register("collector_rule_evaluation_failures", "Evaluations of rules that failed", new.failures.clone());
            r.register(
                "collector_rule_group_iterations_missed",
                "Evaluations of rule groups that were skipped because the one before took too long",
                new.missed.clone(),
            );
            r.register(
                "collector_rule_group_last_duration_seconds",
                "How long the last evaluation of a rule group took",
                new.last_duration.clone(),
            );
            r.register(
                "collector_rule_group_last_evaluation_timestamp_seconds",
                "The time as of which a rule group was last evaluated",
                new.last_evaluation.clone(),
            );
            r.register(
                "collector_rule_group_interval_seconds",
                "How often a rule group is to be evaluated",
                new.interval.clone(),
            );
            r.register("collector_rule_groups", "Rule groups that are running", new.groups.clone());
            r.register("collector_rules", "Rules that are running", new.rules.clone());
            r.register(
                "collector_rules_last_reload_successful",
                "1 if the rule files could be used when they were last read",
                new.reload_successful.clone(),
            );
            r.register(
                "collector_rules_last_reload_success_timestamp_seconds",
                "When the rule files were last read successfully after the start",
                new.reload_success_time.clone(),
            );
        });
        new
    }

    pub(super) fn evaluated(&self, group: &Group, failures: usize) {
        let label = GroupLabel { rule_group: group.spec.name.clone() };
        self.evaluations.get_or_create(&label).inc_by(group.rules.len() as u64);
        self.failures.get_or_create(&label).inc_by(failures as u64);
        self.last_duration.get_or_create(&label).set(group.evaluation_time.as_secs_f64());
        let at = group.last_evaluation.unwrap_or_default();
        self.last_evaluation.get_or_create(&label).set(at.as_secs_f64());
        self.interval.get_or_create(&label).set(group.timing.interval.as_secs_f64());
        // A counter that first appears with its first increase shows no increase.
        drop(self.missed.get_or_create(&label));
    }

    pub(super) fn missed(&self, group: &str, missed: u64) {
        self.missed.get_or_create(&GroupLabel { rule_group: group.to_owned() }).inc_by(missed);
    }

    pub(super) fn loaded(&self, groups: usize, rules: usize) {
        self.groups.set(groups as i64);
        self.rules.set(rules as i64);
    }

    pub(super) fn reloaded(&self, successful: bool, at: Timestamp) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_success_time.set(at.as_secs_f64());
        }
    }
}
