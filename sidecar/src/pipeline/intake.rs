//! The door through which every log line comes: parse, strike out secrets, remember, queue.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use service::metrics::Metrics;
use telemetry::Timestamp;
use telemetry::log_record::Level;
use telemetry::names::{sidecar as names, without_total};
use telemetry::trace::TraceId;

use super::account::{Account, Balance, DropReason, Ticket};
use super::parse::{self, Author};
use super::queue::{Queue, Weigh, WhenFull};
use super::redact::redact;
use crate::recent::Recent;

/// A log line on its way to the output.
pub struct Record {
    /// One JSON object in the platform's layout, shared with the ring of recent lines.
    pub line: Arc<str>,
    pub level: Level,
    pub timestamp: Timestamp,
    pub trace_id: Option<TraceId>,
    pub ticket: Ticket,
}

/// What a record costs beside its text: itself, the shared text's counters, its slot in the queue.
const RECORD_OVERHEAD_BYTES: usize = 128;

impl Weigh for Record {
    fn bytes(&self) -> usize {
        self.line.len() + RECORD_OVERHEAD_BYTES
    }
}

/// Handed to every input that reads log lines.
#[derive(Clone)]
pub struct Intake {
    author: Arc<Author>,
    account: Account,
    recent: Recent,
    queue: Queue<Record>,
    redacted: Counter,
}

impl Intake {
    pub fn new(author: Author, account: Account, recent: Recent, queue: Queue<Record>, metrics: &Metrics) -> Self {
        let redacted = Counter::default();
        metrics.register(|r| {
            r.register(
                without_total(names::LOG_VALUES_REDACTED_TOTAL),
                "Values of secret keys struck out of log lines",
                redacted.clone(),
            );
        });
        Intake { author: Arc::new(author), account, recent, queue, redacted }
    }

    /// The books of what was taken in, by all inputs together.
    pub fn balance(&self) -> Balance {
        self.account.balance()
    }

    /// Takes one line in. With `WhenFull::Wait` it returns when there was room; who drops the future before
    /// that has lost the line, and the books say so.
    pub async fn accept(&self, line: &[u8], now: Timestamp, when_full: WhenFull) {
        let Some(mut parsed) = parse::parse(line, &self.author, now) else { return };
        let ticket = self.account.enter(1);
        if let Some((line, count)) = redact(&parsed.line) {
            parsed.line = line;
            self.redacted.inc_by(count as u64);
        }
        let line: Arc<str> = parsed.line.into();
        self.recent.remember(line.clone(), parsed.level, parsed.trace_id);
        let record =
            Record { line, level: parsed.level, timestamp: parsed.timestamp, trace_id: parsed.trace_id, ticket };
        for displaced in self.queue.push(record, when_full).await {
            let reason = if self.queue.is_closed() { DropReason::Stopped } else { DropReason::QueueFull };
            displaced.ticket.dropped(reason);
        }
    }
}
