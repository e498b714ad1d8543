//! What stands against lowering a bound. Pure.

use serde::{Deserialize, Serialize};
use telemetry::Labels;
use telemetry::names::label;

/// The `guards:` block of `scaling:`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Firing alerts of these severities about the service hold reductions back; an empty list switches this off.
    pub alert_severities: Vec<String>,
    /// A deployment in progress or failed holds reductions back.
    pub deployments: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { alert_severities: vec!["critical".to_owned()], deployments: true }
    }
}

/// What ECS says of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub desired: u32,
    pub running: u32,
    pub rollout: Rollout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    Completed,
    InProgress,
    Failed,
}

/// Why a reduction has to wait; None when nothing stands against it.
pub fn objection(config: &Config, service: &str, firing: &[Labels], facts: &Result<Facts, String>) -> Option<String> {
    let about = |alert: &&Labels| {
        let severe = alert.get("severity").is_some_and(|s| config.alert_severities.iter().any(|c| c == s));
        severe && alert.get(label::SERVICE) == Some(service)
    };
    if let Some(alert) = firing.iter().find(about) {
        let name = alert.get("alertname").unwrap_or("an alert");
        return Some(format!("alert {name} ({}) fires", alert.get("severity").unwrap_or_default()));
    }
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => return Some(format!("the service's state is not known: {why}")),
    };
    match facts.rollout {
        Rollout::InProgress if config.deployments => return Some("a deployment is in progress".to_owned()),
        Rollout::Failed if config.deployments => return Some("the last deployment failed".to_owned()),
        _ => {}
    }
    // A service that cannot run what it wants is in trouble already.
    (facts.running < facts.desired).then(|| format!("only {} of {} tasks run", facts.running, facts.desired))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, severity: &str, service: &str) -> Labels {
        Labels::from_pairs([("alertname", name), ("severity", severity), ("service", service)])
    }

    #[test]
    fn what_stands_against_a_reduction_is_named() {
        let well = Ok(Facts { desired: 3, running: 3, rollout: Rollout::Completed });
        let rollout = |rollout| Ok(Facts { desired: 3, running: 3, rollout });
        let (critical, warning) = (alert("Down", "critical", "order"), alert("Slow", "warning", "order"));
        let elsewhere = alert("Down", "critical", "user");
        let config = Config::default();
        for (firing, facts, expected) in [
            (vec![], well.clone(), None),
            (vec![warning, elsewhere], well.clone(), None),
            (vec![critical.clone()], well.clone(), Some("alert Down (critical) fires")),
            (vec![], rollout(Rollout::InProgress), Some("a deployment is in progress")),
            (vec![], rollout(Rollout::Failed), Some("the last deployment failed")),
            (vec![], Ok(Facts { desired: 3, running: 2, rollout: Rollout::Completed }), Some("only 2 of 3 tasks run")),
            (vec![], Err("throttled".to_owned()), Some("the service's state is not known: throttled")),
        ] {
            assert_eq!(objection(&config, "order", &firing, &facts).as_deref(), expected);
        }
        let off = Config { alert_severities: vec![], deployments: false };
        assert_eq!(objection(&off, "order", &[critical], &rollout(Rollout::InProgress)), None);
    }
}
