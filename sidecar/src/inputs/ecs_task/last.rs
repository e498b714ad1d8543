//! The last readings of containers that have stopped: kept until somebody has seen them.
//!
//! A container's figures vanish from the endpoint the moment it ends, and its last ten seconds are those that explain
//! the end. They stay on `/metrics` until they were scraped, and for a minute more, so that a second collector sees
//! them too; if nobody ever scrapes, for ten minutes. They carry the time of their reading: seen twice, they are the
//! same sample.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::{Stats, Task, TaskStats};

const KEPT_AFTER_SCRAPE: Duration = Duration::from_secs(60);
const KEPT_UNSEEN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct LastReadings {
    of: BTreeMap<String, Last>,
}

struct Last {
    stats: Stats,
    /// When the container was first found without figures.
    ended: Option<Instant>,
    /// When the exposition that said so was first asked for.
    scraped: Option<Instant>,
}

impl LastReadings {
    /// Takes what the endpoint says now; `scraped` is when somebody last asked for our metrics.
    pub(super) fn update(&mut self, task: &Task, stats: &TaskStats, scraped: Option<Instant>, now: Instant) {
        for (id, stats) in stats {
            if let Some(stats) = stats.as_ref().filter(|s| s.is_reading()) {
                self.of.insert(id.clone(), Last { stats: stats.clone(), ended: None, scraped: None });
            }
        }
        let is_read = |id: &str| stats.get(id).is_some_and(|s| s.as_ref().is_some_and(Stats::is_reading));
        self.of.retain(|id, last| {
            if is_read(id) {
                return true;
            }
            let ended = *last.ended.get_or_insert(now);
            if last.scraped.is_none() {
                last.scraped = scraped.filter(|at| *at > ended);
            }
            let known = task.containers.iter().any(|c| c.docker_id == *id);
            let seen = last.scraped.is_some_and(|at| now.duration_since(at) >= KEPT_AFTER_SCRAPE);
            known && !seen && now.duration_since(ended) < KEPT_UNSEEN
        });
    }

    /// Of the containers that have ended, by Docker id.
    pub(super) fn kept(&self) -> BTreeMap<String, Stats> {
        let ended = self.of.iter().filter(|(_, last)| last.ended.is_some());
        ended.map(|(id, last)| (id.clone(), last.stats.clone())).collect()
    }
}
