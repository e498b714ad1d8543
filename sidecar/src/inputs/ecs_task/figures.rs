//! From what the endpoint says to metrics. Pure.
//!
//! - Network counters belong to the task's interface, which every container reports: each interface is
//!   taken once, from the container that was read last. In bridge mode (EC2) each container has its own.
//! - Block I/O is given per device, and as the sum over devices.
//! - Memory is given as usage, working set (without the page cache that the kernel can take back), rss
//!   and page cache; which of them a limit is compared with is the rule's business, ours is working set.
//! - CPU is a counter, and a ratio of the *task's* limit between the two readings that the endpoint holds.
//! - Figures that were read carry the time of the reading, not of the scrape.
//! - A container that has stopped keeps its last reading for as long as the caller hands it in as kept;
//!   sums over the task leave it out.

mod container;
mod usage;

use std::collections::BTreeMap;

use telemetry::exposition::{Family, FamilySample, MetricKind};
use telemetry::names::{ecs, without_total};
use telemetry::{Labels, Timestamp};

use super::wire::{Container, Stats, Task, TaskStats};

const MIB: f64 = 1_048_576.0;
const NANOS: f64 = 1e9;

/// All families of the task, in a fixed order; a family without a sample is left out. `kept` holds the last
/// readings of containers that have stopped, by Docker id.
pub fn families(task: &Task, stats: &TaskStats, kept: &BTreeMap<String, Stats>) -> Vec<Family> {
    let readings: BTreeMap<&str, &Stats> = stats
        .iter()
        .filter_map(|(id, stats)| Some((id.as_str(), stats.as_ref().filter(|s| s.is_reading())?)))
        .collect();
    let mut out = Families::default();
    task_figures(&mut out, task);
    for container in &task.containers {
        let id = container.docker_id.as_str();
        let last = readings.get(id).copied().or_else(|| kept.get(id));
        container::state(&mut out, task, container, last);
        if let Some(last) = last {
            usage::of_container(&mut out, task, container, last);
        }
    }
    usage::of_task(&mut out, task, &readings);
    usage::network(&mut out, task, &readings);
    out.list
}

fn task_figures(out: &mut Families, task: &Task) {
    let info = Labels::from_pairs([
        ("cluster", &task.cluster),
        ("task_arn", &task.task_arn),
        ("family", &task.family),
        ("revision", &task.revision),
        ("desired_status", &task.desired_status),
        ("known_status", &task.known_status),
        ("availability_zone", &task.availability_zone),
        ("launch_type", &task.launch_type),
    ]);
    out.gauge(ecs::TASK_METADATA_INFO, "The task, as ECS describes it; always 1.", info, 1.0, None);
    let mut gauge = |name, help, value: Option<f64>| out.gauge_if(name, help, &Labels::empty(), value, None);
    let limits = task.limits.as_ref();
    gauge(ecs::TASK_CPU_LIMIT_VCPUS, "CPU limit of the task in vCPUs.", limits.and_then(|l| l.cpu));
    gauge(ecs::TASK_MEMORY_LIMIT_BYTES, "Memory limit of the task.", memory_limit_of_task(task));
    let storage = task.ephemeral_storage_metrics.as_ref();
    let used = storage.map(|s| s.utilized as f64 * MIB);
    gauge(ecs::TASK_EPHEMERAL_STORAGE_USED_BYTES, "Ephemeral storage in use.", used);
    let allocated = storage.map(|s| s.reserved as f64 * MIB);
    gauge(ecs::TASK_EPHEMERAL_STORAGE_ALLOCATED_BYTES, "Ephemeral storage of the task.", allocated);
    for (name, help, time) in [
        (ecs::TASK_IMAGE_PULL_START_TIMESTAMP_SECONDS, "When the first image pull began.", &task.pull_started_at),
        (ecs::TASK_IMAGE_PULL_STOP_TIMESTAMP_SECONDS, "When the last image pull ended.", &task.pull_stopped_at),
        (
            ecs::TASK_EXECUTION_STOPPED_TIMESTAMP_SECONDS,
            "When the first essential container stopped.",
            &task.execution_stopped_at,
        ),
    ] {
        gauge(name, help, seconds(time.as_deref()));
    }
    let Some(clock) = &task.clock_drift else { return };
    let bound = clock.clock_error_bound.map(|millis| millis / 1000.0);
    gauge(ecs::TASK_CLOCK_ERROR_BOUND_SECONDS, "How far the task's clock may be off.", bound);
    let synchronized = match clock.clock_synchronization_status.as_str() {
        "SYNCHRONIZED" => Some(1.0),
        "NOT_SYNCHRONIZED" => Some(0.0),
        _ => None,
    };
    gauge(ecs::TASK_CLOCK_SYNCHRONIZED, "1 when the task's clock is synchronised.", synchronized);
    let reference = seconds(clock.reference_timestamp.as_deref());
    gauge(ecs::TASK_CLOCK_REFERENCE_TIMESTAMP_SECONDS, "When the clock was last compared.", reference);
}

fn memory_limit_of_task(task: &Task) -> Option<f64> {
    task.limits.as_ref()?.memory.filter(|mib| *mib > 0).map(|mib| mib as f64 * MIB)
}

/// The container's own limit, or the task's where it has none: whichever ends it first.
fn memory_limit_of(task: &Task, container: &Container) -> Option<f64> {
    let own = container.limits.memory.filter(|mib| *mib > 0).map(|mib| mib as f64 * MIB);
    own.or_else(|| memory_limit_of_task(task))
}

fn labels_of(container: &Container) -> Labels {
    Labels::from_pairs([("container_name", &container.name)])
}

fn seconds(time: Option<&str>) -> Option<f64> {
    Timestamp::parse_rfc3339(time?).map(Timestamp::as_secs_f64)
}

/// Collects samples into families.
#[derive(Default)]
pub(super) struct Families {
    pub(super) list: Vec<Family>,
}

impl Families {
    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: Labels, value: f64, at: Option<Timestamp>) {
        self.add([name, name], MetricKind::Gauge, help, labels, value, at);
    }

    fn gauge_if(&mut self, name: &str, help: &str, labels: &Labels, value: Option<f64>, at: Option<Timestamp>) {
        if let Some(value) = value {
            self.gauge(name, help, labels.clone(), value, at);
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, labels: Labels, value: f64, at: Option<Timestamp>) {
        self.add([without_total(name), name], MetricKind::Counter, help, labels, value, at);
    }

    fn add(
        &mut self,
        [family, name]: [&str; 2],
        kind: MetricKind,
        help: &str,
        labels: Labels,
        value: f64,
        timestamp: Option<Timestamp>,
    ) {
        let sample = FamilySample { name: name.to_owned(), labels, value, timestamp, exemplar: None };
        match self.list.iter_mut().find(|f| f.name == family) {
            Some(found) => found.samples.push(sample),
            None => self.list.push(Family {
                name: family.to_owned(),
                kind,
                help: help.to_owned(),
                unit: String::new(),
                samples: vec![sample],
            }),
        }
    }
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
