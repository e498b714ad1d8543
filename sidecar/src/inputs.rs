//! Where data comes in: the task's metadata, the app's metrics, the app's log files, the app's traces.
//!
//! An input turns what it reads into the pipeline's terms and hands it on; it knows no output.

pub mod app_metrics;
pub mod ecs_task;
pub mod file_tail;
pub mod firelens;
pub mod fluent_forward;
pub mod otlp;
pub mod statsd;
pub mod stdin;

use service::Shutdown;
use telemetry::Timestamp;

/// How inputs are told to end.
#[derive(Clone, Default)]
pub struct Stop {
    /// End when it is quiet: what was written before the end of the app is still to come.
    pub when_quiet: Shutdown,
    /// End now: the rest of the time belongs to the outputs.
    pub now: Shutdown,
}

/// When a line was read, for those that do not say when they were written.
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
