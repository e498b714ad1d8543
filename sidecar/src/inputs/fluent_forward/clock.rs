//! Ticks, at next to no cost.
//!
//! A timer that is set for a moment before all others wakes the event loop at once, to be told of it; set again and again,
//! that is as many wakeups as there are ticks. So two timers take turns: the one that has just passed is set for the tick
//! behind the next, which is never the first of all.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Clock {
    period: Duration,
    timers: [Pin<Box<Sleep>>; 2],
    /// Whose tick is next.
    turn: usize,
}

impl Clock {
    pub(super) fn new(period: Duration) -> Clock {
        let now = Instant::now();
        let timers = [now + period, now + 2 * period].map(|at| Box::pin(sleep_until(at)));
        Clock { period, timers, turn: 0 }
    }

    /// From now on a tick every `period`.
    pub(super) fn set(&mut self, period: Duration) {
        if self.period != period {
            self.period = period;
            self.begin();
        }
    }

    /// Returns at the next tick; at once when it is over already. Dropping the future loses nothing.
    pub(super) async fn tick(&mut self) {
        self.timers[self.turn].as_mut().await;
        let next = self.timers[1 - self.turn].deadline();
        if next <= Instant::now() {
            return self.begin();
        }
        self.timers[self.turn].as_mut().reset(next + self.period);
        self.turn = 1 - self.turn;
    }

    fn begin(&mut self) {
        let now = Instant::now();
        self.timers[self.turn].as_mut().reset(now + self.period);
        self.timers[1 - self.turn].as_mut().reset(now + 2 * self.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_come_evenly_and_what_was_missed_is_not_made_up_for() {
        let (begun, period) = (Instant::now(), Duration::from_millis(20));
        let mut clock = Clock::new(period);
        let mut at = Vec::new();
        for n in 0..6 {
            clock.tick().await;
            at.push(begun.elapsed().as_millis());
            if n == 3 {
                tokio::time::advance(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(at, [20, 40, 60, 80, 130, 150]);
        clock.set(Duration::from_millis(5));
        clock.tick().await;
        assert_eq!(begun.elapsed().as_millis(), 155);
    }
}
