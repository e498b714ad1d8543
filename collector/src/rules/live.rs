//! A group's task: waits for the next point of the grid, evaluates, hands on.

use promql::{Value, VectorSample};
use service::Shutdown;
use telemetry::{Labels, Timestamp};

use super::group::{Backend, Grid, Group};
use super::metrics::RuleMetrics;
use super::recording::Recorded;
use super::restore::Memory;
use super::status::Status;
use super::template::QueryAnswer;
use crate::clock::Clock;
use crate::notify::Outbox;
use crate::query::Querier;
use crate::write::{Origin, WriteHandle};

/// The running collector as a group sees it.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) querier: Querier,
    pub(super) write: WriteHandle,
}

impl Backend for Live {
    async fn instant(&self, expr: &str, at: Timestamp) -> QueryAnswer {
        let answer = self.querier.instant(expr, at).await.map_err(|error| error.to_string())?;
        vector(answer.value)
    }

    async fn write(&self, recorded: Recorded) -> Result<(), String> {
        let Recorded { floats, histograms } = recorded;
        if !floats.is_empty() {
            self.write.write(floats, Origin::Rules).await.map_err(|error| error.to_string())?;
        }
        if !histograms.is_empty() {
            self.write.write_histograms(histograms, Origin::Rules).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A rule's result as elements (prometheus rules/manager.go, `EngineQueryFunc`).
pub(super) fn vector(value: Value) -> QueryAnswer {
    match value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar { value, timestamp } => {
            Ok(vec![VectorSample { labels: Labels::empty(), timestamp, value, histogram: None }])
        }
        Value::String { .. } | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// Owns one group until it is stopped.
pub(super) struct GroupTask {
    pub(super) group: Group,
    pub(super) grid: Grid,
    pub(super) live: Live,
    pub(super) clock: Clock,
    pub(super) outbox: Outbox,
    pub(super) memory: Option<Memory>,
    pub(super) status: Status,
    pub(super) metrics: RuleMetrics,
    pub(super) stop: Shutdown,
}

impl GroupTask {
    /// Evaluates until the stop and gives the group back with all it knows.
    pub(super) async fn run(mut self) -> Group {
        let mut at = self.grid.after(self.group.last_evaluation.unwrap_or_default().max(self.clock.now()));
        loop {
            tokio::select! {
                () = self.stop.requested() => return self.group,
                () = tokio::time::sleep(at.since(self.clock.now())) => {}
            }
            if self.clock.now() < at {
                // The system's clock was set back while we slept.
                continue;
            }
            self.evaluate(at).await;
            let missed;
            (at, missed) = self.grid.next(at, self.clock.now());
            if missed > 0 {
                self.metrics.missed(&self.group.spec.name, missed);
                tracing::warn!(group = self.group.spec.name, missed, "rule evaluation is too slow for its interval");
            }
        }
    }

    async fn evaluate(&mut self, at: Timestamp) {
        let failing_before = self.failing();
        let outbox = self.outbox.clone();
        let tell = |_, notices| outbox.push(notices);
        let failures = self.group.evaluate_and_tell(&self.live, at, &tell).await;
        let group = &self.group;
        self.metrics.evaluated(group, failures.len());
        for (rule, error) in &failures {
            // Once when a rule begins to fail: its health and the counter show the rest.
            if !failing_before.contains(rule) {
                tracing::warn!(group = group.spec.name, rule, error, "rule failed");
            }
        }
        if let Some(memory) = &self.memory {
            memory.offer(group);
        }
        self.status.publish(group);
    }

    fn failing(&self) -> Vec<String> {
        let failed = |rule: &&super::group::Rule| matches!(rule.health, super::group::RuleHealth::Failed(_));
        self.group.rules.iter().filter(failed).map(|rule| rule.spec.name().to_owned()).collect()
    }
}
