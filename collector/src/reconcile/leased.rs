//! A job that only one replica may do: it runs while the lease is ours.

use std::time::Duration;

use telemetry::Timestamp;

use super::{Done, Job};
use crate::state::State;
use crate::state::lease::Lease;

/// How soon a replica that stands by looks again.
const STANDBY: Duration = Duration::from_secs(2);

const FIRST_WAIT: Duration = Duration::from_secs(1);

/// `job` under `lease`.
pub struct Leased<J> {
    pub job: J,
    pub lease: Lease,
    pub state: State,
}

impl<J: Job> Job for Leased<J> {
    const NAME: &'static str = J::NAME;

    fn interval(&self) -> Duration {
        let interval = self.job.interval();
        if self.lease.is_held() { interval } else { interval.min(STANDBY) }
    }

    async fn run(&mut self, now: Timestamp) -> anyhow::Result<Done> {
        // At the start nobody has asked for the lease yet.
        let _ = tokio::time::timeout(FIRST_WAIT, self.lease.until_held()).await;
        let Some(epoch) = self.lease.epoch() else {
            return Ok(Done { summary: "stands by: another replica does it".to_owned(), next: None });
        };
        // Once more, of the database, right before: our own clock may have stood still.
        if !self.state.holds_lease(self.lease.name().as_str(), epoch).await? {
            return Ok(Done { summary: "stands by: the lease has just moved".to_owned(), next: None });
        }
        self.job.run(now).await
    }
}
