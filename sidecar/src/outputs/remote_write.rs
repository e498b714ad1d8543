//! Everything on `/metrics` by Prometheus remote write, 1.0 or 2.0, at an interval.
//!
//! Samples that carry the time of their reading are sent once, with that time. A series that is gone ends with
//! Prometheus' staleness marker, and so do all of them when the task stops: what a scraper would notice at its next
//! scrape, a receiver has to be told.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use service::Shutdown;
use telemetry::exposition::{Family, FamilySample};
use telemetry::remote_write::{Encoder, Message, Metadata, Point, TimeSeries};
use telemetry::{Labels, Timestamp, stale_nan};
use tokio::time::MissedTickBehavior;

use super::exposition::Exposition;
use super::push::{self, Outbox, PushMetrics, Sender};
use crate::pipeline::queue::QueueMetrics;

#[derive(Clone, Debug)]
pub struct Config {
    /// None: nothing is written.
    pub push: Option<push::Config>,
    pub message: Message,
}

/// A request is cut when its message has grown to this.
const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Metadata of 1.0 is sent again after as many intervals.
const METADATA_EVERY: u64 = 20;
/// The app's metrics may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes what there is at each interval.
pub struct Collector {
    exposition: Exposition,
    outbox: Outbox,
    message: Message,
    interval: Duration,
    series: Series,
}

impl Config {
    pub fn build(
        &self,
        exposition: Exposition,
        client: reqwest::Client,
        metrics: (&PushMetrics, &QueueMetrics),
    ) -> Option<(Collector, Sender)> {
        let push = self.push.as_ref()?;
        let fixed = [
            ("content-type", self.message.content_type()),
            ("content-encoding", Message::ENCODING),
            ("x-prometheus-remote-write-version", self.message.version()),
            ("user-agent", concat!("picket-sidecar/", env!("CARGO_PKG_VERSION"))),
        ];
        let (outbox, sender) = push.build("remote_write", &fixed, client, metrics);
        let (message, interval) = (self.message, push.interval);
        Some((Collector { exposition, outbox, message, interval, series: Series::default() }, sender))
    }
}

impl Collector {
    /// Until it is told to stop; then once more, with the end of every series.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0.. {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                () = shutdown.requested() => true,
            };
            self.collect(round, stopping).await;
            if stopping {
                break;
            }
        }
        self.outbox.close();
        Ok(())
    }

    async fn collect(&mut self, round: u64, last: bool) {
        let now = crate::inputs::now();
        let mut batches = Batches::new(self.message, now);
        let with_metadata = round.is_multiple_of(METADATA_EVERY);
        let series = &mut self.series;
        series.round += 1;
        self.exposition.families(Some(PATIENCE), |family| batches.family(family, series, with_metadata)).await;
        let gone = series.gone(last);
        // One millisecond later than the last value, which may be of now.
        batches.now = Timestamp::from_millis(now.as_millis() + 1);
        for labels in gone {
            batches.sample(&labels, Point::new(batches.now, stale_nan()), &[], None);
        }
        for (body, samples) in batches.finish() {
            self.outbox.push(body, samples).await;
        }
    }
}

/// What was sent: which series there are, and the time of the last reading of those that carry one.
#[derive(Default)]
struct Series {
    known: HashMap<u64, Known>,
    round: u64,
}

struct Known {
    labels: Labels,
    round: u64,
    read_at: Option<Timestamp>,
}

impl Series {
    /// The series' labels with its name, and whether this reading is a new one.
    fn see(&mut self, sample: &FamilySample) -> (Labels, bool) {
        let mut hasher = DefaultHasher::new();
        (sample.name.as_str(), sample.labels.encoded()).hash(&mut hasher);
        let round = self.round;
        let known = self.known.entry(hasher.finish()).or_insert_with(|| Known {
            labels: sample.labels.with(telemetry::labels::METRIC_NAME, &sample.name),
            round,
            read_at: None,
        });
        known.round = round;
        let is_new = sample.timestamp.is_none() || sample.timestamp > known.read_at;
        known.read_at = sample.timestamp;
        (known.labels.clone(), is_new)
    }

    /// Those that were not seen this time, or at the very end all.
    fn gone(&mut self, all: bool) -> Vec<Labels> {
        let round = self.round;
        let mut gone = Vec::new();
        self.known.retain(|_, known| {
            let stays = known.round == round && !all;
            if !stays {
                gone.push(known.labels.clone());
            }
            stays
        });
        gone
    }
}

struct Batches {
    message: Message,
    now: Timestamp,
    encoder: Encoder,
    samples: u64,
    done: Vec<(Vec<u8>, u64)>,
}

impl Batches {
    fn new(message: Message, now: Timestamp) -> Self {
        Batches { message, now, encoder: Encoder::new(message), samples: 0, done: Vec::new() }
    }

    fn family(&mut self, family: &Family, series: &mut Series, with_metadata: bool) {
        let metadata = Metadata { kind: family.kind, help: &family.help, unit: &family.unit };
        if with_metadata {
            self.encoder.metadata(&family.name, &metadata);
        }
        for sample in &family.samples {
            let (labels, is_new) = series.see(sample);
            if is_new {
                let point = Point::new(sample.timestamp.unwrap_or(self.now), sample.value);
                let exemplars = sample.exemplar.as_slice();
                self.sample(&labels, point, exemplars, Some(metadata));
            }
        }
    }

    fn sample(
        &mut self,
        labels: &Labels,
        point: Point,
        exemplars: &[telemetry::exposition::Exemplar],
        metadata: Option<Metadata<'_>>,
    ) {
        // A receiver refuses exemplars without a time.
        let exemplars = if exemplars.iter().all(|e| e.timestamp.is_some()) { exemplars } else { &[] };
        self.encoder.series(&TimeSeries { labels, samples: &[point], histograms: &[], exemplars, metadata });
        self.samples += 1;
        if self.encoder.message_bytes() >= MESSAGE_BYTES_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let encoder = std::mem::replace(&mut self.encoder, Encoder::new(self.message));
        if !encoder.is_empty() {
            self.done.push((encoder.finish(), std::mem::take(&mut self.samples)));
        }
    }

    fn finish(mut self) -> Vec<(Vec<u8>, u64)> {
        self.cut();
        self.done
    }
}
