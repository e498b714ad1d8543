//! CPU, memory and I/O of a process from /proc, in the shape of Docker's statistics.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

/// One reading.
pub(super) struct Figures {
    pub(super) read_at: String,
    cpu_nanos: u64,
    system_nanos: u64,
    online_cpus: usize,
    rss_bytes: u64,
    shared_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    networks: BTreeMap<String, [u64; 8]>,
}

/// USER_HZ is 100 on every Linux that we run on.
const NANOS_PER_TICK: u64 = 10_000_000;
const PAGE_BYTES: u64 = 4096;

impl Figures {
    /// None where there is no such process.
    pub(super) fn read(pid: u32) -> Option<Self> {
        // proc_pid_stat(5), counted after the command's `)`.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: Vec<u64> = statm.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let system_ticks: u64 =
            system.lines().next()?.split_ascii_whitespace().skip(1).take(8).filter_map(|f| f.parse::<u64>().ok()).sum();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let io = |key: &str| io.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0);
        Some(Figures {
            read_at: service::logging::now_rfc3339(),
            cpu_nanos: (ticks(11)? + ticks(12)?) * NANOS_PER_TICK,
            system_nanos: system_ticks * NANOS_PER_TICK,
            online_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            rss_bytes: pages.get(1)? * PAGE_BYTES,
            shared_bytes: pages.get(2)? * PAGE_BYTES,
            read_bytes: io("read_bytes:"),
            written_bytes: io("write_bytes:"),
            networks: networks(),
        })
    }

    pub(super) fn cpu_stats(&self) -> Value {
        json!({
            "cpu_usage": {"total_usage": self.cpu_nanos, "percpu_usage": null},
            "system_cpu_usage": self.system_nanos,
            "online_cpus": self.online_cpus,
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        })
    }

    /// In the shape of cgroup v2; the process' file-backed pages stand for the page cache.
    pub(super) fn memory_stats(&self) -> Value {
        let anonymous = self.rss_bytes.saturating_sub(self.shared_bytes);
        json!({
            "usage": self.rss_bytes,
            "limit": 9_223_372_036_854_771_712_u64,
            "stats": {"anon": anonymous, "file": self.shared_bytes, "inactive_file": 0},
        })
    }

    pub(super) fn blkio_stats(&self) -> Value {
        json!({"io_service_bytes_recursive": [
            {"major": 259, "minor": 0, "op": "read", "value": self.read_bytes},
            {"major": 259, "minor": 0, "op": "write", "value": self.written_bytes},
        ]})
    }

    pub(super) fn networks(&self) -> Value {
        const KEYS: [&str; 8] =
            ["rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"];
        let object =
            |counters: &[u64; 8]| KEYS.iter().zip(counters).map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        Value::Object(
            self.networks.iter().map(|(name, counters)| (name.clone(), Value::Object(object(counters)))).collect(),
        )
    }
}

/// The process that listens on `addr`, or on its port on every address: the socket's inode from
/// /proc/net/tcp, and the process that has it open. None for what another user runs.
pub(super) fn listening_on(addr: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(addr) = addr else { return None };
    // The kernel prints the address as it lies in memory.
    let local = |ip: Ipv4Addr| format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port());
    let wanted = [local(*addr.ip()), local(Ipv4Addr::UNSPECIFIED)];
    let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = sockets.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = fields.get(3) == Some(&"0A") && wanted.iter().any(|w| fields.get(1) == Some(&w.as_str()));
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })?;
    let link = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut files = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|l| l.as_os_str() == link.as_str())).then_some(pid)
    })
}

/// proc_net_dev(5): receive bytes, packets, errs, drop … transmit bytes, packets, errs, drop. Loopback
/// only where there is nothing else, and no interface on which nothing ever happened.
fn networks() -> BTreeMap<String, [u64; 8]> {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut all: BTreeMap<String, [u64; 8]> = text
        .lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let c: Vec<u64> = counters.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
            (c.len() >= 12).then(|| (name.trim().to_owned(), [c[0], c[1], c[2], c[3], c[8], c[9], c[10], c[11]]))
        })
        .collect();
    all.retain(|_, counters| counters.iter().any(|c| *c > 0));
    if all.len() > 1 {
        all.remove("lo");
    }
    all
}
