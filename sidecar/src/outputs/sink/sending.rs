//! Sends what waits: one request at a time, more while the destination takes a backlog.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Answer, Sealed, Send, Sink, State};
use crate::outputs::gzip::Scratch;
use crate::outputs::spool::FrameHead;
use crate::pipeline::account::{DropReason, Ticket};

/// A batch that nobody fills gives its buffers back after this.
const RELEASE_AFTER: Duration = Duration::from_secs(3);

impl Sink {
    /// The next batch to send; None when the sink is closed and empty. Dropping the future loses nothing.
    async fn next(&self) -> Option<Sealed> {
        loop {
            let arrived = self.0.arrived.notified();
            let due = {
                let mut state = self.lock();
                let due = state.open.due(&self.0.limits);
                if state.sealed.is_empty() && (state.closed || due.is_some_and(|due| due <= Instant::now())) {
                    self.seal(&mut state);
                }
                if let Some(mut sealed) = state.sealed.pop_front() {
                    if sealed.body.is_none() {
                        match self.fetch(&state, &sealed) {
                            Some(body) => {
                                self.hold(&mut state, body.len());
                                sealed.body = Some(body.into());
                            }
                            None => {
                                self.give_up(&mut state, sealed, DropReason::SpoolDamaged);
                                continue;
                            }
                        }
                    }
                    return Some(sealed);
                }
                if state.closed {
                    return None;
                }
                due
            };
            match due {
                Some(due) => tokio::select! { () = arrived => {}, () = tokio::time::sleep_until(due) => {} },
                None => tokio::select! {
                    () = arrived => {}
                    () = tokio::time::sleep(RELEASE_AFTER) => {
                        self.release();
                        arrived_or_closed(&self.0.arrived).await;
                    }
                },
            }
        }
    }

    /// Gives back what is kept for the next batch: nothing has come for a while.
    fn release(&self) {
        let mut state = self.lock();
        state.open.release();
        state.scratch = Scratch::default();
    }

    fn fetch(&self, state: &State, sealed: &Sealed) -> Option<Vec<u8>> {
        let read = state.spool.as_ref()?.read(sealed.frame?);
        read.inspect_err(|error| {
            tracing::warn!(output = self.0.options.name, error = %error, "a batch on disk cannot be read, dropped");
        })
        .ok()
    }

    /// Sends until the sink is closed and empty. One request at a time; with a backlog more, one further for each
    /// success, and one alone again after a failure.
    ///
    /// # Errors
    /// Never: what cannot be delivered is dropped and counted.
    pub async fn run(self, client: impl Send) -> anyhow::Result<()> {
        let mut in_flight = FuturesUnordered::new();
        let (mut window, mut ended) = (1, false);
        loop {
            tokio::select! {
                biased;
                Some(smooth) = in_flight.next() => {
                    window = if smooth { (window + 1).min(self.0.options.in_flight_max) } else { 1 };
                }
                batch = self.next(), if !ended && in_flight.len() < window => match batch {
                    Some(batch) => in_flight.push(self.deliver(&client, batch)),
                    None => ended = true,
                },
                else => break,
            }
        }
        Ok(())
    }

    /// Sends one batch until it is settled; false when that took more than one request.
    async fn deliver(&self, client: &impl Send, mut sealed: Sealed) -> bool {
        let (held, frame, since) = (sealed.held(), sealed.frame, sealed.since);
        let body = sealed.body.take().unwrap_or_default();
        if sealed.in_doubt {
            client.doubt(&body);
        }
        if let (Some(spool), Some(frame)) = (&mut self.lock().spool, frame) {
            spool.sending(frame);
        }
        let (attempts, mut wanted) = (AtomicUsize::new(0), 0);
        let mut pieces = vec![(body, sealed.head.clone(), sealed.ticket)];
        while let Some((body, head, ticket)) = pieces.pop() {
            wanted += 1;
            let attempt = || {
                attempts.fetch_add(1, Ordering::Relaxed);
                client.attempt(&body)
            };
            match self.0.options.retry.until_done(since, attempt).await {
                Ok(Answer::Stored) => ticket.delivered_to(self.0.options.output),
                Ok(Answer::Partly(rejected)) => settle(ticket, &head, &rejected, self.0.options.output),
                Ok(Answer::Invalid(why)) => match self.0.options.codec.halve(&body, &head) {
                    Some((first, second)) => {
                        let mut rest = ticket;
                        let ticket = rest.split(first.1.lines());
                        pieces.push((second.0.into(), second.1, rest));
                        pieces.push((first.0.into(), first.1, ticket));
                    }
                    None => {
                        tracing::warn!(output = self.0.options.name, error = why, "an event is not taken, dropped");
                        ticket.dropped(DropReason::Refused);
                    }
                },
                Err(reason) => ticket.dropped(reason),
            }
        }
        let mut state = self.lock();
        self.let_go(&mut state, held);
        self.0.gauge.set(state.held);
        if let (Some(spool), Some(frame)) = (&mut state.spool, frame) {
            spool.done(frame);
        }
        drop(state);
        self.0.left.notify_waiters();
        attempts.load(Ordering::Relaxed) == wanted
    }
}

async fn arrived_or_closed(arrived: &Notify) {
    arrived.notified().await;
    // Whoever waits next looks again.
    arrived.notify_one();
}

/// Counts the events of a stored batch: delivered, or rejected.
fn settle(mut ticket: Ticket, head: &FrameHead, rejected: &[(usize, usize, DropReason)], output: &'static str) {
    for index in 0..head.events as usize {
        let units = head.units.get(index).map_or(1, |units| u64::from(*units));
        if let Some((.., reason)) = rejected.iter().find(|(from, to, _)| (*from..*to).contains(&index)) {
            ticket.split(units).dropped(*reason);
        }
    }
    ticket.delivered_to(output);
}
