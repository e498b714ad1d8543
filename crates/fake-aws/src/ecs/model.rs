//! The account's ECS state: services, deployments, tasks, containers. Plain data; the rules of change live in
//! `scheduler` and `task`.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ServiceKey;
use crate::topology::{self, Container as ContainerDefinition, Topology};

/// ECS keeps a service's last hundred events.
const EVENTS_MAX: usize = 100;
/// Stopped tasks stay described for an hour.
const STOPPED_KEPT_SECONDS: f64 = 3600.0;

pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0
}

pub(super) struct State {
    pub(super) clusters: Vec<String>,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    pub(super) definitions: BTreeMap<String, Arc<Definition>>,
    pub(super) tasks: BTreeMap<String, Task>,
    /// No task is started any more.
    pub(super) closing: bool,
}

/// A revision of a task definition.
pub(super) struct Definition {
    pub(super) arn: String,
    pub(super) family: String,
    pub(super) revision: u32,
    pub(super) registered_at: f64,
    pub(super) spec: topology::TaskDefinition,
}

pub(super) struct Service {
    pub(super) arn: String,
    pub(super) desired: u32,
    pub(super) load_balancer: Option<topology::LoadBalancer>,
    pub(super) created_at: f64,
    /// The newest first; the first is PRIMARY.
    pub(super) deployments: Vec<Deployment>,
    pub(super) events: VecDeque<Event>,
    /// Third octet of its tasks' addresses, and the last fourth octet given out.
    pub(super) subnet: u8,
    pub(super) last_host: u8,
    pub(super) failures_in_row: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) steady: bool,
}

pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) definition: Arc<Definition>,
    pub(super) created_at: f64,
    pub(super) updated_at: f64,
    pub(super) rollout: Rollout,
    pub(super) failed_tasks: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rollout {
    InProgress,
    Completed,
}

pub(super) struct Event {
    pub(super) id: String,
    pub(super) at: f64,
    pub(super) message: String,
}

pub(super) struct Task {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) key: ServiceKey,
    pub(super) definition: Arc<Definition>,
    pub(super) deployment: String,
    pub(super) ip: Ipv4Addr,
    pub(super) status: TaskStatus,
    pub(super) created_at: f64,
    pub(super) started_at: Option<f64>,
    pub(super) stopping_at: Option<f64>,
    pub(super) stopped_at: Option<f64>,
    pub(super) containers: Vec<Container>,
    pub(super) stop: watch::Sender<Option<StopOrder>>,
    pub(super) version: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    Provisioning,
    Pending,
    Running,
    Deactivating,
    Stopping,
    Stopped,
}

#[derive(Clone, Debug)]
pub(super) struct StopOrder {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

pub(super) struct Container {
    pub(super) definition: ContainerDefinition,
    pub(super) runtime_id: String,
    pub(super) pid: Option<i32>,
    pub(super) status: ContainerStatus,
    pub(super) health: Health,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContainerStatus {
    Pending,
    Running,
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    Unknown,
    Healthy,
    Unhealthy,
}

/// A task as `/_fake/tasks` and the library show it.
#[derive(Clone, Debug, Serialize)]
pub struct TaskView {
    pub task_id: String,
    pub cluster: String,
    pub service: String,
    pub ip: Ipv4Addr,
    pub status: TaskStatus,
    pub health: Health,
    pub stopped_reason: Option<String>,
    /// Name and process id of each container.
    pub processes: Vec<(String, Option<i32>)>,
}

impl State {
    pub(super) fn new(topology: &Topology) -> Self {
        let now = unix_now();
        let mut state = State {
            clusters: topology.clusters.keys().cloned().collect(),
            services: BTreeMap::new(),
            definitions: BTreeMap::new(),
            tasks: BTreeMap::new(),
            closing: false,
        };
        let prefix = format!("arn:aws:ecs:{}:{}", topology.region, topology.account);
        let services = topology.clusters.iter().flat_map(|(c, cluster)| cluster.services.iter().map(move |s| (c, s)));
        for (index, (cluster, (name, spec))) in services.enumerate() {
            let definition = state.register(&prefix, &spec.task_definition, now);
            let key = ServiceKey { cluster: cluster.clone(), service: name.clone() };
            let service = Service {
                arn: format!("{prefix}:service/{cluster}/{name}"),
                desired: spec.desired_count,
                load_balancer: spec.load_balancer.clone(),
                created_at: now,
                deployments: vec![Deployment::new(definition, now)],
                events: VecDeque::new(),
                subnet: u8::try_from(index + 1).expect("the topology was checked to have at most 254 services"),
                last_host: 0,
                failures_in_row: 0,
                not_before: None,
                steady: false,
            };
            state.services.insert(key, service);
        }
        state
    }

    /// A new revision of the definition's family.
    fn register(&mut self, prefix: &str, spec: &topology::TaskDefinition, now: f64) -> Arc<Definition> {
        let revision = 1 + self.definitions.values().filter(|d| d.family == spec.family).count() as u32;
        let arn = format!("{prefix}:task-definition/{}:{revision}", spec.family);
        let definition = Arc::new(Definition {
            arn: arn.clone(),
            family: spec.family.clone(),
            revision,
            registered_at: now,
            spec: spec.clone(),
        });
        self.definitions.insert(arn, definition.clone());
        definition
    }

    pub(super) fn tasks_of<'a>(&'a self, key: &'a ServiceKey) -> impl Iterator<Item = &'a Task> {
        self.tasks.values().filter(move |t| t.key == *key)
    }

    /// An address of the service's subnet that no live task has; the least recently used first.
    pub(super) fn take_address(&mut self, key: &ServiceKey, network: &str) -> Option<Ipv4Addr> {
        let service = self.services.get(key)?;
        let (subnet, last) = (service.subnet, service.last_host);
        let (a, b) = network.split_once('.')?;
        let (a, b) = (a.parse().ok()?, b.parse().ok()?);
        let used: Vec<u8> = self.tasks_of(key).filter(|t| !t.is_stopped()).map(|t| t.ip.octets()[3]).collect();
        let host = (1..=254u8).map(|step| (last as u16 + u16::from(step) - 1) % 254 + 1);
        let host = host.map(|h| h as u8).find(|h| !used.contains(h))?;
        self.services.get_mut(key)?.last_host = host;
        Some(Ipv4Addr::new(a, b, subnet, host))
    }

    pub(super) fn forget_old_tasks(&mut self, now: f64) {
        self.tasks.retain(|_, t| t.stopped_at.is_none_or(|at| now - at < STOPPED_KEPT_SECONDS));
    }
}

impl Service {
    pub(super) fn primary(&self) -> &Deployment {
        self.deployments.first().expect("a service has a deployment from its creation on")
    }

    pub(super) fn event(&mut self, message: String, now: f64) {
        self.events.push_front(Event { id: uuid::Uuid::new_v4().to_string(), at: now, message });
        self.events.truncate(EVENTS_MAX);
    }

    pub(super) fn set_desired(&mut self, desired: u32, now: f64) {
        if self.desired != desired {
            self.desired = desired;
            self.steady = false;
            if let Some(primary) = self.deployments.first_mut() {
                primary.updated_at = now;
            }
        }
    }

    /// Starts a deployment: new tasks replace all others.
    pub(super) fn deploy(&mut self, definition: Arc<Definition>, now: f64) {
        self.deployments.insert(0, Deployment::new(definition, now));
        self.steady = false;
        self.failures_in_row = 0;
        self.not_before = None;
    }

    /// After a task that did not live: waits 1 s, 2 s, 4 s … up to a minute.
    pub(super) fn back_off(&mut self, now: Instant) {
        let wait = Duration::from_secs(1 << self.failures_in_row.min(6)).min(Duration::from_secs(60));
        self.failures_in_row += 1;
        self.not_before = Some(now + wait);
    }
}

impl Deployment {
    fn new(definition: Arc<Definition>, now: f64) -> Self {
        let number = uuid::Uuid::new_v4().as_u128() % 10_000_000_000_000_000_000;
        Deployment {
            id: format!("ecs-svc/{number:019}"),
            definition,
            created_at: now,
            updated_at: now,
            rollout: Rollout::InProgress,
            failed_tasks: 0,
        }
    }
}

impl Task {
    pub(super) fn is_running(&self) -> bool {
        self.status == TaskStatus::Running
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.status == TaskStatus::Stopped
    }

    /// Wanted to run: not ordered to stop.
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_stopped() && self.stop.borrow().is_none()
    }

    /// The first order counts.
    pub(super) fn order_stop(&mut self, order: StopOrder) {
        self.stop.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(order);
            first
        });
    }

    pub(super) fn set_status(&mut self, status: TaskStatus) {
        self.status = status;
        self.version += 1;
    }

    pub(super) fn health(&self) -> Health {
        let mut checked = self.containers.iter().filter(|c| c.definition.health_check.is_some()).peekable();
        if checked.peek().is_none() {
            return Health::Unknown;
        }
        let healths: Vec<Health> = checked.map(|c| c.health).collect();
        match () {
            () if healths.contains(&Health::Unhealthy) => Health::Unhealthy,
            () if healths.contains(&Health::Unknown) => Health::Unknown,
            () => Health::Healthy,
        }
    }

    /// Whether the load balancer may send to it: running, and healthy where that is checked.
    pub(super) fn takes_traffic(&self) -> bool {
        let unchecked = self.containers.iter().all(|c| c.definition.health_check.is_none());
        self.is_running() && (unchecked || self.health() == Health::Healthy)
    }

    pub(super) fn view(&self) -> TaskView {
        TaskView {
            task_id: self.id.clone(),
            cluster: self.key.cluster.clone(),
            service: self.key.service.clone(),
            ip: self.ip,
            status: self.status,
            health: self.health(),
            stopped_reason: self.stop.borrow().as_ref().map(|s| s.reason.clone()),
            processes: self.containers.iter().map(|c| (c.definition.name.clone(), c.pid)).collect(),
        }
    }
}
