//! The services against a real PostgreSQL.
//!
//! One private server per run, started by the same code as `platform-api dev`; a database per test.
//! Where PostgreSQL is missing the tests say what they leave untested, and fail when `CI=true`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fixture;

mod auth;
mod metrics;
mod orders;
mod outbox;
mod process;
mod products;
