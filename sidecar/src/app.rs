//! The whole sidecar, in flow order, and the order in which it stops.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use service::{Health, Shutdown, Tasks};
use telemetry::names::sidecar as names;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::config::Config;
use crate::identity::Identity;
use crate::inputs::Stop;
use crate::inputs::ecs_task::ending::others_have_ended;
use crate::inputs::file_tail::STOP_QUIET;
use crate::inputs::otlp::metrics::OtlpSeries;
use crate::inputs::otlp::resource::ResourceAttributes;
use crate::inputs::{fluent_forward, otlp, statsd, stdin};
use crate::outputs::cloudwatch_logs::Aws;
use crate::outputs::delivery::{self, Delivery};
use crate::outputs::destination::LogsOutput;
use crate::outputs::exposition::{Exposition, Source};
use crate::outputs::otlp_metrics;
use crate::outputs::push::PushMetrics;
use crate::pipeline::account::Account;
use crate::pipeline::aggregate::Aggregate;
use crate::pipeline::enrich::Enrich;
use crate::pipeline::intake::Intake;
use crate::pipeline::queue::{Queue, QueueMetrics, Weigh};
use crate::pipeline::red::Red;
use crate::recent::Recent;
use crate::serve::serve;

/// Of the time to stop, what is kept for flushing the outputs when the inputs do not end: this, or a third.
const FLUSH_RESERVE: Duration = Duration::from_secs(5);
/// Different names of metrics by statsd; more are a mistake.
const STATSD_METRICS_MAX: usize = 1000;
/// For open requests to our own server at the very end.
const SERVER_GRACE: Duration = Duration::from_secs(2);

/// A sidecar with its ports, not yet running.
pub struct App {
    config: Config,
    listener: TcpListener,
    otlp_listener: Option<TcpListener>,
    grpc_listener: Option<TcpListener>,
    statsd_sockets: statsd::Sockets,
    fluent_listeners: fluent_forward::Listeners,
    firelens_health: Option<TcpListener>,
}

impl App {
    /// Takes the ports. A traces port that cannot be had is a fault of the configuration like any other.
    ///
    /// # Errors
    /// When the port for metrics and health cannot be had: nobody could ask what is wrong.
    pub async fn bind(mut config: Config) -> anyhow::Result<App> {
        let listener = service::http::bind(config.listen, "SIDECAR_LISTEN").await?;
        let mut otlp_listener = None;
        if let Some(addr) = config.otlp.listen {
            match service::http::bind(addr, "SIDECAR_OTLP_LISTEN").await {
                Ok(listener) => otlp_listener = Some(listener),
                Err(error) => config.problems.push(format!("no traces are taken in: {error:#}")),
            }
        }
        let grpc_listener = config.otlp.bind_grpc(&mut config.problems).await;
        let statsd_sockets = config.statsd.bind(&mut config.problems).await;
        let fluent_listeners = config.fluent.bind(&mut config.problems).await;
        let mut firelens_health = None;
        if let Some(addr) = config.firelens_health {
            match service::http::bind(addr, "FireLens' health check").await {
                Ok(listener) => firelens_health = Some(listener),
                Err(error) => config.problems.push(format!("FireLens' health check is not served: {error:#}")),
            }
        }
        Ok(App { config, listener, otlp_listener, grpc_listener, statsd_sockets, fluent_listeners, firelens_health })
    }

    /// Where metrics, health and recent lines are served.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    /// Where traces are taken in.
    pub fn otlp_addr(&self) -> Option<SocketAddr> {
        self.otlp_listener.as_ref().map(|l| l.local_addr().expect("a bound listener has an address"))
    }

    /// Where OTLP over gRPC is taken in.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_listener.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Where statsd is taken in by UDP.
    pub fn statsd_addr(&self) -> Option<SocketAddr> {
        self.statsd_sockets.udp_addr()
    }

    /// Where log events are taken in by Fluent Forward.
    pub fn fluent_addr(&self) -> Option<SocketAddr> {
        self.fluent_listeners.tcp_addr()
    }

    /// Runs until `order` is given, then empties itself within the time to stop.
    ///
    /// # Errors
    /// When a part of it failed; it has stopped in order all the same.
    pub async fn run(self, order: Shutdown) -> anyhow::Result<()> {
        let App { config, listener, otlp_listener, grpc_listener, statsd_sockets, fluent_listeners, firelens_health } =
            self;
        for problem in &config.problems {
            tracing::error!(problem, "configuration fault, running degraded");
        }
        // Proxies are for the outside: the app and the metadata endpoint are on this host.
        let local = reqwest::Client::builder().no_proxy().build()?;
        let outside = reqwest::Client::new();
        let (health, metrics) = (Health::new(), Metrics::new());
        let identity = Identity::find(&config, &local).await;
        tell_of_ourselves(&config, &health, &metrics);

        // Ends last, so that metrics and health can be asked for to the end.
        let end = Shutdown::new();
        let mut front = Tasks::new();
        let enrich = Enrich::new(identity.labels());
        let (task_view, poller) = config.ecs.build(local.clone(), enrich.clone(), &metrics);
        if let Some(poller) = poller {
            front.spawn("ecs_task", poller.run(end.clone()));
        }
        front.spawn("cpu_watch", task_view.clone().watch_cpu(end.clone()));
        let (app_health, prober) = config.health.build(local.clone(), &health, &metrics);
        if let Some(prober) = prober {
            front.spawn("app_health", prober.run(end.clone()));
        }
        let app_metrics = config.app_metrics.build(local.clone(), enrich.clone(), &metrics);

        let queues = QueueMetrics::register(&metrics);
        let spans = Queue::new("traces", config.traces.queue_bytes, &queues);
        let log_account = Account::of_logs(&metrics, config.intake.output.name());
        let span_account = Account::of_spans(&metrics, "otlp");
        let recent = Recent::new(config.recent.clone());
        config.ceiling.register(&metrics);
        front.spawn("memory", until(end.clone(), config.ceiling.clone().watch()));
        let delivery = deliver(&config, &identity, &log_account, &queues, outside.clone(), &metrics).await;
        let intake = Intake::new(
            config.intake.clone(),
            &identity,
            log_account.clone(),
            recent.clone(),
            delivery.clone(),
            &metrics,
        );
        front.spawn("held_lines", until(end.clone(), intake.clone().watch_held()));

        // Inputs hear of the stop when the rest of the task has ended, and then end when it is quiet.
        let (stop, closing) = (Stop::default(), Shutdown::new());
        let mut inputs = Tasks::new();
        inputs.spawn("ending", {
            let (order, stop, closing) = (order.clone(), stop.clone(), closing.clone());
            let uri = config.ecs.uri.clone();
            async move {
                order.requested().await;
                tokio::select! {
                    () = others_have_ended(uri.as_deref(), &local) => {}
                    () = stop.now.requested() => {}
                }
                stop.when_quiet.request();
                tokio::select! { () = tokio::time::sleep(STOP_QUIET) => {}, () = stop.now.requested() => {} }
                closing.request();
                Ok(())
            }
        });
        let reserve = FLUSH_RESERVE.min(config.stop_timeout / 3);
        service::task::spawn("cut_off", {
            let (order, stop) = (order.clone(), stop.clone());
            let (accounts, patience) = ([log_account.clone(), span_account.clone()], config.stop_timeout - reserve);
            async move {
                order.requested().await;
                tokio::time::sleep(patience).await;
                accounts.iter().for_each(Account::stop);
                stop.now.request();
            }
        });
        if let Some(forward) = fluent_listeners.build(intake.clone(), &metrics) {
            inputs.spawn("fluent_forward", forward.run(stop.clone()));
        }
        let mut offsets = None;
        let otlp_lines = intake.clone();
        if let Some(tail) = config.logs.build(intake.clone(), &metrics) {
            offsets = tail.offsets();
            inputs.spawn("file_tail", tail.run(stop.clone()));
        }
        if config.stdin {
            let (intake, stop) = (intake.clone(), stop);
            inputs.spawn("stdin", async move { stdin::run(stdin::open().await?, intake, stop).await });
        }
        let from_otlp = OtlpSeries::new(config.app_metrics.series_max);
        let from_spans = Aggregate::new(2, config.app_metrics.series_max);
        let attributes = ResourceAttributes::of(&identity, config.intake.output.group());
        let sampler = config.sampling.build(spans.clone(), &metrics);
        let otlp_input = config.otlp.build(
            otlp::Destinations {
                account: span_account.clone(),
                spans: spans.clone(),
                attributes: attributes.clone(),
                red: config.red.then(|| Red::new(from_spans.clone())),
                sampler: sampler.clone(),
                series: from_otlp.clone(),
                lines: otlp_lines,
                author: intake.author().clone(),
            },
            &metrics,
        );
        let connections_refused = otlp_input.connections_refused();
        if let Some(listener) = otlp_listener {
            let router = otlp_input.router();
            inputs.spawn("otlp", serve(listener, router, connections_refused.clone(), closing.clone()));
        }
        if let Some(listener) = grpc_listener {
            inputs.spawn("otlp_grpc", otlp::grpc::serve(listener, otlp_input, closing.clone()));
        }
        let from_statsd = Aggregate::new(STATSD_METRICS_MAX, config.app_metrics.series_max);
        if let Some(statsd) = statsd_sockets.build(from_statsd.clone(), &metrics) {
            inputs.spawn("statsd", statsd.run(closing.clone()));
        }
        if let Some(sampler) = sampler {
            inputs.spawn("sampler", sampler.run(closing));
        }

        // Samples that are pushed are taken once more when the inputs have ended, before the outputs empty themselves.
        let (mut collectors, collect_last) = (Tasks::new(), Shutdown::new());
        let mut outputs = Tasks::new();
        outputs.spawn("traces_out", config.traces.build(outside.clone(), &metrics).run(spans.clone()));

        let sources = vec![Source::Events(from_statsd), Source::Otlp(from_otlp), Source::Events(from_spans)];
        let exposition = Exposition::new(enrich, app_metrics, sources, task_view, metrics.clone());
        let push_metrics = PushMetrics::register(&metrics);
        let push_metrics = (&push_metrics, &queues);
        if let Some((collector, sender)) = config.remote_write.build(exposition.clone(), outside.clone(), push_metrics)
        {
            collectors.spawn("remote_write", collector.run(collect_last.clone()));
            outputs.spawn("remote_write_out", sender.run());
        }
        let attributes = (&attributes, &identity.labels()[..]);
        let otlp_metrics = config.otlp_metrics.as_ref();
        if let Some((collector, sender)) =
            otlp_metrics::build(otlp_metrics, exposition.clone(), attributes, outside, push_metrics)
        {
            collectors.spawn("otlp_metrics", collector.run(collect_last.clone()));
            outputs.spawn("otlp_metrics_out", sender.run());
        }
        if let Some(emf) = config.emf.build(exposition.clone(), intake.clone(), &metrics) {
            collectors.spawn("emf", emf.run(collect_last.clone()));
        }
        let router = Router::new()
            .merge(exposition.router())
            .merge(health.router())
            .merge(app_health.router(&health))
            .merge(recent.router());
        if let Some(listener) = firelens_health {
            front.spawn("firelens_health", until(end.clone(), be_open(listener)));
        }
        front.spawn("server", serve(listener, router, connections_refused, end.clone()));
        tracing::info!(
            service_name = identity.service,
            task_id = identity.task_id,
            logs_output = config.intake.output.name(),
            problems = config.problems.len(),
            "sidecar runs"
        );

        let flow = async {
            let stopped_at = async {
                tokio::select! { () = order.requested() => {}, () = end.requested() => order.request() }
                health.drain();
                Instant::now()
            };
            let flushing = Shutdown::new();
            let mut outputs = std::pin::pin!(outputs.run(flushing.clone(), config.stop_timeout));
            let inputs = async { tokio::join!(stopped_at, inputs.run(order.clone(), config.stop_timeout)) };
            let (result, stopped_at) = tokio::select! {
                (stopped_at, result) = inputs => (result, stopped_at),
                // An output that ends before its input has failed.
                result = &mut outputs => {
                    order.request();
                    return result;
                }
            };
            collect_last.request();
            let collected = collectors.run(collect_last, reserve).await;
            intake.finish();
            delivery.close();
            spans.close();
            flushing.request();
            let deadline = stopped_at + config.stop_timeout;
            let flushed = async { tokio::join!(&mut outputs, delivery.ended()) };
            let (others_out, logs_out) = tokio::time::timeout_at(deadline, flushed).await.unwrap_or((Ok(()), Ok(())));
            result.and(collected).and(others_out).and(logs_out)
        };
        let flow = async {
            let result = flow.await;
            log_account.stop();
            delivery.abandon();
            give_up(&spans, &span_account);
            if let Some(offsets) = offsets {
                offsets.flush();
            }
            say_goodbye(&log_account, &span_account, delivery.left_on_disk());
            end.request();
            result
        };
        let (flow, front) = tokio::join!(flow, front.run(end.clone(), SERVER_GRACE));
        flow.and(front)
    }
}

fn tell_of_ourselves(config: &Config, health: &Health, metrics: &Metrics) {
    let problems = Gauge::<i64>::default();
    problems.set(config.problems.len() as i64);
    let build = prometheus_client::metrics::info::Info::new([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", service::cli::commit().to_owned()),
    ]);
    metrics.register(|r| {
        r.register(names::CONFIG_PROBLEMS, "Faults of the configuration; each is told on /health", problems);
        r.register(names::BUILD_INFO.trim_end_matches("_info"), "What was built", build);
    });
    let faults = config.problems.join("; ");
    health.check("configuration", move || {
        std::future::ready(if faults.is_empty() { Ok(()) } else { Err(faults.clone()) })
    });
}

async fn deliver(
    config: &Config,
    identity: &Identity,
    account: &Account,
    queues: &QueueMetrics,
    http: reqwest::Client,
    metrics: &Metrics,
) -> Delivery {
    let own = std::iter::once(&config.intake.output);
    let outputs: Vec<LogsOutput> = own.chain(config.intake.routes.rules.iter().map(|r| &r.output)).cloned().collect();
    let needs_aws = |output: &LogsOutput| matches!(output, LogsOutput::CloudWatch(_) | LogsOutput::Otlp { .. });
    let aws = match outputs.iter().any(needs_aws) {
        true => Some(Aws::load(identity, config.delivery.endpoint.clone(), http.clone()).await),
        false => None,
    };
    let setup = delivery::Setup {
        identity: identity.clone(),
        account: account.clone(),
        aws,
        http,
        queue_bytes: config.delivery.queue_bytes,
        ceiling: config.ceiling.clone(),
        spool: config.delivery.spool.clone(),
        give_up_after: config.delivery.give_up_after,
        queues: queues.clone(),
        outputs,
    };
    Delivery::new(setup, metrics)
}

/// A port that only has to be open; what comes is read by nobody.
async fn be_open(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        drop(listener.accept().await);
    }
}

/// Something that never ends by itself, until the end.
async fn until(end: Shutdown, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! { () = end.requested() => Ok(()), result = work => result }
}

/// What nobody will deliver any more is counted so.
fn give_up<T: Weigh>(queue: &Queue<T>, account: &Account) {
    account.stop();
    while queue.try_next().is_some() {}
}

/// The last line: what became of everything.
fn say_goodbye(logs: &Account, spans: &Account, left_on_disk: u64) {
    let (l, s) = (logs.balance(), spans.balance());
    tracing::info!(
        log_records_in = l.received,
        log_records_delivered = l.delivered,
        log_records_dropped = l.dropped,
        log_records_lost_to = logs.losses(),
        log_records_waiting = l.waiting,
        log_bytes_left_on_disk = left_on_disk,
        spans_in = s.received,
        spans_delivered = s.delivered,
        spans_dropped = s.dropped,
        spans_lost_to = spans.losses(),
        "sidecar stops: {} of {} log records and {} of {} spans delivered",
        l.delivered,
        l.received,
        s.delivered,
        s.received,
    );
}
