//! What a process has used, as /proc counts it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// Handed to the disk since the start.
    pub written_bytes: u64,
}

/// USER_HZ of every Linux we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid} is gone"))
        };
        let stat = read("stat")?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("no command in /proc/PID/stat")?.1.split_ascii_whitespace().collect();
        let ticks =
            |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).context("a short /proc/PID/stat");
        let status = read("status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let io = read("io")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse::<u64>().ok());
        Ok(Usage {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            resident_bytes: kib.context("no VmRSS")? * 1024,
            written_bytes: written.context("no write_bytes")?,
        })
    }
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
