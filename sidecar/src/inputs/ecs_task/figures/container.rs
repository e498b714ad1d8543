//! What is known of a container whether it runs or not.

use telemetry::names::ecs;

use super::usage::Memory;
use super::{Families, labels_of, memory_limit_of, seconds};
use crate::inputs::ecs_task::wire::{Container, Stats, Task};

/// A container that was killed while it used this much of its limit ran out of memory, most likely: the last reading
/// is up to ten seconds older than the end.
const OUT_OF_MEMORY_FROM: f64 = 0.8;

pub(super) fn state(out: &mut Families, task: &Task, container: &Container, last: Option<&Stats>) {
    let labels = labels_of(container);
    let info = labels
        .with("image", &container.image)
        .with("image_id", &container.image_id)
        .with("known_status", &container.known_status);
    out.gauge(ecs::CONTAINER_INFO, "A container of the task; always 1.", info, 1.0, None);
    let mut gauge = |name, help, value: Option<f64>| out.gauge_if(name, help, &labels, value, None);
    let exit_code = container.exit_code.map(|code| code as f64);
    gauge(ecs::CONTAINER_EXIT_CODE, "Exit code of a container that has stopped.", exit_code);
    for (name, help, time) in [
        (ecs::CONTAINER_CREATED_TIMESTAMP_SECONDS, "When the container was created.", &container.created_at),
        (ecs::CONTAINER_STARTED_TIMESTAMP_SECONDS, "When the container started.", &container.started_at),
        (ecs::CONTAINER_FINISHED_TIMESTAMP_SECONDS, "When the container stopped.", &container.finished_at),
    ] {
        gauge(name, help, seconds(time.as_deref()));
    }
    let limit = memory_limit_of(task, container);
    gauge(ecs::CONTAINER_MEMORY_LIMIT_BYTES, "Memory limit of the container, or the task's where it has none.", limit);
    if let Some(health) = &container.health {
        let healthy = match health.status.as_str() {
            "HEALTHY" => Some(1.0),
            "UNHEALTHY" => Some(0.0),
            _ => None,
        };
        gauge(ecs::CONTAINER_HEALTHY, "1 when the container's health check passes, 0 when it fails.", healthy);
        let since = seconds(health.status_since.as_deref());
        let help = "Since when the container's health is what it is.";
        gauge(ecs::CONTAINER_HEALTH_CHANGED_TIMESTAMP_SECONDS, help, since);
    }
    if let Some(count) = container.restart_count {
        let help = "Restarts by the container's restart policy.";
        out.counter(ecs::CONTAINER_RESTARTS_TOTAL, help, labels.clone(), count as f64, None);
    }
    if let Some(reason) = stop_reason(task, container, last) {
        let help = "Why the container stopped, as far as its exit code and last reading tell; always 1.";
        out.gauge(ecs::CONTAINER_STOPPED_INFO, help, labels.with("reason", reason), 1.0, None);
    }
}

/// The metadata says no reason. What it does say is enough for most ends; `out_of_memory_suspected` is a kill that
/// nobody ordered with the memory all but used up.
fn stop_reason(task: &Task, container: &Container, last: Option<&Stats>) -> Option<&'static str> {
    if container.known_status != "STOPPED" {
        return None;
    }
    let ordered = task.desired_status == "STOPPED" || container.desired_status == "STOPPED";
    Some(match container.exit_code? {
        0 => "completed",
        137 if !ordered && memory_was_short(task, container, last) => "out_of_memory_suspected",
        137 => "killed",
        143 => "terminated",
        // Signals that a program brings upon itself: 128 + SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
        132 | 133 | 134 | 135 | 136 | 139 => "crashed",
        _ => "failed",
    })
}

fn memory_was_short(task: &Task, container: &Container, last: Option<&Stats>) -> bool {
    let used = last.and_then(|stats| Memory::of(stats).working_set);
    let limit = memory_limit_of(task, container);
    used.zip(limit).is_some_and(|(used, limit)| used as f64 >= OUT_OF_MEMORY_FROM * limit)
}
