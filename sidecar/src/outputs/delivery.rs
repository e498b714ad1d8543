//! The sinks of all destinations: made when a record first goes there, closed and waited for at the end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service::backoff::Backoff;
use service::config::Secret;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};
use tokio::task::JoinHandle;

use super::cloudwatch_logs::{Aws, CloudWatchLogs, entity};
use super::destination::{Destination, LogsOutput};
use super::encode::{Codec, Resource};
use super::file::LogFile;
use super::forward::Forward;
use super::otlp_logs::{OtlpLogs, is_cloudwatch};
use super::retry::{Attempt, Retry};
use super::sink::{Answer, Options, Send, Sink};
use super::spool::{Left, Share, Spool, left_in};
use super::stdout::{Nowhere, Stdout};
use crate::identity::Identity;
use crate::memory::Ceiling;
use crate::pipeline::account::Account;
use crate::pipeline::queue::QueueMetrics;

/// What every sink needs.
pub struct Setup {
    pub identity: Identity,
    pub account: Account,
    pub aws: Option<Aws>,
    pub http: reqwest::Client,
    /// Of one sink in memory.
    pub queue_bytes: usize,
    pub ceiling: Ceiling,
    /// None: nothing is kept on disk.
    pub spool: Option<SpoolConfig>,
    pub give_up_after: Duration,
    pub queues: QueueMetrics,
    /// As configured, for those that have more to them than their destination says.
    pub outputs: Vec<LogsOutput>,
}

#[derive(Clone, Debug)]
pub struct SpoolConfig {
    pub directory: PathBuf,
    pub bytes_max: u64,
}

/// A handle; clones share the sinks.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    setup: Setup,
    share: Share,
    retries: Counter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sinks: Vec<(Destination, Sink)>,
    running: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// Between two requests that failed; a stop must not wait long for the next.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

impl Delivery {
    pub fn new(setup: Setup, metrics: &Metrics) -> Self {
        let (retries, used) = (Counter::default(), Gauge::<i64>::default());
        let share = Share::new(setup.spool.as_ref().map_or(0, |spool| spool.bytes_max));
        metrics.register(|r| {
            r.register(
                without_total(names::LOG_OUTPUT_RETRIES_TOTAL),
                "Repeated requests to the destinations of logs",
                retries.clone(),
            );
            r.register(names::LOG_SPOOL_CAPACITY_BYTES, "Bytes of logs that may wait on disk", used.clone());
            r.register(
                names::LOG_SPOOL_BYTES,
                "Bytes of logs that wait on disk or are kept there until they are delivered",
                SpoolGauge(share.clone()),
            );
        });
        used.set(share.max() as i64);
        let delivery = Delivery(Arc::new(Inner { setup, share, retries, state: Mutex::default() }));
        delivery.take_up();
        delivery
    }

    /// Sends what an earlier run left, to where it was meant to go.
    fn take_up(&self) {
        let Some(spool) = &self.0.setup.spool else { return };
        for (key, path) in left_in(&spool.directory) {
            match serde_json::from_str::<Destination>(&key) {
                Ok(destination) => drop(self.sink(destination)),
                Err(error) => {
                    let path = path.display().to_string();
                    tracing::warn!(path, error = %error, "log records on disk are for an unknown destination, left there");
                }
            }
        }
    }

    /// The sink of a destination, made and set going if need be.
    pub fn sink(&self, destination: Destination) -> Sink {
        let mut state = self.0.state.lock().expect("no one panics holding it");
        if let Some((_, sink)) = state.sinks.iter().find(|(known, _)| *known == destination) {
            return sink.clone();
        }
        let sink = self.build(&destination);
        let client = self.client(&destination);
        state.running.push(service::task::spawn("logs_out", sink.clone().run(client)));
        state.sinks.push((destination, sink.clone()));
        sink
    }

    fn build(&self, destination: &Destination) -> Sink {
        let setup = &self.0.setup;
        let codec = match destination {
            Destination::CloudWatch(place) => {
                Codec::cloudwatch(&place.group, &place.stream, entity(&setup.identity).as_ref())
            }
            Destination::Otlp { .. } => Codec::Otlp { resource: resource(&setup.identity) },
            Destination::Forward { tag, .. } => Codec::Forward { tag: tag.clone() },
            Destination::Nowhere | Destination::Stdout | Destination::File(_) => Codec::Lines,
        };
        let name = destination.name();
        let gauge = setup.queues.gauge(&name, setup.queue_bytes);
        let options = Options {
            retry: Retry::new(name.clone(), setup.give_up_after, self.0.retries.clone()).with_backoff(BACKOFF),
            in_flight_max: Options::in_flight(&codec),
            name,
            output: destination.output(),
            codec,
            memory_bytes: setup.queue_bytes,
            ceiling: setup.ceiling.clone(),
        };
        Sink::new(options, setup.account.clone(), self.spool(destination), gauge)
    }

    fn spool(&self, destination: &Destination) -> Option<(Spool, Left)> {
        let config = self.0.setup.spool.as_ref().filter(|_| destination.is_remote())?;
        let key = serde_json::to_string(destination).expect("a destination is text and numbers");
        let opened = Spool::open(&directory_of(&config.directory, &key), &key, self.0.share.clone());
        opened
            .inspect_err(|error| {
                let directory = config.directory.display().to_string();
                tracing::warn!(directory, error = %error, "log records cannot be kept on disk, they wait in memory alone");
            })
            .ok()
    }

    fn client(&self, destination: &Destination) -> Client {
        let setup = &self.0.setup;
        match destination {
            Destination::Nowhere => Client::Nowhere(Nowhere),
            Destination::Stdout => Client::Stdout(Stdout),
            Destination::File(path) => Client::File(LogFile::new(path.clone())),
            Destination::Forward { address, .. } => Client::Forward(Forward::new(address.clone())),
            Destination::Otlp { url } => {
                let headers: Option<&[(String, Secret)]> = setup.outputs.iter().find_map(|output| match output {
                    LogsOutput::Otlp { url: configured, headers } if configured == url => Some(&headers[..]),
                    _ => None,
                });
                let aws = setup.aws.as_ref().filter(|_| is_cloudwatch(url));
                Client::Otlp(OtlpLogs::new(url.clone(), headers.unwrap_or_default(), setup.http.clone(), aws))
            }
            Destination::CloudWatch(place) => {
                let client = setup.aws.as_ref().and_then(|aws| CloudWatchLogs::new(place.clone(), aws));
                client.map_or(Client::NoRegion, |client| Client::CloudWatch(Box::new(client)))
            }
        }
    }

    /// Everything that was taken in survives the process from here on, where there is a disk.
    pub fn commit(&self) {
        // After every turn of every input: nothing is copied for it.
        let state = self.0.state.lock().expect("no one panics holding it");
        state.sinks.iter().for_each(|(_, sink)| sink.commit());
    }

    /// Nothing more comes in.
    pub fn close(&self) {
        self.sinks().iter().for_each(Sink::close);
    }

    /// Returns when everything is settled; call [`Delivery::close`] before.
    ///
    /// # Errors
    /// A sink's task panicked.
    pub async fn ended(&self) -> anyhow::Result<()> {
        loop {
            let Some(task) = self.0.state.lock().expect("no one panics holding it").running.pop() else {
                return Ok(());
            };
            task.await??;
        }
    }

    /// Gives up what is still there; what lies on disk stays there.
    pub fn abandon(&self) {
        let state = &mut *self.0.state.lock().expect("no one panics holding it");
        state.running.iter().for_each(JoinHandle::abort);
        state.sinks.iter().for_each(|(_, sink)| sink.abandon());
    }

    /// Batches that stay on disk for a later run, in bytes.
    pub fn left_on_disk(&self) -> u64 {
        self.0.share.used()
    }

    fn sinks(&self) -> Vec<Sink> {
        self.0.state.lock().expect("no one panics holding it").sinks.iter().map(|(_, sink)| sink.clone()).collect()
    }
}

fn resource(identity: &Identity) -> Resource {
    Resource::new([
        ("service.name", identity.service.as_str()),
        ("service.version", identity.version.as_str()),
        ("deployment.environment.name", identity.environment.as_str()),
        ("aws.ecs.task.id", identity.task_id.as_str()),
        ("aws.ecs.cluster.name", identity.cluster.as_deref().unwrap_or_default()),
    ])
}

/// A directory's name must not have what a destination's may.
fn directory_of(directory: &Path, key: &str) -> PathBuf {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    directory.join(format!("{hash:016x}"))
}

enum Client {
    Nowhere(Nowhere),
    Stdout(Stdout),
    File(LogFile),
    CloudWatch(Box<CloudWatchLogs>),
    Otlp(OtlpLogs),
    Forward(Forward),
    NoRegion,
}

impl Send for Client {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        match self {
            Client::Nowhere(client) => client.attempt(body).await,
            Client::Stdout(client) => client.attempt(body).await,
            Client::File(client) => client.attempt(body).await,
            Client::CloudWatch(client) => client.attempt(body).await,
            Client::Otlp(client) => client.attempt(body).await,
            Client::Forward(client) => client.attempt(body).await,
            Client::NoRegion => {
                let why = "nobody says the AWS region: set AWS_REGION, or the option `region`".to_owned();
                Attempt::Later { after: None, why }
            }
        }
    }

    fn doubt(&self, body: &[u8]) {
        // The others cannot be asked.
        if let Client::CloudWatch(client) = self {
            client.doubt(body);
        }
    }
}

/// Reads the share whenever somebody asks for metrics.
#[derive(Debug)]
struct SpoolGauge(Share);

impl prometheus_client::encoding::EncodeMetric for SpoolGauge {
    fn encode(&self, mut encoder: prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&(self.0.used() as i64))
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        prometheus_client::metrics::MetricType::Gauge
    }
}

/// Nothing is sent, and nothing is known of a region: what a test of something else hands to the pipeline.
#[cfg(test)]
pub fn to_nowhere(account: &Account) -> Setup {
    Setup {
        identity: Identity {
            service: "order".into(),
            version: "1".into(),
            environment: "prod".into(),
            task_id: "t1".into(),
            cluster: None,
            region: None,
            task: crate::identity::AwsTask::default(),
        },
        account: account.clone(),
        aws: None,
        http: reqwest::Client::new(),
        queue_bytes: 1 << 20,
        ceiling: Ceiling::new(crate::memory::DEFAULT_BYTES),
        spool: None,
        give_up_after: Duration::from_secs(60),
        queues: QueueMetrics::default(),
        outputs: Vec::new(),
    }
}
