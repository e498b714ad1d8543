//! Notices that wait: bounded, newest of each alert only, oldest dropped and counted when full.
//!
//! An alert that is queued again while it waits takes its old place with its new content: a receiver that was
//! away gets the state of now, not the history.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use service::Shutdown;
use tokio::sync::Notify;

use crate::rules::alerting::{Fingerprint, Notice};

/// Prometheus' notification queue capacity.
pub(crate) const QUEUE_LEN_MAX: usize = 10_000;

/// One consumer, many producers; neither ever waits for the other's work.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
    closed: Shutdown,
    len_max: usize,
}

#[derive(Default)]
struct Inner {
    order: VecDeque<Fingerprint>,
    notices: HashMap<Fingerprint, Notice>,
}

impl Queue {
    pub(crate) fn new(len_max: usize) -> Self {
        Queue { inner: Mutex::default(), wake: Notify::new(), closed: Shutdown::new(), len_max }
    }

    /// Queues the notices; returns how many older ones had to go.
    pub(crate) fn push(&self, notices: impl IntoIterator<Item = Notice>) -> usize {
        let mut dropped = 0;
        {
            let mut inner = self.inner.lock().expect("no one panics holding it");
            for notice in notices {
                let fingerprint = notice.fingerprint;
                if inner.notices.insert(fingerprint, notice).is_none() {
                    inner.order.push_back(fingerprint);
                }
                if inner.order.len() > self.len_max
                    && let Some(oldest) = inner.order.pop_front()
                {
                    inner.notices.remove(&oldest);
                    dropped += 1;
                }
            }
        }
        self.wake.notify_one();
        dropped
    }

    /// Puts back what could not be delivered, in front; what was queued anew meanwhile is newer and stays.
    pub(crate) fn put_back(&self, notices: Vec<Notice>) -> usize {
        let mut dropped = 0;
        let mut inner = self.inner.lock().expect("no one panics holding it");
        for notice in notices.into_iter().rev() {
            let fingerprint = notice.fingerprint;
            if inner.notices.contains_key(&fingerprint) {
                continue;
            }
            if inner.order.len() >= self.len_max {
                dropped += 1;
                continue;
            }
            inner.notices.insert(fingerprint, notice);
            inner.order.push_front(fingerprint);
        }
        dropped
    }

    /// Waits for notices and takes the oldest `max`; None when the queue is closed and empty.
    pub(crate) async fn take(&self, max: usize) -> Option<Vec<Notice>> {
        loop {
            let woken = self.wake.notified();
            {
                let mut inner = self.inner.lock().expect("no one panics holding it");
                let count = inner.order.len().min(max);
                if count > 0 {
                    let fingerprints: Vec<_> = inner.order.drain(..count).collect();
                    return Some(fingerprints.iter().filter_map(|f| inner.notices.remove(f)).collect());
                }
                if self.closed.is_requested() {
                    return None;
                }
            }
            woken.await;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().expect("no one panics holding it").order.len()
    }

    /// Nothing more will come; the consumer gets what is left.
    pub(crate) fn close(&self) {
        self.closed.request();
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_requested()
    }
}

impl Queue {
    /// Returns when nothing more will come.
    pub(crate) async fn until_closed(&self) {
        self.closed.requested().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{Labels, Timestamp};

    fn notice(name: &str, value: &str) -> Notice {
        let labels = Labels::from_pairs([("alertname", name)]);
        Notice {
            fingerprint: Fingerprint::of(&labels),
            labels,
            annotations: Labels::from_pairs([("value", value)]),
            starts_at: Timestamp(0),
            ends_at: Timestamp(1),
            resolved: false,
            expr: String::new(),
        }
    }

    async fn taken(queue: &Queue, max: usize) -> Vec<String> {
        let notices = queue.take(max).await.expect("something is queued");
        let print = |n: &Notice| {
            format!("{}={}", n.labels.get("alertname").unwrap_or(""), n.annotations.get("value").unwrap_or(""))
        };
        notices.iter().map(print).collect()
    }

    #[tokio::test]
    async fn the_newest_of_each_alert_is_kept_in_the_place_of_the_first() {
        let queue = Queue::new(10);
        queue.push([notice("a", "1"), notice("b", "1"), notice("a", "2")]);
        assert_eq!(taken(&queue, 10).await, ["a=2", "b=1"]);
        queue.push([notice("a", "4")]);
        assert_eq!(queue.put_back(vec![notice("c", "3"), notice("a", "3")]), 0);
        assert_eq!(taken(&queue, 1).await, ["c=3"]);
        assert_eq!(taken(&queue, 1).await, ["a=4"], "the newer one was not overwritten by the one put back");
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(["a", "b", "c", "d"].map(|name| notice(name, "1"))), 2);
        assert_eq!(queue.put_back(vec![notice("e", "1")]), 1);
        assert_eq!(taken(&queue, 10).await, ["c=1", "d=1"]);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_is_left_and_then_ends() {
        let queue = Queue::new(2);
        queue.push([notice("a", "1")]);
        queue.close();
        assert_eq!(taken(&queue, 10).await, ["a=1"]);
        assert_eq!(queue.take(10).await, None);
    }
}
