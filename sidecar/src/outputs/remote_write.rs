//! Everything on `/metrics` by Prometheus remote write, 1.0 or 2.0, at an interval.
//!
//! Samples that carry the time of their reading are sent once, with that time. A series that is gone ends with
//! Prometheus' staleness marker, and so do all of them when the task stops: what a scraper would notice at its next
//! scrape, a receiver has to be told.
//!
//! A receiver that shows itself to know 1.0 only gets 1.0 (the specification of 2.0, "Required Written Response
//! Headers" and 415): it refuses the content type, or accepts what it has not read.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use service::Shutdown;
use telemetry::exposition::{Exemplar, Family, FamilySample, MetricKind};
use telemetry::labels::METRIC_NAME;
use telemetry::remote_write::{Decoder, Encoder, Limits, Message, Metadata, Point, TimeSeries, decompress};
use telemetry::{Labels, Timestamp, stale_nan};
use tokio::time::MissedTickBehavior;

use super::exposition::Exposition;
use super::push::{self, Older, Outbox, PushMetrics, Sender};
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
        let fixed = |message: Message| {
            [
                ("content-type", message.content_type()),
                ("content-encoding", Message::ENCODING),
                ("x-prometheus-remote-write-version", message.version()),
                ("user-agent", concat!("picket-sidecar/", env!("CARGO_PKG_VERSION"))),
            ]
        };
        let (outbox, mut sender) = push.build("remote_write", &fixed(self.message), client, metrics);
        if self.message == Message::V2 {
            sender = sender.or_older(Older {
                headers: push.headers_with(&fixed(Message::V1)),
                translate: to_v1,
                understood: Message::SAMPLES_WRITTEN_HEADER,
                is_needed: AtomicBool::new(false),
            });
        }
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

/// What was sent: which series there are, the time of the last reading of those that carry one, and the last exemplar.
#[derive(Default)]
struct Series {
    known: HashMap<u64, Known>,
    round: u64,
}

struct Known {
    labels: Labels,
    round: u64,
    read_at: Option<Timestamp>,
    /// A hash: an exemplar stays in the app's answers until another takes its place, and is sent once.
    exemplar: Option<u64>,
}

/// What there is to send of a series.
struct Seen {
    /// With its name.
    labels: Labels,
    point: Point,
    exemplar: Option<Exemplar>,
}

impl Series {
    /// None where the reading is one that was sent before.
    fn see(&mut self, sample: &FamilySample, now: Timestamp) -> Option<Seen> {
        let mut hasher = DefaultHasher::new();
        (sample.name.as_str(), sample.labels.encoded()).hash(&mut hasher);
        let round = self.round;
        let known = self.known.entry(hasher.finish()).or_insert_with(|| Known {
            labels: sample.labels.with(METRIC_NAME, &sample.name),
            round,
            read_at: None,
            exemplar: None,
        });
        known.round = round;
        if sample.timestamp.is_some() && sample.timestamp <= known.read_at {
            return None;
        }
        known.read_at = sample.timestamp;
        let at = sample.timestamp.unwrap_or(now);
        let exemplar = sample.exemplar.as_ref().filter(|exemplar| known.is_new_exemplar(exemplar));
        // A receiver refuses exemplars without a time.
        let exemplar = exemplar.map(|one| Exemplar { timestamp: one.timestamp.or(Some(at)), ..one.clone() });
        Some(Seen { labels: known.labels.clone(), point: Point::new(at, sample.value), exemplar })
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

impl Known {
    fn is_new_exemplar(&mut self, exemplar: &Exemplar) -> bool {
        let mut hasher = DefaultHasher::new();
        (exemplar.labels.encoded(), exemplar.value.to_bits(), exemplar.timestamp).hash(&mut hasher);
        let this = Some(hasher.finish());
        std::mem::replace(&mut self.exemplar, this) != this
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
            if let Some(Seen { labels, point, exemplar }) = series.see(sample, self.now) {
                self.sample(&labels, point, exemplar.as_slice(), Some(metadata));
            }
        }
    }

    fn sample(&mut self, labels: &Labels, point: Point, exemplars: &[Exemplar], metadata: Option<Metadata<'_>>) {
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

/// One of our requests of 2.0 as one of 1.0; None for bytes that are none.
fn to_v1(body: &[u8]) -> Option<Vec<u8>> {
    let limits = Limits::default();
    let message = decompress(body, &limits).ok()?;
    let mut decoder = Decoder::new(Message::V2, &message, &limits).ok()?;
    let (mut encoder, mut described) = (Encoder::new(Message::V1), HashSet::new());
    while let Some(series) = decoder.next_series().ok()? {
        let labels = series.to_labels().ok()?;
        let samples = &series.samples[..];
        encoder.series(&TimeSeries { exemplars: &series.exemplars, ..TimeSeries::of_samples(&labels, samples) });
        if let Some(metadata) = &series.metadata {
            let family = family_of(labels.get(METRIC_NAME).unwrap_or_default(), metadata.kind);
            if described.insert(family.to_owned()) {
                encoder.metadata(family, metadata);
            }
        }
    }
    Some(encoder.finish())
}

/// What 1.0's metadata are about.
fn family_of(series: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Counter => &["_total"],
        MetricKind::Histogram | MetricKind::Summary => &["_bucket", "_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| series.strip_suffix(suffix)).unwrap_or(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::exposition::{Format, parse};

    /// Labels, samples, exemplars of a request, and its metadata.
    fn read(message: Message, body: &[u8]) -> (Vec<String>, Vec<String>) {
        let limits = Limits::default();
        let bytes = decompress(body, &limits).expect("snappy");
        let mut decoder = Decoder::new(message, &bytes, &limits).expect("a request");
        let mut series = Vec::new();
        while let Some(one) = decoder.next_series().expect("sound") {
            let bits: Vec<_> = one.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
            series.push(format!("{} {bits:?} {:?}", one.to_labels().expect("labels"), one.exemplars));
        }
        let mut metadata: Vec<String> = decoder.metadata().iter().map(|entry| format!("{entry:?}")).collect();
        metadata.sort();
        (series, metadata)
    }

    #[test]
    fn an_exemplar_is_sent_once_and_with_a_time() {
        let mut series = Series::default();
        let mut sent = |trace: &str, at: i64| {
            let text = format!("# TYPE jobs counter\njobs_total 7 # {{trace_id=\"{trace}\"}} 1\n# EOF\n");
            let mut batches = Batches::new(Message::V2, Timestamp(at));
            for family in parse(&text, Format::OpenMetrics).expect("parses") {
                batches.family(&family, &mut series, false);
            }
            read(Message::V2, &batches.finish().remove(0).0).0.remove(0)
        };
        let first = sent("ab", 1_000);
        assert!(first.contains("\"ab\"") && first.contains("timestamp: Some(1000ms)"), "{first}");
        assert!(sent("ab", 2_000).ends_with(" []"), "the same one again");
        assert!(sent("cd", 3_000).contains("timestamp: Some(3000ms)"));
    }

    #[test]
    fn a_request_of_2_0_says_the_same_in_1_0() {
        let text = "# HELP jobs Jobs.\n# TYPE jobs counter\njobs_total{queue=\"a\"} 7 # {trace_id=\"ab\"} 1 2\n\
                    # HELP wait Waiting.\n# TYPE wait histogram\nwait_bucket{le=\"1\"} 2\nwait_bucket{le=\"+Inf\"} 3\n\
                    wait_count 3\nwait_sum 4.5\n# HELP depth Of the queue.\n# TYPE depth gauge\ndepth -1\n# EOF\n";
        let families = parse(text, Format::OpenMetrics).expect("parses");
        let [(v1, _), (v2, _)] = [Message::V1, Message::V2].map(|message| {
            let (mut batches, mut series) = (Batches::new(message, Timestamp(1_700_000_000_000)), Series::default());
            families.iter().for_each(|family| batches.family(family, &mut series, true));
            batches.sample(
                &Labels::from_pairs([(METRIC_NAME, "gone")]),
                Point::new(batches.now, stale_nan()),
                &[],
                None,
            );
            batches.finish().remove(0)
        });
        let translated = to_v1(&v2).expect("a request of 2.0");
        assert_eq!(read(Message::V1, &translated), read(Message::V1, &v1));
        assert_eq!(read(Message::V1, &translated).1.len(), 3, "metadata");
        assert_eq!(to_v1(b"no request"), None);
    }
}
