//! A queue bounded in bytes that says what happens when it is full.
//!
//! Not a channel, because a channel can only refuse what comes: here the oldest item may give way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::names::sidecar as names;
use tokio::sync::Notify;

/// What an item costs in memory, its bookkeeping included.
pub trait Weigh {
    fn bytes(&self) -> usize;
}

/// What `push` does when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait: for inputs that are themselves a buffer, such as a file.
    Wait,
    /// Refuse the new item.
    DropNewest,
    /// Give up the oldest items: the newest say more about what happens now.
    DropOldest,
}

/// A handle; clones share the queue.
pub struct Queue<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity_bytes: usize,
    arrived: Notify,
    left: Notify,
    bytes: Gauge,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

/// The gauges of all queues, registered once.
#[derive(Clone, Default)]
pub struct QueueMetrics {
    bytes: Family<QueueLabel, Gauge>,
    capacity: Family<QueueLabel, Gauge>,
}

impl QueueMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let own = QueueMetrics::default();
        metrics.register(|r| {
            r.register(names::QUEUE_BYTES, "Bytes that wait in a queue", own.bytes.clone());
            r.register(names::QUEUE_CAPACITY_BYTES, "Bytes that a queue may hold", own.capacity.clone());
        });
        own
    }
}

/// How full a queue is that is no [`Queue`].
#[derive(Clone, Default)]
pub struct QueueGauge(Gauge);

impl QueueGauge {
    pub fn set(&self, bytes: usize) {
        self.0.set(bytes as i64);
    }
}

impl QueueMetrics {
    pub fn gauge(&self, queue: &str, capacity_bytes: usize) -> QueueGauge {
        let label = QueueLabel { queue: queue.to_owned() };
        self.capacity.get_or_create(&label).set(capacity_bytes as i64);
        QueueGauge(self.bytes.get_or_create_owned(&label))
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<T: Weigh> Queue<T> {
    pub fn new(name: &'static str, capacity_bytes: usize, metrics: &QueueMetrics) -> Self {
        let label = QueueLabel { queue: name.to_owned() };
        metrics.capacity.get_or_create(&label).set(capacity_bytes as i64);
        Queue(Arc::new(Shared {
            state: Mutex::new(State { items: VecDeque::new(), bytes: 0, closed: false }),
            capacity_bytes,
            arrived: Notify::new(),
            left: Notify::new(),
            bytes: metrics.bytes.get_or_create_owned(&label),
        }))
    }

    /// Puts `item` in. What had to give way for it, or the item itself, comes back to be accounted for.
    pub async fn push(&self, item: T, when_full: WhenFull) -> Vec<T> {
        let mut item = item;
        loop {
            let left = self.0.left.notified();
            match self.try_push(item, when_full) {
                Ok(displaced) => return displaced,
                Err(returned) if when_full == WhenFull::Wait && !self.is_closed() => item = returned,
                Err(returned) => return vec![returned],
            }
            left.await;
        }
    }

    fn try_push(&self, item: T, when_full: WhenFull) -> Result<Vec<T>, T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        let size = item.bytes();
        let mut displaced = Vec::new();
        // An item larger than the whole queue may pass when nothing else is in it.
        while !state.items.is_empty() && state.bytes + size > self.0.capacity_bytes {
            if when_full != WhenFull::DropOldest {
                return Err(item);
            }
            displaced.extend(state.take_first());
        }
        state.bytes += size;
        state.items.push_back(item);
        self.0.bytes.set(state.bytes as i64);
        drop(state);
        self.0.arrived.notify_one();
        Ok(displaced)
    }

    /// The next item; None when the queue is closed and empty. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<T> {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(item) = self.try_next() {
                return Some(item);
            }
            if self.is_closed() {
                // Another waiting consumer must hear of the end too.
                self.0.arrived.notify_one();
                return None;
            }
            arrived.await;
        }
    }

    pub fn try_next(&self) -> Option<T> {
        let mut state = self.lock();
        let item = state.take_first();
        self.0.bytes.set(state.bytes as i64);
        drop(state);
        if item.is_some() {
            self.0.left.notify_one();
        }
        item
    }

    /// Nothing more comes in; what is in it can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.arrived.notify_one();
        self.0.left.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.0.state.lock().expect("no one panics holding it")
    }
}

impl<T: Weigh> State<T> {
    fn take_first(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    impl Weigh for u32 {
        fn bytes(&self) -> usize {
            10
        }
    }

    fn queue(capacity_bytes: usize) -> Queue<u32> {
        Queue::new("test", capacity_bytes, &QueueMetrics::default())
    }

    #[tokio::test]
    async fn the_oldest_gives_way_or_the_newest_is_refused() {
        let queue = queue(20);
        for n in [1, 2] {
            assert!(queue.push(n, WhenFull::DropNewest).await.is_empty());
        }
        assert_eq!(queue.push(3, WhenFull::DropNewest).await, [3]);
        assert_eq!(queue.push(4, WhenFull::DropOldest).await, [1]);
        queue.close();
        assert_eq!(queue.push(5, WhenFull::DropOldest).await, [5], "a closed queue takes nothing");
        assert_eq!((queue.next().await, queue.next().await, queue.next().await), (Some(2), Some(4), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_push_goes_on_when_there_is_room() {
        let queue = queue(10);
        queue.push(1, WhenFull::Wait).await;
        let waiting = queue.push(2, WhenFull::Wait);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut waiting).await.is_err(), "it must wait");
        assert_eq!(queue.next().await, Some(1));
        assert!(waiting.await.is_empty());
        assert_eq!(queue.next().await, Some(2));
    }

    #[tokio::test]
    async fn an_item_larger_than_the_queue_passes_alone() {
        let queue = queue(5);
        assert!(queue.push(1, WhenFull::DropNewest).await.is_empty());
        assert_eq!(queue.push(2, WhenFull::DropNewest).await, [2]);
    }
}
