//! The worker: takes events from the outbox to their consumers.
//!
//! At least once, in order per key, with growing pauses after failures and a dead letter at the end.
//! Consumers keep an inbox, which makes the effect happen exactly once. A notification of the database
//! wakes it; because one can be lost, it also looks every second.

pub mod queue;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::StreamExt;
use service::Shutdown;
use service::backoff::Backoff;
use sqlx::postgres::PgListener;
use telemetry::trace::TraceParent;
use tracing::Instrument;

use crate::shared::Platform;
use crate::shared::client::{CallError, Neighbour};
use crate::shared::metrics::JobOutcome;
use crate::shared::{outbox, trace};
use queue::Claimed;

const POLL_EVERY: Duration = Duration::from_secs(1);
/// How many deliveries are claimed at once, and how many of them run at the same time.
const CLAIM_MAX: i64 = 50;
const AT_ONCE: usize = 8;
/// A delivery that keeps failing is tried for about half an hour before it is given up.
const ATTEMPTS_MAX: i32 = 15;
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// The relay between outbox and consumers.
pub struct Relay {
    platform: Platform,
    trouble: Trouble,
}

/// Whoever fails at the moment: told when it begins and when it ends, not at each attempt.
#[derive(Default)]
struct Trouble(Mutex<HashSet<String>>);

impl Trouble {
    fn failed(&self, who: &str, why: &str) {
        if self.0.lock().expect("no one panics holding it").insert(who.to_owned()) {
            tracing::warn!(error = why, "{who} cannot be used, its deliveries wait");
        }
    }

    fn worked(&self, who: &str) {
        if self.0.lock().expect("no one panics holding it").remove(who) {
            tracing::info!("{who} can be used again");
        }
    }
}

impl Relay {
    pub fn new(platform: Platform) -> Self {
        Relay { platform, trouble: Trouble::default() }
    }

    /// Delivers until the order to stop; what it has claimed by then is finished first.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(POLL_EVERY);
        let mut pruned_at = Instant::now();
        let mut listener = None;
        loop {
            if listener.is_none() {
                listener = self.listen().await;
            }
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = poll.tick() => {}
                woken = wake_up(&mut listener) => if !woken { listener = None },
            }
            while !shutdown.is_requested() {
                match self.deliver_some().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        self.trouble.failed("the outbox", &error.to_string());
                        break;
                    }
                }
            }
            if pruned_at.elapsed() >= PRUNE_EVERY {
                pruned_at = Instant::now();
                if let Err(error) = queue::prune(&self.platform.db).await {
                    tracing::debug!(%error, "the outbox could not be pruned");
                }
            }
        }
    }

    /// None while the database cannot be listened to: then the poll alone finds the events.
    async fn listen(&self) -> Option<PgListener> {
        let mut listener = PgListener::connect_with(&self.platform.db.pool).await.ok()?;
        listener.listen(outbox::CHANNEL).await.ok()?;
        Some(listener)
    }

    /// Claims what is due and delivers it; how many deliveries it claimed.
    pub async fn deliver_some(&self) -> sqlx::Result<usize> {
        let claimed = queue::claim(&self.platform.db, CLAIM_MAX).await?;
        self.trouble.worked("the outbox");
        let count = claimed.len();
        futures::stream::iter(claimed).for_each_concurrent(AT_ONCE, |claimed| self.deliver(claimed)).await;
        Ok(count)
    }

    async fn deliver(&self, claimed: Claimed) {
        let parent = claimed.traceparent.as_deref().and_then(TraceParent::parse);
        let span = trace::job_span(&format!("deliver {} to {}", claimed.event.kind, claimed.consumer), parent);
        self.deliver_in_span(claimed).instrument(span).await;
    }

    async fn deliver_in_span(&self, claimed: Claimed) {
        let started = Instant::now();
        let result = match self.consumer(&claimed.consumer) {
            None => Err((format!("there is no consumer {}", claimed.consumer), true)),
            Some(consumer) => {
                let path = format!("/internal/{}/events", consumer.name());
                let answer: Result<serde_json::Value, CallError> = consumer.post_once(&path, &claimed.event).await;
                answer.map(drop).map_err(|error| (error.to_string(), is_hopeless(&error)))
            }
        };
        let db = &self.platform.db;
        let (outcome, noted) = match result {
            Ok(()) => {
                self.trouble.worked(&claimed.consumer);
                (JobOutcome::Completed, queue::delivered(db, claimed.seq).await)
            }
            Err((why, hopeless)) if hopeless || claimed.attempts >= ATTEMPTS_MAX => {
                tracing::error!(event_id = %claimed.event.id, attempts = claimed.attempts, error = why,
                    "gave up delivering {} to {}", claimed.event.kind, claimed.consumer);
                (JobOutcome::Dead, queue::dead(db, claimed.seq, &why).await)
            }
            Err((why, _)) => {
                let pause = RETRY.delay(claimed.attempts.unsigned_abs().saturating_sub(1));
                self.trouble.failed(&claimed.consumer, &why);
                (JobOutcome::Failed, queue::failed(db, claimed.seq, &why, pause).await)
            }
        };
        if let Err(error) = noted {
            // The lease runs out, the delivery comes again, the inbox knows it.
            tracing::warn!(%error, event_id = %claimed.event.id, "the outcome of a delivery could not be noted");
        }
        self.platform.metrics.job(&claimed.consumer, outcome, started.elapsed());
        tracing::debug!(event_id = %claimed.event.id, consumer = claimed.consumer, ?outcome, "delivery ended");
    }

    fn consumer(&self, name: &str) -> Option<&Neighbour> {
        let neighbours = &self.platform.neighbours;
        [&neighbours.analytics, &neighbours.notification].into_iter().find(|n| n.name() == name)
    }
}

/// Trying again cannot help: the consumer does not understand this event.
fn is_hopeless(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status, .. } if matches!(status.as_u16(), 400 | 422))
}

/// Returns at the next notification; false when listening has failed.
async fn wake_up(listener: &mut Option<PgListener>) -> bool {
    match listener {
        None => std::future::pending().await,
        Some(listener) => match listener.try_recv().await {
            Ok(Some(_)) => {
                // A burst of events is one wake-up.
                while listener.next_buffered().is_some() {}
                true
            }
            Ok(None) | Err(_) => false,
        },
    }
}
