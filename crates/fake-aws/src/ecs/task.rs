//! One task from PROVISIONING to STOPPED: its containers are processes, each in a process group of its own.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use service::config::{Env, ProcessEnv};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Ecs;
use super::model::{ContainerStatus, Health, StopOrder, Task, TaskStatus, unix_now};
use crate::topology::{Container, HealthCheck};

/// What a process gets of our own environment; the rest comes from the topology, as from a task definition.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH"];

type Exits = JoinSet<(usize, Option<ExitStatus>)>;

/// Runs the task until it is stopped; the caller has put it into the state.
pub(super) async fn run(ecs: Arc<Ecs>, id: String, mut stop: watch::Receiver<Option<StopOrder>>) {
    let start_delay = ecs.topology.start_delay;
    if !start_delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(start_delay) => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
    }
    let started = Instant::now();
    let mut exits = JoinSet::new();
    let mut checks = JoinSet::new();
    let mut crashed = false;
    if stop.borrow().is_none() {
        set(&ecs, &id, |task| task.set_status(TaskStatus::Pending));
        match start_all(&ecs, &id, &mut exits, &mut checks) {
            Ok(()) => {
                set(&ecs, &id, |task| {
                    task.set_status(TaskStatus::Running);
                    task.started_at = Some(unix_now());
                });
                crashed = watch_until_end(&ecs, &id, &mut exits, &mut stop).await;
            }
            Err(why) => {
                tracing::warn!(task_id = id, "{why}");
                crashed = true;
                set(&ecs, &id, |task| {
                    task.order_stop(StopOrder { code: "TaskFailedToStart", reason: why.clone() });
                });
            }
        }
    }
    // Dropping the set ends the checks: a task that goes down is not asked how it feels.
    drop(checks);
    stop_all(&ecs, &id, exits).await;
    set(&ecs, &id, |task| {
        task.set_status(TaskStatus::Stopped);
        task.stopped_at = Some(unix_now());
    });
    ecs.note_end(&id, crashed, started.elapsed());
}

fn set(ecs: &Ecs, id: &str, with: impl FnOnce(&mut Task)) {
    ecs.update(|state| {
        if let Some(task) = state.tasks.get_mut(id) {
            task.version += 1;
            with(task);
        }
    });
}

fn start_all(ecs: &Arc<Ecs>, id: &str, exits: &mut Exits, checks: &mut JoinSet<()>) -> Result<(), String> {
    let Some((containers, values)) = ecs.read(|state| {
        let task = state.tasks.get(id)?;
        let containers: Vec<Container> = task.containers.iter().map(|c| c.definition.clone()).collect();
        Some((containers, template_values(ecs, task)))
    }) else {
        return Err("the task vanished before its start".to_owned());
    };
    for (index, container) in containers.iter().enumerate() {
        let mut values = values.clone();
        values.insert("container", container.name.clone());
        let mut child = start(ecs, container, &values)
            .map_err(|why| format!("CannotStartContainerError: container {}: {why}", container.name))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        set(ecs, id, |task| {
            task.containers[index].pid = pid;
            task.containers[index].status = ContainerStatus::Running;
        });
        exits.spawn(async move { (index, child.wait().await.ok()) });
        if let Some(check) = container.health_check.clone() {
            let check = HealthCheck { command: fill_all(&check.command, &values), ..check };
            let env = environment(ecs, container, &values);
            checks.spawn(watch_health(ecs.clone(), id.to_owned(), index, check, env));
        }
    }
    Ok(())
}

fn template_values(ecs: &Ecs, task: &Task) -> BTreeMap<&'static str, String> {
    let mut values = ecs.names();
    values.extend([
        ("task_ip", task.ip.to_string()),
        ("task_id", task.id.clone()),
        ("task_arn", task.arn.clone()),
        ("cluster", task.key.cluster.clone()),
        ("service", task.key.service.clone()),
        ("family", task.definition.family.clone()),
        ("revision", task.definition.revision.to_string()),
        ("environment", ecs.topology.environment.clone()),
        ("log_dir", ecs.log_dir.display().to_string()),
    ]);
    values
}

fn start(ecs: &Ecs, container: &Container, values: &BTreeMap<&'static str, String>) -> Result<Child, String> {
    let argv = fill_all(&container.command, values);
    let log = fill("{log_dir}/{service}-{task_id}-{container}.log", values);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(Path::new(&log))
        .map_err(|error| format!("failed to open log file `{log}`: {error}"))?;
    let twin = log.try_clone().map_err(|error| format!("failed to open its log file twice: {error}"))?;
    command(&argv, environment(ecs, container, values))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(twin)
        .spawn()
        .map_err(|error| format!("failed to run `{}`: {error}", argv[0]))
}

/// In a process group of its own, so that a signal reaches its children too; killed when we let go of it.
fn command(argv: &[String], env: Vec<(String, String)>) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().envs(env).process_group(0).kill_on_drop(true);
    command
}

fn environment(ecs: &Ecs, container: &Container, values: &BTreeMap<&'static str, String>) -> Vec<(String, String)> {
    let inherited = INHERITED.iter().filter_map(|key| Some(((*key).to_owned(), ProcessEnv.get(key)?)));
    let fargate = [
        ("AWS_REGION".to_owned(), ecs.topology.region.clone()),
        ("AWS_DEFAULT_REGION".to_owned(), ecs.topology.region.clone()),
        ("AWS_EXECUTION_ENV".to_owned(), "AWS_ECS_FARGATE".to_owned()),
    ];
    let own = container.env.iter().map(|(key, value)| (key.clone(), fill(value, values)));
    inherited.chain(fargate).chain(own).collect()
}

/// Replaces `{task_ip}` and its like; other braces stay, so that JSON can be passed.
fn fill(text: &str, values: &BTreeMap<&'static str, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

fn fill_all(texts: &[String], values: &BTreeMap<&'static str, String>) -> Vec<String> {
    texts.iter().map(|t| fill(t, values)).collect()
}

/// Returns when the task shall end; true when it does so by itself, false when it was ordered.
async fn watch_until_end(
    ecs: &Ecs,
    id: &str,
    exits: &mut Exits,
    stop: &mut watch::Receiver<Option<StopOrder>>,
) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => return false,
            Some(Ok((index, status))) = exits.join_next() => {
                let essential = note_exit(ecs, id, index, status);
                if essential {
                    set(ecs, id, |task| task.order_stop(StopOrder {
                        code: "EssentialContainerExited",
                        reason: "Essential container in task exited".to_owned(),
                    }));
                    return true;
                }
            }
        }
    }
}

/// Records the exit and ends what the main process left behind; answers whether the container was essential.
fn note_exit(ecs: &Ecs, id: &str, index: usize, status: Option<ExitStatus>) -> bool {
    let mut essential = false;
    let mut group = None;
    set(ecs, id, |task| {
        let container = &mut task.containers[index];
        group = container.pid.take();
        container.status = ContainerStatus::Stopped;
        container.exit_code = status.and_then(|s| s.code().or_else(|| s.signal().map(|n| 128 + n)));
        essential = container.definition.essential;
    });
    if let Some(pid) = group {
        signal_group(pid, Signal::SIGKILL);
    }
    essential
}

/// False when the group is gone already.
pub(super) fn signal_group(pid: i32, signal: Signal) -> bool {
    killpg(Pid::from_raw(pid), signal).is_ok()
}

/// DEACTIVATING, then SIGTERM to all containers at once, SIGKILL after their stop timeout.
async fn stop_all(ecs: &Ecs, id: &str, mut exits: Exits) {
    let mut timeouts = Vec::new();
    set(ecs, id, |task| {
        task.stopping_at = Some(unix_now());
        task.set_status(TaskStatus::Deactivating);
    });
    set(ecs, id, |task| {
        task.set_status(TaskStatus::Stopping);
        for (index, container) in task.containers.iter().enumerate() {
            if let Some(pid) = container.pid {
                signal_group(pid, Signal::SIGTERM);
                timeouts.push((container.definition.stop_timeout, index));
            }
        }
    });
    timeouts.sort();
    let start = Instant::now();
    let mut timeouts = timeouts.into_iter().peekable();
    loop {
        let next_kill = timeouts.peek().map_or(Duration::MAX, |(timeout, _)| *timeout);
        let wait = next_kill.saturating_sub(start.elapsed());
        match tokio::time::timeout(wait, exits.join_next()).await {
            Ok(None) => return,
            Ok(Some(Ok((index, status)))) => drop(note_exit(ecs, id, index, status)),
            Ok(Some(Err(error))) => tracing::error!(task_id = id, "waiting for a container failed: {error}"),
            Err(_) => {
                let late = timeouts.next().and_then(|(_, index)| {
                    ecs.read(|state| state.tasks.get(id).and_then(|task| task.containers[index].pid))
                });
                if let Some(pid) = late {
                    signal_group(pid, Signal::SIGKILL);
                }
            }
        }
    }
}

/// Runs the container's health check for as long as the task runs.
async fn watch_health(ecs: Arc<Ecs>, id: String, index: usize, check: HealthCheck, env: Vec<(String, String)>) {
    let Ok(argv) = check.argv() else { return };
    let started = Instant::now();
    let mut failures = 0;
    loop {
        let before_first_success =
            ecs.read(|state| state.tasks.get(&id).is_some_and(|t| t.containers[index].health == Health::Unknown));
        // A starting container is asked often, so that a start does not take a whole interval.
        let wait = if before_first_success { check.interval.min(Duration::from_secs(1)) } else { check.interval };
        tokio::time::sleep(wait).await;
        let mut command = command(&argv, env.clone());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let passed = match command.spawn() {
            Ok(mut child) => matches!(
                tokio::time::timeout(check.timeout, child.wait()).await,
                Ok(Ok(status)) if status.success()
            ),
            Err(_) => false,
        };
        let in_start_period = started.elapsed() < check.start_period;
        failures = if passed || (in_start_period && before_first_success) { 0 } else { failures + 1 };
        let health = match (passed, failures >= check.retries) {
            (true, _) => Health::Healthy,
            (false, true) => Health::Unhealthy,
            (false, false) => continue,
        };
        let changed = ecs.read(|state| state.tasks.get(&id).is_some_and(|t| t.containers[index].health != health));
        if changed {
            set(&ecs, &id, |task| task.containers[index].health = health);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_filled_in_and_other_braces_stay() {
        let values = BTreeMap::from([("task_ip", "127.0.3.1".to_owned()), ("service", "order".to_owned())]);
        assert_eq!(fill(r#"{"a":"{service}@{task_ip}:{port}"}"#, &values), r#"{"a":"order@127.0.3.1:{port}"}"#);
    }
}
