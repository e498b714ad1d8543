//! ECS on loopback: services whose tasks are real processes, kept at their desired count.
//!
//! In: the topology, `UpdateService`, Application Auto Scaling. Out: processes, their states as ECS describes them,
//! load balancers, a service discovery file. Promises that nothing it started outlives it when it is stopped by
//! SIGTERM or SIGINT. Does not isolate: a container is a process of this user.

mod api;
mod balancer;
mod describe;
mod file_sd;
mod model;
mod scheduler;
mod task;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub(crate) use model::unix_now;
pub use model::{Health, TaskStatus, TaskView};

use crate::topology::Topology;
use model::State;

/// Beyond the containers' own stop timeouts.
const STOP_GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Ecs {
    topology: Topology,
    log_dir: PathBuf,
    state: Mutex<State>,
    /// Counts changes of the state; the scheduler, the file writer and whoever waits for a state hear it.
    changed: watch::Sender<u64>,
    nudge: Notify,
}

/// A service's place in the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceKey {
    pub(crate) cluster: String,
    pub(crate) service: String,
}

impl Ecs {
    pub(crate) fn new(topology: Topology, log_dir: PathBuf) -> Arc<Self> {
        let state = State::new(&topology);
        Arc::new(Ecs {
            topology,
            log_dir,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            nudge: Notify::new(),
        })
    }

    /// Opens the load balancers' ports; nothing has been started when one is taken.
    pub(crate) async fn bind_balancers(&self) -> anyhow::Result<Vec<balancer::Balancer>> {
        balancer::bind_all(&self.topology).await
    }

    /// Starts the scheduler, the balancers and the service discovery file.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        tasks: &mut service::Tasks,
        balancers: Vec<balancer::Balancer>,
        file_sd: Option<PathBuf>,
        shutdown: &service::Shutdown,
    ) {
        tasks.spawn("ecs-scheduler", scheduler::run(self.clone(), shutdown.clone()));
        for balancer in balancers {
            tasks.spawn("load-balancer", balancer.run(self.clone(), shutdown.clone()));
        }
        if let Some(path) = file_sd {
            tasks.spawn("file-sd", file_sd::run(self.clone(), path, shutdown.clone()));
        }
    }

    fn read<T>(&self, with: impl FnOnce(&State) -> T) -> T {
        with(&self.state.lock().expect("no one panics holding it"))
    }

    /// Changes the state and tells everyone who watches it.
    fn update<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let result = with(&mut self.state.lock().expect("no one panics holding it"));
        self.changed.send_modify(|n| *n += 1);
        self.nudge.notify_one();
        result
    }

    /// The service's desired and running count; None when there is no such service.
    pub(crate) fn counts(&self, key: &ServiceKey) -> Option<(u32, u32)> {
        self.read(|state| {
            let desired = state.services.get(key)?.desired;
            let running = state.tasks_of(key).filter(|t| t.is_running()).count();
            Some((desired, u32::try_from(running).unwrap_or(u32::MAX)))
        })
    }

    pub(crate) fn set_desired(&self, key: &ServiceKey, desired: u32) {
        self.update(|state| {
            if let Some(service) = state.services.get_mut(key) {
                service.set_desired(desired, unix_now());
            }
        });
    }

    /// How often the state has changed; `wait` returns after the next change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a test or the demo wants to know of each task.
    pub(crate) fn overview(&self) -> Vec<model::TaskView> {
        self.read(|state| state.tasks.values().map(model::Task::view).collect())
    }

    /// Kills the main process of one container, as a crash would.
    pub(crate) fn kill(&self, task_id: &str, container: &str) -> bool {
        let pid = self.read(|state| {
            let task = state.tasks.get(task_id)?;
            task.containers.iter().find(|c| c.definition.name == container)?.pid
        });
        pid.is_some_and(|pid| task::signal_group(pid, nix::sys::signal::Signal::SIGKILL))
    }

    pub(crate) fn kill_all(&self) {
        let containers = |state: &State| {
            state.tasks.values().flat_map(|t| &t.containers).filter_map(|c| c.pid).collect::<Vec<i32>>()
        };
        for pid in self.read(containers) {
            task::signal_group(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Orders every task to stop and waits until none is left.
    pub(crate) async fn stop_all(&self, reason: &str) {
        self.update(|state| {
            state.closing = true;
            for task in state.tasks.values_mut() {
                task.order_stop(model::StopOrder { code: "UserInitiated", reason: reason.to_owned() });
            }
        });
        let longest = self.read(|state| {
            let containers = state.tasks.values().flat_map(|t| &t.containers);
            containers.map(|c| c.definition.stop_timeout).max().unwrap_or_default()
        });
        let mut changes = self.changes();
        let stopped = tokio::time::timeout(longest + STOP_GRACE, async {
            while self.read(|state| state.tasks.values().any(|t| !t.is_stopped())) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        });
        if stopped.await.is_err() {
            tracing::error!("tasks did not stop in time");
        }
    }

    fn names(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("region", self.topology.region.clone()), ("account", self.topology.account.clone())])
    }
}
