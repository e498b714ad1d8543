//! Everything on `/metrics` by OTLP, at an interval: figures of the task under OpenTelemetry's names.
//!
//! Counters become cumulative sums, histograms histograms with explicit bounds, summaries summaries, the rest gauges.
//! The standard labels are the resource's attributes and not each point's.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use service::Shutdown;
use telemetry::exposition::{Family, FamilySample, MetricKind};
use telemetry::names::ecs;
use telemetry::{Labels, Timestamp};
use tokio::time::MissedTickBehavior;

use super::exposition::Exposition;
use super::push::{self, Outbox, PushMetrics, Sender};
use crate::inputs::otlp::resource::ResourceAttributes;
use crate::inputs::otlp::wire::{put_attribute, put_bytes, put_double, put_fixed64, put_uint};
use crate::pipeline::queue::QueueMetrics;

/// A request is cut when it has grown to this; CloudWatch takes 1 MB.
const REQUEST_BYTES_MAX: usize = 768 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
const CUMULATIVE: u64 = 2;

/// Takes what there is at each interval.
pub struct Collector {
    exposition: Exposition,
    outbox: Outbox,
    interval: Duration,
    resource: Vec<u8>,
    /// Labels that the resource says.
    standard: Vec<&'static str>,
    started: Timestamp,
}

/// None where no endpoint is configured.
pub fn build(
    config: Option<&push::Config>,
    exposition: Exposition,
    (attributes, standard): (&ResourceAttributes, &[(&'static str, String)]),
    client: reqwest::Client,
    metrics: (&PushMetrics, &QueueMetrics),
) -> Option<(Collector, Sender)> {
    let config = config?;
    let fixed = [("content-type", "application/x-protobuf"), ("content-encoding", "gzip")];
    let (outbox, sender) = config.build("otlp", &fixed, client, metrics);
    let mut resource = Vec::new();
    let mut keys = Vec::new();
    for (key, value) in attributes.iter() {
        keys.push(key);
        put_attribute(&mut resource, 1, key, value);
    }
    let otel_names = [
        ("service", "service.name"),
        ("environment", "deployment.environment.name"),
        ("task_id", "aws.ecs.task.id"),
        ("family", "aws.ecs.task.family"),
        ("revision", "aws.ecs.task.revision"),
        ("az", "cloud.availability_zone"),
    ];
    for (label, value) in standard {
        let key = otel_names.iter().find(|(name, _)| name == label).map_or(*label, |(_, key)| *key);
        if !keys.contains(&key) {
            put_attribute(&mut resource, 1, key, value);
        }
    }
    let collector = Collector {
        exposition,
        outbox,
        interval: config.interval,
        resource,
        standard: standard.iter().map(|(name, _)| *name).collect(),
        started: crate::inputs::now(),
    };
    Some((collector, sender))
}

impl Collector {
    /// Until it is told to stop, and then once more.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                () = shutdown.requested() => true,
            };
            let mut requests = Requests::new(&self, crate::inputs::now());
            self.exposition.families(Some(PATIENCE), |family| requests.family(family)).await;
            for (request, samples) in requests.finish() {
                self.outbox.push(gzip(&request), samples).await;
            }
            if stopping {
                self.outbox.close();
                return Ok(());
            }
        }
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

struct Requests<'a> {
    collector: &'a Collector,
    now: Timestamp,
    /// Metrics as fields of ScopeMetrics.
    metrics: Vec<u8>,
    samples: u64,
    done: Vec<(Vec<u8>, u64)>,
}

impl<'a> Requests<'a> {
    fn new(collector: &'a Collector, now: Timestamp) -> Self {
        Requests { collector, now, metrics: Vec::new(), samples: 0, done: Vec::new() }
    }

    fn family(&mut self, family: &Family) {
        let (name, unit, extra) = otel_name(&family.name);
        let mut metric = Vec::new();
        put_bytes(&mut metric, 1, name.as_bytes());
        if !family.help.is_empty() {
            put_bytes(&mut metric, 2, family.help.as_bytes());
        }
        let unit = if unit.is_empty() { &family.unit } else { unit };
        if !unit.is_empty() {
            put_bytes(&mut metric, 3, unit.as_bytes());
        }
        let (field, data) = match family.kind {
            MetricKind::Histogram => (9, self.histogram(family)),
            MetricKind::Summary => (11, self.summary(family)),
            MetricKind::Counter => {
                let mut sum = self.numbers(family, extra, true);
                put_uint(&mut sum, 2, CUMULATIVE);
                put_uint(&mut sum, 3, 1);
                (7, sum)
            }
            _ => (5, self.numbers(family, extra, false)),
        };
        put_bytes(&mut metric, field, &data);
        put_bytes(&mut self.metrics, 2, &metric);
        self.samples += family.samples.len() as u64;
        if self.metrics.len() >= REQUEST_BYTES_MAX {
            self.cut();
        }
    }

    fn attributes(&self, out: &mut Vec<u8>, field: u64, labels: &Labels) {
        for (name, value) in labels.iter() {
            if !self.collector.standard.contains(&name) && name != "le" && name != "quantile" {
                let name = if name == "container_name" { "container.name" } else { name };
                put_attribute(out, field, name, value);
            }
        }
    }

    fn times(&self, out: &mut Vec<u8>, sample: &FamilySample, cumulative: bool) {
        let nanos = |at: Timestamp| u64::try_from(at.as_millis()).unwrap_or(0) * 1_000_000;
        if cumulative {
            put_fixed64(out, 2, nanos(self.collector.started));
        }
        put_fixed64(out, 3, nanos(sample.timestamp.unwrap_or(self.now)));
    }

    fn numbers(&self, family: &Family, extra: &[(&str, &str)], cumulative: bool) -> Vec<u8> {
        let mut data = Vec::new();
        for sample in family.samples.iter().filter(|s| !s.name.ends_with("_created")) {
            let mut point = Vec::new();
            self.times(&mut point, sample, cumulative);
            put_double(&mut point, 4, sample.value);
            self.attributes(&mut point, 7, &sample.labels);
            extra.iter().for_each(|(key, value)| put_attribute(&mut point, 7, key, value));
            put_bytes(&mut data, 1, &point);
        }
        data
    }

    /// The samples of one series, by its labels without `le` and `quantile`.
    fn series(family: &Family) -> BTreeMap<String, Vec<&FamilySample>> {
        let mut series: BTreeMap<String, Vec<&FamilySample>> = BTreeMap::new();
        for sample in &family.samples {
            let labels = sample.labels.retain(|name| name != "le" && name != "quantile");
            series.entry(labels.encoded().to_owned()).or_default().push(sample);
        }
        series
    }

    fn histogram(&self, family: &Family) -> Vec<u8> {
        let mut data = Vec::new();
        for samples in Self::series(family).into_values() {
            let mut buckets: Vec<(f64, f64)> =
                samples.iter().filter_map(|s| Some((s.labels.get("le")?.parse::<f64>().ok()?, s.value))).collect();
            buckets.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let value = |suffix: &str| samples.iter().find(|s| s.name.ends_with(suffix)).map(|s| s.value);
            let count = value("_count").or(buckets.last().map(|(_, count)| *count)).unwrap_or(0.0);
            let (mut counts, mut bounds, mut below) = (Vec::new(), Vec::new(), 0.0);
            for (bound, cumulative) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
                counts.extend_from_slice(&((cumulative - below).max(0.0) as u64).to_le_bytes());
                bounds.extend_from_slice(&bound.to_le_bytes());
                below = *cumulative;
            }
            counts.extend_from_slice(&((count - below).max(0.0) as u64).to_le_bytes());
            let mut point = Vec::new();
            self.times(&mut point, samples[0], true);
            put_fixed64(&mut point, 4, count as u64);
            put_double(&mut point, 5, value("_sum").unwrap_or(0.0));
            put_bytes(&mut point, 6, &counts);
            put_bytes(&mut point, 7, &bounds);
            self.attributes(&mut point, 9, &samples[0].labels);
            put_bytes(&mut data, 1, &point);
        }
        put_uint(&mut data, 2, CUMULATIVE);
        data
    }

    fn summary(&self, family: &Family) -> Vec<u8> {
        let mut data = Vec::new();
        for samples in Self::series(family).into_values() {
            let value = |suffix: &str| samples.iter().find(|s| s.name.ends_with(suffix)).map_or(0.0, |s| s.value);
            let mut point = Vec::new();
            self.times(&mut point, samples[0], true);
            put_fixed64(&mut point, 4, value("_count") as u64);
            put_double(&mut point, 5, value("_sum"));
            for sample in &samples {
                let Some(quantile) = sample.labels.get("quantile").and_then(|q| q.parse().ok()) else { continue };
                let mut at = Vec::new();
                put_double(&mut at, 1, quantile);
                put_double(&mut at, 2, sample.value);
                put_bytes(&mut point, 6, &at);
            }
            self.attributes(&mut point, 7, &samples[0].labels);
            put_bytes(&mut data, 1, &point);
        }
        data
    }

    fn cut(&mut self) {
        if self.metrics.is_empty() {
            return;
        }
        let (mut of_resource, mut request) = (Vec::new(), Vec::new());
        put_bytes(&mut of_resource, 1, &self.collector.resource);
        put_bytes(&mut of_resource, 2, &self.metrics);
        put_bytes(&mut request, 1, &of_resource);
        self.metrics.clear();
        self.done.push((request, std::mem::take(&mut self.samples)));
    }

    fn finish(mut self) -> Vec<(Vec<u8>, u64)> {
        self.cut();
        self.done
    }
}

/// OpenTelemetry's name, unit and further attributes of a figure of the task; others keep their name.
fn otel_name(family: &str) -> (&str, &'static str, &'static [(&'static str, &'static str)]) {
    let is = |name: &str| telemetry::names::without_total(name) == family;
    let (receive, transmit): (&[_], &[_]) =
        (&[("network.io.direction", "receive")], &[("network.io.direction", "transmit")]);
    let (read, write): (&[_], &[_]) = (&[("disk.io.direction", "read")], &[("disk.io.direction", "write")]);
    match family {
        _ if is(ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL) => ("container.cpu.time", "s", &[]),
        _ if is(ecs::CONTAINER_MEMORY_USAGE_BYTES) => ("container.memory.usage", "By", &[]),
        _ if is(ecs::CONTAINER_MEMORY_WORKING_SET_BYTES) => ("container.memory.working_set", "By", &[]),
        _ if is(ecs::CONTAINER_MEMORY_RSS_BYTES) => ("container.memory.rss", "By", &[]),
        _ if is(ecs::NETWORK_RECEIVE_BYTES_TOTAL) => ("container.network.io", "By", receive),
        _ if is(ecs::NETWORK_TRANSMIT_BYTES_TOTAL) => ("container.network.io", "By", transmit),
        _ if is(ecs::CONTAINER_BLOCK_DEVICE_READ_BYTES_TOTAL) => ("container.disk.io", "By", read),
        _ if is(ecs::CONTAINER_BLOCK_DEVICE_WRITE_BYTES_TOTAL) => ("container.disk.io", "By", write),
        other => (other, "", &[]),
    }
}
