//! One policy for every request that may fail: wait with jitter, ever longer, until the destination
//! takes it, refuses it for good, or has been away for too long.

use std::future::Future;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use service::backoff::Backoff;
use tokio::time::Instant;

use crate::pipeline::account::DropReason;

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt<T> {
    Done(T),
    /// Worth trying again; `after` where the destination said when.
    Later {
        after: Option<Duration>,
        why: String,
    },
    /// Will never be taken as it is.
    Never {
        why: String,
    },
}

#[derive(Clone)]
pub struct Retry {
    /// For messages: `traces to http://…`.
    what: String,
    pub(super) backoff: Backoff,
    give_up_after: Duration,
    pub(super) retries: Counter,
}

/// A destination that asks for more patience than this is asked earlier all the same.
const AFTER_MAX: Duration = Duration::from_secs(60);
/// A lasting fault is said again this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

impl Retry {
    pub fn new(what: String, give_up_after: Duration, retries: Counter) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        Retry { what, backoff, give_up_after, retries }
    }

    /// With other pauses than half a second to thirty.
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Attempts until it is done; `since` is when the data came.
    ///
    /// # Errors
    /// Why the data has to be dropped.
    pub async fn until_done<T, Fut>(&self, since: Instant, mut attempt: impl FnMut() -> Fut) -> Result<T, DropReason>
    where
        Fut: Future<Output = Attempt<T>>,
    {
        let mut said: Option<Instant> = None;
        for number in 0.. {
            let (after, why) = match attempt().await {
                Attempt::Done(value) => {
                    if said.is_some() {
                        tracing::info!(output = self.what, attempts = number + 1, "output delivers again");
                    }
                    return Ok(value);
                }
                Attempt::Never { why } => {
                    tracing::warn!(output = self.what, error = why, "destination refused, dropped");
                    return Err(DropReason::Refused);
                }
                Attempt::Later { after, why } => (after, why),
            };
            if said.is_none_or(|at| at.elapsed() >= REMIND_EVERY) {
                tracing::warn!(output = self.what, error = why, attempts = number + 1, "not delivered, trying again");
                said = Some(Instant::now());
            }
            let wait = after.map_or_else(|| self.backoff.delay(number), |after| after.min(AFTER_MAX));
            if since.elapsed() + wait > self.give_up_after {
                tracing::warn!(output = self.what, error = why, "gave up, dropped");
                return Err(DropReason::GaveUp);
            }
            self.retries.inc();
            tokio::time::sleep(wait).await;
        }
        Err(DropReason::GaveUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(give_up_after: Duration) -> Retry {
        Retry::new("test".into(), give_up_after, Counter::default())
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_repeated_until_it_is_taken() {
        let retry = retry(Duration::from_secs(3600));
        let mut attempts = 0;
        let result = retry
            .until_done(Instant::now(), || {
                attempts += 1;
                let now = attempts;
                async move {
                    match now {
                        5 => Attempt::Done(now),
                        _ => Attempt::Later { after: None, why: "down".into() },
                    }
                }
            })
            .await;
        assert_eq!(result, Ok(5));
        assert_eq!(retry.retries.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_stays_away_is_given_up_in_time() {
        let begun = Instant::now();
        let away = || async { Attempt::<()>::Later { after: None, why: "down".into() } };
        let result = retry(Duration::from_secs(100)).until_done(begun, away).await;
        assert_eq!(result, Err(DropReason::GaveUp));
        assert!((70..=100).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_destination_s_own_word_on_when_is_kept() {
        let begun = Instant::now();
        let mut first = true;
        let result = retry(Duration::from_secs(100))
            .until_done(begun, || {
                let after = Some(Duration::from_secs(7));
                let attempt = if std::mem::take(&mut first) {
                    Attempt::Later { after, why: "busy".into() }
                } else {
                    Attempt::Done(())
                };
                async move { attempt }
            })
            .await;
        assert_eq!((result, begun.elapsed().as_secs()), (Ok(()), 7));
    }
}
