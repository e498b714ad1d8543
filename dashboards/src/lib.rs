//! One typed description of a dashboard, rendered as Grafana JSON and as a CloudWatch body.
//!
//! In: objectives, names of metrics (`telemetry::names`) and, for CloudWatch, where a service runs.
//! Out: Grafana's classic JSON, committed under `grafana/`, and canonical CloudWatch bodies that the collector
//! publishes. Promises: the same input gives the same bytes, and a body that this crate renders passes its own
//! `validate`. Pure: it talks to no Grafana and to no AWS.

pub mod cloudwatch;
pub mod expr;
pub mod grafana;
pub mod objective;
