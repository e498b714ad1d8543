//! A ceiling for the whole process: three quarters of the container's memory limit, and never more than 48 MiB unless
//! it is configured.
//!
//! The queues are bounded each for itself; beyond that a look at the resident memory every half second, less often while
//! there is nothing to do, shrinks what they may hold while the process stands near its ceiling, before the kernel ends
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::names::sidecar as names;
use tokio::sync::Notify;

pub const DEFAULT_BYTES: usize = 48 << 20;
/// What the program needs with empty queues: code, connections, buffers.
const BASE_BYTES: usize = 16 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// While there is much room and little in the queues.
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(5);
/// What the queues hold when things begin to happen.
const LITTLE_BYTES: usize = 1 << 20;
/// cgroup v2, v1.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// A handle; clones share the state.
#[derive(Clone, Debug)]
pub struct Ceiling(Arc<State>);

#[derive(Debug)]
struct State {
    bytes: usize,
    /// Sixteenths of what the queues may hold in good times.
    share: AtomicUsize,
    /// What all queues together hold.
    held: AtomicUsize,
    /// It was little and is not now.
    filling: Notify,
}

impl Ceiling {
    pub fn new(bytes: usize) -> Self {
        Ceiling(Arc::new(State {
            bytes,
            share: AtomicUsize::new(16),
            held: AtomicUsize::new(0),
            filling: Notify::new(),
        }))
    }

    /// As configured, else as the container's limit says.
    pub fn find(configured: Option<usize>) -> Self {
        Ceiling::new(configured.unwrap_or_else(|| of_limit(limit_from(&LIMIT_FILES))))
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// What a queue may hold that was given `wanted`: never more than fits beside the program itself.
    pub fn share_of(&self, wanted: usize) -> usize {
        wanted.min(self.room()) / 16 * self.0.share.load(Ordering::Relaxed)
    }

    /// The same for a queue that holds `held` already: all together fit beside the program too.
    pub fn share_with(&self, wanted: usize, held: usize) -> usize {
        let others = self.0.held.load(Ordering::Relaxed).saturating_sub(held);
        self.share_of(wanted).min(self.room().saturating_sub(others))
    }

    /// A queue has grown.
    pub fn hold(&self, bytes: usize) {
        let before = self.0.held.fetch_add(bytes, Ordering::Relaxed);
        if before < LITTLE_BYTES && before + bytes >= LITTLE_BYTES {
            self.0.filling.notify_one();
        }
    }

    /// A queue has shrunk.
    pub fn let_go(&self, bytes: usize) {
        let _ = self.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
    }

    fn room(&self) -> usize {
        self.0.bytes.saturating_sub(BASE_BYTES).max(1 << 20)
    }

    fn look(&self, resident: usize) {
        let share = match resident {
            r if r >= self.0.bytes => 1,
            r if r >= self.0.bytes / 10 * 9 => 4,
            r if r >= self.0.bytes / 10 * 8 => 10,
            _ => 16,
        };
        if self.0.share.swap(share, Ordering::Relaxed) > share {
            tracing::warn!(resident_bytes = resident, ceiling_bytes = self.0.bytes, "memory is short, queues shrink");
        }
    }

    pub fn register(&self, metrics: &Metrics) {
        let gauge = Gauge::<i64>::default();
        gauge.set(self.0.bytes as i64);
        metrics.register(|r| {
            r.register(names::MEMORY_CEILING_BYTES, "Memory that the sidecar keeps below, in bytes", gauge);
        });
    }

    /// Looks until it is dropped.
    pub async fn watch(self) -> anyhow::Result<()> {
        loop {
            let resident = resident_bytes().unwrap_or_default();
            self.look(resident);
            let is_idle = resident < self.0.bytes / 2 && self.0.held.load(Ordering::Relaxed) < LITTLE_BYTES;
            let next = tokio::time::sleep(if is_idle { LOOK_EVERY_IDLE } else { LOOK_EVERY });
            tokio::select! { () = next => {}, () = self.0.filling.notified(), if is_idle => {} }
        }
    }
}

fn of_limit(limit: Option<usize>) -> usize {
    limit.map_or(DEFAULT_BYTES, |limit| (limit / 4 * 3).min(DEFAULT_BYTES))
}

fn limit_from(files: &[&str]) -> Option<usize> {
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// The second number of proc_pid_statm(5), in pages of 4 KiB.
fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_s_limit_sets_the_ceiling() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("write");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (limited, unlimited) = (file("a", "33554432\n"), file("b", "max\n"));
        let v1 = file("c", "9223372036854771712\n");
        assert_eq!(of_limit(limit_from(&[&limited])), 24 << 20);
        for none in [&unlimited, &v1, "/nowhere"] {
            assert_eq!(of_limit(limit_from(&[none])), DEFAULT_BYTES, "{none}");
        }
    }

    #[test]
    fn queues_shrink_as_memory_gets_short() {
        let ceiling = Ceiling::new(48 << 20);
        assert_eq!(ceiling.share_of(8 << 20), 8 << 20);
        assert_eq!(ceiling.share_of(100 << 20), 32 << 20, "what fits beside the program");
        ceiling.look(44 << 20);
        assert_eq!(ceiling.share_of(8 << 20), 2 << 20);
        ceiling.look(50 << 20);
        assert_eq!(ceiling.share_of(8 << 20), 512 << 10);
        ceiling.look(10 << 20);
        assert_eq!(ceiling.share_of(8 << 20), 8 << 20);
    }

    #[test]
    fn all_queues_together_fit_beside_the_program() {
        let ceiling = Ceiling::new(48 << 20);
        for _ in 0..3 {
            ceiling.hold(8 << 20);
        }
        assert_eq!(ceiling.share_with(24 << 20, 8 << 20), 16 << 20, "of 32 the others hold 16");
        assert_eq!(ceiling.share_with(8 << 20, 0), 8 << 20, "a fourth finds the last 8");
        ceiling.hold(8 << 20);
        assert_eq!(ceiling.share_with(8 << 20, 0), 0);
        ceiling.let_go(8 << 20);
        assert_eq!(ceiling.share_with(8 << 20, 0), 8 << 20);
    }
}
