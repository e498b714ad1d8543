//! The single writer into storage: batches come in from scrapes and recording rules, each is acknowledged with
//! what became of it.
//!
//! The queue is bounded and a writer that is behind makes its senders wait; nothing is dropped here.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use service::metrics::Metrics;
use storage::{AppendReport, Storage};
use telemetry::Sample;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;

/// Batches that may wait; a batch is one scrape or one rule group, so this is seconds of a large fleet.
const QUEUE_LEN_MAX: usize = 64;

/// The writer has ended: the program is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the writer has stopped")]
pub struct WriteClosed;

struct Batch {
    samples: Vec<Sample>,
    done: oneshot::Sender<AppendReport>,
}

/// Hands batches to the writer; clones share its queue. The writer ends when the last handle is gone.
#[derive(Clone)]
pub struct WriteHandle(mpsc::Sender<Batch>);

impl WriteHandle {
    /// Waits for room, then for the samples to be stored.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn write(&self, samples: Vec<Sample>) -> Result<AppendReport, WriteClosed> {
        let (done, report) = oneshot::channel();
        self.0.send(Batch { samples, done }).await.map_err(|_| WriteClosed)?;
        report.await.map_err(|_| WriteClosed)
    }
}

/// Owns appends to the storage.
pub struct Writer {
    queue: mpsc::Receiver<Batch>,
    storage: Arc<Storage>,
    clock: Clock,
    samples: Counter,
}

impl Writer {
    pub fn new(storage: Arc<Storage>, clock: Clock, metrics: &Metrics) -> (Self, WriteHandle) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let samples = Counter::default();
        metrics.register(|r| {
            r.register("collector_samples_received", "Samples handed to the storage", samples.clone());
        });
        (Writer { queue, storage, clock, samples }, WriteHandle(sender))
    }

    /// Runs until the last [`WriteHandle`] is dropped and the queue is empty.
    pub async fn run(mut self) -> anyhow::Result<()> {
        while let Some(batch) = self.queue.recv().await {
            self.samples.inc_by(batch.samples.len() as u64);
            let report = self.storage.append(&batch.samples, self.clock.now());
            // The sender may have given up waiting; the samples are stored all the same.
            let _ = batch.done.send(report);
        }
        Ok(())
    }
}
