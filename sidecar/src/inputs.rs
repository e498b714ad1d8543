//! Where data comes in: the task's metadata, the app's metrics, the app's log files, the app's traces.
//!
//! An input turns what it reads into the pipeline's terms and hands it on; it knows no output.

pub mod app_metrics;
pub mod ecs_task;
pub mod file_tail;
pub mod fluent_forward;
pub mod otlp;

use telemetry::Timestamp;

/// When a line was read, for those that do not say when they were written.
fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
