//! What time it is. One place reads the system's clock, so that tests can let time run by tokio's paused clock.

use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::Timestamp;
use tokio::time::Instant;

/// Where `now` comes from; copied into every stage that needs it.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// A fixed start plus what tokio's clock says has passed since: follows paused time.
    Tokio { start: Timestamp, since: Instant },
}

impl Clock {
    /// A clock that stands at `start` now and runs with tokio's (paused) time.
    pub fn starting_at(start: Timestamp) -> Self {
        Clock::Tokio { start, since: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Tokio { start, since } => *start + since.elapsed(),
        }
    }
}
