//! Log records to CloudWatch Logs.
//!
//! In: the queue of records. Out: PutLogEvents, one batch after the other, each cut to the service's limits
//! before it is sent and repeated as it is until it is stored. A missing stream is made. Events that the
//! service rejects one by one are counted by kind; a batch that it refuses whole is halved until the event
//! that it does not like stands alone. Log groups belong to the infrastructure and are made only on request.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::error::{DisplayErrorContext, SdkError};
use aws_sdk_cloudwatchlogs::operation::put_log_events::PutLogEventsError;
use aws_sdk_cloudwatchlogs::types::{Entity, InputLogEvent, RejectedLogEventsInfo};
use prometheus_client::metrics::counter::Counter;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};
use tokio::time::Instant;

use super::retry::{Attempt, Retry};
use crate::identity::Identity;
use crate::pipeline::account::DropReason;
use crate::pipeline::batch::{Batch, Batcher};
use crate::pipeline::intake::Record;
use crate::pipeline::queue::Queue;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub group: String,
    /// None: `<service>/<task id>`.
    pub stream: Option<String>,
    /// Make the group when it is missing.
    pub create_group: bool,
    /// A batch that could not be delivered for this long is dropped.
    pub give_up_after: Duration,
}

/// How long a record waits for company.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

pub struct CloudWatchLogs {
    client: Client,
    group: String,
    stream: String,
    create_group: bool,
    entity: Option<Entity>,
    retry: Retry,
}

impl Config {
    /// Reads AWS' own variables and credentials; makes no request.
    pub async fn build(&self, identity: &Identity, metrics: &Metrics) -> CloudWatchLogs {
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
        self.build_with(Client::new(&loader.load().await), identity, metrics)
    }

    fn build_with(&self, client: Client, identity: &Identity, metrics: &Metrics) -> CloudWatchLogs {
        let retries = Counter::default();
        metrics.register(|r| {
            r.register(
                without_total(names::LOG_OUTPUT_RETRIES_TOTAL),
                "Repeated requests to the destination of logs",
                retries.clone(),
            );
        });
        let stream = self.stream.clone().unwrap_or_else(|| format!("{}/{}", identity.service, identity.task_id));
        CloudWatchLogs {
            client,
            group: self.group.clone(),
            // The two characters that a stream's name may not have.
            stream: stream.replace([':', '*'], "-"),
            create_group: self.create_group,
            entity: entity(identity),
            retry: Retry::new(format!("CloudWatch Logs group {}", self.group), self.give_up_after, retries),
        }
    }
}

/// What makes CloudWatch show the logs beside the service's other telemetry.
fn entity(identity: &Identity) -> Option<Entity> {
    let cluster = identity.cluster.as_ref()?;
    let entity = Entity::builder()
        .key_attributes("Type", "Service")
        .key_attributes("Name", &identity.service)
        .key_attributes("Environment", format!("ecs:{cluster}"))
        .attributes("PlatformType", "AWS::ECS");
    Some(entity.build())
}

impl CloudWatchLogs {
    /// Sends until the queue is closed and empty.
    pub async fn run(self, queue: Queue<Record>) -> anyhow::Result<()> {
        let mut batcher = Batcher::default();
        let mut flush_at = Instant::now();
        loop {
            if batcher.is_empty() {
                flush_at = Instant::now() + FLUSH_AFTER;
            }
            let batch = tokio::select! {
                record = queue.next() => match record {
                    Some(record) => batcher.add(record),
                    None => break,
                },
                () = tokio::time::sleep_until(flush_at), if !batcher.is_empty() => batcher.cut(),
            };
            if let Some(batch) = batch {
                self.deliver(batch).await;
                flush_at = Instant::now() + FLUSH_AFTER;
            }
        }
        if let Some(batch) = batcher.cut() {
            self.deliver(batch).await;
        }
        Ok(())
    }

    async fn deliver(&self, batch: Batch) {
        let since = Instant::now();
        let mut pieces = vec![batch];
        while let Some(piece) = pieces.pop() {
            match self.retry.until_done(since, || self.attempt(&piece)).await {
                Ok(Answer::Stored(rejected)) => settle(piece, rejected),
                Ok(Answer::Invalid(_)) if piece.events.len() > 1 => {
                    let (first, second) = piece.halve();
                    pieces.extend([second, first]);
                }
                Ok(Answer::Invalid(why)) => {
                    tracing::warn!(error = why, "CloudWatch Logs does not take an event, dropped");
                    piece.dropped(DropReason::Refused);
                }
                Err(reason) => piece.dropped(reason),
            }
        }
    }

    async fn attempt(&self, batch: &Batch) -> Attempt<Answer> {
        match self.put(batch).await {
            Ok(rejected) => Attempt::Done(Answer::Stored(rejected)),
            Err(error) => match error.as_service_error() {
                Some(PutLogEventsError::ResourceNotFoundException(_)) => match self.create().await {
                    Ok(()) => Attempt::Later { after: Some(Duration::ZERO), why: "the stream was missing".to_owned() },
                    Err(why) => Attempt::Later { after: None, why },
                },
                Some(PutLogEventsError::DataAlreadyAcceptedException(_)) => Attempt::Done(Answer::Stored(None)),
                Some(PutLogEventsError::InvalidParameterException(why)) => {
                    Attempt::Done(Answer::Invalid(why.to_string()))
                }
                // Throttling, outages, missing rights and no connection: all of them may pass.
                _ => Attempt::Later { after: None, why: DisplayErrorContext(&error).to_string() },
            },
        }
    }

    async fn put(&self, batch: &Batch) -> Result<Option<RejectedLogEventsInfo>, SdkError<PutLogEventsError>> {
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            let event = InputLogEvent::builder().timestamp(event.timestamp_millis).message(&*event.message).build();
            events.push(event.map_err(SdkError::construction_failure)?);
        }
        let request = self
            .client
            .put_log_events()
            .log_group_name(&self.group)
            .log_stream_name(&self.stream)
            .set_log_events(Some(events))
            .set_entity(self.entity.clone());
        Ok(request.send().await?.rejected_log_events_info)
    }

    /// Makes the stream, and the group where that was asked for. One that is there already is as good.
    async fn create(&self) -> Result<(), String> {
        let stream =
            || self.client.create_log_stream().log_group_name(&self.group).log_stream_name(&self.stream).send();
        let Err(error) = stream().await else { return Ok(()) };
        match error.as_service_error() {
            Some(why) if why.is_resource_already_exists_exception() => return Ok(()),
            Some(why) if why.is_resource_not_found_exception() && self.create_group => {}
            Some(why) if why.is_resource_not_found_exception() => {
                let group = &self.group;
                return Err(format!(
                    "log group {group} does not exist: create it, or set SIDECAR_LOG_GROUP_CREATE=true to let the sidecar do so"
                ));
            }
            _ => return Err(DisplayErrorContext(&error).to_string()),
        }
        if let Err(error) = self.client.create_log_group().log_group_name(&self.group).send().await
            && !error.as_service_error().is_some_and(|why| why.is_resource_already_exists_exception())
        {
            return Err(DisplayErrorContext(&error).to_string());
        }
        stream().await.map(drop).map_err(|error| DisplayErrorContext(&error).to_string())
    }
}

enum Answer {
    Stored(Option<RejectedLogEventsInfo>),
    Invalid(String),
}

/// Counts the events of a stored batch: delivered, or rejected for their time.
fn settle(batch: Batch, rejected: Option<RejectedLogEventsInfo>) {
    let index = |value: Option<i32>| value.and_then(|i| usize::try_from(i).ok());
    let too_new_from = rejected.as_ref().and_then(|r| index(r.too_new_log_event_start_index)).unwrap_or(usize::MAX);
    let too_old_to = rejected.as_ref().and_then(|r| index(r.too_old_log_event_end_index)).unwrap_or(0);
    let expired_to = rejected.as_ref().and_then(|r| index(r.expired_log_event_end_index)).unwrap_or(0);
    for (i, event) in batch.events.into_iter().enumerate() {
        match i {
            i if i < expired_to => event.ticket.dropped(DropReason::Expired),
            i if i < too_old_to => event.ticket.dropped(DropReason::TooOld),
            i if i >= too_new_from => event.ticket.dropped(DropReason::TooNew),
            _ => event.ticket.delivered(),
        }
    }
}

#[cfg(test)]
mod tests;
