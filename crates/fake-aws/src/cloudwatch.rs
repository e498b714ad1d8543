//! CloudWatch: dashboards with AWS' validation, and metrics. Has no alarms.

mod dashboards;
mod metrics;

use serde_json::Value;

use crate::topology::Topology;
use crate::wire::AwsError;
use dashboards::Dashboards;
use metrics::Metrics;

pub(crate) struct CloudWatch {
    dashboards: Dashboards,
    metrics: Metrics,
}

impl CloudWatch {
    pub(crate) fn new(topology: &Topology) -> Self {
        CloudWatch { dashboards: Dashboards::new(topology), metrics: Metrics::new(topology) }
    }

    pub(crate) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "PutDashboard" | "GetDashboard" | "ListDashboards" | "DeleteDashboards" => {
                self.dashboards.call(operation, value)
            }
            "PutMetricData" | "ListMetrics" | "GetMetricData" => self.metrics.call(operation, value),
            other => Err(AwsError::new("UnknownOperationException", format!("fake-aws has no cloudwatch:{other}"))),
        }
    }
}

/// The error of most CloudWatch operations.
fn invalid_value(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterValueException", message).query("InvalidParameterValue")
}
