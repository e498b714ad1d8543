//! Samples to request bodies: relabels, gathers, encodes, appends to the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use telemetry::remote_write::{Encoder, Message, Point, TimeSeries};
use telemetry::{Labels, LabelsBuilder, Sample, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::log::Record;
use super::metrics::RemoteSeries;
use super::{Config, Shared};
use crate::discovery::relabel;

/// Label sets whose relabelled form is remembered; beyond them all are worked out anew.
const REMEMBERED_MAX: usize = 2_000_000;

pub(super) struct Batcher {
    queue: mpsc::Receiver<Arc<Vec<Sample>>>,
    shared: Arc<Shared>,
    series: RemoteSeries,
    external_labels: Labels,
    rules: Vec<relabel::Rule>,
    remembered: HashMap<Labels, Option<Labels>>,
    message: Message,
    samples_max: usize,
    deadline: Duration,
    open: Open,
}

/// The batch that is being gathered.
struct Open {
    encoder: Encoder,
    samples: usize,
    newest: Timestamp,
    since: Instant,
}

impl Open {
    fn new(message: Message) -> Self {
        Open { encoder: Encoder::new(message), samples: 0, newest: Timestamp(i64::MIN), since: Instant::now() }
    }
}

impl Batcher {
    pub(super) fn new(
        config: &Config,
        external_labels: &Labels,
        queue: mpsc::Receiver<Arc<Vec<Sample>>>,
        shared: Arc<Shared>,
        series: RemoteSeries,
    ) -> Self {
        let message = config.protobuf_message.into();
        Batcher {
            queue,
            shared,
            series,
            external_labels: external_labels.clone(),
            rules: config.write_relabel_configs.clone(),
            remembered: HashMap::new(),
            message,
            samples_max: config.queue_config.max_samples_per_send,
            deadline: config.queue_config.batch_send_deadline,
            open: Open::new(message),
        }
    }

    /// Runs until the writer has ended; what was gathered by then is in the log.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let due = self.open.since + self.deadline;
            tokio::select! {
                biased;
                samples = self.queue.recv() => match samples {
                    Some(samples) => samples.iter().for_each(|sample| self.add(sample)),
                    None => break,
                },
                () = tokio::time::sleep_until(due), if self.open.samples > 0 => self.close_batch(),
            }
        }
        self.close_batch();
        self.shared.log().close();
        self.shared.changed.notify_one();
        Ok(())
    }

    fn add(&mut self, sample: &Sample) {
        let Some(labels) = self.labels_of(&sample.labels) else {
            self.series.dropped("dropped_series", 1);
            return;
        };
        if self.open.samples == 0 {
            self.open.since = Instant::now();
        }
        let point = Point::new(sample.timestamp, sample.value);
        self.open.encoder.series(&TimeSeries::of_samples(&labels, &[point]));
        self.open.samples += 1;
        self.open.newest = self.open.newest.max(sample.timestamp);
        if self.open.samples >= self.samples_max {
            self.close_batch();
        }
    }

    /// With the external labels where there are none of that name, and relabelled; None: not to be sent.
    fn labels_of(&mut self, labels: &Labels) -> Option<Labels> {
        if self.rules.is_empty() && self.external_labels.is_empty() {
            return Some(labels.clone());
        }
        if let Some(known) = self.remembered.get(labels) {
            return known.clone();
        }
        let mut builder: LabelsBuilder = labels.to_builder();
        for (name, value) in self.external_labels.iter() {
            if labels.get(name).is_none() {
                builder.set(name, value);
            }
        }
        let kept = relabel::apply(&self.rules, &mut builder).then(|| builder.build());
        let kept = kept.filter(|labels| labels.metric_name().is_some());
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(labels.clone(), kept.clone());
        kept
    }

    fn close_batch(&mut self) {
        if self.open.samples == 0 {
            return;
        }
        let open = std::mem::replace(&mut self.open, Open::new(self.message));
        let record = Record {
            message: self.message,
            samples: open.samples as u64,
            newest: open.newest,
            body: open.encoder.finish().into(),
        };
        let mut log = self.shared.log();
        let lost = log.append(record);
        let (bytes, pending, failing) = (log.bytes(), log.pending_samples(), log.is_failing());
        drop(log);
        for (reason, samples) in lost {
            tracing::warn!(reason, samples, "remote write drops samples");
            self.series.dropped(reason, samples);
        }
        self.series.log(bytes, failing);
        self.series.pending(pending);
        self.shared.changed.notify_one();
    }
}
