//! One destination's queue: the batch that is being filled, sealed batches that wait, and the task that sends them.
//!
//! In: records. Out: request bodies, made (and compressed) when a batch is full, so that what waits is small. Bounded
//! in bytes: what does not fit the memory waits on disk where there is one; beyond that the oldest batch gives way and
//! is counted, or an input that can wait is told to. Never slows who writes.

mod room;
mod sending;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use telemetry::Timestamp;
use telemetry::log_record::Level;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::encode::Codec;
use super::gzip::Scratch;
use super::retry::{Attempt, Retry};
use super::spool::{FrameAt, FrameHead, Left, LeftFrame, Spool};
use crate::memory::Ceiling;
use crate::pipeline::account::{Account, DropReason, Ticket};
use crate::pipeline::batch::{Batch, Limits, Mark};
use crate::pipeline::queue::QueueGauge;

/// Requests at a time while there is a backlog and the destination takes what comes.
const IN_FLIGHT_MAX: usize = 6;

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
    body: Option<Bytes>,
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
        self.body.as_ref().map_or(0, Bytes::len) + 4 * self.head.units.len() + 128
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
    fn attempt(&self, body: &Bytes) -> impl Future<Output = Attempt<Answer>> + std::marker::Send;

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
    scratch: Scratch,
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
        let state = State {
            open,
            scratch: Scratch::default(),
            sealed,
            held: 0,
            spool,
            noted: false,
            complained: false,
            closed: false,
        };
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

    /// Takes a record, a text in UTF-8; it counts as taken in, whatever becomes of it.
    pub fn push(&self, text: &[u8], at: Timestamp, level: Level, units: u32, mark: Option<&Mark>) {
        self.pushing().push(text, at, level, units, mark);
    }

    /// Takes records one behind the other; nobody else sees the sink until it is dropped.
    pub fn pushing(&self) -> Pushing<'_> {
        Pushing { sink: self, state: self.lock(), units: 0 }
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
        let body = Bytes::from(self.0.options.codec.encode(&mut state.open, &mut state.scratch));
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no one panics holding it")
    }
}

/// Records that are being pushed. What is asked of the processor for all others to see it, a lock or a count, waits until
/// all that was written before has left it: so neither is done for each record.
pub struct Pushing<'a> {
    sink: &'a Sink,
    state: MutexGuard<'a, State>,
    /// Of the open batch, and not yet in the books.
    units: u64,
}

impl Pushing<'_> {
    /// As [`Sink::push`].
    pub fn push(&mut self, text: &[u8], at: Timestamp, level: Level, units: u32, mark: Option<&Mark>) {
        let Shared { limits, account, .. } = &*self.sink.0;
        if self.state.closed || text.len() + limits.overhead > limits.bytes {
            let reason = if self.state.closed { DropReason::Stopped } else { DropReason::TooLarge };
            return account.enter_dropped(u64::from(units), reason);
        }
        if self.state.open.is_full_for(limits, text.len(), at) {
            self.enter();
            self.sink.seal(&mut self.state);
        }
        let state = &mut *self.state;
        let first = state.open.is_empty();
        state.open.add(limits, text, at, level, units);
        self.units += u64::from(units);
        if let Some(mark) = mark {
            state.open.mark(mark);
        }
        if let Some(spool) = &mut state.spool {
            spool.note(at, level, units, text);
            state.noted = true;
        }
        if first {
            self.sink.0.arrived.notify_one();
        }
    }

    fn enter(&mut self) {
        self.sink.0.account.enter_with(&mut self.state.open.ticket, std::mem::take(&mut self.units));
    }
}

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        self.enter();
    }
}

fn complain(complained: &mut bool, output: &str, error: &std::io::Error) {
    if !std::mem::replace(complained, true) {
        tracing::warn!(output, error = %error, "log records cannot be written to disk, they are in memory alone");
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
