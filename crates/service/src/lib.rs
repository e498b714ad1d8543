//! The frame round every binary of the suite: command line, configuration, logging, shutdown, named
//! tasks, health, HTTP serving, own metrics, backoff.
//!
//! Nothing here knows what the binary is for.

pub mod backoff;
pub mod cli;
pub mod config;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod shutdown;
#[cfg(feature = "aws")]
pub mod sigv4;
pub mod task;

pub use health::Health;
pub use shutdown::Shutdown;
pub use task::Tasks;
