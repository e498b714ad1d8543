//! A made-up task metadata endpoint v4 for local use: plausible metadata, real CPU and memory of real
//! processes. Network counters are those of the whole machine, limits and storage are constants. Nothing
//! of AWS is behind it, and no production path leads here.

mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use service::{Shutdown, Tasks};
use tokio::net::TcpListener;

use self::process::Figures;

#[derive(Clone, Debug)]
pub struct Config {
    pub service: String,
    pub cluster: String,
    pub family: String,
    pub region: String,
    pub task_id: String,
    pub containers: Vec<ContainerSource>,
    pub refresh: Duration,
}

/// A container of the fake task and the process that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSource {
    pub name: String,
    pub pid: PidSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidSource {
    Pid(u32),
    /// Read anew each time, so that the process may come later or be replaced.
    File(PathBuf),
    /// Whichever process listens there.
    Listener(SocketAddr),
}

/// The account that the local AWS knows.
const ACCOUNT: &str = "000000000000";
/// The smallest Fargate task, and storage as on a fresh one.
const CPU_VCPUS: f64 = 0.25;
const MEMORY_MIB: u64 = 512;
const STORAGE_UTILIZED_MIB: u64 = 427;
const STORAGE_RESERVED_MIB: u64 = 20_496;

/// Parses `NAME=PID`, `NAME=IP:PORT` or `NAME=FILE`.
///
/// # Errors
/// Says how it is written.
pub fn parse_container(text: &str) -> Result<ContainerSource, String> {
    const USAGE: &str =
        "write NAME=PID, NAME=IP:PORT or NAME=FILE, for example app=4711, app=127.0.0.1:3000 or app=/run/app.pid";
    let (name, source) = text.split_once('=').filter(|(n, s)| !n.is_empty() && !s.is_empty()).ok_or(USAGE)?;
    let pid = match (source.parse(), source.parse()) {
        (Ok(pid), _) => PidSource::Pid(pid),
        (_, Ok(addr)) => PidSource::Listener(addr),
        _ => PidSource::File(source.into()),
    };
    Ok(ContainerSource { name: name.to_owned(), pid })
}

/// Checks a task id: letters and digits, as ECS has 32 hex digits.
///
/// # Errors
/// Says what one looks like.
pub fn parse_task_id(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| text.to_owned()).ok_or_else(|| "a task id is made of hex digits, 32 of them in ECS".to_owned())
}

/// 32 hex digits from the time and the process' id; unique enough for a machine.
pub fn random_task_id() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:032x}", nanos << 32 | u128::from(std::process::id()))
}

#[derive(Clone)]
pub struct FakeTask(Arc<Inner>);

struct Inner {
    config: Config,
    started_at: String,
    containers: Mutex<Vec<Container>>,
}

struct Container {
    name: String,
    docker_id: String,
    pid: PidSource,
    /// The last two readings; the newest first.
    readings: [Option<Figures>; 2],
    started_at: Option<String>,
    finished_at: Option<String>,
}

impl FakeTask {
    pub fn new(config: Config) -> Self {
        let own = [ContainerSource { name: "fake-ecs".to_owned(), pid: PidSource::Pid(std::process::id()) }];
        let sources = if config.containers.is_empty() { &own[..] } else { &config.containers };
        let container = |(index, source): (usize, &ContainerSource)| Container {
            name: source.name.clone(),
            // Ten digits, as behind the ids of Fargate.
            docker_id: format!("{}-{:010}", config.task_id, 1_000_000_007 * (index as u64 + 1) % 10_000_000_000),
            pid: source.pid.clone(),
            readings: [None, None],
            started_at: None,
            finished_at: None,
        };
        let containers = sources.iter().enumerate().map(container).collect();
        let task = FakeTask(Arc::new(Inner {
            config,
            started_at: service::logging::now_rfc3339(),
            containers: Mutex::new(containers),
        }));
        task.read();
        task
    }

    /// What `ECS_CONTAINER_METADATA_URI_V4` says in the task.
    pub fn uri(&self, addr: SocketAddr) -> String {
        format!("http://{addr}/v4/{}", self.0.config.task_id)
    }

    /// Serves until the shutdown.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut tasks = Tasks::new();
        tasks.spawn("server", service::http::serve(listener, self.router(), shutdown.clone()));
        let (heard, mut ticks) = (shutdown.clone(), tokio::time::interval(self.0.config.refresh));
        tasks.spawn("refresh", async move {
            ticks.tick().await;
            loop {
                tokio::select! { _ = ticks.tick() => self.read(), () = heard.requested() => return Ok(()) }
            }
        });
        tasks.run(shutdown, Duration::from_secs(2)).await
    }

    pub fn router(&self) -> Router {
        Router::new()
            .route("/v4/{id}", get(own_container))
            .route("/v4/{id}/stats", get(own_stats))
            .route("/v4/{id}/task", get(task))
            .route("/v4/{id}/taskWithTags", get(task))
            .route("/v4/{id}/task/stats", get(task_stats))
            .with_state(self.clone())
    }

    /// Reads every container's process; one that is gone has stopped.
    fn read(&self) {
        for container in self.0.containers.lock().expect("no one panics holding it").iter_mut() {
            let newest = container.pid.resolve().and_then(Figures::read);
            match (&newest, &container.readings[0]) {
                (Some(_), None) => {
                    container.started_at = Some(service::logging::now_rfc3339());
                    container.finished_at = None;
                }
                (None, Some(_)) => container.finished_at = Some(service::logging::now_rfc3339()),
                _ => {}
            }
            let before = std::mem::replace(&mut container.readings[0], newest);
            container.readings[1] = before;
        }
    }

    fn cluster_arn(&self) -> String {
        let Config { region, cluster, .. } = &self.0.config;
        format!("arn:aws:ecs:{region}:{ACCOUNT}:cluster/{cluster}")
    }

    fn task_arn(&self) -> String {
        let Config { region, cluster, task_id, .. } = &self.0.config;
        format!("arn:aws:ecs:{region}:{ACCOUNT}:task/{cluster}/{task_id}")
    }

    fn task(&self) -> Value {
        let config = &self.0.config;
        let containers = self.0.containers.lock().expect("no one panics holding it");
        json!({
            "Cluster": self.cluster_arn(),
            "ServiceName": config.service,
            "TaskARN": self.task_arn(),
            "Family": config.family,
            "Revision": "1",
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Limits": {"CPU": CPU_VCPUS, "Memory": MEMORY_MIB},
            "PullStartedAt": self.0.started_at,
            "PullStoppedAt": self.0.started_at,
            "AvailabilityZone": format!("{}a", config.region),
            "LaunchType": "FARGATE",
            "Containers": containers.iter().map(|c| self.container(c)).collect::<Vec<_>>(),
            "ClockDrift": {
                "ClockErrorBound": 0.35,
                "ReferenceTimestamp": self.0.started_at,
                "ClockSynchronizationStatus": "SYNCHRONIZED",
            },
            "EphemeralStorageMetrics": {"Utilized": STORAGE_UTILIZED_MIB, "Reserved": STORAGE_RESERVED_MIB},
        })
    }

    fn container(&self, container: &Container) -> Value {
        let mut json = json!({
            "DockerId": container.docker_id,
            "Name": container.name,
            "DockerName": container.name,
            "Image": format!("{}:local", container.name),
            "ImageID": "",
            "Labels": {
                "com.amazonaws.ecs.cluster": self.cluster_arn(),
                "com.amazonaws.ecs.container-name": container.name,
                "com.amazonaws.ecs.task-arn": self.task_arn(),
                "com.amazonaws.ecs.task-definition-family": self.0.config.family,
                "com.amazonaws.ecs.task-definition-version": "1",
            },
            "DesiredStatus": "RUNNING",
            "KnownStatus": container.status(),
            "Limits": {"CPU": 2},
            "Type": "NORMAL",
        });
        for (key, time) in [
            ("CreatedAt", &container.started_at),
            ("StartedAt", &container.started_at),
            ("FinishedAt", &container.finished_at),
        ] {
            if let Some(time) = time {
                json[key] = time.as_str().into();
            }
        }
        json
    }

    fn stats(&self) -> BTreeMap<String, Value> {
        let containers = self.0.containers.lock().expect("no one panics holding it");
        containers.iter().map(|c| (c.docker_id.clone(), c.stats())).collect()
    }
}

impl Container {
    fn status(&self) -> &'static str {
        match (&self.readings[0], &self.finished_at) {
            (Some(_), _) => "RUNNING",
            (None, Some(_)) => "STOPPED",
            (None, None) => "PULLED",
        }
    }

    /// Null where the process does not run, as ECS has it.
    fn stats(&self) -> Value {
        let Some(now) = &self.readings[0] else { return Value::Null };
        let before = self.readings[1].as_ref();
        json!({
            "name": self.name,
            "id": self.docker_id,
            "read": now.read_at,
            "preread": before.map_or("0001-01-01T00:00:00Z", |b| &b.read_at),
            "cpu_stats": now.cpu_stats(),
            "precpu_stats": before.map_or_else(|| json!({}), Figures::cpu_stats),
            "memory_stats": now.memory_stats(),
            "blkio_stats": now.blkio_stats(),
            "networks": now.networks(),
            "num_procs": 0,
            "storage_stats": {},
        })
    }
}

impl PidSource {
    fn resolve(&self) -> Option<u32> {
        match self {
            PidSource::Pid(pid) => Some(*pid),
            PidSource::File(path) => std::fs::read_to_string(path).ok()?.trim().parse().ok(),
            PidSource::Listener(addr) => process::listening_on(*addr),
        }
    }
}

async fn task(State(task): State<FakeTask>, Path(_id): Path<String>) -> Json<Value> {
    Json(task.task())
}

async fn task_stats(State(task): State<FakeTask>, Path(_id): Path<String>) -> Json<BTreeMap<String, Value>> {
    Json(task.stats())
}

/// The container whose id the address has; an address with the task's id alone means the first.
async fn own_container(State(task): State<FakeTask>, Path(id): Path<String>) -> Response {
    let containers = task.0.containers.lock().expect("no one panics holding it");
    let found = containers.iter().find(|c| c.docker_id == id || id == task.0.config.task_id);
    found.map_or_else(not_found, |c| Json(task.container(c)).into_response())
}

async fn own_stats(State(task): State<FakeTask>, Path(id): Path<String>) -> Response {
    let containers = task.0.containers.lock().expect("no one panics holding it");
    let found = containers.iter().find(|c| c.docker_id == id || id == task.0.config.task_id);
    found.map_or_else(not_found, |c| Json(c.stats()).into_response())
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such container").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_with_its_process() {
        let pid = |text| parse_container(text).map(|c| c.pid);
        assert_eq!(pid("app=4711"), Ok(PidSource::Pid(4711)));
        assert_eq!(pid("app=127.0.0.1:3000"), Ok(PidSource::Listener(([127, 0, 0, 1], 3000).into())));
        assert_eq!(pid("app=/run/app.pid"), Ok(PidSource::File("/run/app.pid".into())));
        assert!(pid("app").is_err() && pid("=1").is_err() && pid("app=").is_err());
    }

    #[test]
    fn the_process_behind_a_port_is_found_and_its_absence_is_a_container_that_does_not_run() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let source = |name: &str, pid| ContainerSource { name: name.to_owned(), pid };
        let task = FakeTask::new(Config {
            service: "order".into(),
            cluster: "main".into(),
            family: "order".into(),
            region: "us-east-1".into(),
            task_id: "ab".into(),
            containers: vec![source("app", PidSource::Listener(addr)), source("gone", PidSource::File("/none".into()))],
            refresh: Duration::from_secs(10),
        });
        let stats = task.stats();
        assert!(stats["ab-1000000007"]["memory_stats"]["usage"].as_u64() > Some(1 << 20), "{stats:?}");
        assert_eq!(stats["ab-2000000014"], Value::Null);
        let described = task.task();
        assert_eq!(described["Containers"][0]["KnownStatus"], "RUNNING");
        assert_eq!(described["Containers"][1]["KnownStatus"], "PULLED");
    }
}
