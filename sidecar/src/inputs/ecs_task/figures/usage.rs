//! What containers use: CPU, memory, block devices, network.

use std::collections::BTreeMap;

use telemetry::names::ecs;
use telemetry::{Labels, Timestamp};

use super::{Families, MIB, NANOS, labels_of};
use crate::inputs::ecs_task::wire::{Container, Network, Stats, Task};

pub(super) fn of_container(out: &mut Families, task: &Task, container: &Container, stats: &Stats) {
    let (labels, read_at) = (labels_of(container), Timestamp::parse_rfc3339(&stats.read));
    cpu(out, task, &labels, stats, read_at);
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
        (
            ecs::CONTAINER_MEMORY_USAGE_MAX_BYTES,
            "The most memory that was ever in use, page cache included.",
            stats.memory_stats.max_usage,
        ),
        (ecs::CONTAINER_PROCESSES, "Processes and threads of the container.", stats.pids_stats.current),
    ] {
        out.gauge_if(name, help, &labels, value.map(|value| value as f64), read_at);
    }
    block_io(out, &labels, stats, read_at);
}

fn cpu(out: &mut Families, task: &Task, labels: &Labels, stats: &Stats, read_at: Option<Timestamp>) {
    let usage = &stats.cpu_stats.cpu_usage;
    for (name, help, nanos) in [
        (ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL, "CPU time that the container has used.", Some(usage.total_usage)),
        (ecs::CONTAINER_CPU_USER_SECONDS_TOTAL, "CPU time in user mode.", usage.usage_in_usermode),
        (ecs::CONTAINER_CPU_SYSTEM_SECONDS_TOTAL, "CPU time in kernel mode.", usage.usage_in_kernelmode),
    ] {
        if let Some(nanos) = nanos {
            out.counter(name, help, labels.clone(), nanos as f64 / NANOS, read_at);
        }
    }
    let ratio = vcpus_used(stats).zip(cpu_limit_of(task)).map(|(vcpus, limit)| vcpus / limit);
    let help = "CPU that the container uses, of the task's limit.";
    out.gauge_if(ecs::CONTAINER_CPU_UTILIZATION_RATIO, help, labels, ratio, read_at);
}

fn cpu_limit_of(task: &Task) -> Option<f64> {
    task.limits.as_ref()?.cpu.filter(|vcpus| *vcpus > 0.0)
}

/// The sums over the containers that run, as ratios of the task's limits.
pub(super) fn of_task(out: &mut Families, task: &Task, running: &BTreeMap<&str, &Stats>) {
    let read_at = running.values().filter_map(|s| Timestamp::parse_rfc3339(&s.read)).max();
    if let Some(limit) = cpu_limit_of(task) {
        let used: Vec<f64> = running.values().filter_map(|s| vcpus_used(s)).collect();
        let ratio = (!used.is_empty()).then(|| used.iter().sum::<f64>() / limit);
        let help = "CPU that the task uses, of its limit.";
        out.gauge_if(ecs::TASK_CPU_UTILIZATION_RATIO, help, &Labels::empty(), ratio, read_at);
    }
    if let Some(limit) = task.limits.as_ref().and_then(|l| l.memory).filter(|mib| *mib > 0) {
        let used: Vec<u64> = running.values().filter_map(|s| Memory::of(s).working_set).collect();
        let ratio = (!used.is_empty()).then(|| used.iter().sum::<u64>() as f64 / (limit as f64 * MIB));
        let help = "Working set of the task, of its memory limit.";
        out.gauge_if(ecs::TASK_MEMORY_UTILIZATION_RATIO, help, &Labels::empty(), ratio, read_at);
    }
}

pub(super) fn network(out: &mut Families, task: &Task, running: &BTreeMap<&str, &Stats>) {
    // By container where it has its own interface, and by interface.
    type Interface<'a> = (Option<&'a str>, &'a str);
    let mut latest: BTreeMap<Interface<'_>, (Option<Timestamp>, &Network)> = BTreeMap::new();
    for (id, stats) in running {
        let read_at = Timestamp::parse_rfc3339(&stats.read);
        let owner = task.containers.iter().find(|c| c.docker_id == *id).filter(|c| has_own_interface(c));
        for (interface, counters) in stats.networks.iter().flatten() {
            let key = (owner.map(|c| c.name.as_str()), interface.as_str());
            let newest = latest.entry(key).or_insert((read_at, counters));
            if read_at > newest.0 {
                *newest = (read_at, counters);
            }
        }
    }
    for ((owner, interface), (read_at, n)) in latest {
        let mut labels = Labels::from_pairs([("interface", interface)]);
        if let Some(container) = owner {
            labels = labels.with("container_name", container);
        }
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
            out.counter(name, help, labels.clone(), value as f64, read_at);
        }
    }
}

fn has_own_interface(container: &Container) -> bool {
    container.networks.iter().flatten().any(|network| network.network_mode == "bridge")
}

/// vCPUs used between the two readings; None before there are two.
fn vcpus_used(stats: &Stats) -> Option<f64> {
    let (read, preread) = (Timestamp::parse_rfc3339(&stats.read)?, Timestamp::parse_rfc3339(&stats.preread)?);
    let seconds = read.since(preread).as_secs_f64();
    // The first reading has the year 1 as the time of the one before.
    if seconds <= 0.0 || preread.as_millis() <= 0 {
        return None;
    }
    // A container that was restarted in between begins at zero.
    let nanos = stats.cpu_stats.cpu_usage.total_usage.checked_sub(stats.precpu_stats.cpu_usage.total_usage)?;
    Some(nanos as f64 / NANOS / seconds)
}

pub(super) struct Memory {
    usage: Option<u64>,
    pub(super) working_set: Option<u64>,
    rss: Option<u64>,
    cache: Option<u64>,
}

impl Memory {
    pub(super) fn of(stats: &Stats) -> Self {
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

/// Bytes read and written: the sum over devices, and each device as `major:minor`.
fn block_io(out: &mut Families, labels: &Labels, stats: &Stats, read_at: Option<Timestamp>) {
    let entries = stats.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    for (op, sum_name, sum_help, device_name, device_help) in [
        (
            "read",
            ecs::CONTAINER_BLOCK_READ_BYTES_TOTAL,
            "Bytes read from block devices, all devices together.",
            ecs::CONTAINER_BLOCK_DEVICE_READ_BYTES_TOTAL,
            "Bytes read from a block device.",
        ),
        (
            "write",
            ecs::CONTAINER_BLOCK_WRITE_BYTES_TOTAL,
            "Bytes written to block devices, all devices together.",
            ecs::CONTAINER_BLOCK_DEVICE_WRITE_BYTES_TOTAL,
            "Bytes written to a block device.",
        ),
    ] {
        let mut devices: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for entry in entries.iter().filter(|e| e.op.eq_ignore_ascii_case(op)) {
            let bytes = devices.entry((entry.major, entry.minor)).or_default();
            *bytes = bytes.saturating_add(entry.value);
        }
        let sum = devices.values().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        out.counter(sum_name, sum_help, labels.clone(), sum as f64, read_at);
        for ((major, minor), bytes) in devices {
            let labels = labels.with("device", &format!("{major}:{minor}"));
            out.counter(device_name, device_help, labels, bytes as f64, read_at);
        }
    }
}
