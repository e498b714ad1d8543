//! PutLogEvents: what it refuses, what it rejects singly, and what becomes of the entity.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Event, Logs, constraint, invalid, missing, now_ms};
use crate::wire::AwsError;

const BATCH_BYTES_MAX: usize = 1_048_576;
const BATCH_EVENTS_MAX: usize = 10_000;
/// Counted for each event beside its bytes.
const EVENT_OVERHEAD_BYTES: usize = 26;
const EVENT_BYTES_MAX: usize = BATCH_BYTES_MAX - EVENT_OVERHEAD_BYTES;
const HOUR_MS: i64 = 3_600_000;
const SPAN_MS_MAX: i64 = 24 * HOUR_MS;
const TOO_OLD_MS: i64 = 14 * 24 * HOUR_MS;
const TOO_NEW_MS: i64 = 2 * HOUR_MS;
/// What an entity is made of, by the API reference.
const KEY_ATTRIBUTES: [&str; 5] = ["Type", "ResourceType", "Identifier", "Name", "Environment"];
const KEY_ATTRIBUTES_MIN: usize = 2;
const KEY_ATTRIBUTES_MAX: usize = 4;
const ATTRIBUTES_MAX: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutInput {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputEvent>,
    entity: Option<Entity>,
}

#[derive(Deserialize)]
struct InputEvent {
    timestamp: i64,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entity {
    #[serde(default)]
    key_attributes: Map<String, Value>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

impl Logs {
    pub(super) fn put(&self, put: PutInput) -> Result<Value, AwsError> {
        check_batch(&put.log_events)?;
        let mut groups = self.lock();
        let group = groups.get_mut(&put.log_group_name).ok_or_else(|| missing("group"))?;
        let retention_ms = group.retention_days.map(|days| days * 24 * HOUR_MS);
        let stream = group.streams.get_mut(&put.log_stream_name).ok_or_else(|| missing("stream"))?;
        let now = now_ms();
        let times: Vec<i64> = put.log_events.iter().map(|e| e.timestamp).collect();
        // The batch is in order, so what is too old stands in front and what is too new at the end.
        let too_old = times.partition_point(|t| *t < now - TOO_OLD_MS);
        let expired = retention_ms.map_or(0, |kept| times.partition_point(|t| *t < now - kept));
        let too_new = times.partition_point(|t| *t <= now + TOO_NEW_MS);
        let good = too_old.max(expired)..too_new;
        for event in put.log_events.into_iter().take(good.end).skip(good.start) {
            stream.bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
            stream.events.push(Event { timestamp: event.timestamp, message: event.message, ingested_at: now });
        }
        stream.last_ingestion = now;
        let mut rejected = json!({});
        if too_new < times.len() {
            rejected["tooNewLogEventStartIndex"] = json!(too_new);
        }
        if too_old > 0 {
            rejected["tooOldLogEventEndIndex"] = json!(too_old);
        }
        if expired > 0 {
            rejected["expiredLogEventEndIndex"] = json!(expired);
        }
        let mut answer = json!({"nextSequenceToken": format!("{:056}", stream.events.len())});
        if rejected != json!({}) {
            answer["rejectedLogEventsInfo"] = rejected;
        }
        match put.entity.map(Entity::checked) {
            Some(Ok(entity)) => stream.entity = Some(entity),
            // The events are stored all the same.
            Some(Err(kind)) => answer["rejectedEntityInfo"] = json!({"errorType": kind}),
            None => {}
        }
        Ok(answer)
    }
}

impl Entity {
    /// The entity as it is kept, or the type of the error.
    fn checked(self) -> Result<Value, &'static str> {
        let Entity { key_attributes, attributes } = self;
        let known = key_attributes.keys().all(|key| KEY_ATTRIBUTES.contains(&key.as_str()));
        if !(KEY_ATTRIBUTES_MIN..=KEY_ATTRIBUTES_MAX).contains(&key_attributes.len()) || !known {
            return Err("InvalidKeyAttributes");
        }
        match key_attributes.get("Type").and_then(Value::as_str) {
            None => return Err("MissingRequiredFields"),
            Some("Service" | "RemoteService" | "Resource" | "AWS::Service" | "AWS::Resource") => {}
            Some(_) => return Err("InvalidTypeValue"),
        }
        let is_text = |value: &Value| value.as_str().is_some_and(|text| (1..=512).contains(&text.len()));
        if attributes.len() > ATTRIBUTES_MAX || !attributes.values().all(is_text) {
            return Err("InvalidAttributes");
        }
        Ok(json!({"keyAttributes": key_attributes, "attributes": attributes}))
    }
}

/// What refuses the whole batch.
fn check_batch(events: &[InputEvent]) -> Result<(), AwsError> {
    if !(1..=BATCH_EVENTS_MAX).contains(&events.len()) {
        return Err(invalid(format!("A batch has 1 to {BATCH_EVENTS_MAX} log events, this has {}", events.len())));
    }
    if let Some(empty) = events.iter().position(|e| e.message.is_empty()) {
        return Err(constraint(
            &format!("logEvents.{}.member.message", empty + 1),
            "",
            "Member must have length greater than or equal to 1",
        ));
    }
    if let Some(large) = events.iter().find(|e| e.message.len() > EVENT_BYTES_MAX) {
        return Err(invalid(format!(
            "Log event too large: {} bytes exceeds limit of {EVENT_BYTES_MAX}",
            large.message.len()
        )));
    }
    let bytes: usize = events.iter().map(|e| e.message.len() + EVENT_OVERHEAD_BYTES).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(invalid(format!("Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}")));
    }
    if events.windows(2).any(|pair| pair[0].timestamp > pair[1].timestamp) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    let span = events[events.len() - 1].timestamp - events[0].timestamp;
    if span > SPAN_MS_MAX {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(())
}
