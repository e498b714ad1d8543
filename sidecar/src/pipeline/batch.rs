//! Cuts records into batches that CloudWatch Logs takes whole.
//!
//! Limits of PutLogEvents (API reference): 1 MiB, counting 26 bytes beside each message; 10,000 events;
//! in order of time; at most 24 hours between the first and the last; no empty message. A batch never
//! changes once it is cut, so that a repeated request repeats itself and nothing else.

use std::sync::Arc;

use super::account::{DropReason, Ticket};
use super::intake::Record;

pub const BATCH_BYTES_MAX: usize = 1_048_576;
pub const EVENTS_MAX: usize = 10_000;
pub const EVENT_OVERHEAD_BYTES: usize = 26;
pub const SPAN_MILLIS_MAX: i64 = 24 * 3_600_000;

pub struct Event {
    pub timestamp_millis: i64,
    pub message: Arc<str>,
    pub ticket: Ticket,
}

/// Events that fit into one request, oldest first.
#[derive(Default)]
pub struct Batch {
    pub events: Vec<Event>,
}

impl Batch {
    pub fn dropped(self, reason: DropReason) {
        self.events.into_iter().for_each(|event| event.ticket.dropped(reason));
    }

    pub fn delivered(self) {
        self.events.into_iter().for_each(|event| event.ticket.delivered());
    }

    /// Two halves; the second is empty where there was one event.
    pub fn halve(mut self) -> (Batch, Batch) {
        let second = self.events.split_off(self.events.len().div_ceil(2));
        (self, Batch { events: second })
    }
}

/// Collects records until a batch is full.
#[derive(Default)]
pub struct Batcher {
    events: Vec<Event>,
    bytes: usize,
    earliest: i64,
    latest: i64,
}

impl Batcher {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds a record; the batch that was full without it comes back. A record that fits in no batch is
    /// dropped and counted.
    pub fn add(&mut self, record: Record) -> Option<Batch> {
        let size = record.line.len() + EVENT_OVERHEAD_BYTES;
        if size > BATCH_BYTES_MAX || record.line.is_empty() {
            record.ticket.dropped(DropReason::TooLarge);
            return None;
        }
        let at = record.timestamp.as_millis();
        let span_with_it = self.latest.max(at) - self.earliest.min(at);
        let full = !self.is_empty()
            && (self.bytes + size > BATCH_BYTES_MAX
                || self.events.len() == EVENTS_MAX
                // "24 hours" in the reference; one millisecond less is on the safe side of it.
                || span_with_it >= SPAN_MILLIS_MAX);
        let batch = if full { self.cut() } else { None };
        if self.is_empty() {
            (self.earliest, self.latest) = (at, at);
        }
        (self.earliest, self.latest) = (self.earliest.min(at), self.latest.max(at));
        self.bytes += size;
        self.events.push(Event { timestamp_millis: at, message: record.line, ticket: record.ticket });
        batch
    }

    /// What has been collected, in order of time; events of one millisecond keep the order in which they came.
    pub fn cut(&mut self) -> Option<Batch> {
        let mut events = std::mem::take(&mut self.events);
        self.bytes = 0;
        events.sort_by_key(|event| event.timestamp_millis);
        (!events.is_empty()).then_some(Batch { events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::account::Account;
    use proptest::prelude::*;
    use service::metrics::Metrics;
    use telemetry::Timestamp;

    fn record_of(line: &str, timestamp: Timestamp, account: &Account) -> Record {
        let level = telemetry::log_record::Level::Info;
        Record { line: line.into(), level, timestamp, trace_id: None, ticket: account.enter(1) }
    }

    fn batches(records: &[(usize, i64)]) -> (Vec<Batch>, Account) {
        let account = Account::of_logs(&Metrics::new(), "test");
        let mut batcher = Batcher::default();
        let mut batches: Vec<Batch> = records
            .iter()
            .filter_map(|(length, at)| batcher.add(record_of(&"x".repeat(*length), Timestamp(*at), &account)))
            .collect();
        batches.extend(batcher.cut());
        (batches, account)
    }

    fn shape(records: &[(usize, i64)]) -> Vec<usize> {
        batches(records).0.iter().map(|b| b.events.len()).collect()
    }

    #[test]
    fn a_batch_ends_where_a_limit_is_reached() {
        // 1,048,576 = 2 * (524,262 + 26), so two such events fill a batch exactly.
        assert_eq!(shape(&[(524_262, 0), (524_262, 0)]), [2]);
        assert_eq!(shape(&[(524_262, 0), (524_263, 0)]), [1, 1]);
        assert_eq!(shape(&[(1_048_550, 0), (1, 0)]), [1, 1]);
        assert_eq!(shape(&vec![(1, 0); 10_001]), [10_000, 1]);
        assert_eq!(shape(&[(1, 0), (1, SPAN_MILLIS_MAX - 1), (1, SPAN_MILLIS_MAX)]), [2, 1]);
    }

    #[test]
    fn an_event_that_no_request_can_carry_is_dropped_and_counted() {
        let (batches, account) = batches(&[(1_048_551, 0), (1, 0)]);
        assert_eq!(batches.len(), 1);
        assert_eq!(account.dropped(DropReason::TooLarge), 1);
    }

    proptest! {
        #[test]
        fn every_batch_keeps_every_limit_and_no_event_is_lost(
            records in prop::collection::vec((1usize..400_000, 0i64..3 * SPAN_MILLIS_MAX), 0..60)
        ) {
            let (batches, account) = batches(&records);
            prop_assert_eq!(batches.iter().map(|b| b.events.len()).sum::<usize>(), records.len());
            for batch in &batches {
                let bytes: usize = batch.events.iter().map(|e| e.message.len() + 26).sum();
                prop_assert!(bytes <= 1_048_576 && !batch.events.is_empty() && batch.events.len() <= 10_000);
                let times: Vec<i64> = batch.events.iter().map(|e| e.timestamp_millis).collect();
                prop_assert!(times.is_sorted());
                prop_assert!(times[times.len() - 1] - times[0] < 24 * 3_600_000);
            }
            batches.into_iter().for_each(Batch::delivered);
            prop_assert_eq!(account.balance().delivered, records.len() as u64);
        }
    }
}
