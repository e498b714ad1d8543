//! Log records to CloudWatch Logs.
//!
//! In: bodies of PutLogEvents, compressed, each within the service's limits. Out: one signed request each, repeated as
//! it is until it is stored. A missing stream is made. Events that the service rejects one by one are counted by kind; a
//! batch that it refuses whole is halved until the event that it does not like stands alone. Log groups belong to the
//! infrastructure and are made only on request. Where an answer was lost the stream is asked whether the batch is there
//! before it is sent again: a lost answer duplicates nothing. Control calls go by the SDK, events by a request of our own
//! (docs/adr/0010).

mod put;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::error::DisplayErrorContext;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::sigv4::Signer;
use tokio::time::Instant;

use self::put::{PutError, Requests};
use super::retry::Attempt;
use super::sink::{Answer, Send};
use crate::identity::Identity;

/// A log stream and how it comes into being.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub group: String,
    pub stream: String,
    /// As the task's own where absent.
    pub region: Option<String>,
    pub endpoint: Option<String>,
    /// Make the group when it is missing.
    pub create_group: bool,
    /// Days, for a group that was made.
    pub retention_days: Option<i32>,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What all streams share: region, credentials, connections.
#[derive(Clone)]
pub struct Aws {
    sdk: aws_config::SdkConfig,
    /// From `AWS_ENDPOINT_URL_LOGS` or `AWS_ENDPOINT_URL`.
    endpoint: Option<String>,
    http: reqwest::Client,
}

impl Aws {
    /// Reads AWS' own variables and credentials; makes no request.
    pub async fn load(identity: &Identity, endpoint: Option<String>, http: reqwest::Client) -> Aws {
        // The one policy repeats requests; a second one inside the SDK would multiply the attempts.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(REQUEST_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = &identity.region {
            let task_region = Region::new(region.clone());
            let chain = aws_config::meta::region::RegionProviderChain::first_try(
                aws_config::environment::EnvironmentVariableRegionProvider::new(),
            );
            loader = loader.region(chain.or_else(task_region));
        }
        Aws { sdk: loader.load().await, endpoint, http }
    }

    /// Signs for CloudWatch Logs, in another region than the task's where that is asked for; None without credentials
    /// or region.
    pub fn signer(&self, region: Option<&str>) -> Option<Signer> {
        let mut sdk = self.sdk.clone().into_builder();
        if let Some(region) = region {
            sdk.set_region(Some(Region::new(region.to_owned())));
        }
        Signer::from_sdk("logs", &sdk.build()).ok()
    }
}

/// What makes CloudWatch show the logs beside the service's other telemetry.
pub fn entity(identity: &Identity) -> Option<Value> {
    let cluster = identity.cluster.as_ref()?;
    Some(json!({
        "keyAttributes": {"Type": "Service", "Name": identity.service, "Environment": format!("ecs:{cluster}")},
        "attributes": {"PlatformType": "AWS::ECS"},
    }))
}

/// A name as a log stream may have it.
pub fn stream_name(name: &str) -> String {
    // The two characters that a stream's name may not have, and its greatest length.
    let name = name.replace([':', '*'], "-");
    name[..name.floor_char_boundary(512)].to_owned()
}

/// Sends to one stream.
pub struct CloudWatchLogs {
    place: Place,
    control: Client,
    requests: Requests,
    /// Batches that may have been stored, by their checksum; since when the stream is known not to show them.
    doubts: Mutex<HashMap<u32, Option<Instant>>>,
    shows_after: Duration,
}

impl CloudWatchLogs {
    /// None where nobody says the region, or there is no way to credentials.
    pub fn new(place: Place, aws: &Aws) -> Option<CloudWatchLogs> {
        let region = place.region.clone().or_else(|| aws.sdk.region().map(ToString::to_string))?;
        let endpoint = place.endpoint.clone().or_else(|| aws.endpoint.clone());
        let mut config = aws_sdk_cloudwatchlogs::config::Builder::from(&aws.sdk).region(Region::new(region.clone()));
        if let Some(endpoint) = &endpoint {
            config = config.endpoint_url(endpoint);
        }
        let url = endpoint.unwrap_or_else(|| service_url(&region));
        let requests = Requests::new(url, aws.signer(Some(&region))?, aws.http.clone());
        let control = Client::from_conf(config.build());
        Some(CloudWatchLogs { place, control, requests, doubts: Mutex::default(), shows_after: SHOWS_AFTER })
    }

    /// Makes the stream, and the group where that was asked for. One that is there already is as good.
    async fn create(&self) -> Result<(), String> {
        let Place { group, stream, .. } = &self.place;
        let create_stream = || self.control.create_log_stream().log_group_name(group).log_stream_name(stream).send();
        let Err(error) = create_stream().await else { return Ok(()) };
        match error.as_service_error() {
            Some(why) if why.is_resource_already_exists_exception() => return Ok(()),
            Some(why) if why.is_resource_not_found_exception() && self.place.create_group => {}
            Some(why) if why.is_resource_not_found_exception() => {
                return Err(format!(
                    "log group {group} does not exist: create it, or set SIDECAR_LOG_GROUP_CREATE=true (in FireLens \
                     options auto_create_group true) to let the sidecar do so"
                ));
            }
            _ => return Err(DisplayErrorContext(&error).to_string()),
        }
        match self.control.create_log_group().log_group_name(group).send().await {
            Ok(_) => self.keep_for_days().await,
            Err(error) => {
                let exists = error.as_service_error().is_some_and(|why| why.is_resource_already_exists_exception());
                if !exists {
                    return Err(DisplayErrorContext(&error).to_string());
                }
            }
        }
        create_stream().await.map(drop).map_err(|error| DisplayErrorContext(&error).to_string())
    }

    async fn keep_for_days(&self) {
        let Some(days) = self.place.retention_days else { return };
        let put = self.control.put_retention_policy().log_group_name(&self.place.group).retention_in_days(days);
        if let Err(error) = put.send().await {
            let error = DisplayErrorContext(&error).to_string();
            tracing::warn!(group = self.place.group, error, "the retention of the new log group could not be set");
        }
    }
}

/// The service's address, which differs in China.
fn service_url(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://logs.{region}.{suffix}")
}

/// What is stored can be read within seconds, not at once: a stream that does not show a batch is asked again.
const SHOWS_AFTER: Duration = Duration::from_secs(3);
/// More than requests at a time; those of batches that were given up stay behind.
const DOUBTS_MAX: usize = 64;

impl CloudWatchLogs {
    /// None where the batch has to be sent; else what came of the question whether it is there already.
    async fn settle_doubt(&self, key: u32, body: &[u8]) -> Option<Attempt<Answer>> {
        let absent_since = *self.doubts.lock().expect("no one panics holding it").get(&key)?;
        let later = |after, why: &str| Some(Attempt::Later { after, why: why.to_owned() });
        match self.requests.has(body).await {
            Ok(true) => {
                tracing::info!(group = self.place.group, "a batch whose answer was lost had arrived, not sent again");
                self.resolve(key);
                return Some(Attempt::Done(Answer::Stored));
            }
            Ok(false) if absent_since.is_none_or(|since| since.elapsed() < self.shows_after) => {
                let mut doubts = self.doubts.lock().expect("no one panics holding it");
                doubts.insert(key, absent_since.or_else(|| Some(Instant::now())));
                return later(Some(self.shows_after), "the answer was lost; looking again whether the batch is there");
            }
            Ok(false) | Err(PutError::NotFound) => {}
            Err(PutError::InDoubt(why) | PutError::Passing { why, .. }) => return later(None, &why),
            Err(PutError::Denied(why) | PutError::Invalid(why)) => {
                tracing::warn!(
                    error = why,
                    "cannot see whether a batch arrived whose answer was lost, sending it again: with the permission \
                     logs:GetLogEvents on its own stream the sidecar can look"
                );
            }
            Err(PutError::AlreadyAccepted) => {}
        }
        self.resolve(key);
        None
    }

    fn resolve(&self, key: u32) {
        self.doubts.lock().expect("no one panics holding it").remove(&key);
    }
}

impl Send for CloudWatchLogs {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        let key = crc32fast::hash(body);
        if let Some(settled) = self.settle_doubt(key, body).await {
            return settled;
        }
        match self.requests.put(body).await {
            Ok(rejected) if rejected.is_empty() => Attempt::Done(Answer::Stored),
            Ok(rejected) => Attempt::Done(Answer::Partly(rejected)),
            Err(PutError::NotFound) => match self.create().await {
                Ok(()) => Attempt::Later { after: Some(Duration::ZERO), why: "the stream was missing".to_owned() },
                Err(why) => Attempt::Later { after: None, why },
            },
            Err(PutError::AlreadyAccepted) => Attempt::Done(Answer::Stored),
            Err(PutError::Invalid(why)) => Attempt::Done(Answer::Invalid(why)),
            Err(PutError::InDoubt(why)) => {
                self.doubt(body);
                Attempt::Later { after: None, why }
            }
            // Throttling, outages, missing rights and no connection: all of them may pass.
            Err(PutError::Denied(why)) => Attempt::Later { after: None, why },
            Err(PutError::Passing { after, why }) => Attempt::Later { after, why },
        }
    }

    fn doubt(&self, body: &[u8]) {
        let mut doubts = self.doubts.lock().expect("no one panics holding it");
        if doubts.len() >= DOUBTS_MAX {
            doubts.clear();
        }
        doubts.entry(crc32fast::hash(body)).or_insert(None);
    }
}

#[cfg(test)]
mod tests;
