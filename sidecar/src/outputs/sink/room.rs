//! What a queue may hold, in memory and on disk, and what gives way beyond that.

use super::{Sealed, Sink, State};
use crate::outputs::spool::Spool;
use crate::pipeline::account::DropReason;

/// Room that is left for who is told to wait, so that a turn's worth of lines fits.
const ROOM_BYTES: usize = 1 << 20;

impl Sink {
    /// Gives memory back until the bounds hold: to the disk from the end, for the front is next to be sent; else the
    /// oldest goes.
    pub(super) fn keep_bounds(&self, state: &mut State) {
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

    pub(super) fn hold(&self, state: &mut State, bytes: usize) {
        state.held += bytes;
        self.0.options.ceiling.hold(bytes);
    }

    pub(super) fn let_go(&self, state: &mut State, bytes: usize) {
        let bytes = bytes.min(state.held);
        state.held -= bytes;
        self.0.options.ceiling.let_go(bytes);
    }

    /// Drops a batch that was in the queue.
    pub(super) fn give_up(&self, state: &mut State, sealed: Sealed, reason: DropReason) {
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
}
