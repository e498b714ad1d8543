//! The Rust SDK against the local AWS, and the tasks that it runs.

mod autoscaling;
mod dashboards;
mod ecs;
mod logs;
mod metrics;
mod setup;
