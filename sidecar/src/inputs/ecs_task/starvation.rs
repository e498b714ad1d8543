//! Whether there is enough CPU, where Fargate reports no throttling.
//!
//! The kernel says of every thread how long it was ready to run and had no CPU (proc_pid_schedstat: nanoseconds run,
//! nanoseconds waited). Of the sidecar's own thread that is always there to be read, and it shares the task's CPU with
//! the app; with `pidMode: task` the app's processes are visible too and are what counts.

use std::collections::HashMap;
use std::time::Duration;

use telemetry::Labels;
use telemetry::exposition::Family;
use telemetry::names::{ecs, sidecar as names};

use super::figures::Families;

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    run: u64,
    waited: u64,
}

/// Sums that only grow, though processes come and go.
#[derive(Default)]
pub(super) struct Starvation {
    last: HashMap<u32, Times>,
    own: Times,
    all: Times,
    /// Of the time wanted since the last look, the part that was waited for.
    ratio: Option<f64>,
    late: Duration,
}

/// A process has few threads that matter; a task has few processes.
const PROCESSES_MAX: usize = 64;

impl Starvation {
    /// Reads `/proc` once more.
    pub(super) fn look(&mut self) {
        let own = std::process::id();
        let mut now = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if now.len() >= PROCESSES_MAX && pid != own {
                continue;
            }
            now.insert(pid, times_of(pid));
        }
        self.update(now, own);
    }

    fn update(&mut self, now: HashMap<u32, Times>, own: u32) {
        let grown = |pid: &u32, times: &Times| {
            // A process seen for the first time tells nothing yet; its past is not ours.
            let before = self.last.get(pid)?;
            Some(Times { run: times.run.checked_sub(before.run)?, waited: times.waited.checked_sub(before.waited)? })
        };
        let mut since = Times::default();
        for (pid, times) in &now {
            let Some(grown) = grown(pid, times) else { continue };
            since = Times { run: since.run + grown.run, waited: since.waited + grown.waited };
        }
        self.all = Times { run: self.all.run + since.run, waited: self.all.waited + since.waited };
        self.own = now.get(&own).copied().unwrap_or(self.own);
        let wanted = since.run + since.waited;
        if !self.last.is_empty() {
            self.ratio = Some(if wanted == 0 { 0.0 } else { since.waited as f64 / wanted as f64 });
        }
        self.last = now;
    }

    /// A timer of ours fired this much too late.
    pub(super) fn late(&mut self, by: Duration) {
        self.late += by;
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut out = Families::default();
        let mut counter = |name, help, value| out.counter(name, help, Labels::empty(), value, None);
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let help = "Time in which the sidecar wanted a CPU and had none; the app beside it waited as well.";
        counter(names::CPU_WAIT_SECONDS_TOTAL, help, seconds(self.own.waited));
        let help = "How late the sidecar's own timers were, summed up.";
        counter(names::TIMER_LATENESS_SECONDS_TOTAL, help, self.late.as_secs_f64());
        let help = "Time in which processes wanted a CPU and had none; the app's are among them with pidMode task.";
        counter(ecs::TASK_CPU_WAIT_SECONDS_TOTAL, help, seconds(self.all.waited));
        if let Some(ratio) = self.ratio {
            let help = "Of the CPU time that was wanted since the last look, the part that was waited for.";
            out.gauge(ecs::TASK_CPU_STARVATION_RATIO, help, Labels::empty(), ratio, None);
        }
        out.list
    }
}

/// All threads of a process; what cannot be read counts as nothing.
fn times_of(pid: u32) -> Times {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut sum = Times::default();
    for thread in tasks {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        if let Some(times) = parse(&text) {
            sum = Times { run: sum.run.saturating_add(times.run), waited: sum.waited.saturating_add(times.waited) };
        }
    }
    sum
}

fn parse(schedstat: &str) -> Option<Times> {
    let mut fields = schedstat.split_ascii_whitespace().map(str::parse);
    Some(Times { run: fields.next()?.ok()?, waited: fields.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(starvation: &Starvation) -> Vec<(String, f64)> {
        starvation.families().into_iter().map(|f| (f.samples[0].name.clone(), f.samples[0].value)).collect()
    }

    #[test]
    fn waiting_is_summed_over_processes_that_come_and_go() {
        let times = |run, waited| Times { run, waited };
        let mut starvation = Starvation::default();
        starvation.update(HashMap::from([(1, times(1_000, 9_000)), (7, times(5, 5))]), 7);
        assert_eq!(starvation.ratio, None, "one look tells nothing of a time");
        // The app ran 600 ms and waited 300 ms, the sidecar ran 60 ms and waited 40 ms: 340 of 1,000 ms.
        starvation.update(HashMap::from([(1, times(600_001_000, 300_009_000)), (7, times(60_000_005, 40_000_005))]), 7);
        starvation.late(Duration::from_millis(250));
        assert_eq!(
            sums(&starvation),
            [
                ("sidecar_cpu_wait_seconds_total".to_owned(), 0.040000005),
                ("sidecar_timer_lateness_seconds_total".to_owned(), 0.25),
                ("ecs_task_cpu_wait_seconds_total".to_owned(), 0.34),
                ("ecs_task_cpu_starvation_ratio".to_owned(), 0.34),
            ]
        );
        // The app is gone and another has its number: nothing is counted twice and nothing goes back.
        starvation.update(HashMap::from([(1, times(10, 10)), (7, times(60_000_005, 40_000_005))]), 7);
        assert_eq!(sums(&starvation)[2].1, 0.34);
        assert_eq!(starvation.ratio, Some(0.0));
    }

    #[test]
    fn the_kernel_s_line_is_read() {
        assert_eq!(parse("12345 678 9\n"), Some(Times { run: 12345, waited: 678 }));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_has_run() {
        let mut starvation = Starvation::default();
        starvation.look();
        assert!(starvation.last[&std::process::id()].run > 0);
    }
}
