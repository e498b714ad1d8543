//! The sidecar's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};
use service::Shutdown;
use service::cli::Exit;
use service::config::{Env, ProcessEnv};
use service::logging::Logging;
use sidecar::app::App;
use sidecar::config::Config;
use sidecar::fake_ecs::{self, FakeTask};
use sidecar::inject;
use sidecar::watchdog;

const AFTER_HELP: &str = "\
In a task definition the sidecar needs nothing but its image; it finds the task's metadata by itself, the app's metrics \
at http://127.0.0.1:3000/metrics, takes OTLP at 127.0.0.1:4317 (gRPC) and :4318 (HTTP) and statsd at :8125.

Examples:
  SIDECAR_SERVICE=order SIDECAR_LOG_FILES=/var/log/app/*.log sidecar run
  curl 127.0.0.1:9464/metrics                 the app's metrics, the task's and the sidecar's own
  curl '127.0.0.1:9464/logs/recent?level=error&limit=5'
  sidecar healthcheck --app                   healthCheck: {command: [CMD, /sidecar, healthcheck, --app]}";

const RUN_HELP: &str = "\
Environment (each has its place in the file too, the environment wins):
  SIDECAR_SERVICE, ENVIRONMENT, SIDECAR_TASK_ID   labels; service and task as the task's metadata says where unset
  SIDECAR_LISTEN            metrics, health, recent lines            [0.0.0.0:9464]
  SIDECAR_APP_METRICS_URL   the app's metrics, or off                [http://127.0.0.1:3000/metrics]
  SIDECAR_APP_HEALTH_URL    the app's probe, or off                  [http://127.0.0.1:3000/health/ready]
  SIDECAR_PROBES            further probes: name=address, separated by commas; http, tcp, grpc, postgres, redis
  SIDECAR_LOG_FILES         log files: paths and globs, separated by commas
  SIDECAR_LOG_START         end or beginning of files that are there already   [end]
  SIDECAR_STATE_DIR         on a volume: go on after a restart where the last run left off   [none]
  SIDECAR_FLUENT_LISTEN, SIDECAR_FLUENT_SOCKET   Fluent Forward in, by TCP and by unix socket   [off]
  SIDECAR_LOGS_OUTPUT       cloudwatch (with LOG_GROUP), stdout, none          [none]
  SIDECAR_OTLP_LISTEN, SIDECAR_OTLP_GRPC_LISTEN   OTLP in: traces, metrics, logs, or off   [127.0.0.1:4318, :4317]
  SIDECAR_STATSD_LISTEN, SIDECAR_STATSD_SOCKET    statsd and DogStatsD in, or off          [127.0.0.1:8125, off]
  OTEL_EXPORTER_OTLP_ENDPOINT   where traces go on; unset: they are counted and dropped
  SIDECAR_TRACE_SAMPLE, SIDECAR_TRACE_TAIL_WAIT   share of traces kept; errors and slow ones always [1, off]
  SIDECAR_RED               count requests from server spans         [on]
  SIDECAR_REMOTE_WRITE_URL, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, SIDECAR_METRICS_INTERVAL   push metrics [off, off, 15s]
  SIDECAR_EMF_METRICS, SIDECAR_EMF_DIMENSIONS     metrics that CloudWatch makes of log lines [none, service,environment]
  SIDECAR_STOP_TIMEOUT      two seconds less than the container's stopTimeout  [25s]
  SIDECAR_STUCK_AFTER       an event loop that stands still for so long ends the process   [45s]
  LOG_LEVEL, LOG_FORMAT     of the sidecar's own log                 [info, json]

A fault in the configuration does not end the sidecar: it runs with the default, unready, and says so on /health.";

#[derive(Parser)]
#[command(name = "sidecar", version = service::cli::version(), about, after_help = AFTER_HELP)]
/// Observability agent for one ECS Fargate task: metrics, logs, traces and health of the app beside it
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run beside the app
    #[command(after_help = RUN_HELP)]
    Run(RunFiles),
    /// Ask the running sidecar whether it is well; exit 0 or 1. For a container's health check
    Healthcheck {
        /// Ask for the app's health instead, as the sidecar last saw it
        #[arg(long)]
        app: bool,
        /// Ask for more: that the configuration has no fault and every stage has started; with --app, that all probes
        /// succeed, of what the app depends on too. That a destination is down makes neither sick
        #[arg(long)]
        deep: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Say what the configuration comes to and what is wrong with it; exit 0 or 64
    CheckConfig(RunFiles),
    Inject(Box<inject::Arguments>),
    /// Serve a made-up task metadata endpoint v4. For local use only: no AWS is behind it
    FakeEcs(FakeEcs),
}

#[derive(Args)]
struct ConfigFile {
    /// YAML file for what the environment does not say
    #[arg(long = "config", value_name = "FILE", env = "SIDECAR_CONFIG")]
    file: Option<PathBuf>,
}

#[derive(Args)]
struct RunFiles {
    #[command(flatten)]
    config: ConfigFile,
    /// What ECS wrote for a FireLens router; /fluent-bit/etc/fluent-bit.conf is read where it is there
    #[arg(long, value_name = "FILE", env = "SIDECAR_FIRELENS_CONFIG")]
    firelens_config: Option<PathBuf>,
}

impl RunFiles {
    fn load(&self) -> Config {
        Config::load_with(self.config.file.as_deref(), self.firelens_config.as_deref(), &ProcessEnv)
    }
}

#[derive(Args)]
struct FakeEcs {
    /// Where to serve; the sidecar's ECS_CONTAINER_METADATA_URI_V4 is then http://ADDR/v4/<task id>
    #[arg(long, default_value = "127.0.0.1:51679")]
    listen: SocketAddr,
    #[arg(long)]
    service: String,
    #[arg(long, default_value = "default")]
    cluster: String,
    /// Task definition family; the service's name where not given
    #[arg(long)]
    family: Option<String>,
    /// 32 hex digits; made up where not given
    #[arg(long, value_parser = fake_ecs::parse_task_id)]
    task_id: Option<String>,
    /// A container whose CPU and memory are those of a process: its id, the address it listens on, or a file that
    /// holds its id; repeatable. Without any there is one container, this process
    #[arg(long = "container", value_name = "NAME=PID|IP:PORT|FILE", value_parser = fake_ecs::parse_container)]
    containers: Vec<fake_ecs::ContainerSource>,
    /// How often the figures are read; Fargate does so every 10 s
    #[arg(long, default_value = "10s", value_parser = telemetry::duration::parse)]
    refresh: std::time::Duration,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(files) => run(files),
        Command::Healthcheck { app, deep, config } => healthcheck(app, deep, config),
        Command::CheckConfig(files) => check_config(files),
        Command::Inject(arguments) => inject::run(*arguments),
        Command::FakeEcs(args) => serve_fake_ecs(args),
    };
    service::cli::finish("sidecar", result)
}

fn run(files: RunFiles) -> Result<(), Exit> {
    Logging::from_env("sidecar", &ProcessEnv).start();
    let config = files.load();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    block_on(async {
        let shutdown = Shutdown::on_signals()?;
        // Beats to the very end: stopping may get stuck too.
        service::task::spawn("heartbeat", watchdog::start(Shutdown::new(), config.stuck_after)?);
        App::bind(config).await?.run(shutdown).await
    })
}

/// No runtime, no HTTP client: this runs every few seconds in a container with a sliver of a CPU.
fn healthcheck(app: bool, deep: bool, config: ConfigFile) -> Result<(), Exit> {
    let config = Config::load(config.file.as_deref(), &ProcessEnv);
    let path = match (app, deep) {
        (false, false) => "/health/live",
        (false, true) => "/health/deep",
        (true, false) => "/health/app",
        (true, true) => "/health/app/deep",
    };
    Ok(service::healthcheck::check(config.local_addr(), path)?)
}

fn check_config(files: RunFiles) -> Result<(), Exit> {
    let firelens = files.firelens_config.as_deref();
    let (config, found) = Config::explain(files.config.file.as_deref(), firelens, &ProcessEnv);
    print!("{found}");
    config.warnings.iter().for_each(|warning| eprintln!("sidecar: {warning}"));
    match &config.problems[..] {
        [] => Ok(()),
        problems => Err(Exit::Config(anyhow!("{}", problems.join("\nsidecar: ")))),
    }
}

fn serve_fake_ecs(args: FakeEcs) -> Result<(), Exit> {
    Logging::from_env("fake-ecs", &ProcessEnv).start();
    let region = ProcessEnv.get("AWS_REGION").filter(|r| !r.is_empty()).unwrap_or_else(|| "us-east-1".to_owned());
    let task = FakeTask::new(fake_ecs::Config {
        family: args.family.unwrap_or_else(|| args.service.clone()),
        service: args.service,
        cluster: args.cluster,
        region,
        task_id: args.task_id.unwrap_or_else(fake_ecs::random_task_id),
        containers: args.containers,
        refresh: args.refresh,
    });
    block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let listener = service::http::bind(args.listen, "--listen").await?;
        println!("ECS_CONTAINER_METADATA_URI_V4={}", task.uri(listener.local_addr()?));
        task.serve(listener, shutdown).await
    })
}

/// One thread: a task has a quarter of a CPU, and more threads would only cost memory.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let result = runtime.block_on(work);
    // A hanging file system must not hold up the end.
    runtime.shutdown_background();
    Ok(result?)
}
