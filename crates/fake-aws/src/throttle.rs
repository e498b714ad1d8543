//! Rates: a token bucket per family of operations as AWS has them, and faults that a test orders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::wire::{Api, AwsError};

/// Operations that share one bucket; burst and sustained calls per second.
struct Family {
    name: &'static str,
    burst: f64,
    per_second: f64,
}

const fn family(name: &'static str, burst: f64, per_second: f64) -> Family {
    Family { name, burst, per_second }
}

/// ECS: the service's published table. CloudWatch: quotas per operation. Logs: quotas of a large region.
/// Application Auto Scaling publishes none; the number is a cautious guess.
fn family_of(api: Api, operation: &str) -> Family {
    match (api, operation) {
        (Api::Ecs, "ListClusters" | "DescribeClusters") => family("ecs cluster read", 50.0, 20.0),
        (Api::Ecs, "ListTasks" | "DescribeTasks") => family("ecs task read", 100.0, 20.0),
        (Api::Ecs, "ListServices" | "DescribeServices") => family("ecs service read", 100.0, 20.0),
        (Api::Ecs, "DescribeTaskDefinition") => family("ecs task definition read", 50.0, 20.0),
        (Api::Ecs, "ListServiceDeployments") => family("ecs service deployments", 50.0, 20.0),
        (Api::Ecs, _) => family("ecs service write", 50.0, 5.0),
        (Api::AutoScaling, _) => family("application-autoscaling", 25.0, 10.0),
        (Api::CloudWatch, "GetDashboard") => family("GetDashboard", 10.0, 10.0),
        (Api::CloudWatch, "PutDashboard") => family("PutDashboard", 10.0, 10.0),
        (Api::CloudWatch, "ListDashboards") => family("ListDashboards", 10.0, 10.0),
        (Api::CloudWatch, "DeleteDashboards") => family("DeleteDashboards", 10.0, 10.0),
        (Api::CloudWatch, "PutMetricData") => family("PutMetricData", 500.0, 500.0),
        (Api::CloudWatch, "GetMetricData") => family("GetMetricData", 50.0, 50.0),
        (Api::CloudWatch, "ListMetrics") => family("ListMetrics", 25.0, 25.0),
        (Api::CloudWatch, "PutMetricAlarm") => family("PutMetricAlarm", 3.0, 3.0),
        (Api::CloudWatch, _) => family("cloudwatch", 9.0, 9.0),
        (Api::Logs, "PutLogEvents") => family("PutLogEvents", 5000.0, 5000.0),
        (Api::Logs, "CreateLogGroup") => family("CreateLogGroup", 5.0, 5.0),
        (Api::Logs, "CreateLogStream") => family("CreateLogStream", 50.0, 50.0),
        (Api::Logs, _) => family("logs read", 25.0, 25.0),
    }
}

/// What a test orders by `POST /_fake/faults`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `ListTasks`, `ecs:ListTasks`, `ecs:*` or `*`.
    pub operation: String,
    pub kind: FaultKind,
    /// How many matching calls fail.
    pub count: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// "Rate exceeded", as the API says it.
    Throttle,
    /// An internal error, status 500.
    Error,
}

impl Fault {
    fn matches(&self, api: Api, operation: &str) -> bool {
        match self.operation.split_once(':') {
            Some((prefix, name)) => prefix == api.name() && (name == "*" || name == operation),
            None => self.operation == "*" || self.operation == operation,
        }
    }
}

/// Calls of one operation since the start.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Calls {
    pub total: u64,
    /// Refused by a bucket or an ordered fault.
    pub refused: u64,
}

#[derive(Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: HashMap<&'static str, (f64, Instant)>,
    faults: Vec<Fault>,
    calls: BTreeMap<String, Calls>,
}

impl Throttle {
    /// Counts the call and lets it pass or not.
    pub(crate) fn admit(&self, api: Api, operation: &str, now: Instant) -> Result<(), AwsError> {
        let mut state = self.state.lock().expect("no one panics holding it");
        let result = state.take_fault(api, operation).and_then(|()| state.take_token(api, operation, now));
        let calls = state.calls.entry(format!("{}:{operation}", api.name())).or_default();
        calls.total += 1;
        calls.refused += u64::from(result.is_err());
        result
    }

    pub(crate) fn order(&self, fault: Fault) {
        self.state.lock().expect("no one panics holding it").faults.push(fault);
    }

    pub(crate) fn clear(&self) {
        self.state.lock().expect("no one panics holding it").faults.clear();
    }

    pub(crate) fn calls(&self) -> BTreeMap<String, Calls> {
        self.state.lock().expect("no one panics holding it").calls.clone()
    }
}

impl State {
    fn take_fault(&mut self, api: Api, operation: &str) -> Result<(), AwsError> {
        let Some(index) = self.faults.iter().position(|f| f.matches(api, operation)) else { return Ok(()) };
        let kind = self.faults[index].kind;
        self.faults[index].count = self.faults[index].count.saturating_sub(1);
        if self.faults[index].count == 0 {
            self.faults.remove(index);
        }
        Err(match kind {
            FaultKind::Throttle => rate_exceeded(api),
            FaultKind::Error => internal_error(api),
        })
    }

    fn take_token(&mut self, api: Api, operation: &str, now: Instant) -> Result<(), AwsError> {
        let family = family_of(api, operation);
        let (tokens, at) = self.buckets.entry(family.name).or_insert((family.burst, now));
        *tokens = (*tokens + now.saturating_duration_since(*at).as_secs_f64() * family.per_second).min(family.burst);
        *at = now;
        if *tokens < 1.0 {
            return Err(rate_exceeded(api));
        }
        *tokens -= 1.0;
        Ok(())
    }
}

fn rate_exceeded(api: Api) -> AwsError {
    match api {
        Api::CloudWatch => AwsError::new("ThrottlingException", "Rate exceeded").query("Throttling"),
        Api::Ecs | Api::AutoScaling | Api::Logs => AwsError::new("ThrottlingException", "Rate exceeded"),
    }
}

fn internal_error(api: Api) -> AwsError {
    let error = match api {
        Api::Ecs => AwsError::new("ServerException", "Service Unavailable. Please try again later."),
        Api::AutoScaling => AwsError::new("InternalServiceException", "The service encountered an internal error."),
        Api::CloudWatch => {
            AwsError::new("InternalServiceFault", "Internal service error").query("InternalServiceError")
        }
        Api::Logs => AwsError::new("ServiceUnavailableException", "The service cannot complete the request."),
    };
    error.status(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_at_its_burst_and_refills_at_its_rate() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let passed = (0..200).filter(|_| throttle.admit(Api::Ecs, "UpdateService", start).is_ok()).count();
        assert_eq!(passed, 50);
        let later = start + Duration::from_secs(2);
        let passed = (0..200).filter(|_| throttle.admit(Api::Ecs, "UpdateService", later).is_ok()).count();
        assert_eq!(passed, 10);
        assert!(throttle.admit(Api::Ecs, "ListTasks", start).is_ok(), "another family has its own bucket");
        assert_eq!(throttle.calls()["ecs:UpdateService"], Calls { total: 400, refused: 340 });
    }

    #[test]
    fn an_ordered_fault_hits_as_many_matching_calls_as_ordered() {
        let throttle = Throttle::default();
        throttle.order(Fault { operation: "ecs:*".into(), kind: FaultKind::Throttle, count: 2 });
        let now = Instant::now();
        assert!(throttle.admit(Api::Logs, "PutLogEvents", now).is_ok());
        let shapes: Vec<_> = (0..3).map(|_| throttle.admit(Api::Ecs, "ListTasks", now).map_err(|e| e.shape)).collect();
        assert_eq!(shapes, [Err("ThrottlingException"), Err("ThrottlingException"), Ok(())]);
    }
}
