//! Where data comes in: the task's metadata, the app's metrics, the app's log files, the app's traces.
//!
//! An input turns what it reads into the pipeline's terms and hands it on; it knows no output.

pub mod app_metrics;
pub mod ecs_task;
pub mod file_tail;
pub mod otlp;
