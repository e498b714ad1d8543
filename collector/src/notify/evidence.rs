//! Evidence for an alert that has just fired: the last error lines and trace id of the tasks in question, and
//! what discovery knows of them: image, deployment, why tasks have ended.
//!
//! In: the alert's labels and the targets of the moment. Out: annotations, never labels (they would make
//! another alert). Within 3 s; a sidecar that does not answer is evidence too. Log lines are
//! redacted before they leave.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use telemetry::Labels;
use telemetry::log_record::LogRecord;
use telemetry::names::label;

use super::redact::redact;
use crate::discovery::{StoppedTask, Stops, Target};

/// For asking; with the two looks into SQL it is at most 3 s from the firing to the annotations.
pub const GATHER_TIMEOUT: Duration = Duration::from_millis(2500);
/// Less than the whole, so that the slowest sidecar's silence can still be reported.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A page is no log viewer.
const LINES_MAX: usize = 5;
const LINE_LEN_MAX: usize = 300;
/// Tasks of one service that are asked; more would only say the same.
const TARGETS_MAX: usize = 16;
/// Silent sidecars that are named one by one.
const ERRORS_MAX: usize = 3;
/// Ended tasks that are named, the newest first.
const STOPS_MAX: usize = 3;

pub const LOGS: &str = "evidence_logs";
pub const TRACE_ID: &str = "evidence_trace_id";
pub const TASK: &str = "evidence_task";
pub const ERROR: &str = "evidence_error";
pub const IMAGE_DIGEST: &str = "evidence_image_digest";
pub const DEPLOYMENT: &str = "evidence_deployment";
pub const STOPS: &str = "evidence_stops";

// Discovery's labels (discovery/ecs/meta.rs).
const META_SERVICE: &str = "__meta_ecs_service";
const META_DEPLOYMENT: &str = "__meta_ecs_service_deployment";
const META_IMAGES: &str = "__meta_ecs_task_image_digests";

/// What a sidecar answers on `/logs/recent`, newest last.
#[derive(Deserialize)]
struct Recent {
    records: Vec<LogRecord>,
}

/// Whether an alert names something that a sidecar can be asked about.
pub fn is_wanted(labels: &Labels) -> bool {
    labels.get(label::SERVICE).is_some()
}

/// Asks the sidecars of the targets that the alert's labels point to, and discovery what it knows of them.
pub async fn gather(client: &reqwest::Client, labels: &Labels, targets: &[Target], stops: &Stops) -> Labels {
    let meant: Vec<&Target> = targets.iter().filter(|target| matches(labels, target)).collect();
    let said = match meant.is_empty() {
        true => Labels::from_pairs([(ERROR, format!("no target of {} is known", selector(labels)))]),
        false => ask_all(client, &meant[..meant.len().min(TARGETS_MAX)]).await,
    };
    with_discovery(said, labels, targets, &meant, stops)
}

async fn ask_all(client: &reqwest::Client, meant: &[&Target]) -> Labels {
    let answers = join_all(meant.iter().map(|target| ask(client, target))).await;
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    for (target, answer) in meant.iter().zip(answers) {
        match answer {
            Ok(records) => lines.extend(records.into_iter().map(|record| (task(target), record))),
            Err(why) => errors.push(format!("{}: {why}", task(target))),
        }
    }
    annotations(lines, &errors)
}

/// Adds what discovery knows: of the task that the evidence names, else of any that is meant.
fn with_discovery(said: Labels, labels: &Labels, targets: &[Target], meant: &[&Target], stops: &Stops) -> Labels {
    let named = said.get(TASK).and_then(|name| meant.iter().find(|target| &*task(target) == name));
    let of = named.or(meant.first());
    let discovered = |name: &str| of.and_then(|target| target.discovered.get(name)).unwrap_or_default();
    let mut annotations = said.to_builder();
    annotations.set(IMAGE_DIGEST, discovered(META_IMAGES)).set(DEPLOYMENT, discovered(META_DEPLOYMENT));
    let service = labels.get(label::SERVICE).unwrap_or_default();
    // What ECS calls the service; where no task of it is left, it is taken to be called as the label says.
    let of_service = targets.iter().filter(|target| target.labels.get(label::SERVICE) == Some(service));
    let mut services: Vec<&str> = of_service.filter_map(|target| target.discovered.get(META_SERVICE)).collect();
    services.push(service);
    let ended = stops.of_services(&services);
    let lines: Vec<String> = ended.iter().take(STOPS_MAX).map(stop).collect();
    annotations.set(STOPS, &lines.join("\n"));
    annotations.build()
}

fn stop(task: &StoppedTask) -> String {
    let text = format!("{} {} {}", super::rfc3339(task.at), task.task_id, redact(&task.text));
    cut(text)
}

/// Every one of environment, service and task that the alert names must be the target's.
fn matches(labels: &Labels, target: &Target) -> bool {
    [label::SERVICE, label::ENVIRONMENT, label::TASK_ID]
        .into_iter()
        .all(|name| labels.get(name).is_none_or(|value| target.labels.get(name) == Some(value)))
}

fn selector(labels: &Labels) -> String {
    let named = [label::ENVIRONMENT, label::SERVICE, label::TASK_ID];
    labels.retain(|name| named.contains(&name)).to_string()
}

fn task(target: &Target) -> Arc<str> {
    target.labels.get(label::TASK_ID).unwrap_or_else(|| target.instance()).into()
}

async fn ask(client: &reqwest::Client, target: &Target) -> Result<Vec<LogRecord>, String> {
    let mut url = target.sibling_url("/logs/recent");
    url.set_query(Some("level=error&limit=5"));
    let asking = async {
        let response = client.get(url).send().await?.error_for_status()?;
        response.json::<Recent>().await
    };
    match tokio::time::timeout(ASK_TIMEOUT, asking).await {
        Err(_) => Err(format!("no answer within {ASK_TIMEOUT:?}")),
        Ok(Err(error)) if error.is_connect() => Err("connection refused or unreachable".to_owned()),
        Ok(Err(error)) => Err(error.without_url().to_string()),
        Ok(Ok(recent)) => Ok(recent.records),
    }
}

/// Pure: the newest lines of all tasks, the newest trace id, and the task with most of those lines.
fn annotations(mut lines: Vec<(Arc<str>, LogRecord)>, errors: &[String]) -> Labels {
    // RFC 3339 in UTC with fixed width sorts as text.
    lines.sort_by(|(_, a), (_, b)| a.timestamp.cmp(&b.timestamp));
    let newest = &lines[lines.len().saturating_sub(LINES_MAX)..];
    let text: Vec<_> = newest.iter().map(|(_, record)| line(record)).collect();
    let trace_id = newest.iter().rev().find_map(|(_, record)| record.trace_id.as_deref());
    let count = |task: &Arc<str>| newest.iter().filter(|(t, _)| t == task).count();
    // Of two with equally many lines the one that spoke last.
    let task = newest.iter().map(|(task, _)| task).max_by_key(|task| count(task));
    let mut error = errors.iter().take(ERRORS_MAX).cloned().collect::<Vec<_>>().join("; ");
    if errors.len() > ERRORS_MAX {
        error.push_str(&format!("; and {} more", errors.len() - ERRORS_MAX));
    }
    if newest.is_empty() && errors.is_empty() {
        error = "the tasks have logged no error lately".to_owned();
    }
    Labels::from_pairs([
        (LOGS, text.join("\n").as_str()),
        (TRACE_ID, trace_id.unwrap_or_default()),
        (TASK, task.map(|task| &**task).unwrap_or_default()),
        (ERROR, &error),
    ])
}

fn line(record: &LogRecord) -> String {
    // One record is one line, whatever its message holds.
    let message = redact(&record.message.split_whitespace().collect::<Vec<_>>().join(" "));
    cut(format!("{} {message}", record.timestamp))
}

fn cut(line: String) -> String {
    match line.char_indices().nth(LINE_LEN_MAX) {
        Some((end, _)) => line[..end].to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(timestamp: &str, message: &str, trace_id: Option<&str>) -> LogRecord {
        LogRecord {
            timestamp: timestamp.to_owned(),
            message: message.to_owned(),
            trace_id: trace_id.map(str::to_owned),
            ..LogRecord::default()
        }
    }

    #[test]
    fn the_newest_lines_of_all_tasks_are_taken_and_the_loudest_task_is_named() {
        let lines = vec![
            ("a".into(), record("2026-01-01T00:00:06.000Z", "six", None)),
            ("a".into(), record("2026-01-01T00:00:01.000Z", "one", Some("t1"))),
            ("b".into(), record("2026-01-01T00:00:02.000Z", "password=x\n two", Some("t2"))),
            ("b".into(), record("2026-01-01T00:00:03.000Z", "three", Some("t3"))),
            ("b".into(), record("2026-01-01T00:00:04.000Z", &"x".repeat(400), None)),
            ("a".into(), record("2026-01-01T00:00:05.000Z", "five", None)),
        ];
        let found = annotations(lines, &["c: no answer".to_owned()]);
        let logs: Vec<_> = found.get(LOGS).expect("lines").lines().map(|l| (&l[17..23], l.len())).collect();
        assert_eq!(logs, [("02.000", 48), ("03.000", 30), ("04.000", 300), ("05.000", 29), ("06.000", 28)]);
        assert!(found.get(LOGS).expect("lines").starts_with("2026-01-01T00:00:02.000Z password=[redacted] two\n"));
        assert_eq!(found.get(TRACE_ID), Some("t3"));
        assert_eq!(found.get(TASK), Some("b"));
        assert_eq!(found.get(ERROR), Some("c: no answer"));
    }

    #[test]
    fn silence_is_evidence() {
        assert_eq!(annotations(Vec::new(), &[]).get(ERROR), Some("the tasks have logged no error lately"));
        let many: Vec<_> = (0..5).map(|n| format!("t{n}: no answer")).collect();
        assert_eq!(
            annotations(Vec::new(), &many).get(ERROR),
            Some("t0: no answer; t1: no answer; t2: no answer; and 2 more")
        );
    }
}
