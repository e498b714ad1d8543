//! Collects records until a request of the destination is full.
//!
//! Records lie one behind the other in one buffer, which is used again for the next batch: no memory is asked for per
//! record. Each is made as its destination wants it when it is added, for then it lies at hand; a megabyte later it does not. A batch never changes once it is cut, so that a repeated request repeats itself and nothing else.

use std::sync::Arc;
use std::time::Duration;

use telemetry::Timestamp;
use telemetry::log_record::Level;
use tokio::time::Instant;

use super::account::{Account, Ticket};
use super::parse::write::escaped_at;

/// What one request of a destination takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all messages together, `overhead` counted for each.
    pub bytes: usize,
    pub overhead: usize,
    pub events: usize,
    /// Between the first and the last event.
    pub span: Duration,
    /// How long the first record waits for company.
    pub wait: Duration,
    /// Texts are kept as the inside of a JSON string.
    pub in_json: bool,
}

impl Limits {
    /// PutLogEvents (API reference): 1 MiB, counting 26 bytes beside each message; 10,000 events; at most 24 hours
    /// between the first and the last, here one millisecond less, to be on the safe side of it.
    pub const CLOUDWATCH: Limits = Limits {
        bytes: 1_048_576,
        overhead: 26,
        events: 10_000,
        span: Duration::from_millis(24 * 3_600_000 - 1),
        wait: Duration::from_secs(1),
        in_json: true,
    };
    /// OTLP/HTTP and Forward have no limit of their own; CloudWatch's OTLP endpoint takes 1 MB.
    pub const NETWORK: Limits = Limits {
        bytes: 900_000,
        overhead: 160,
        events: 10_000,
        span: Duration::MAX,
        wait: Duration::from_secs(1),
        in_json: false,
    };
    /// Lines to a file or a terminal.
    pub const LOCAL: Limits = Limits {
        bytes: 64 * 1024,
        overhead: 1,
        events: 1000,
        span: Duration::MAX,
        wait: Duration::from_millis(50),
        in_json: false,
    };
}

/// Lives as long as something that was read with it is neither delivered, dropped nor kept on disk: who holds the
/// other end knows how far everything is settled.
pub type Mark = Arc<()>;

/// One event of a batch; its text is a part of the batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    start: u32,
    length: u32,
    /// Lines that were joined into it.
    pub units: u32,
    pub level: Level,
}

/// Records that are being collected, or have been.
pub struct Batch {
    /// The texts, up to `filled`; what stands behind them is of an earlier batch.
    text: Vec<u8>,
    filled: usize,
    events: Vec<Event>,
    bytes: usize,
    earliest: Timestamp,
    latest: Timestamp,
    sorted: bool,
    since: Instant,
    pub ticket: Ticket,
    pub marks: Vec<Mark>,
}

/// From here on a batch will probably become a whole one.
const GROWN_BYTES: usize = 256 * 1024;
/// A buffer that one large line made grow is given back: this is a megabyte, and what escapes add to it. What of it is
/// never written to takes no memory.
const KEPT_BYTES: usize = 3 << 19;

impl Batch {
    pub fn new(account: &Account) -> Self {
        Batch {
            text: Vec::new(),
            filled: 0,
            events: Vec::new(),
            bytes: 0,
            earliest: Timestamp::MAX,
            latest: Timestamp::MIN,
            sorted: true,
            since: Instant::now(),
            ticket: account.enter(0),
            marks: Vec::new(),
        }
    }

    /// Whether the batch is full without this record.
    pub fn is_full_for(&self, limits: &Limits, length: usize, at: Timestamp) -> bool {
        let span = self.latest.max(at).since(self.earliest.min(at));
        !self.is_empty()
            && (self.bytes + length + limits.overhead > limits.bytes
                || self.events.len() >= limits.events
                || span > limits.span)
    }

    pub fn add(&mut self, limits: &Limits, text: &[u8], at: Timestamp, level: Level, units: u32) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        self.sorted &= at >= self.latest;
        (self.earliest, self.latest) = (self.earliest.min(at), self.latest.max(at));
        self.bytes += text.len() + limits.overhead;
        let start = self.filled;
        // Grown by halves and doubles it would come to twice the batch, and be given back in part, every time.
        if start >= GROWN_BYTES && self.text.capacity() < start + text.len() {
            let whole = limits.bytes + if limits.in_json { limits.bytes / 2 } else { 0 };
            self.text.reserve_exact(whole.saturating_sub(self.text.len()).max(2 * text.len()));
        }
        self.filled = match limits.in_json {
            true => escaped_at(text, &mut self.text, start),
            false => {
                self.text.truncate(start);
                self.text.extend_from_slice(text);
                self.text.len()
            }
        };
        let (start, length) = (start as u32, (self.filled - start) as u32);
        self.events.push(Event { at, start, length, units, level });
    }

    /// Notes that the record just added came with `mark`.
    pub fn mark(&mut self, mark: &Mark) {
        if self.marks.last().is_none_or(|last| !Arc::ptr_eq(last, mark)) {
            self.marks.push(mark.clone());
        }
    }

    /// Events in order of time, each with its text as it is kept; those of one millisecond keep the order in which they
    /// came.
    pub fn events(&mut self) -> impl Iterator<Item = (&Event, &[u8])> {
        if !std::mem::replace(&mut self.sorted, true) {
            self.events.sort_by_key(|event| event.at);
        }
        let text = &self.text;
        self.events.iter().map(move |e| (e, &text[e.start as usize..(e.start + e.length) as usize]))
    }

    /// Takes everything out, so that the buffers can be filled again.
    pub fn reset(&mut self) -> (Ticket, Vec<Mark>) {
        let units = self.ticket.units();
        let taken = (self.ticket.split(units), std::mem::take(&mut self.marks));
        self.filled = 0;
        self.text.truncate(KEPT_BYTES);
        self.text.shrink_to(KEPT_BYTES);
        self.events.clear();
        self.bytes = 0;
        (self.earliest, self.latest, self.sorted) = (Timestamp::MAX, Timestamp::MIN, true);
        taken
    }

    /// Gives the buffers back: nothing has come for a while.
    pub fn release(&mut self) {
        if self.is_empty() {
            (self.text, self.events) = (Vec::new(), Vec::new());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Of the messages, as the destination counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of memory.
    pub fn held(&self) -> usize {
        self.text.capacity() + self.events.capacity() * size_of::<Event>()
    }

    pub fn due(&self, limits: &Limits) -> Option<Instant> {
        (!self.is_empty()).then(|| self.since + limits.wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use service::metrics::Metrics;

    use super::*;

    const HOURS_24: i64 = 24 * 3_600_000;

    /// The events of each batch that these records make.
    fn batches(records: &[(usize, i64)]) -> Vec<Vec<(i64, usize)>> {
        let account = Account::of_logs(&Metrics::new(), "test");
        // Texts as they are: what is asked is how many and how long, and gigabytes of escapes would take minutes.
        let limits = Limits { in_json: false, ..Limits::CLOUDWATCH };
        let (mut batch, mut done) = (Batch::new(&account), Vec::new());
        let cut = |batch: &mut Batch| {
            let events = batch.events().map(|(e, text)| (e.at.0, text.len())).collect();
            batch.reset().0.delivered();
            events
        };
        for (length, at) in records {
            if batch.is_full_for(&limits, *length, Timestamp(*at)) {
                done.push(cut(&mut batch));
            }
            batch.add(&limits, &vec![b'x'; *length], Timestamp(*at), Level::Info, 1);
        }
        done.push(cut(&mut batch));
        done
    }

    fn shape(records: &[(usize, i64)]) -> Vec<usize> {
        batches(records).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_batch_ends_where_a_limit_is_reached() {
        // 1,048,576 = 2 * (524,262 + 26), so two such events fill a batch exactly.
        assert_eq!(shape(&[(524_262, 0), (524_262, 0)]), [2]);
        assert_eq!(shape(&[(524_262, 0), (524_263, 0)]), [1, 1]);
        assert_eq!(shape(&[(1_048_550, 0), (1, 0)]), [1, 1]);
        assert_eq!(shape(&vec![(1, 0); 10_001]), [10_000, 1]);
        assert_eq!(shape(&[(1, 0), (1, HOURS_24 - 1), (1, HOURS_24)]), [2, 1]);
    }

    #[test]
    fn texts_are_kept_as_their_destination_wants_them_and_buffers_hold_nothing_of_the_last_batch() {
        let account = Account::of_logs(&Metrics::new(), "test");
        for (limits, expected) in [(Limits::CLOUDWATCH, r#"a \"b\"\n"#), (Limits::NETWORK, "a \"b\"\n")] {
            let mut batch = Batch::new(&account);
            for large in [300_000, 1, 700_000] {
                let lines = ["a \"b\"\n", &"\"".repeat(large), "c"];
                lines.iter().for_each(|text| batch.add(&limits, text.as_bytes(), Timestamp(0), Level::Info, 1));
                let kept: Vec<String> =
                    batch.events().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect();
                assert_eq!((kept[0].as_str(), kept[2].as_str()), (expected, "c"));
                assert_eq!(kept[1].len(), if limits.in_json { 2 * large } else { large });
                drop(batch.reset());
                assert!(batch.held() <= KEPT_BYTES + 4096);
            }
        }
    }

    proptest! {
        #[test]
        fn every_batch_keeps_every_limit_and_no_event_is_lost(
            records in prop::collection::vec((1usize..400_000, 0i64..3 * HOURS_24), 1..60)
        ) {
            let batches = batches(&records);
            prop_assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), records.len());
            for events in &batches {
                prop_assert!(events.iter().map(|(_, length)| length + 26).sum::<usize>() <= 1_048_576);
                prop_assert!(!events.is_empty() && events.len() <= 10_000);
                prop_assert!(events.is_sorted_by_key(|(at, _)| *at));
                prop_assert!(events[events.len() - 1].0 - events[0].0 < HOURS_24);
            }
        }
    }
}
