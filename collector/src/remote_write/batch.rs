//! What was stored to request bodies: relabels, gathers, encodes, appends to the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use storage::Exemplar;
use telemetry::remote_write::{Encoder, Message, Metadata, Point, TimeSeries};
use telemetry::{HistogramSample, Labels, LabelsBuilder, Sample, Timestamp, exposition};
use tokio::sync::mpsc;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::counts::Counts;
use super::families::Families;
use super::log::Record;
use super::metrics::RemoteSeries;
use super::shards::{LOOK_INTERVAL, Load, Shard, Shards};
use super::taps::Stored;
use super::{Config, Shared};
use crate::discovery::relabel;

/// Label sets whose relabelled form is remembered; beyond them all are worked out anew.
const REMEMBERED_MAX: usize = 2_000_000;
/// Native histograms are large: a batch is closed at this, whatever it holds.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(super) struct Batcher {
    queue: mpsc::Receiver<Arc<Stored>>,
    shared: Arc<Shared>,
    series: RemoteSeries,
    external_labels: Labels,
    rules: Vec<relabel::Rule>,
    remembered: HashMap<Labels, Option<Labels>>,
    message: Message,
    items_max: usize,
    deadline: Duration,
    /// One for each shard.
    open: Vec<Open>,
    shards: Shards,
    load: Load,
    looked: Instant,
    sends_histograms: bool,
    sends_exemplars: bool,
    families: Families,
    /// When 1.0 sends all metadata the next time; None where it does not.
    metadata_due: Option<Instant>,
}

/// The batch that is being gathered.
struct Open {
    encoder: Encoder,
    counts: Counts,
    newest: Timestamp,
    since: Instant,
}

impl Open {
    fn new(message: Message) -> Self {
        let encoder = Encoder::new(message);
        Open { encoder, counts: Counts::NONE, newest: Timestamp(i64::MIN), since: Instant::now() }
    }
}

fn open_for(shards: Shards, message: Message) -> Vec<Open> {
    (0..shards.count()).map(|_| Open::new(message)).collect()
}

impl Batcher {
    pub(super) fn new(
        config: &Config,
        external_labels: &Labels,
        queue: mpsc::Receiver<Arc<Stored>>,
        shared: Arc<Shared>,
        series: RemoteSeries,
    ) -> Self {
        let message = config.protobuf_message.into();
        let sends_metadata = config.metadata_config.send;
        let shards = Shards::new(&config.queue_config);
        series.shards(shards.count(), shards.count_max());
        Batcher {
            queue,
            shared,
            series,
            external_labels: external_labels.clone(),
            rules: config.write_relabel_configs.clone(),
            remembered: HashMap::new(),
            message,
            items_max: config.queue_config.max_samples_per_send,
            deadline: config.queue_config.batch_send_deadline,
            open: open_for(shards, message),
            shards,
            load: Load::default(),
            looked: Instant::now(),
            // As in Prometheus: 2.0 always has them.
            sends_histograms: config.send_native_histograms || message == Message::V2,
            sends_exemplars: config.send_exemplars,
            families: Families::new(&config.metadata_config),
            metadata_due: (sends_metadata && message == Message::V1).then(Instant::now),
        }
    }

    /// Runs until the writer has ended; what was gathered by then is in the log.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let oldest = self.open.iter().filter(|open| !open.counts.is_none()).map(|open| open.since).min();
            let due = oldest.map(|since| since + self.deadline);
            let metadata_due = self.metadata_due.filter(|_| !self.families.is_empty());
            let look = self.looked + LOOK_INTERVAL;
            tokio::select! {
                biased;
                stored = self.queue.recv() => match stored {
                    Some(stored) => self.take(&stored),
                    None => break,
                },
                () = tokio::time::sleep_until(due.unwrap_or(look)), if due.is_some() => self.close_old(),
                () = tokio::time::sleep_until(metadata_due.unwrap_or(look)), if metadata_due.is_some() => {
                    self.metadata();
                }
                () = tokio::time::sleep_until(look) => self.look(),
            }
        }
        self.close_all();
        self.shared.log().close();
        self.shared.changed.notify_one();
        Ok(())
    }

    /// More or fewer shards, as the load has it.
    fn look(&mut self) {
        self.looked = Instant::now();
        let waiting = self.shared.log().pending();
        let waiting = (waiting - Counts { metadata: waiting.metadata, ..Counts::NONE }).total();
        let load = Load { waiting: waiting / self.items_max as u64, ..std::mem::take(&mut self.load) };
        let shards = self.shards.after(load);
        if shards != self.shards {
            tracing::info!(from = self.shards.count(), to = shards.count(), ?load, "remote write changes its shards");
            // What is gathered so far is of the old ones.
            self.close_all();
            (self.shards, self.open) = (shards, open_for(shards, self.message));
            self.series.shards(shards.count(), shards.count_max());
        }
    }

    fn take(&mut self, stored: &Stored) {
        match stored {
            Stored::Samples(list) => list.iter().for_each(|sample| self.sample(sample)),
            Stored::Histograms(list) => list.iter().for_each(|sample| self.histogram(sample)),
            Stored::Exemplars(list) => list.iter().for_each(|(labels, exemplar)| self.exemplar(labels, exemplar)),
            Stored::Metadata(list) => {
                let left_out = list.iter().filter(|metadata| !self.families.learn(metadata)).count();
                self.lose(self.families.left_out_because(), Counts::metadata(left_out));
            }
        }
    }

    fn lose(&self, reason: &'static str, counts: Counts) {
        if !counts.is_none() {
            self.series.dropped(reason, counts);
        }
    }

    fn sample(&mut self, sample: &Sample) {
        let Some(labels) = self.labels_of(&sample.labels) else {
            return self.lose("dropped_series", Counts::samples(1));
        };
        let point = Point::new(sample.timestamp, sample.value);
        let samples = TimeSeries::of_samples(&labels, std::slice::from_ref(&point));
        self.add(&sample.labels, samples, Counts::samples(1), sample.timestamp);
    }

    fn histogram(&mut self, sample: &HistogramSample) {
        let one = Counts::histograms(1);
        if !self.sends_histograms {
            return self.lose("switched_off", one);
        }
        // 1.0 has no field for their bounds.
        if self.message == Message::V1 && sample.histogram.uses_custom_buckets() {
            return self.lose("nhcb_in_rw1_not_supported", one);
        }
        let Some(labels) = self.labels_of(&sample.labels) else { return self.lose("dropped_series", one) };
        let histograms = [(sample.timestamp, &sample.histogram)];
        let series = TimeSeries { histograms: &histograms, ..TimeSeries::of_samples(&labels, &[]) };
        self.add(&sample.labels, series, one, sample.timestamp);
    }

    fn exemplar(&mut self, labels: &Labels, exemplar: &Exemplar) {
        let one = Counts::exemplars(1);
        if !self.sends_exemplars {
            return self.lose("switched_off", one);
        }
        let Some(sent) = self.labels_of(labels) else { return self.lose("dropped_series", one) };
        let storage::Exemplar { labels: of_exemplar, value, timestamp } = exemplar.clone();
        let exemplars = [exposition::Exemplar { labels: of_exemplar, value, timestamp: Some(timestamp) }];
        let series = TimeSeries { exemplars: &exemplars, ..TimeSeries::of_samples(&sent, &[]) };
        self.add(labels, series, one, timestamp);
    }

    /// Adds a series of one thing; `stored` are the labels before relabelling.
    fn add(&mut self, stored: &Labels, series: TimeSeries<'_>, counts: Counts, at: Timestamp) {
        let shard = self.shards.of(xxh3_64(series.labels.encoded().as_bytes()));
        let known = (self.message == Message::V2).then(|| self.families.of(stored)).flatten();
        let metadata = known.map(|of| Metadata { kind: of.kind, help: &of.help, unit: &of.unit });
        let open = &mut self.open[usize::from(shard.number)];
        if open.counts.is_none() {
            open.since = Instant::now();
        }
        open.encoder.series(&TimeSeries { metadata, ..series });
        open.counts += counts + Counts::metadata(usize::from(known.is_some()));
        open.newest = open.newest.max(at);
        let Counts { samples, histograms, exemplars, .. } = open.counts;
        let is_full = samples + histograms + exemplars >= self.items_max as u64;
        if is_full || open.encoder.message_bytes() >= BATCH_BYTES_MAX {
            self.load.full += 1;
            self.close(shard);
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

    /// All that is known of families, in requests of their own: 1.0 has them beside the series.
    fn metadata(&mut self) {
        self.metadata_due = Some(Instant::now() + self.families.interval());
        // While the server takes nothing the last ones still wait, and what is newer makes them worthless.
        if self.shared.log().pending().metadata > 0 {
            return;
        }
        for chunk in self.families.chunks() {
            let mut encoder = Encoder::new(Message::V1);
            for of in &chunk {
                encoder.metadata(&of.family, &Metadata { kind: of.kind, help: &of.help, unit: &of.unit });
            }
            let counts = Counts::metadata(chunk.len());
            let newest = Timestamp(i64::MIN);
            let shard = Shard::NO_SERIES;
            self.append(Record { message: Message::V1, counts, shard, newest, body: encoder.finish().into() });
        }
    }

    fn close_all(&mut self) {
        (0..self.open.len()).for_each(|number| self.close(self.shards.of(number as u64)));
    }

    fn close_old(&mut self) {
        let now = Instant::now();
        for number in 0..self.open.len() {
            if self.open[number].since + self.deadline <= now {
                self.close(self.shards.of(number as u64));
            }
        }
    }

    fn close(&mut self, shard: Shard) {
        let open = &mut self.open[usize::from(shard.number)];
        if open.counts.is_none() {
            return;
        }
        self.load.batches += 1;
        let Open { encoder, counts, newest, .. } = std::mem::replace(open, Open::new(self.message));
        self.append(Record { message: self.message, counts, shard, newest, body: encoder.finish().into() });
    }

    fn append(&self, record: Record) {
        let mut log = self.shared.log();
        let lost = log.append(record);
        let (bytes, pending, failing) = (log.bytes(), log.pending(), log.is_failing());
        drop(log);
        for (reason, counts) in lost {
            tracing::warn!(reason, ?counts, "remote write drops samples");
            self.series.dropped(reason, counts);
        }
        self.series.log(bytes, failing);
        self.series.pending(pending);
        self.shared.changed.notify_one();
    }
}
