//! What a process has used, as the kernel counts it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Of all threads, those that have ended included.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// Handed to the disk since the start.
    pub written_bytes: u64,
}

impl Usage {
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid} is gone"))
        };
        let status = read("status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let io = read("io")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse::<u64>().ok());
        Ok(Usage {
            cpu_seconds: cpu_seconds(pid)?,
            resident_bytes: kib.context("no VmRSS")? * 1024,
            written_bytes: written.context("no write_bytes")?,
        })
    }
}

/// By the process' own CPU clock: the scheduler's nanoseconds of the whole thread group. `/proc/PID/stat` has the same sum
/// cut to ticks of 10 ms, which is more than some of our queries take, and `/proc/PID/task/*/schedstat` loses the threads
/// that have ended.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()));
    let time = clock.and_then(|clock| clock.now()).with_context(|| format!("process {pid} is gone"))?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// The blocks of all files below a directory. What vanishes meanwhile counts as nothing.
pub fn stored_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => stored_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_threads_that_ended_stays_counted() {
        let own = std::process::id();
        let before = cpu_seconds(own).expect("this process");
        let busy = || {
            let started = std::time::Instant::now();
            while started.elapsed().as_millis() < 50 {
                std::hint::spin_loop();
            }
            let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
            schedstat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds first") / 1e9
        };
        let spent = std::thread::spawn(busy).join().expect("no panic");
        assert!(cpu_seconds(own).expect("this process") - before >= spent * 0.99);
    }
}
