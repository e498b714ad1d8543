//! Dashboards, metrics and alarms in CloudWatch: the `cloudwatch:` block.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
