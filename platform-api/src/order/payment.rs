//! The payment provider: a simulator that decides by the amount, behind the calls that a real one has.
//!
//! Amounts whose last two digits are 13 are declined for lack of funds, those that end in 66 as stolen
//! cards; all others are authorised. Asked again about one attempt it gives the same answer, as a
//! provider does by idempotency key, so that nobody is charged twice.

use std::time::Duration;

use rand::Rng;
use uuid::Uuid;

/// How long the simulator thinks: what a card network takes, shortened.
const THINKS_MS: std::ops::Range<u64> = 5..40;

#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedProvider;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorisation {
    Approved {
        /// The provider's name for it.
        reference: String,
    },
    Declined {
        reason: &'static str,
    },
}

impl SimulatedProvider {
    /// Holds the money; `attempt` is the idempotency key.
    pub async fn authorise(&self, attempt: Uuid, amount_minor: i64) -> Authorisation {
        think().await;
        decide(attempt, amount_minor)
    }

    /// Takes the money that is held.
    pub async fn capture(&self, _reference: &str) {
        think().await;
    }

    /// Lets the money go.
    pub async fn void(&self, _reference: &str) {
        think().await;
    }
}

async fn think() {
    let millis = rand::rng().random_range(THINKS_MS);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn decide(attempt: Uuid, amount_minor: i64) -> Authorisation {
    match amount_minor % 100 {
        13 => Authorisation::Declined { reason: "insufficient_funds" },
        66 => Authorisation::Declined { reason: "card_stolen" },
        _ => Authorisation::Approved { reference: format!("sim_{}", attempt.simple()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_amount_decides_and_the_answer_is_repeatable() {
        let attempt = Uuid::now_v7();
        assert_eq!(decide(attempt, 1013), Authorisation::Declined { reason: "insufficient_funds" });
        assert_eq!(decide(attempt, 66), Authorisation::Declined { reason: "card_stolen" });
        assert!(matches!(decide(attempt, 1300), Authorisation::Approved { .. }));
        assert_eq!(decide(attempt, 500), decide(attempt, 500));
    }
}
