//! The platform's domain services: user, product, order, analytics, notification.
//!
//! A request comes in through `shared::middleware`, reaches a domain's `routes`, its `service` decides,
//! its `repo` talks to the database. What happened leaves through the outbox; the worker takes it to
//! analytics and notification. Domains call each other only over HTTP (`shared::client`), so that each
//! may run as a process of its own.

pub mod cli;

pub mod config;

pub mod app;

pub mod telemetry;

pub mod shared;

pub mod user;

pub mod product;

pub mod order;

pub mod analytics;

pub mod notification;

pub mod worker;

pub mod dev;

pub mod loadgen;
