//! Child processes that are never left behind.
//!
//! Each runs in a process group of its own, so that a stop reaches its children too, and writes to a log
//! file of its own. The groups are noted in a file: a run that was killed itself is cleaned up by the next.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often a stopping process is looked at.
const STOP_POLL: Duration = Duration::from_millis(20);

/// A running program of the suite.
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

/// What a run makes in its folder. The next begins without it: a database of another version, or samples and alerts
/// of yesterday, would tell another story.
const MADE_BY_A_RUN: [&str; 5] = ["postgres", "collector", "alertmanager", "rules", "logs"];

/// Where processes log, and where their groups are noted.
#[derive(Clone, Debug)]
pub struct Workplace {
    pub dir: PathBuf,
}

impl Workplace {
    /// Makes the folders and ends what a killed run left behind.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn prepare(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let workplace = Workplace { dir: std::fs::canonicalize(dir)? };
        workplace.end_leftovers();
        for made in MADE_BY_A_RUN.map(|name| workplace.dir.join(name)).iter().filter(|made| made.exists()) {
            std::fs::remove_dir_all(made).with_context(|| format!("failed to remove {}", made.display()))?;
        }
        std::fs::create_dir(workplace.dir.join("logs"))?;
        File::create(workplace.notes()).with_context(|| format!("failed to write {}", workplace.notes().display()))?;
        Ok(workplace)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Starts a program with its output in the log named after it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let log = self.log(name);
        let out = File::create(&log).with_context(|| format!("failed to write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).process_group(0);
        command.stdout(out);
        let child = command.spawn().with_context(|| format!("failed to start {name}: {:?}", command.get_program()))?;
        let mut notes = OpenOptions::new().append(true).open(self.notes())?;
        writeln!(notes, "{} {}", child.id(), command.get_program().to_string_lossy())?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    fn notes(&self) -> PathBuf {
        self.dir.join("processes")
    }

    /// Ends groups noted by an earlier run whose leader still is the noted program.
    fn end_leftovers(&self) {
        for line in std::fs::read_to_string(self.notes()).unwrap_or_default().lines() {
            let Some((pid, program)) = line.split_once(' ') else { continue };
            let Ok(pid) = pid.parse::<i32>() else { continue };
            let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command_line.split(|b| *b == 0).next() == Some(program.as_bytes()) {
                end_group(Pid::from_raw(pid), Duration::from_secs(10), || !Path::new(&format!("/proc/{pid}")).exists());
            }
        }
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with the end of its log, if the program has ended.
    ///
    /// # Errors
    /// Names the program, its exit and its last lines.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; its last lines:\n{}", self.name, self.last_lines(12));
        }
        Ok(())
    }

    /// Waits for the program's own end.
    ///
    /// # Errors
    /// When it still runs after `timeout`; it is stopped then.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > timeout {
                bail!("still running after {timeout:?}");
            }
            std::thread::sleep(STOP_POLL);
        }
    }

    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// SIGKILL, as a machine that goes away.
    pub fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// SIGTERM to the whole group, SIGKILL after `grace`. True if it ended by itself.
    pub fn stop(&mut self, grace: Duration) -> bool {
        let group = Pid::from_raw(self.child.id().cast_signed());
        let child = &mut self.child;
        end_group(group, grace, || !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}

fn end_group(group: Pid, grace: Duration, mut leader_is_gone: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    // An error means that the group is gone already.
    let _ = killpg(group, Signal::SIGTERM);
    while started.elapsed() < grace && !leader_is_gone() {
        std::thread::sleep(STOP_POLL);
    }
    let by_itself = leader_is_gone();
    // Members that outlived the leader, or a leader that would not go.
    let _ = killpg(group, Signal::SIGKILL);
    leader_is_gone();
    by_itself
}
