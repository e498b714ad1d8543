//! The memory watermark: over it the store takes no new series, until there is room again.

use crate::write::WriteMetrics;

/// cgroup v2, v1; and the machine, which is the task on Fargate.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
const MACHINE_FILE: &str = "/proc/meminfo";

/// What memory there is, and how much of it is in use.
pub struct Watermark {
    limit_bytes: u64,
    read: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    is_over: bool,
}

impl Watermark {
    /// Over the resident memory of this process; without a limit four fifths of the container's. 0 is no mark.
    pub fn of_process(limit_bytes: Option<u64>) -> Option<Self> {
        let limit = limit_bytes.or_else(|| default_limit(|file| std::fs::read_to_string(file).ok()))?;
        (limit > 0).then(|| Watermark::new(limit, resident_bytes))
    }

    /// Over what `read` says.
    pub fn new(limit_bytes: u64, read: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Watermark { limit_bytes, read: Box::new(read), is_over: false }
    }

    /// Whether memory is short. It is until a twentieth of the mark is free again, so that it does not change with each
    /// look; what cannot be read is not short.
    pub(super) fn look(&mut self, metrics: &WriteMetrics) -> bool {
        let used = (self.read)().unwrap_or(0);
        let free_again = self.limit_bytes - self.limit_bytes / 20;
        let is_over = used > if self.is_over { free_again } else { self.limit_bytes };
        if is_over != self.is_over {
            let limit = self.limit_bytes;
            match is_over {
                true => tracing::error!(used, limit, "memory is short: new series are refused (storage.memory_limit)"),
                false => tracing::info!(used, limit, "there is memory again: new series are taken"),
            }
        }
        self.is_over = is_over;
        metrics.memory_limit.set(i64::try_from(self.limit_bytes).unwrap_or(i64::MAX));
        metrics.memory_short.set(i64::from(is_over));
        is_over
    }
}

/// Four fifths of the least of the container's memory and the machine's: what is left is for queries, which come and go.
fn default_limit(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let container = LIMIT_FILES.iter().find_map(|file| read(file)?.trim().parse::<u64>().ok());
    let machine = read(MACHINE_FILE).and_then(|text| {
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        Some(kib?.trim().parse::<u64>().ok()? << 10)
    });
    container.into_iter().chain(machine).min().map(|bytes| bytes / 5 * 4)
}

/// The second number of proc_pid_statm(5), in pages of 4 KiB.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_mark_is_four_fifths_of_what_there_is() {
        const MACHINE: &str = "MemFree: 1 kB\nMemTotal:       1000 kB\n";
        let of = |v2: Option<&'static str>, v1: Option<&'static str>| {
            default_limit(|file| match file {
                MACHINE_FILE => Some(MACHINE.to_owned()),
                file if file.ends_with("memory.max") => v2.map(str::to_owned),
                _ => v1.map(str::to_owned),
            })
        };
        assert_eq!(of(Some("500000\n"), None), Some(400_000));
        // Without a limit of its own the container may use the machine; cgroup v1 says that with a number beyond it.
        assert_eq!(of(Some("max\n"), None), Some(819_200));
        assert_eq!(of(None, Some("9223372036854771712\n")), Some(819_200));
        assert_eq!(default_limit(|_| None), None);
        assert!(Watermark::of_process(Some(0)).is_none());
    }

    #[test]
    fn memory_is_short_until_a_twentieth_is_free_again() {
        let (used, metrics) = (Arc::new(AtomicU64::new(0)), WriteMetrics::default());
        let reading = used.clone();
        let mut mark = Watermark::new(1000, move || Some(reading.load(Ordering::Relaxed)));
        for (now, short) in [(1000, false), (1001, true), (960, true), (950, false), (990, false), (2000, true)] {
            used.store(now, Ordering::Relaxed);
            assert_eq!(mark.look(&metrics), short, "{now}");
            assert_eq!((metrics.memory_short.get(), metrics.memory_limit.get()), (i64::from(short), 1000));
        }
    }
}
