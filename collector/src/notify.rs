//! Alerts to Alertmanager: the `alerting:` block of Prometheus' configuration.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
