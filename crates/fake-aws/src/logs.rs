//! CloudWatch Logs: groups, streams, events, with the limits of PutLogEvents as they are since 2025.

mod filter;
mod put;

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::ecs::unix_now;
use crate::topology::Topology;
use crate::wire::page::page;
use crate::wire::{AwsError, input};
use filter::Filter;

const GROUP_NAME_MAX: usize = 512;
const DESCRIBE_PAGE: usize = 50;
const EVENTS_PAGE: usize = 10_000;
/// The days that PutRetentionPolicy takes.
const RETENTION_DAYS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

pub(crate) struct Logs {
    region: String,
    account: String,
    page_size_max: Option<usize>,
    groups: Mutex<BTreeMap<String, Group>>,
}

struct Group {
    created_at: i64,
    retention_days: Option<i64>,
    streams: BTreeMap<String, Stream>,
}

#[derive(Default)]
struct Stream {
    created_at: i64,
    events: Vec<Event>,
    last_ingestion: i64,
    bytes: usize,
    /// What the last batch said of who wrote it.
    entity: Option<Value>,
}

#[derive(Clone)]
struct Event {
    timestamp: i64,
    message: String,
    ingested_at: i64,
}

/// A log stream, for tests to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredStream {
    /// In the order in which they came.
    pub messages: Vec<String>,
    /// What the last batch that named one said of who wrote it.
    pub entity: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameInput {
    log_group_name: String,
    log_stream_name: Option<String>,
    retention_in_days: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadInput {
    log_group_name: Option<String>,
    log_group_name_prefix: Option<String>,
    log_stream_name: Option<String>,
    log_stream_name_prefix: Option<String>,
    #[serde(default)]
    log_stream_names: Vec<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    start_from_head: bool,
}

impl Logs {
    pub(crate) fn new(topology: &Topology) -> Self {
        Logs {
            region: topology.region.clone(),
            account: topology.account.clone(),
            page_size_max: topology.page_size_max,
            groups: Mutex::default(),
        }
    }

    pub(crate) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "CreateLogGroup" => self.create_group(&input(value)?),
            "DeleteLogGroup" => self.delete_group(&input(value)?),
            "CreateLogStream" => self.create_stream(&input(value)?),
            "PutRetentionPolicy" => self.put_retention(&input(value)?),
            "PutLogEvents" => self.put(input(value)?),
            "DescribeLogGroups" => self.describe_groups(&input(value)?),
            "DescribeLogStreams" => self.describe_streams(&input(value)?),
            "GetLogEvents" => self.get(&input(value)?),
            "FilterLogEvents" => self.filter(&input(value)?),
            other => Err(AwsError::new("UnknownOperationException", format!("fake-aws has no logs:{other}"))),
        }
    }

    /// What was stored in a stream; None where there is no such stream.
    pub(crate) fn stored(&self, group: &str, stream: &str) -> Option<StoredStream> {
        let groups = self.lock();
        let stream = groups.get(group)?.streams.get(stream)?;
        let messages = stream.events.iter().map(|event| event.message.clone()).collect();
        Some(StoredStream { messages, entity: stream.entity.clone() })
    }

    fn create_group(&self, create: &NameInput) -> Result<Value, AwsError> {
        let name = &create.log_group_name;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_/#".contains(&b);
        if !(1..=GROUP_NAME_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(constraint("logGroupName", name, "[\\.\\-_/#A-Za-z0-9]+"));
        }
        let mut groups = self.lock();
        if groups.contains_key(name) {
            return Err(exists("group"));
        }
        groups.insert(name.clone(), Group { created_at: now_ms(), retention_days: None, streams: BTreeMap::new() });
        Ok(json!({}))
    }

    fn delete_group(&self, delete: &NameInput) -> Result<Value, AwsError> {
        self.lock().remove(&delete.log_group_name).map(|_| json!({})).ok_or_else(|| missing("group"))
    }

    fn create_stream(&self, create: &NameInput) -> Result<Value, AwsError> {
        let name = create.log_stream_name.clone().unwrap_or_default();
        if !(1..=GROUP_NAME_MAX).contains(&name.len()) || name.contains([':', '*']) {
            return Err(constraint("logStreamName", &name, "[^:*]*"));
        }
        let mut groups = self.lock();
        let group = groups.get_mut(&create.log_group_name).ok_or_else(|| missing("group"))?;
        if group.streams.contains_key(&name) {
            return Err(exists("stream"));
        }
        group.streams.insert(name, Stream { created_at: now_ms(), ..Stream::default() });
        Ok(json!({}))
    }

    fn put_retention(&self, put: &NameInput) -> Result<Value, AwsError> {
        let days = put.retention_in_days.unwrap_or_default();
        if !RETENTION_DAYS.contains(&days) {
            return Err(invalid(format!("Invalid retention value: {days} days")));
        }
        let mut groups = self.lock();
        groups.get_mut(&put.log_group_name).ok_or_else(|| missing("group"))?.retention_days = Some(days);
        Ok(json!({}))
    }

    fn describe_groups(&self, read: &ReadInput) -> Result<Value, AwsError> {
        let groups = self.lock();
        let prefix = read.log_group_name_prefix.as_deref().unwrap_or_default();
        let items = groups.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, group)| {
            let mut item = json!({
                "logGroupName": name,
                "arn": format!("{}:*", self.group_arn(name)),
                "logGroupArn": self.group_arn(name),
                "creationTime": group.created_at,
                "metricFilterCount": 0,
                "storedBytes": group.streams.values().map(|s| s.bytes).sum::<usize>(),
                "logGroupClass": "STANDARD",
            });
            if let Some(days) = group.retention_days {
                item["retentionInDays"] = json!(days);
            }
            (name.clone(), item)
        });
        self.page("DescribeLogGroups", "logGroups", items, read)
    }

    fn describe_streams(&self, read: &ReadInput) -> Result<Value, AwsError> {
        let groups = self.lock();
        let name = read.log_group_name.as_deref().unwrap_or_default();
        let group = groups.get(name).ok_or_else(|| missing("group"))?;
        let prefix = read.log_stream_name_prefix.as_deref().unwrap_or_default();
        let items = group.streams.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(stream_name, stream)| {
            let mut item = json!({
                "logStreamName": stream_name,
                "arn": format!("{}:log-stream:{stream_name}", self.group_arn(name)),
                "creationTime": stream.created_at,
                "storedBytes": 0,
                "uploadSequenceToken": format!("{:056}", stream.events.len()),
            });
            let times = stream.events.iter().map(|e| e.timestamp);
            if let (Some(first), Some(last)) = (times.clone().min(), times.max()) {
                item["firstEventTimestamp"] = json!(first);
                item["lastEventTimestamp"] = json!(last);
                item["lastIngestionTime"] = json!(stream.last_ingestion);
            }
            (stream_name.clone(), item)
        });
        self.page("DescribeLogStreams", "logStreams", items, read)
    }

    fn page(
        &self,
        operation: &str,
        member: &str,
        items: impl Iterator<Item = (String, Value)>,
        read: &ReadInput,
    ) -> Result<Value, AwsError> {
        let size = read.limit.unwrap_or(DESCRIBE_PAGE);
        if !(1..=DESCRIBE_PAGE).contains(&size) {
            return Err(invalid(format!("limit {size} is not between 1 and {DESCRIBE_PAGE}")));
        }
        let size = size.min(self.page_size_max.unwrap_or(DESCRIBE_PAGE));
        let (page, next) = page(operation, items, read.next_token.as_deref(), size)
            .map_err(|_| invalid("The specified nextToken is invalid."))?;
        let mut answer = json!({ member: page });
        if let Some(next) = next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }

    /// Pages by position: a forward token repeats itself at the end, which is how a reader knows.
    fn get(&self, read: &ReadInput) -> Result<Value, AwsError> {
        let groups = self.lock();
        let group = groups.get(read.log_group_name.as_deref().unwrap_or_default()).ok_or_else(|| missing("group"))?;
        let stream = group.streams.get(read.log_stream_name.as_deref().unwrap_or_default());
        let events = in_time(&stream.ok_or_else(|| missing("stream"))?.events, read);
        let limit = read.limit.unwrap_or(EVENTS_PAGE).clamp(1, EVENTS_PAGE);
        let last_page = events.len().saturating_sub(limit);
        let position = |text: &str| text.get(2..)?.parse::<usize>().ok();
        let range = match read.next_token.as_deref() {
            None if read.start_from_head => 0..limit.min(events.len()),
            None => last_page..events.len(),
            Some(token) => {
                let at =
                    position(token).ok_or_else(|| invalid("The specified nextToken is invalid."))?.min(events.len());
                match token.starts_with("f/") {
                    true => at..(at + limit).min(events.len()),
                    false => at.saturating_sub(limit)..at,
                }
            }
        };
        let page: Vec<Value> = events[range.clone()].iter().map(|event| event_json(event)).collect();
        Ok(json!({
            "events": page,
            "nextForwardToken": format!("f/{:056}", range.end),
            "nextBackwardToken": format!("b/{:056}", range.start),
        }))
    }

    fn filter(&self, read: &ReadInput) -> Result<Value, AwsError> {
        let filter = Filter::parse(read.filter_pattern.as_deref().unwrap_or_default())
            .map_err(|why| invalid(format!("Invalid filter pattern: {why}")))?;
        let groups = self.lock();
        let group = groups.get(read.log_group_name.as_deref().unwrap_or_default()).ok_or_else(|| missing("group"))?;
        let prefix = read.log_stream_name_prefix.as_deref().unwrap_or_default();
        let names = &read.log_stream_names;
        let wanted = |name: &str| name.starts_with(prefix) && (names.is_empty() || names.iter().any(|n| n == name));
        let mut found: Vec<(String, Value)> = Vec::new();
        for (name, stream) in group.streams.iter().filter(|(name, _)| wanted(name)) {
            let events = in_time(&stream.events, read);
            found.extend(events.iter().enumerate().filter(|(_, e)| filter.matches(&e.message)).map(
                |(index, event)| {
                    let key = format!("{:020} {name} {index:010}", event.timestamp);
                    let mut json = event_json(event);
                    json["logStreamName"] = json!(name);
                    json["eventId"] = json!(format!("{:040}", index));
                    (key, json)
                },
            ));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let limit = read.limit.unwrap_or(EVENTS_PAGE).clamp(1, self.page_size_max.unwrap_or(EVENTS_PAGE));
        let (events, next) = page("FilterLogEvents", found, read.next_token.as_deref(), limit)
            .map_err(|_| invalid("The specified nextToken is invalid."))?;
        let mut answer = json!({"events": events, "searchedLogStreams": []});
        if let Some(next) = next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }

    fn group_arn(&self, group: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{group}", self.region, self.account)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().expect("no one panics holding it")
    }
}

/// The stream's events of the asked time, in its order.
fn in_time<'a>(events: &'a [Event], read: &ReadInput) -> Vec<&'a Event> {
    let (start, end) = (read.start_time.unwrap_or(i64::MIN), read.end_time.unwrap_or(i64::MAX));
    let mut events: Vec<&Event> = events.iter().filter(|e| e.timestamp >= start && e.timestamp < end).collect();
    events.sort_by_key(|e| e.timestamp);
    events
}

fn event_json(event: &Event) -> Value {
    json!({"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingested_at})
}

fn now_ms() -> i64 {
    (unix_now() * 1000.0) as i64
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterException", message)
}

fn constraint(member: &str, value: &str, pattern: &str) -> AwsError {
    invalid(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: {pattern}"
    ))
}

fn exists(what: &str) -> AwsError {
    AwsError::new("ResourceAlreadyExistsException", format!("The specified log {what} already exists"))
}

fn missing(what: &str) -> AwsError {
    AwsError::new("ResourceNotFoundException", format!("The specified log {what} does not exist."))
}
