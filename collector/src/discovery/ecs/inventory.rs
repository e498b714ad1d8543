//! What ECS says there should be: services with their counts, tasks with what they lack to be targets. Per cluster
//! the last listing that succeeded, and when that was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::types::{Cluster, Task};
use telemetry::Timestamp;

use super::fetch::Tasks;
use super::meta::ip_address;

/// A cheap handle; the sources write, everybody reads. By cluster ARN.
#[derive(Clone, Default)]
pub struct Inventory(Arc<Mutex<BTreeMap<String, Arc<ClusterFacts>>>>);

/// One cluster as it was last read in full.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFacts {
    pub name: String,
    pub read: Timestamp,
    /// Why it has not been read since.
    pub error: Option<String>,
    /// By name.
    pub services: BTreeMap<String, ServiceFacts>,
    pub tasks: Vec<TaskFacts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    pub desired: i32,
    pub running: i32,
    pub pending: i32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskFacts {
    pub arn: String,
    /// None for a task that no service started.
    pub service: Option<String>,
    pub last_status: String,
    pub has_address: bool,
    pub containers: Vec<String>,
}

impl TaskFacts {
    pub fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }

    fn of(task: &Task) -> Self {
        TaskFacts {
            arn: task.task_arn().unwrap_or_default().to_owned(),
            service: task.group().and_then(|group| group.strip_prefix("service:")).map(str::to_owned),
            last_status: task.last_status().unwrap_or_default().to_owned(),
            has_address: ip_address(task).is_some(),
            containers: task.containers().iter().filter_map(|c| c.name().map(str::to_owned)).collect(),
        }
    }
}

impl Inventory {
    pub fn snapshot(&self) -> BTreeMap<String, Arc<ClusterFacts>> {
        self.lock().clone()
    }

    pub(super) fn read(&self, cluster: &Cluster, tasks: &Tasks, now: Timestamp) {
        let services = tasks.services.iter().map(|(name, service)| {
            let (desired, running, pending) =
                (service.desired_count(), service.running_count(), service.pending_count());
            (name.clone(), ServiceFacts { desired, running, pending })
        });
        let facts = ClusterFacts {
            name: cluster.cluster_name().unwrap_or_default().to_owned(),
            read: now,
            error: None,
            services: services.collect(),
            tasks: tasks.tasks.iter().map(TaskFacts::of).collect(),
        };
        self.lock().insert(cluster.cluster_arn().unwrap_or_default().to_owned(), Arc::new(facts));
    }

    /// What is known of the cluster grows old.
    pub(super) fn failed(&self, cluster_arn: &str, error: &str) {
        if let Some(facts) = self.lock().get_mut(cluster_arn) {
            Arc::make_mut(facts).error = Some(error.to_owned());
        }
    }

    /// A listing that succeeded does not have it any more.
    pub(super) fn gone(&self, cluster_arn: &str) {
        self.lock().remove(cluster_arn);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<ClusterFacts>>> {
        self.0.lock().expect("no one panics holding it")
    }

    #[cfg(test)]
    pub(crate) fn of(facts: ClusterFacts) -> Self {
        let inventory = Inventory::default();
        inventory.lock().insert(format!("arn:{}", facts.name), Arc::new(facts));
        inventory
    }
}
