//! Tasks that have ended, and why, in ECS' own words: evidence for alerts, and a counter to alert on.
//!
//! ECS describes a stopped task for about an hour. What is known of one never changes, so each is read once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::types::{Container, Task};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use telemetry::Timestamp;

/// More than any incident needs; the oldest go first.
const KEPT_MAX: usize = 500;

/// A task that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedTask {
    pub cluster: String,
    /// Empty for a task that belongs to no service.
    pub service: String,
    pub task_id: String,
    pub at: Timestamp,
    pub reason: StopReason,
    /// ECS' reason and what it says of each container that failed.
    pub text: String,
}

/// Why, as a small closed set; also the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    OutOfMemory,
    ContainerExited,
    FailedToStart,
    /// Scaling, a deployment, or a failed health check.
    ServiceScheduler,
    Spot,
    User,
    Other,
}

impl StopReason {
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::OutOfMemory => "out_of_memory",
            StopReason::ContainerExited => "container_exited",
            StopReason::FailedToStart => "failed_to_start",
            StopReason::ServiceScheduler => "service_scheduler",
            StopReason::Spot => "spot",
            StopReason::User => "user",
            StopReason::Other => "other",
        }
    }
}

impl StoppedTask {
    /// None for a task that has not ended yet.
    pub(super) fn of(cluster: &str, task: &Task) -> Option<Self> {
        let at = task.stopped_at().or(task.stopping_at())?;
        let is_oom = |c: &Container| c.reason().is_some_and(|reason| reason.starts_with("OutOfMemory"));
        let code = task.stop_code().map(|code| code.as_str()).unwrap_or_default();
        let reason = match code {
            _ if task.containers().iter().any(is_oom) => StopReason::OutOfMemory,
            "EssentialContainerExited" => StopReason::ContainerExited,
            "TaskFailedToStart" => StopReason::FailedToStart,
            "ServiceSchedulerInitiated" => StopReason::ServiceScheduler,
            "SpotInterruption" | "TerminationNotice" => StopReason::Spot,
            "UserInitiated" => StopReason::User,
            _ => StopReason::Other,
        };
        let failed = task.containers().iter().filter_map(failure);
        let text: Vec<String> = task.stopped_reason().map(str::to_owned).into_iter().chain(failed).collect();
        Some(StoppedTask {
            cluster: cluster.to_owned(),
            service: task.group().and_then(|g| g.strip_prefix("service:")).unwrap_or_default().to_owned(),
            task_id: task.task_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default().to_owned(),
            at: Timestamp(at.to_millis().unwrap_or_default()),
            reason,
            text: text.join("; "),
        })
    }
}

/// `app: exit code 137, OutOfMemoryError: …`; None for a container that ended well.
fn failure(container: &Container) -> Option<String> {
    let exit = container.exit_code().filter(|code| *code != 0).map(|code| format!("exit code {code}"));
    let reason = container.reason().map(str::to_owned);
    let said: Vec<String> = exit.into_iter().chain(reason).collect();
    (!said.is_empty()).then(|| format!("{}: {}", container.name().unwrap_or("container"), said.join(", ")))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::discovery) struct StopLabels {
    cluster: String,
    ecs_service: String,
    reason: &'static str,
}

/// The stopped tasks that are known, by ARN; clones share them.
#[derive(Clone, Default)]
pub struct Stops {
    tasks: Arc<Mutex<BTreeMap<String, StoppedTask>>>,
    pub(in crate::discovery) count: Family<StopLabels, Counter>,
}

impl Stops {
    /// Those of the last hour that belong to one of the services, newest first.
    pub fn of_services(&self, services: &[&str]) -> Vec<StoppedTask> {
        let tasks = self.tasks.lock().expect("no one panics holding it");
        let mut found: Vec<_> = tasks.values().filter(|t| services.contains(&t.service.as_str())).cloned().collect();
        found.sort_by_key(|task| std::cmp::Reverse(task.at));
        found
    }

    pub(super) fn unknown(&self, arns: Vec<String>) -> Vec<String> {
        let tasks = self.tasks.lock().expect("no one panics holding it");
        arns.into_iter().filter(|arn| !tasks.contains_key(arn)).collect()
    }

    /// `counted` is false for what had ended before anybody looked.
    pub(crate) fn add(&self, arn: String, task: StoppedTask, counted: bool) {
        let reason = task.reason.as_str();
        let labels = StopLabels { cluster: task.cluster.clone(), ecs_service: task.service.clone(), reason };
        let mut tasks = self.tasks.lock().expect("no one panics holding it");
        if tasks.insert(arn, task).is_none() {
            // A counter that first appears with its first increase shows none.
            for reason in [StopReason::OutOfMemory, StopReason::ContainerExited, StopReason::FailedToStart] {
                drop(self.count.get_or_create(&StopLabels { reason: reason.as_str(), ..labels.clone() }));
            }
            self.count.get_or_create(&labels).inc_by(u64::from(counted));
        }
        while tasks.len() > KEPT_MAX {
            let Some(oldest) = tasks.iter().min_by_key(|(_, t)| t.at).map(|(arn, _)| arn.clone()) else { break };
            tasks.remove(&oldest);
        }
    }

    /// Makes the counters of a running service exist.
    pub(super) fn expect(&self, cluster: &str, service: &str) {
        for reason in [StopReason::OutOfMemory, StopReason::ContainerExited, StopReason::FailedToStart] {
            let (cluster, ecs_service) = (cluster.to_owned(), service.to_owned());
            drop(self.count.get_or_create(&StopLabels { cluster, ecs_service, reason: reason.as_str() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::primitives::DateTime;
    use aws_sdk_ecs::types::TaskStopCode;

    fn task(code: TaskStopCode, containers: Vec<Container>) -> Task {
        Task::builder()
            .task_arn("arn:aws:ecs:eu-1:1:task/demo/abc")
            .group("service:order")
            .stop_code(code)
            .stopped_reason("Essential container in task exited")
            .stopped_at(DateTime::from_secs(1_700_000_000))
            .set_containers(Some(containers))
            .build()
    }

    #[test]
    fn ecs_own_words_are_kept_and_out_of_memory_is_told_from_other_exits() {
        let app = Container::builder().name("app").exit_code(137);
        let oom = app.clone().reason("OutOfMemoryError: Container killed due to memory usage").build();
        let ended = StoppedTask::of("demo", &task(TaskStopCode::EssentialContainerExited, vec![oom])).expect("ended");
        assert_eq!((ended.service.as_str(), ended.task_id.as_str()), ("order", "abc"));
        assert_eq!(ended.reason, StopReason::OutOfMemory);
        assert_eq!(
            ended.text,
            "Essential container in task exited; app: exit code 137, OutOfMemoryError: Container killed due to memory usage"
        );
        let clean = vec![app.build(), Container::builder().name("sidecar").exit_code(0).build()];
        let ended = StoppedTask::of("demo", &task(TaskStopCode::EssentialContainerExited, clean)).expect("ended");
        assert_eq!(ended.reason, StopReason::ContainerExited);
        assert_eq!(ended.text, "Essential container in task exited; app: exit code 137");
        assert_eq!(StoppedTask::of("demo", &Task::builder().build()), None);
    }

    #[test]
    fn what_ended_before_anybody_looked_is_known_but_not_counted() {
        let stops = Stops::default();
        let ended = StoppedTask::of("demo", &task(TaskStopCode::UserInitiated, Vec::new())).expect("ended");
        stops.add("a".into(), ended.clone(), false);
        stops.add("b".into(), ended.clone(), true);
        stops.add("b".into(), ended, true);
        assert_eq!(stops.of_services(&["order"]).len(), 2);
        assert_eq!(stops.of_services(&["user"]), []);
        assert_eq!(stops.unknown(vec!["b".into(), "c".into()]), ["c"]);
        let labels = StopLabels { cluster: "demo".into(), ecs_service: "order".into(), reason: "user" };
        assert_eq!(stops.count.get_or_create(&labels).get(), 1);
    }
}
