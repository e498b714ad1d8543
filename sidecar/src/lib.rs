//! The agent in every Fargate task: metrics, logs, traces and health of the app beside it.
//!
//! In: the task's metadata, the app's metrics, log files, traces and probes. Out: `/metrics`, `/health`,
//! `/logs/recent`, CloudWatch Logs, OTLP. Promises to need no configuration, to account for every log
//! record and span, and never to slow the app: it may drop and count. Does not store anything.

pub mod app;
pub mod config;
pub mod fake_ecs;
pub mod health;
pub mod identity;
pub mod inject;
pub mod inputs;
pub mod memory;
pub mod outputs;
pub mod pipeline;
pub mod recent;
pub mod serve;
pub mod watchdog;
