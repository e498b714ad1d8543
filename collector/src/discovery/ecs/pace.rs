//! A quarter of what ECS allows an account: other tools ask it, too.
//!
//! ECS counts calls per account and region in buckets of its own; each has a bucket here that holds a quarter of the
//! burst and is filled at a quarter of the rate. Whoever finds it empty waits, and the waiting is counted. All
//! discovery of a region shares them.
//! Source: docs.aws.amazon.com, "Request throttling for the Amazon ECS API".

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// What ECS counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    /// ListClusters, DescribeClusters.
    Clusters,
    /// ListServices, DescribeServices.
    Services,
    /// ListTasks, DescribeTasks.
    Tasks,
    /// DescribeTaskDefinition.
    Definitions,
}

/// The share of the account's calls that is ours.
const SHARE: f64 = 0.25;

impl Bucket {
    /// The account's burst and sustained calls a second.
    fn limits(self) -> (f64, f64) {
        match self {
            Bucket::Clusters | Bucket::Definitions => (50.0, 20.0),
            Bucket::Services | Bucket::Tasks => (100.0, 20.0),
        }
    }
}

/// The buckets of one region.
pub(crate) struct Pace([Mutex<Level>; 4]);

struct Level {
    /// Negative: so many are waiting.
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let level = |bucket: Bucket| Mutex::new(Level { tokens: bucket.limits().0 * SHARE, at: Instant::now() });
        Pace([Bucket::Clusters, Bucket::Services, Bucket::Tasks, Bucket::Definitions].map(level))
    }

    /// Waits until a call may be made; how long that was.
    pub(crate) async fn turn(&self, bucket: Bucket) -> Duration {
        let (burst, rate) = bucket.limits();
        let (burst, rate) = (burst * SHARE, rate * SHARE);
        let wait = {
            let mut level = self.0[bucket as usize].lock().await;
            let now = Instant::now();
            let gained = now.duration_since(level.at).as_secs_f64() * rate;
            level.tokens = (level.tokens + gained).min(burst) - 1.0;
            level.at = now;
            Duration::from_secs_f64((-level.tokens / rate).max(0.0))
        };
        tokio::time::sleep(wait).await;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_quarter_of_the_accounts_calls_are_made() {
        let pace = Pace::new();
        let begun = Instant::now();
        for _ in 0..25 {
            assert_eq!(pace.turn(Bucket::Tasks).await, Duration::ZERO);
        }
        for _ in 0..50 {
            pace.turn(Bucket::Tasks).await;
        }
        // 25 at once, then 5 a second.
        let took = begun.elapsed().as_secs_f64();
        assert!((9.9..10.2).contains(&took), "{took}");
        assert_eq!(pace.turn(Bucket::Services).await, Duration::ZERO, "each bucket is its own");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for _ in 0..25 {
            assert_eq!(pace.turn(Bucket::Tasks).await, Duration::ZERO, "a rest fills the burst, no more");
        }
        assert!(pace.turn(Bucket::Tasks).await > Duration::ZERO);
    }
}
