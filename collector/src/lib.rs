//! The central service, as a list of its stages in the order in which data meets them; `app` joins them.

pub mod clock;
pub mod config;

/// Lists, files and AWS -> targets.
pub mod discovery;
/// Targets -> samples.
pub mod scrape;
/// Samples -> storage.
pub mod write;

/// Alerts -> Alertmanager.
pub mod notify;
/// Storage -> answers.
pub mod query;
/// Answers -> alerts and recorded samples.
pub mod rules;
/// What must survive a restart.
pub mod state;

/// Answers -> CloudWatch.
pub mod publish;
/// Drives whatever must become true in AWS.
pub mod reconcile;
/// Schedules -> bounds of ECS services.
pub mod scaling;

/// Answers -> Grafana, promtool and people.
pub mod api;
/// The pages that people look at.
pub mod ui;

pub mod app;
