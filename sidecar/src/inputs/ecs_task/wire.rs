//! What the task metadata endpoint v4 answers, as far as it is used: `/task` and `/task/stats`.
//!
//! Every field may be absent: platform versions, launch types and cgroup versions differ in what they say.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `/task`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// The full ARN on Fargate, a name on EC2.
    pub cluster: String,
    pub service_name: String,
    #[serde(rename = "TaskARN")]
    pub task_arn: String,
    pub family: String,
    pub revision: String,
    pub desired_status: String,
    pub known_status: String,
    pub limits: Option<TaskLimits>,
    pub pull_started_at: Option<String>,
    pub pull_stopped_at: Option<String>,
    pub execution_stopped_at: Option<String>,
    pub availability_zone: String,
    pub launch_type: String,
    pub containers: Vec<Container>,
    pub clock_drift: Option<ClockDrift>,
    pub ephemeral_storage_metrics: Option<EphemeralStorage>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TaskLimits {
    /// vCPUs.
    #[serde(rename = "CPU")]
    pub cpu: Option<f64>,
    /// MiB.
    #[serde(rename = "Memory")]
    pub memory: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    pub docker_id: String,
    pub name: String,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub desired_status: String,
    pub known_status: String,
    pub exit_code: Option<i64>,
    pub limits: ContainerLimits,
    pub created_at: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub health: Option<ContainerHealth>,
    /// Only where the container has a restart policy.
    pub restart_count: Option<u64>,
    pub log_driver: Option<String>,
    pub log_options: Option<BTreeMap<String, String>>,
    pub networks: Option<Vec<ContainerNetwork>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerLimits {
    /// MiB. The CPU beside it counts shares, 2 where none were asked for, and says nothing of the limit.
    #[serde(rename = "Memory")]
    pub memory: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerHealth {
    pub status: String,
    #[serde(rename = "statusSince")]
    pub status_since: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerNetwork {
    /// `awsvpc`: all containers share the task's interface; `bridge`: each has its own.
    pub network_mode: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClockDrift {
    /// Milliseconds.
    pub clock_error_bound: Option<f64>,
    pub reference_timestamp: Option<String>,
    /// `SYNCHRONIZED` or `NOT_SYNCHRONIZED`.
    pub clock_synchronization_status: String,
}

/// MiB.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EphemeralStorage {
    pub utilized: u64,
    pub reserved: u64,
}

/// `/task/stats`: by Docker id. For a container that does not run: null on Fargate, an empty object on EC2.
pub type TaskStats = BTreeMap<String, Option<Stats>>;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// When these figures were read; Fargate does so every ten seconds.
    pub read: String,
    pub preread: String,
    pub cpu_stats: CpuStats,
    pub precpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    pub blkio_stats: BlkioStats,
    /// By interface. Containers of a task share them, but for bridge mode on EC2.
    pub networks: Option<BTreeMap<String, Network>>,
    pub pids_stats: PidsStats,
}

impl Stats {
    /// Whether this is a reading at all.
    pub fn is_reading(&self) -> bool {
        !self.read.is_empty() && !self.read.starts_with("0001-")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    pub current: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// Nanoseconds since the container started.
    pub total_usage: u64,
    pub usage_in_kernelmode: Option<u64>,
    pub usage_in_usermode: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    pub usage: Option<u64>,
    /// cgroup v1 alone.
    pub max_usage: Option<u64>,
    /// cgroup v1: cache, rss, total_inactive_file; v2: file, anon, inactive_file.
    pub stats: Option<BTreeMap<String, u64>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, `Total` … in cgroup v1, `read` and `write` in v2.
    pub op: String,
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Network {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
