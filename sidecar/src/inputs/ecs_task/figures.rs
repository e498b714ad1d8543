//! From what the endpoint says to metrics. Pure.
//!
//! - Network counters belong to the task's interface, which every container reports: each interface is
//!   taken once, from the container that was read last.
//! - Block I/O is the sum over devices.
//! - Memory is given as usage, working set (without the page cache that the kernel can take back), rss
//!   and page cache; which of them a limit is compared with is the rule's business, ours is working set.
//! - CPU is a counter, and a ratio of the *task's* limit between the two readings that the endpoint holds.
//! - Figures that were read carry the time of the reading, not of the scrape.

use std::collections::BTreeMap;

use telemetry::exposition::{Family, FamilySample, MetricKind};
use telemetry::names::{ecs, without_total};
use telemetry::{Labels, Timestamp};

use super::wire::{Container, Network, Stats, Task, TaskStats};

const MIB: f64 = 1_048_576.0;
const NANOS: f64 = 1e9;

/// All families of the task, in a fixed order; a family without a sample is left out.
pub fn families(task: &Task, stats: &TaskStats) -> Vec<Family> {
    let mut out = Families::default();
    task_figures(&mut out, task);
    for container in &task.containers {
        container_state(&mut out, container);
        if let Some(Some(stats)) = stats.get(&container.docker_id) {
            container_usage(&mut out, task, container, stats);
        }
    }
    task_usage(&mut out, task, stats);
    network(&mut out, stats);
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
    let mut task_gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            out.gauge(name, help, Labels::empty(), value, None);
        }
    };
    let limits = task.limits.as_ref();
    task_gauge(ecs::TASK_CPU_LIMIT_VCPUS, "CPU limit of the task in vCPUs.", limits.and_then(|l| l.cpu));
    let memory_limit = limits.and_then(|l| l.memory).map(|mib| mib as f64 * MIB);
    task_gauge(ecs::TASK_MEMORY_LIMIT_BYTES, "Memory limit of the task.", memory_limit);
    let storage = task.ephemeral_storage_metrics.as_ref();
    task_gauge(
        ecs::TASK_EPHEMERAL_STORAGE_UTILIZED_BYTES,
        "Ephemeral storage in use.",
        storage.map(|s| s.utilized as f64 * MIB),
    );
    task_gauge(
        ecs::TASK_EPHEMERAL_STORAGE_RESERVED_BYTES,
        "Ephemeral storage of the task.",
        storage.map(|s| s.reserved as f64 * MIB),
    );
    task_gauge(
        ecs::TASK_IMAGE_PULL_START_TIMESTAMP_SECONDS,
        "When the first image pull began.",
        seconds(task.pull_started_at.as_deref()),
    );
    task_gauge(
        ecs::TASK_IMAGE_PULL_STOP_TIMESTAMP_SECONDS,
        "When the last image pull ended.",
        seconds(task.pull_stopped_at.as_deref()),
    );
    task_gauge(
        ecs::TASK_CLOCK_ERROR_BOUND_SECONDS,
        "How far the task's clock may be off.",
        task.clock_drift.as_ref().and_then(|c| c.clock_error_bound).map(|millis| millis / 1000.0),
    );
}

/// What is known of a container whether it runs or not.
fn container_state(out: &mut Families, container: &Container) {
    let labels = labels_of(container);
    let info = labels
        .with("image", &container.image)
        .with("image_id", &container.image_id)
        .with("known_status", &container.known_status);
    out.gauge(ecs::CONTAINER_INFO, "A container of the task; always 1.", info, 1.0, None);
    let mut gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            out.gauge(name, help, labels.clone(), value, None);
        }
    };
    let exit_code = container.exit_code.map(|code| code as f64);
    gauge(ecs::CONTAINER_EXIT_CODE, "Exit code of a container that has stopped.", exit_code);
    let started = seconds(container.started_at.as_deref());
    gauge(ecs::CONTAINER_STARTED_TIMESTAMP_SECONDS, "When the container started.", started);
    let finished = seconds(container.finished_at.as_deref());
    gauge(ecs::CONTAINER_FINISHED_TIMESTAMP_SECONDS, "When the container stopped.", finished);
    let memory_limit = container.limits.memory.filter(|mib| *mib > 0).map(|mib| mib as f64 * MIB);
    gauge(ecs::CONTAINER_MEMORY_LIMIT_BYTES, "Memory limit of the container, where it has one.", memory_limit);
    if let Some(health) = &container.health {
        let healthy = match health.status.as_str() {
            "HEALTHY" => Some(1.0),
            "UNHEALTHY" => Some(0.0),
            _ => None,
        };
        gauge(ecs::CONTAINER_HEALTHY, "1 when the container's health check passes, 0 when it fails.", healthy);
        let since = seconds(health.status_since.as_deref());
        gauge(
            ecs::CONTAINER_HEALTH_CHANGED_TIMESTAMP_SECONDS,
            "Since when the container's health is what it is.",
            since,
        );
    }
    if let Some(count) = container.restart_count {
        let help = "Restarts by the container's restart policy.";
        out.counter(ecs::CONTAINER_RESTARTS_TOTAL, help, labels_of(container), count as f64, None);
    }
}

/// What a running container uses.
fn container_usage(out: &mut Families, task: &Task, container: &Container, stats: &Stats) {
    let (labels, read_at) = (labels_of(container), Timestamp::parse_rfc3339(&stats.read));
    let cpu_seconds = stats.cpu_stats.cpu_usage.total_usage as f64 / NANOS;
    let help = "CPU time that the container has used.";
    out.counter(ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL, help, labels.clone(), cpu_seconds, read_at);
    let limit = task.limits.as_ref().and_then(|l| l.cpu).filter(|vcpus| *vcpus > 0.0);
    if let (Some(vcpus), Some(limit)) = (vcpus_used(stats), limit) {
        let help = "CPU that the container uses, of the task's limit.";
        out.gauge(ecs::CONTAINER_CPU_UTILIZATION_RATIO, help, labels.clone(), vcpus / limit, read_at);
    }
    let memory = Memory::of(stats);
    for (name, help, value) in [
        (ecs::CONTAINER_MEMORY_USAGE_BYTES, "Memory in use, page cache included.", memory.usage),
        (
            ecs::CONTAINER_MEMORY_WORKING_SET_BYTES,
            "Memory in use without the page cache that the kernel can take back.",
            memory.working_set,
        ),
        (ecs::CONTAINER_MEMORY_RSS_BYTES, "Anonymous memory.", memory.rss),
        (ecs::CONTAINER_MEMORY_PAGE_CACHE_SIZE_BYTES, "Page cache.", memory.cache),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, labels.clone(), value as f64, read_at);
        }
    }
    let (read, written) = block_io(stats);
    let help = "Bytes read from block devices, all devices together.";
    out.counter(ecs::CONTAINER_BLOCK_READ_BYTES_TOTAL, help, labels.clone(), read as f64, read_at);
    let help = "Bytes written to block devices, all devices together.";
    out.counter(ecs::CONTAINER_BLOCK_WRITE_BYTES_TOTAL, help, labels, written as f64, read_at);
}

/// The sums over the containers that run, as ratios of the task's limits.
fn task_usage(out: &mut Families, task: &Task, stats: &TaskStats) {
    let running: Vec<&Stats> = stats.values().flatten().collect();
    let limits = task.limits.as_ref();
    let read_at = running.iter().filter_map(|s| Timestamp::parse_rfc3339(&s.read)).max();
    if let Some(limit) = limits.and_then(|l| l.cpu).filter(|vcpus| *vcpus > 0.0) {
        let used: Vec<f64> = running.iter().filter_map(|s| vcpus_used(s)).collect();
        if !used.is_empty() {
            let ratio = used.iter().sum::<f64>() / limit;
            let help = "CPU that the task uses, of its limit.";
            out.gauge(ecs::TASK_CPU_UTILIZATION_RATIO, help, Labels::empty(), ratio, read_at);
        }
    }
    if let Some(limit) = limits.and_then(|l| l.memory).filter(|mib| *mib > 0) {
        let used: Vec<u64> = running.iter().filter_map(|s| Memory::of(s).working_set).collect();
        if !used.is_empty() {
            let ratio = used.iter().sum::<u64>() as f64 / (limit as f64 * MIB);
            let help = "Working set of the task, of its memory limit.";
            out.gauge(ecs::TASK_MEMORY_UTILIZATION_RATIO, help, Labels::empty(), ratio, read_at);
        }
    }
}

fn network(out: &mut Families, stats: &TaskStats) {
    let mut latest: BTreeMap<&str, (Option<Timestamp>, &Network)> = BTreeMap::new();
    for stats in stats.values().flatten() {
        let read_at = Timestamp::parse_rfc3339(&stats.read);
        for (interface, counters) in stats.networks.iter().flatten() {
            let newest = latest.entry(interface).or_insert((read_at, counters));
            if read_at > newest.0 {
                *newest = (read_at, counters);
            }
        }
    }
    for (interface, (read_at, n)) in latest {
        for (name, help, value) in [
            (ecs::NETWORK_RECEIVE_BYTES_TOTAL, "Bytes received.", n.rx_bytes),
            (ecs::NETWORK_RECEIVE_PACKETS_TOTAL, "Packets received.", n.rx_packets),
            (ecs::NETWORK_RECEIVE_PACKETS_DROPPED_TOTAL, "Received packets dropped.", n.rx_dropped),
            (ecs::NETWORK_RECEIVE_ERRORS_TOTAL, "Errors in receiving.", n.rx_errors),
            (ecs::NETWORK_TRANSMIT_BYTES_TOTAL, "Bytes sent.", n.tx_bytes),
            (ecs::NETWORK_TRANSMIT_PACKETS_TOTAL, "Packets sent.", n.tx_packets),
            (ecs::NETWORK_TRANSMIT_PACKETS_DROPPED_TOTAL, "Packets to send dropped.", n.tx_dropped),
            (ecs::NETWORK_TRANSMIT_ERRORS_TOTAL, "Errors in sending.", n.tx_errors),
        ] {
            out.counter(name, help, Labels::from_pairs([("interface", interface)]), value as f64, read_at);
        }
    }
}

/// vCPUs used between the two readings; None before there are two.
fn vcpus_used(stats: &Stats) -> Option<f64> {
    let (read, preread) = (Timestamp::parse_rfc3339(&stats.read)?, Timestamp::parse_rfc3339(&stats.preread)?);
    let seconds = read.since(preread).as_secs_f64();
    // The first reading has the year 1 as the time of the one before.
    if seconds <= 0.0 || preread.as_millis() <= 0 {
        return None;
    }
    let nanos = stats.cpu_stats.cpu_usage.total_usage.checked_sub(stats.precpu_stats.cpu_usage.total_usage)?;
    Some(nanos as f64 / NANOS / seconds)
}

struct Memory {
    usage: Option<u64>,
    working_set: Option<u64>,
    rss: Option<u64>,
    cache: Option<u64>,
}

impl Memory {
    fn of(stats: &Stats) -> Self {
        let memory = &stats.memory_stats;
        let detail = |names: [&str; 2]| {
            let details = memory.stats.as_ref()?;
            names.iter().find_map(|name| details.get(*name).copied())
        };
        // The first name is that of cgroup v1, the second that of v2.
        let inactive_file = detail(["total_inactive_file", "inactive_file"]).unwrap_or(0);
        Memory {
            usage: memory.usage,
            working_set: memory.usage.map(|usage| usage.saturating_sub(inactive_file)),
            rss: detail(["total_rss", "anon"]),
            cache: detail(["total_cache", "file"]),
        }
    }
}

/// Bytes read and written, summed over devices.
fn block_io(stats: &Stats) -> (u64, u64) {
    let entries = stats.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    let sum = |op: &str| entries.iter().filter(|e| e.op.eq_ignore_ascii_case(op)).map(|e| e.value).sum();
    (sum("read"), sum("write"))
}

fn labels_of(container: &Container) -> Labels {
    Labels::from_pairs([("container_name", &container.name)])
}

fn seconds(time: Option<&str>) -> Option<f64> {
    Timestamp::parse_rfc3339(time?).map(Timestamp::as_secs_f64)
}

#[derive(Default)]
struct Families {
    list: Vec<Family>,
}

impl Families {
    fn gauge(&mut self, name: &str, help: &str, labels: Labels, value: f64, at: Option<Timestamp>) {
        self.add(name, name, MetricKind::Gauge, help, labels, value, at);
    }

    fn counter(&mut self, name: &str, help: &str, labels: Labels, value: f64, at: Option<Timestamp>) {
        self.add(without_total(name), name, MetricKind::Counter, help, labels, value, at);
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers above give them their names")]
    fn add(
        &mut self,
        family: &str,
        name: &str,
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
