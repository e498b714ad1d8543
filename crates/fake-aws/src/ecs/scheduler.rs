//! Keeps each service at its desired count and rolls deployments; one look per change or second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::model::{
    Container, ContainerStatus, Definition, Health, Rollout, State, StopOrder, Task, TaskStatus, unix_now,
};
use super::{Ecs, ServiceKey, task};

const TICK: Duration = Duration::from_secs(1);
/// Gathers changes that come together into one look; it also keeps a service that crashes at once from spinning.
const QUIET: Duration = Duration::from_millis(20);

pub(super) async fn run(ecs: Arc<Ecs>, shutdown: service::Shutdown) -> anyhow::Result<()> {
    while !shutdown.is_requested() {
        for (id, stop) in ecs.plan_and_record() {
            service::task::spawn("ecs-task", task::run(ecs.clone(), id, stop));
        }
        tokio::select! {
            () = shutdown.requested() => break,
            () = ecs.nudge.notified() => tokio::time::sleep(QUIET).await,
            () = tokio::time::sleep(TICK) => {}
        }
    }
    Ok(())
}

type Start = (String, watch::Receiver<Option<StopOrder>>);

impl Ecs {
    /// Brings every service one step nearer to what is wanted; answers the tasks to start.
    fn plan_and_record(&self) -> Vec<Start> {
        let mut state = self.state.lock().expect("no one panics holding it");
        if state.closing {
            return Vec::new();
        }
        let before: u64 = state.tasks.values().map(|t| t.version).sum::<u64>() + state.tasks.len() as u64;
        state.forget_old_tasks(unix_now());
        let keys: Vec<ServiceKey> = state.services.keys().cloned().collect();
        let starts: Vec<Start> = keys.iter().flat_map(|key| self.reconcile(&mut state, key)).collect();
        let after: u64 = state.tasks.values().map(|t| t.version).sum::<u64>() + state.tasks.len() as u64;
        drop(state);
        if before != after {
            self.changed.send_modify(|n| *n += 1);
        }
        starts
    }

    fn reconcile(&self, state: &mut State, key: &ServiceKey) -> Vec<Start> {
        replace_unhealthy(state, key);
        let Some(service) = state.services.get(key) else { return Vec::new() };
        let (desired, primary) = (service.desired as usize, service.primary().id.clone());
        let definition = service.primary().definition.clone();
        let on_primary = |t: &&Task| t.deployment == primary;

        let wanted: Vec<&Task> = state.tasks_of(key).filter(|t| t.is_wanted()).collect();
        let new_count = wanted.iter().copied().filter(on_primary).count();
        let new_ready = wanted.iter().copied().filter(on_primary).filter(|t| t.takes_traffic()).count();
        let mut surplus: Vec<(f64, String)> = Vec::new();
        // The old deployment's tasks go when as many new ones carry the traffic (minimum healthy 100 %).
        if new_ready >= desired {
            surplus.extend(wanted.iter().filter(|t| t.deployment != primary).map(|t| (t.created_at, t.id.clone())));
        }
        if new_count > desired {
            let mut new: Vec<_> =
                wanted.iter().copied().filter(on_primary).map(|t| (t.created_at, t.id.clone())).collect();
            new.sort_by(|a, b| b.0.total_cmp(&a.0));
            surplus.extend(new.into_iter().take(new_count - desired));
        }
        let reason = format!("Scaling activity initiated by (deployment {primary})");
        stop(state, key, surplus.into_iter().map(|(_, id)| id), &reason);

        let may_start = state.services[key].not_before.is_none_or(|at| Instant::now() >= at);
        let missing = if may_start { desired.saturating_sub(new_count) } else { 0 };
        let starts: Vec<Start> =
            (0..missing).filter_map(|_| self.add_task(state, key, &definition, &primary)).collect();
        note_progress(state, key);
        starts
    }

    fn add_task(
        &self,
        state: &mut State,
        key: &ServiceKey,
        definition: &Arc<Definition>,
        deployment: &str,
    ) -> Option<Start> {
        let ip = state.take_address(key, &self.topology.network)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (stop, stopped) = watch::channel(None);
        let arn = format!("arn:aws:ecs:{}:{}:task/{}/{id}", self.topology.region, self.topology.account, key.cluster);
        let container = |(index, definition): (usize, &crate::topology::Container)| Container {
            definition: definition.clone(),
            runtime_id: format!("{id}-{:010}", 527_074_092 + index),
            pid: None,
            status: ContainerStatus::Pending,
            health: Health::Unknown,
            exit_code: None,
            reason: None,
        };
        let task = Task {
            arn,
            key: key.clone(),
            definition: definition.clone(),
            deployment: deployment.to_owned(),
            ip,
            status: TaskStatus::Provisioning,
            created_at: unix_now(),
            started_at: None,
            stopping_at: None,
            stopped_at: None,
            containers: definition.spec.containers.iter().enumerate().map(container).collect(),
            stop,
            version: 1,
            id: id.clone(),
        };
        state.tasks.insert(id.clone(), task);
        let message = format!("(service {}) has started 1 tasks: (task {id}).", key.service);
        state.services.get_mut(key)?.event(message, unix_now());
        Some((id, stopped))
    }

    /// A task has ended: a service task that nobody ordered to stop counts as a failure.
    pub(super) fn note_end(&self, id: &str, crashed: bool, lived: Duration) {
        /// A task that lived this long starts a new series of failures.
        const STABLE: Duration = Duration::from_secs(30);
        self.update(|state| {
            let Some(task) = state.tasks.get(id) else { return };
            let (key, deployment) = (task.key.clone(), task.deployment.clone());
            let Some(service) = state.services.get_mut(&key) else { return };
            if lived >= STABLE {
                service.failures_in_row = 0;
            }
            if crashed {
                service.back_off(Instant::now());
                service.steady = false;
                if let Some(deployment) = service.deployments.iter_mut().find(|d| d.id == deployment) {
                    deployment.failed_tasks += 1;
                }
                if service.failures_in_row == 3 {
                    let message =
                        format!("(service {}) is unable to consistently start tasks successfully.", key.service);
                    service.event(message, unix_now());
                }
            }
        });
    }
}

fn replace_unhealthy(state: &mut State, key: &ServiceKey) {
    let unhealthy: Vec<String> = state
        .tasks_of(key)
        .filter(|t| t.is_wanted() && t.is_running() && t.health() == Health::Unhealthy)
        .map(|t| t.id.clone())
        .collect();
    for id in &unhealthy {
        if let Some(service) = state.services.get_mut(key) {
            let message = format!("(service {}) (task {id}) failed container health checks.", key.service);
            service.event(message, unix_now());
            service.steady = false;
        }
    }
    stop(state, key, unhealthy, "Task failed container health checks");
}

fn stop(state: &mut State, key: &ServiceKey, ids: impl IntoIterator<Item = String>, reason: &str) {
    let order = StopOrder { code: "ServiceSchedulerInitiated", reason: reason.to_owned() };
    let mut stopped = Vec::new();
    for id in ids {
        if let Some(task) = state.tasks.get_mut(&id) {
            task.order_stop(order.clone());
            task.version += 1;
            stopped.push(format!("(task {id})"));
        }
    }
    if let (false, Some(service)) = (stopped.is_empty(), state.services.get_mut(key)) {
        let message =
            format!("(service {}) has stopped {} running tasks: {}.", key.service, stopped.len(), stopped.join(" "));
        service.event(message, unix_now());
    }
}

/// Completes a rollout and says that the service is steady.
fn note_progress(state: &mut State, key: &ServiceKey) {
    let primary = state.services[key].primary().id.clone();
    let desired = state.services[key].desired as usize;
    let live: Vec<&Task> = state.tasks_of(key).filter(|t| !t.is_stopped()).collect();
    let ready = live.iter().filter(|t| t.deployment == primary && t.is_wanted() && t.takes_traffic()).count();
    let settled = ready == desired && live.len() == desired;
    let old_deployments_with_tasks: Vec<String> =
        live.iter().map(|t| t.deployment.clone()).filter(|d| *d != primary).collect();
    let Some(service) = state.services.get_mut(key) else { return };
    service.deployments.retain(|d| d.id == primary || old_deployments_with_tasks.contains(&d.id));
    if settled && !service.steady {
        let now = unix_now();
        service.steady = true;
        if service.deployments[0].rollout == Rollout::InProgress {
            service.deployments[0].rollout = Rollout::Completed;
            service.deployments[0].updated_at = now;
            service.event(format!("(service {}) (deployment {primary}) deployment completed.", key.service), now);
        }
        service.event(format!("(service {}) has reached a steady state.", key.service), now);
    }
}
