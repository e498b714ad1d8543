//! The way to AWS: one configuration of the SDK for all clients, and a count of every attempt.
//!
//! Credentials, region and endpoints come from the SDK's own variables (`AWS_REGION`, `AWS_ENDPOINT_URL`, the
//! container's credentials); a block's `region` outranks the environment's. Nothing is asked before the first call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ecs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecs::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use service::metrics::Metrics;
use tokio::sync::OnceCell;

use crate::discovery::ecs::pace::{Bucket, Pace};

/// One attempt; an API that takes longer will not answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// All attempts of a call together: a job's run must end before its next one is due.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 4;

/// Shared by all jobs; makes clients.
pub struct Aws {
    calls: Calls,
    /// By region.
    paces: Mutex<BTreeMap<String, Arc<Pace>>>,
    config: OnceCell<SdkConfig>,
}

/// Attempts by operation and how they ended.
#[derive(Clone, Default)]
struct Calls {
    attempts: Family<Attempt, Counter>,
    paced_seconds: Counter<f64, AtomicU64>,
}

/// A turn before each call to ECS; see [`Pace`].
pub(crate) struct EcsPace {
    pace: Arc<Pace>,
    waited_seconds: Counter<f64, AtomicU64>,
}

impl EcsPace {
    pub(crate) async fn turn(&self, bucket: Bucket) {
        self.waited_seconds.inc_by(self.pace.turn(bucket).await.as_secs_f64());
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    operation: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "variants are label values")]
enum Outcome {
    ok,
    throttled,
    error,
}

impl Aws {
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let calls = Calls::default();
        metrics.register(|registry| {
            let help = "Attempts of AWS API calls, retries included, by operation and outcome";
            registry.register("collector_aws_requests", help, calls.attempts.clone());
            let help = "Time that calls to ECS waited, so that they stay under a quarter of the account's rate";
            registry.register("collector_aws_ecs_paced_seconds", help, calls.paced_seconds.clone());
        });
        Arc::new(Aws { calls, paces: Mutex::default(), config: OnceCell::new() })
    }

    /// With a configuration of the caller's instead of the environment's.
    pub fn with_config(config: SdkConfig, metrics: &Metrics) -> Arc<Self> {
        let aws = Aws::new(metrics);
        // A cell that was just made is empty.
        let _ = aws.config.set(config);
        aws
    }

    async fn config(&self, region: Option<&str>) -> SdkConfig {
        let shared = self.config.get_or_init(|| async {
            let timeouts = TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(CALL_TIMEOUT)
                .build();
            aws_config::defaults(BehaviorVersion::latest())
                .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
                .timeout_config(timeouts)
                .load()
                .await
        });
        let shared = shared.await.clone();
        match region {
            Some(region) => shared.into_builder().region(Region::new(region.to_owned())).build(),
            None => shared,
        }
    }

    /// The region that calls go to: the one named, else the environment's.
    pub async fn region(&self, region: Option<&str>) -> Option<String> {
        self.config(region).await.region().map(ToString::to_string)
    }

    pub async fn cloudwatch(&self, region: Option<&str>) -> aws_sdk_cloudwatch::Client {
        let config = aws_sdk_cloudwatch::config::Builder::from(&self.config(region).await);
        aws_sdk_cloudwatch::Client::from_conf(config.interceptor(self.calls.clone()).build())
    }

    pub async fn autoscaling(&self, region: Option<&str>) -> aws_sdk_applicationautoscaling::Client {
        let config = aws_sdk_applicationautoscaling::config::Builder::from(&self.config(region).await);
        aws_sdk_applicationautoscaling::Client::from_conf(config.interceptor(self.calls.clone()).build())
    }

    /// Of the region's ECS; all who ask it share one.
    pub(crate) async fn ecs_pace(&self, region: Option<&str>) -> EcsPace {
        let region = self.region(region).await.unwrap_or_default();
        let mut paces = self.paces.lock().expect("no one panics holding it");
        let pace = paces.entry(region).or_insert_with(|| Arc::new(Pace::new())).clone();
        EcsPace { pace, waited_seconds: self.calls.paced_seconds.clone() }
    }

    pub async fn ecs(&self, region: Option<&str>) -> aws_sdk_ecs::Client {
        let config = aws_sdk_ecs::config::Builder::from(&self.config(region).await);
        aws_sdk_ecs::Client::from_conf(config.interceptor(self.calls.clone()).build())
    }
}

/// The SDK's error with its causes in one line; its own Display says only "service error".
pub fn explain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut parts: Vec<String> = chain.filter(|part| part != "service error").collect();
    parts.dedup();
    parts.join(": ")
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "count AWS calls"
    }

    /// The request is gone once it was sent: its operation is noted before.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let operation = match request.headers().get("x-amz-target") {
            Some(target) => target.rsplit('.').next(),
            None => request.uri().rsplit('/').next(),
        };
        config.interceptor_state().store_put(Operation(operation.unwrap_or_default().to_owned()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Without an operation nothing was sent: no credentials, no region.
        let Some(Operation(operation)) = config.load::<Operation>() else { return Ok(()) };
        let outcome = match context.response() {
            Some(response) if response.status().is_success() => Outcome::ok,
            Some(response) if is_throttled(response.status().as_u16(), response.body().bytes()) => Outcome::throttled,
            Some(_) | None => Outcome::error,
        };
        self.attempts.get_or_create(&Attempt { operation: operation.clone(), outcome }).inc();
        Ok(())
    }
}

/// Kept with a call from its sending to its end.
#[derive(Debug)]
struct Operation(String);

impl Storable for Operation {
    type Storer = StoreReplace<Self>;
}

/// AWS says it by 429, or by 400 and a code whose spelling differs between the APIs.
fn is_throttled(status: u16, body: Option<&[u8]>) -> bool {
    let says = |code: &[u8]| body.is_some_and(|body| body.windows(code.len()).any(|w| w == code));
    status == 429 || says(b"Throttling") || says(b"TooManyRequests") || says(b"Rate exceeded")
}
