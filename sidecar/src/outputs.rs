//! Where data leaves: metrics for whoever scrapes, log records and spans to their destinations.
//!
//! An output takes from a queue or is asked; it knows no input. What it could not deliver is counted by reason.

pub mod cloudwatch_logs;
pub mod delivery;
pub mod destination;
pub mod emf;
pub mod encode;
pub mod exposition;
pub mod file;
pub mod forward;
pub mod gzip;
pub mod otlp;
pub mod otlp_logs;
pub mod otlp_metrics;
pub mod push;
pub mod remote_write;
pub mod retry;
pub mod sink;
pub mod spool;
pub mod stdout;
