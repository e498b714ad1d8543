//! The account of what came in: delivered, dropped for a reason, or still waiting.
//!
//! Whoever holds data holds its [`Ticket`]. A ticket is settled once; one that is lost on the way is
//! counted as abandoned, so that the books balance even where the code has a hole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};

/// Why something was not delivered; also the value of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full and its policy is to drop.
    QueueFull,
    /// Nobody said where it should go.
    NoEndpoint,
    /// The destination refused it for good.
    Refused,
    /// The destination stayed away for longer than an item may wait.
    GaveUp,
    TooLarge,
    TooOld,
    TooNew,
    /// Older than the destination's retention.
    Expired,
    /// The time to stop ran out.
    Stopped,
    /// Not chosen by trace sampling: meant to be left out.
    SampledOut,
    /// Lost by the program itself: a defect.
    Abandoned,
    /// The disk's share was used up by newer ones.
    SpoolFull,
    /// What was kept on disk cannot be read any more.
    SpoolDamaged,
    /// A filter, or a pattern of the task definition, wants it left out.
    Filtered,
    /// Left out to keep a part of many.
    Sampled,
    /// More of its level came than is wanted.
    RateLimited,
}

impl DropReason {
    pub const ALL: [DropReason; 16] = [
        DropReason::QueueFull,
        DropReason::NoEndpoint,
        DropReason::Refused,
        DropReason::GaveUp,
        DropReason::TooLarge,
        DropReason::TooOld,
        DropReason::TooNew,
        DropReason::Expired,
        DropReason::Stopped,
        DropReason::SampledOut,
        DropReason::Abandoned,
        DropReason::SpoolFull,
        DropReason::SpoolDamaged,
        DropReason::Filtered,
        DropReason::Sampled,
        DropReason::RateLimited,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::NoEndpoint => "no_endpoint",
            DropReason::Refused => "refused",
            DropReason::GaveUp => "gave_up",
            DropReason::TooLarge => "too_large",
            DropReason::TooOld => "too_old",
            DropReason::TooNew => "too_new",
            DropReason::Expired => "expired",
            DropReason::Stopped => "stopped",
            DropReason::SampledOut => "sampled_out",
            DropReason::Abandoned => "abandoned",
            DropReason::SpoolFull => "spool_full",
            DropReason::SpoolDamaged => "spool_damaged",
            DropReason::Filtered => "filtered",
            DropReason::Sampled => "sampled",
            DropReason::RateLimited => "rate_limited",
        }
    }
}

type Label = [(&'static str, &'static str); 1];

/// The books of one kind of data.
#[derive(Clone)]
pub struct Account(Arc<Books>);

struct Books {
    /// Where data goes if nothing else is said: the value of the label `output`.
    output: &'static str,
    received: Counter,
    delivered: Family<Label, Counter>,
    delivered_sum: AtomicU64,
    dropped: Family<Label, Counter>,
    waiting: Gauge,
    /// From now on what is lost was lost to the stop.
    stopping: AtomicBool,
}

/// The four sums at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub received: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub waiting: u64,
}

impl Balance {
    /// Delivered, or dropped and counted.
    pub fn settled(&self) -> u64 {
        self.delivered + self.dropped
    }
}

impl Account {
    pub fn of_logs(metrics: &Metrics, output: &'static str) -> Self {
        let names = [
            names::LOG_RECORDS_IN_TOTAL,
            names::LOG_RECORDS_DELIVERED_TOTAL,
            names::LOG_RECORDS_DROPPED_TOTAL,
            names::LOG_RECORDS_WAITING,
        ];
        Account::open(metrics, output, "Log records", names)
    }

    pub fn of_spans(metrics: &Metrics, output: &'static str) -> Self {
        let names =
            [names::SPANS_IN_TOTAL, names::SPANS_DELIVERED_TOTAL, names::SPANS_DROPPED_TOTAL, names::SPANS_WAITING];
        Account::open(metrics, output, "Spans", names)
    }

    fn open(metrics: &Metrics, output: &'static str, what: &str, names: [&str; 4]) -> Self {
        let books = Books {
            output,
            received: Counter::default(),
            delivered: Family::default(),
            delivered_sum: AtomicU64::new(0),
            dropped: Family::default(),
            waiting: Gauge::default(),
            stopping: AtomicBool::new(false),
        };
        // Every series is there from the start, so that the first loss is an increase.
        drop(books.delivered.get_or_create(&[("output", output)]));
        for reason in DropReason::ALL {
            drop(books.dropped.get_or_create(&[("reason", reason.as_str())]));
        }
        metrics.register(|r| {
            r.register(without_total(names[0]), format!("{what} taken in"), books.received.clone());
            r.register(
                without_total(names[1]),
                format!("{what} that the output has accepted"),
                books.delivered.clone(),
            );
            r.register(without_total(names[2]), format!("{what} lost, by reason"), books.dropped.clone());
            r.register(names[3], format!("{what} taken in and neither delivered nor dropped"), books.waiting.clone());
        });
        Account(Arc::new(books))
    }

    /// Takes `units` items in.
    pub fn enter(&self, units: u64) -> Ticket {
        self.0.received.inc_by(units);
        self.0.waiting.inc_by(units as i64);
        Ticket { account: self.clone(), units }
    }

    /// Takes more items in that go with `ticket`.
    pub fn enter_with(&self, ticket: &mut Ticket, units: u64) {
        self.0.received.inc_by(units);
        self.0.waiting.inc_by(units as i64);
        ticket.units += units;
    }

    /// Takes items in that go no further.
    pub fn enter_dropped(&self, units: u64, reason: DropReason) {
        self.enter(units).dropped(reason);
    }

    /// The time to stop has run out: whatever is given up now is counted under that reason.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    pub fn balance(&self) -> Balance {
        let dropped = DropReason::ALL.iter().map(|r| self.dropped(*r)).sum();
        Balance {
            received: self.0.received.get(),
            delivered: self.0.delivered_sum.load(Ordering::Relaxed),
            dropped,
            waiting: u64::try_from(self.0.waiting.get()).unwrap_or(0),
        }
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.0.dropped.get_or_create(&[("reason", reason.as_str())]).get()
    }

    /// `3 queue_full, 1 too_large`, or `none`.
    pub fn losses(&self) -> String {
        let lost: Vec<String> = DropReason::ALL
            .iter()
            .filter(|r| self.dropped(**r) > 0)
            .map(|r| format!("{} {}", self.dropped(*r), r.as_str()))
            .collect();
        if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }
    }

    fn settle(&self, units: u64, fate: Fate) {
        self.0.waiting.dec_by(units as i64);
        match fate {
            Fate::Delivered(output) => {
                self.0.delivered_sum.fetch_add(units, Ordering::Relaxed);
                self.0.delivered.get_or_create(&[("output", output)]).inc_by(units)
            }
            Fate::Lost(reason) => self.0.dropped.get_or_create(&[("reason", reason.as_str())]).inc_by(units),
        };
    }
}

/// How the way of an item ends.
#[derive(Clone, Copy)]
enum Fate {
    Delivered(&'static str),
    Lost(DropReason),
}

/// Stands for items that are on their way.
#[must_use = "an unsettled ticket counts its items as abandoned"]
pub struct Ticket {
    account: Account,
    units: u64,
}

impl Ticket {
    pub fn delivered(self) {
        let output = self.account.0.output;
        self.delivered_to(output);
    }

    /// `output` is the label's value.
    pub fn delivered_to(mut self, output: &'static str) {
        self.account.settle(std::mem::take(&mut self.units), Fate::Delivered(output));
    }

    pub fn dropped(mut self, reason: DropReason) {
        self.account.settle(std::mem::take(&mut self.units), Fate::Lost(reason));
    }

    /// Adds the items of another ticket of the same account.
    pub fn join(&mut self, mut other: Ticket) {
        debug_assert!(Arc::ptr_eq(&self.account.0, &other.account.0));
        self.units += std::mem::take(&mut other.units);
    }

    /// A ticket of its own for so many of the items, or for all where there are fewer.
    pub fn split(&mut self, units: u64) -> Ticket {
        let units = units.min(self.units);
        self.units -= units;
        Ticket { account: self.account.clone(), units }
    }

    /// Takes the items of another ticket of the same books.
    pub fn absorb(&mut self, mut other: Ticket) {
        self.units += std::mem::take(&mut other.units);
    }

    pub fn units(&self) -> u64 {
        self.units
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.units > 0 {
            let stopping = self.account.0.stopping.load(Ordering::Relaxed);
            let reason = if stopping { DropReason::Stopped } else { DropReason::Abandoned };
            self.account.settle(self.units, Fate::Lost(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance_even_when_a_ticket_is_forgotten() {
        let metrics = Metrics::new();
        let account = Account::of_logs(&metrics, "stdout");
        let (a, b, c) = (account.enter(1), account.enter(2), account.enter(4));
        let _waiting = account.enter(8);
        a.delivered();
        b.dropped(DropReason::TooOld);
        drop(c);
        assert_eq!(account.balance(), Balance { received: 15, delivered: 1, dropped: 6, waiting: 8 });
        assert_eq!(account.losses(), "2 too_old, 4 abandoned");
        let text = metrics.expose();
        for line in [
            "sidecar_log_records_in_total 15\n",
            "sidecar_log_records_delivered_total{output=\"stdout\"} 1\n",
            "sidecar_log_records_dropped_total{reason=\"abandoned\"} 4\n",
            "sidecar_log_records_dropped_total{reason=\"queue_full\"} 0\n",
            "sidecar_log_records_waiting 8\n",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }
}
