//! One destination's queue: the batch that is being filled, sealed batches that wait, and the task that sends them.
//!
//! In: records. Out: request bodies, made (and compressed) when a batch is full, so that what waits is small. Bounded
//! in bytes: what does not fit the memory waits on disk where there is one; beyond that the oldest batch gives way and
//! is counted, or an input that can wait is told to. Never slows who writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use telemetry::Timestamp;
use telemetry::log_record::Level;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::encode::Codec;
use super::retry::{Attempt, Retry};
use super::spool::{FrameAt, FrameHead, Left, LeftFrame, Spool};
use crate::memory::Ceiling;
use crate::pipeline::account::{Account, DropReason, Ticket};
use crate::pipeline::batch::{Batch, Limits, Mark};
use crate::pipeline::queue::QueueGauge;

/// Requests at a time while there is a backlog and the destination takes what comes.
const IN_FLIGHT_MAX: usize = 6;
/// Room that is left for who is told to wait, so that a turn's worth of lines fits.
const ROOM_BYTES: usize = 1 << 20;
/// A batch that nobody fills gives its buffers back after this.
const RELEASE_AFTER: Duration = Duration::from_secs(3);

/// How a sink works.
pub struct Options {
    /// The destination in messages.
    pub name: String,
    /// The value of the label `output`.
    pub output: &'static str,
    pub codec: Codec,
    /// Of sealed batches in memory.
    pub memory_bytes: usize,
    pub ceiling: Ceiling,
    pub retry: Retry,
    /// Requests at a time, at most; more than one only where order within a batch is enough.
    pub in_flight_max: usize,
}

impl Options {
    pub fn in_flight(codec: &Codec) -> usize {
        if codec.is_local() { 1 } else { IN_FLIGHT_MAX }
    }
}

/// A batch that waits for its turn.
pub struct Sealed {
    body: Option<Vec<u8>>,
    frame: Option<FrameAt>,
    pub head: FrameHead,
    pub ticket: Ticket,
    /// Held, not read.
    _marks: Vec<Mark>,
    since: Instant,
    /// An earlier run may have delivered it: it was killed while it waited for the answer.
    in_doubt: bool,
}

impl Sealed {
    fn held(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len) + 4 * self.head.units.len() + 128
    }
}

/// What a destination made of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Stored,
    /// Stored but for these events, by index from and to.
    Partly(Vec<(usize, usize, DropReason)>),
    /// Refused whole, for one event in it perhaps: worth cutting in two.
    Invalid(String),
}

/// What can take a body.
pub trait Send {
    fn attempt(&self, body: &[u8]) -> impl Future<Output = Attempt<Answer>> + std::marker::Send;

    /// An earlier run was killed while this body was on its way: who can ask whether it arrived does so before the
    /// first attempt.
    fn doubt(&self, _body: &[u8]) {}
}

/// A handle; clones share the queue.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    options: Options,
    limits: Limits,
    account: Account,
    state: Mutex<State>,
    /// There is something to send, or a batch has begun that will be due.
    arrived: Notify,
    /// There is more room.
    left: Notify,
    gauge: QueueGauge,
}

struct State {
    open: Batch,
    sealed: VecDeque<Sealed>,
    /// Of sealed batches, waiting or being sent.
    held: usize,
    spool: Option<Spool>,
    noted: bool,
    complained: bool,
    closed: bool,
}

impl Sink {
    pub fn new(options: Options, account: Account, spool: Option<(Spool, Left)>, gauge: QueueGauge) -> Sink {
        let limits = options.codec.limits();
        let mut open = Batch::new(&account);
        let mut sealed = VecDeque::new();
        let spool = spool.map(|(spool, left)| {
            for LeftFrame { at, head, in_doubt } in left.frames {
                let ticket = account.enter(head.lines());
                sealed.push_back(Sealed {
                    body: None,
                    frame: Some(at),
                    head,
                    ticket,
                    _marks: Vec::new(),
                    since: Instant::now(),
                    in_doubt,
                });
            }
            for entry in left.open {
                open.add(&limits, &entry.text, entry.at, entry.level, entry.units);
                account.enter_with(&mut open.ticket, u64::from(entry.units));
            }
            spool
        });
        if let Some(count) = Some(sealed.len()).filter(|n| *n > 0) {
            tracing::info!(output = options.name, batches = count, "sending what an earlier run left on disk");
        }
        let state = State { open, sealed, held: 0, spool, noted: false, complained: false, closed: false };
        Sink(Arc::new(Shared {
            options,
            limits,
            account,
            state: Mutex::new(state),
            arrived: Notify::new(),
            left: Notify::new(),
            gauge,
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.options.name
    }

    /// Takes a record; it counts as taken in, whatever becomes of it.
    pub fn push(&self, text: &[u8], at: Timestamp, level: Level, units: u32, mark: Option<&Mark>) {
        let limits = &self.0.limits;
        let mut state = self.lock();
        if state.closed || text.len() + limits.overhead > limits.bytes {
            let reason = if state.closed { DropReason::Stopped } else { DropReason::TooLarge };
            return self.0.account.enter_dropped(u64::from(units), reason);
        }
        if state.open.is_full_for(limits, text.len(), at) {
            self.seal(&mut state);
        }
        let first = state.open.is_empty();
        state.open.add(limits, text, at, level, units);
        self.0.account.enter_with(&mut state.open.ticket, u64::from(units));
        if let Some(mark) = mark {
            state.open.mark(mark);
        }
        let state = &mut *state;
        if let Some(spool) = &mut state.spool {
            spool.note(at, level, units, text);
            state.noted = true;
        }
        if first {
            self.0.arrived.notify_one();
        }
    }

    /// Everything that was pushed is to survive the process: after a turn of an input.
    pub fn commit(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        if std::mem::take(&mut state.noted)
            && let Some(spool) = &mut state.spool
            && let Err(error) = spool.commit()
        {
            complain(&mut state.complained, &self.0.options.name, &error);
        }
    }

    fn seal(&self, state: &mut State) {
        if state.open.is_empty() {
            return;
        }
        let events = state.open.len() as u32;
        let joined = state.open.events().any(|(event, _)| event.units != 1);
        let units = if joined { state.open.events().map(|(event, _)| event.units).collect() } else { Vec::new() };
        let body = self.0.options.codec.encode(&mut state.open);
        let (ticket, mut marks) = state.open.reset();
        let head = FrameHead { events, units };
        let frame = state.spool.as_mut().and_then(|spool| {
            let written = spool.append(&head, &body);
            written.inspect_err(|error| complain(&mut state.complained, &self.0.options.name, error)).ok()
        });
        if frame.is_some() {
            marks.clear();
        }
        let since = Instant::now();
        let sealed = Sealed { body: Some(body), frame, head, ticket, _marks: marks, since, in_doubt: false };
        self.hold(state, sealed.held());
        state.sealed.push_back(sealed);
        self.keep_bounds(state);
        self.0.gauge.set(state.held);
        self.0.arrived.notify_one();
    }

    /// Gives memory back until the bounds hold: to the disk from the end, for the front is next to be sent; else the
    /// oldest goes.
    fn keep_bounds(&self, state: &mut State) {
        let capacity = self.0.options.ceiling.share_with(self.0.options.memory_bytes, state.held);
        let mut from_end = state.sealed.len();
        while state.held > capacity && from_end > 0 {
            from_end -= 1;
            let sealed = &mut state.sealed[from_end];
            if sealed.frame.is_some()
                && let Some(body) = sealed.body.take()
            {
                self.let_go(state, body.len());
            }
        }
        while state.held > capacity && state.sealed.len() > 1 {
            // What lies on disk takes next to nothing here.
            let Some(index) = state.sealed.iter().position(|s| s.frame.is_none()) else { break };
            let oldest = state.sealed.remove(index).expect("it was just found");
            self.give_up(state, oldest, DropReason::QueueFull);
        }
        while state.spool.as_ref().is_some_and(|spool| spool.share().is_exceeded()) {
            let Some(segment) = state.spool.as_mut().and_then(Spool::remove_oldest) else { break };
            let in_it = |sealed: &Sealed| sealed.frame.is_some_and(|frame| frame.is_in(segment));
            while let Some(index) = state.sealed.iter().position(in_it) {
                let lost = state.sealed.remove(index).expect("it was just found");
                self.give_up(state, lost, DropReason::SpoolFull);
            }
        }
    }

    fn hold(&self, state: &mut State, bytes: usize) {
        state.held += bytes;
        self.0.options.ceiling.hold(bytes);
    }

    fn let_go(&self, state: &mut State, bytes: usize) {
        let bytes = bytes.min(state.held);
        state.held -= bytes;
        self.0.options.ceiling.let_go(bytes);
    }

    /// Drops a batch that was in the queue.
    fn give_up(&self, state: &mut State, sealed: Sealed, reason: DropReason) {
        self.let_go(state, sealed.held());
        if let (Some(spool), Some(frame)) = (&mut state.spool, sealed.frame) {
            spool.done(frame);
        }
        sealed.ticket.dropped(reason);
    }

    /// Returns when a turn's worth of lines finds room: for inputs that are buffers themselves.
    pub async fn room(&self) {
        loop {
            let left = self.0.left.notified();
            if self.has_room() {
                return;
            }
            left.await;
        }
    }

    pub fn has_room(&self) -> bool {
        let state = self.lock();
        if state.closed {
            return true;
        }
        match &state.spool {
            Some(spool) => spool.share().used() + 4 * ROOM_BYTES as u64 <= spool.share().max(),
            None => {
                let capacity = self.0.options.ceiling.share_with(self.0.options.memory_bytes, state.held);
                state.sealed.len() < 2 || state.held + ROOM_BYTES.min(capacity / 2) <= capacity
            }
        }
    }

    /// Nothing more comes in; what is in it is still sent.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.arrived.notify_one();
        self.0.left.notify_waiters();
    }

    /// Drops what is still there: the time is up. What lies on disk stays there and stays waiting in the books.
    pub fn abandon(&self) {
        let mut state = self.lock();
        self.seal(&mut state);
        while let Some(sealed) = state.sealed.pop_front() {
            match sealed.frame {
                Some(_) => std::mem::forget(sealed.ticket),
                None => sealed.ticket.dropped(DropReason::Stopped),
            }
        }
        if let Some(spool) = state.spool.take() {
            spool.close();
        }
    }

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
                                sealed.body = Some(body);
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
                        self.lock().open.release();
                        arrived_or_closed(&self.0.arrived).await;
                    }
                },
            }
        }
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
                        pieces.push((second.0, second.1, rest));
                        pieces.push((first.0, first.1, ticket));
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no one panics holding it")
    }
}

async fn arrived_or_closed(arrived: &Notify) {
    arrived.notified().await;
    // Whoever waits next looks again.
    arrived.notify_one();
}

fn complain(complained: &mut bool, output: &str, error: &std::io::Error) {
    if !std::mem::replace(complained, true) {
        tracing::warn!(output, error = %error, "log records cannot be written to disk, they are in memory alone");
    }
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

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
