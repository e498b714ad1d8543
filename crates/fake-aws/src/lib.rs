//! Development only: the AWS calls that the suite makes, on loopback, with AWS' real limits.
//!
//! In: a topology file, and AWS API calls (AWS JSON for ECS, Application Auto Scaling and CloudWatch Logs; Smithy RPC
//! v2 CBOR and AWS JSON for CloudWatch). Out: answers on the wire as the SDKs read them, and for ECS real processes:
//! a service's tasks run, crash, are replaced, scaled and stopped. Promises paging, `failures[]`, throttling and
//! validation as AWS documents them, and with `credentials` in the topology checks every signature. Does not isolate,
//! keeps nothing after its end.
//!
//! # Topology
//! ```yaml
//! region: us-east-1          # calls signed for another region are refused, as AWS does
//! account: "000000000000"
//! environment: demo          # the label in the service discovery file
//! credentials: { AKID: secret } # optional: calls that are not signed with one of these are refused
//! network: "127.0"           # tasks get 127.0.N.M: N per service, M per task
//! page_size_max: 100         # optional: smaller pages than AWS' own
//! start_delay: 500ms         # optional: time in PROVISIONING
//! clusters:
//!   demo:
//!     services:
//!       order:
//!         desired_count: 2
//!         load_balancer: { listen: "127.0.0.1:3003", container: app, port: 3000 }
//!         task_definition:
//!           family: demo-order
//!           cpu: 256         # CPU units and MiB: a pair that Fargate has
//!           memory: 512
//!           containers:      # started in this order
//!             - name: app
//!               image: platform-api:demo
//!               command: [/path/to/platform-api, serve, --domain, "{service}", --listen, "{task_ip}:3000"]
//!               env: { LOG_LEVEL: info, OTEL_EXPORTER_OTLP_ENDPOINT: "http://{task_ip}:4318" }
//!               essential: true
//!               port: 3000
//!               stop_timeout: 10s
//!               health_check: { command: [CMD, curl, -f, "http://{task_ip}:3000/health"], interval: 5s, timeout: 2s, retries: 3, start_period: 10s }
//!             - name: sidecar
//!               image: sidecar:demo
//!               command: [/path/to/sidecar, run]
//!               env: { SIDECAR_LOG_FILES: "{log_dir}/{service}-{task_id}-app.log" }
//!               port: 9464       # a container called sidecar is a target of the discovery file; any other is one
//!                                # by docker_labels: { PROMETHEUS_EXPORTER_PORT: "9464" }
//! ```
//! In commands, health checks and environment values these are filled in: `{task_ip} {task_id} {task_arn} {cluster}
//! {service} {container} {family} {revision} {environment} {region} {account} {log_dir}`. Output of a container goes to
//! `{log_dir}/{service}-{task_id}-{container}.log`. A process gets PATH, HOME, LANG, TMPDIR and LD_LIBRARY_PATH of
//! ours, AWS_REGION, AWS_DEFAULT_REGION and AWS_EXECUTION_ENV as on Fargate, and what `env` says.
//!
//! # Beside AWS
//! `GET /_fake/tasks`, `GET /_fake/calls`, `POST /_fake/faults` with
//! `{"operation": "ecs:ListTasks", "kind": "throttle" | "error", "count": 3}`, `DELETE /_fake/faults`,
//! `POST /_fake/tasks/{task_id}/kill/{container}`.

mod admin;
mod autoscaling;
mod cloudwatch;
mod ecs;
mod logs;
mod throttle;
pub mod topology;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use service::{Shutdown, Tasks};
use tokio::time::Instant;

pub use crate::ecs::{Health, TaskStatus, TaskView};
pub use crate::logs::StoredStream;
pub use crate::throttle::{Calls, Fault, FaultKind};
use crate::topology::Topology;
use crate::wire::{Api, AwsError};

/// For the tasks of our own that only have to notice the order to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// PutMetricData takes 1 MB, a CloudWatch Logs batch the same before JSON escapes it.
const BODY_BYTES_MAX: usize = 8 << 20;

/// How to run the local AWS.
pub struct Options {
    pub listen: SocketAddr,
    pub topology: Topology,
    /// Where to keep the Prometheus file_sd document of the running tasks.
    pub file_sd: Option<PathBuf>,
    pub log_dir: PathBuf,
}

/// The running local AWS. Call [`FakeAws::stop`]: dropping it leaves the shutdown to the runtime's end.
pub struct FakeAws {
    addr: SocketAddr,
    balancers: BTreeMap<String, SocketAddr>,
    account: Arc<Account>,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// Ends the tasks at once while [`FakeAws::stop`] waits for them.
pub struct Killer(Arc<ecs::Ecs>);

impl Killer {
    /// SIGKILL to every process group of every task.
    pub fn kill_all(&self) {
        self.0.kill_all();
    }
}

/// The account behind the APIs.
struct Account {
    region: String,
    secrets: wire::signature::Secrets,
    ecs: Arc<ecs::Ecs>,
    autoscaling: Arc<autoscaling::AutoScaling>,
    cloudwatch: cloudwatch::CloudWatch,
    logs: logs::Logs,
    throttle: throttle::Throttle,
}

impl FakeAws {
    /// Binds every port, then starts the services.
    ///
    /// # Errors
    /// A port is in use, or the log directory cannot be made.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let log_dir = std::path::absolute(&options.log_dir)
            .and_then(|dir| std::fs::create_dir_all(&dir).map(|()| dir))
            .with_context(|| format!("failed to create log directory `{}`", options.log_dir.display()))?;
        let ecs = ecs::Ecs::new(options.topology.clone(), log_dir);
        let listener = service::http::bind(options.listen, "--listen").await?;
        let addr = listener.local_addr().context("a bound listener has no address")?;
        let balancers = ecs.bind_balancers().await?;
        let balancer_addrs = balancers
            .iter()
            .map(|b| b.addr().map(|(key, addr)| (key.service, addr)))
            .collect::<Result<_, _>>()
            .context("a bound load balancer has no address")?;

        let autoscaling = autoscaling::AutoScaling::new(&options.topology, ecs.clone());
        let account = Arc::new(Account {
            region: options.topology.region.clone(),
            secrets: options.topology.credentials.clone(),
            cloudwatch: cloudwatch::CloudWatch::new(&options.topology),
            autoscaling: autoscaling.clone(),
            logs: logs::Logs::new(&options.topology),
            throttle: throttle::Throttle::default(),
            ecs: ecs.clone(),
        });
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        tasks.spawn("aws-api", service::http::serve(listener, router(account.clone()), shutdown.clone()));
        tasks.spawn("scheduled-actions", autoscaling.run(shutdown.clone()));
        ecs.spawn(&mut tasks, balancers, options.file_sd, &shutdown);
        let running = service::task::spawn("fake-aws", tasks.run(shutdown.clone(), STOP_GRACE));
        Ok(FakeAws { addr, balancers: balancer_addrs, account, shutdown, running })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where the load balancer of a service listens.
    pub fn load_balancer(&self, service: &str) -> Option<SocketAddr> {
        self.balancers.get(service).copied()
    }

    pub fn tasks(&self) -> Vec<TaskView> {
        self.account.ecs.overview()
    }

    /// Waits until the tasks are as `wanted` says.
    pub async fn wait_for_tasks(&self, wanted: impl Fn(&[TaskView]) -> bool) {
        let mut changes = self.account.ecs.changes();
        while !wanted(&self.tasks()) && changes.changed().await.is_ok() {}
    }

    /// Kills one container's process, as a crash would; false when it does not run.
    pub fn kill(&self, task_id: &str, container: &str) -> bool {
        self.account.ecs.kill(task_id, container)
    }

    /// What CloudWatch Logs holds of a stream; None where there is no such stream.
    pub fn log_stream(&self, group: &str, stream: &str) -> Option<StoredStream> {
        self.account.logs.stored(group, stream)
    }

    /// Lets the next calls fail.
    pub fn order_fault(&self, fault: Fault) {
        self.account.throttle.order(fault);
    }

    /// Calls since the start, by `api:Operation`.
    pub fn calls(&self) -> BTreeMap<String, Calls> {
        self.account.throttle.calls()
    }

    /// Resolves when a part of it has failed for good; for a caller that also waits for a signal.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.running).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow::anyhow!("the local AWS has ended"),
            Err(error) => error.into(),
        }
    }

    pub fn killer(&self) -> Killer {
        Killer(self.account.ecs.clone())
    }

    /// Stops every task (SIGTERM, then SIGKILL after the stop timeout), then the APIs.
    ///
    /// # Errors
    /// A part had failed or did not end in time.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.account.ecs.stop_all("the local AWS is stopping").await;
        self.shutdown.request();
        if self.running.is_finished() {
            return Ok(());
        }
        self.running.await.context("the local AWS panicked")?
    }
}

fn router(account: Arc<Account>) -> Router {
    Router::new()
        .nest("/_fake", admin::router(account.clone()))
        .fallback(call)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(account)
}

async fn call(
    State(account): State<Arc<Account>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = match wire::read(&method, &uri, &headers, &body) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let (api, operation, protocol) = (call.api, call.operation.clone(), call.protocol);
    let signed = wire::signature::check(&account.secrets, &method, &uri, &headers, &body, jiff::Timestamp::now());
    match signed.and_then(|()| account.call(call)) {
        Ok(output) => {
            tracing::debug!(api = api.name(), operation, "answered");
            wire::answer(protocol, &output)
        }
        Err(error) => {
            tracing::info!(api = api.name(), operation, error = error.shape, "refused: {}", error.message);
            wire::answer_error(protocol, &error)
        }
    }
}

impl Account {
    fn call(&self, call: wire::Call) -> Result<serde_json::Value, AwsError> {
        if call.region != self.region {
            return Err(AwsError::new(
                "InvalidSignatureException",
                format!("Credential should be scoped to a valid region: {}, not {}.", self.region, call.region),
            ));
        }
        self.throttle.admit(call.api, &call.operation, Instant::now())?;
        match call.api {
            Api::Ecs => self.ecs.call(&call.operation, call.input),
            Api::AutoScaling => self.autoscaling.call(&call.operation, call.input),
            Api::CloudWatch => self.cloudwatch.call(&call.operation, call.input),
            Api::Logs => self.logs.call(&call.operation, call.input),
        }
    }
}
