//! Whatever must become true in AWS is a job: it reads what is wanted and what is there, and takes no other input.
//!
//! In: a timer, a nudge, the moment that the job itself named. Out: the job's status. Promises that runs of one job
//! never overlap, that a failed run is tried again sooner than the timer says, and that a failure is counted and
//! shown, not passed on. The jobs are idempotent: one run more does no harm, one run less heals itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use service::backoff::Backoff;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;

mod leased;

pub use leased::Leased;

/// After a failed run, but never longer than the job's interval.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
/// A run shortly after another is pointless, and a moment named by a job may already have passed.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Makes something true elsewhere.
pub trait Job: Send + 'static {
    /// For people, logs and metrics.
    const NAME: &'static str;

    /// How long after one run the next begins.
    fn interval(&self) -> Duration;

    /// One run.
    fn run(&mut self, now: Timestamp) -> impl Future<Output = anyhow::Result<Done>> + Send;
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// For people, in a few words: "5 dashboards in sync".
    pub summary: String,
    /// When something is due before the interval ends.
    pub next: Option<Timestamp>,
}

/// How a job is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobStatus {
    pub name: &'static str,
    pub runs: u64,
    pub failures_in_row: u32,
    /// None before the first run has ended.
    pub last: Option<LastRun>,
    pub next_run: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastRun {
    pub started: Timestamp,
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    pub ok: bool,
    /// What was done, or what went wrong.
    pub message: String,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Held by whoever wants to see a job's status or have it run now.
#[derive(Clone)]
pub struct Handle {
    nudge: mpsc::Sender<()>,
    status: watch::Receiver<Arc<JobStatus>>,
}

impl Handle {
    /// Lets the job run soon. When a nudge is waiting already, that one does.
    pub fn nudge(&self) {
        let _ = self.nudge.try_send(());
    }

    pub fn status(&self) -> Arc<JobStatus> {
        self.status.borrow().clone()
    }

    /// Follows the status from run to run.
    pub fn watch(&self) -> watch::Receiver<Arc<JobStatus>> {
        self.status.clone()
    }
}

/// A stage that a job drives: what it has made true, and the job itself.
pub struct Stage<S> {
    /// What the API and the UI show; replaced by each run.
    pub status: watch::Receiver<Arc<S>>,
    pub job: Handle,
}

impl<S> Clone for Stage<S> {
    fn clone(&self) -> Self {
        Stage { status: self.status.clone(), job: self.job.clone() }
    }
}

impl<S> Stage<S> {
    pub fn status(&self) -> Arc<S> {
        self.status.borrow().clone()
    }
}

/// Counts of all jobs.
#[derive(Clone, Default)]
pub struct JobMetrics {
    runs: Family<Run, Counter>,
    last_success: Family<JobLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    job: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabel {
    job: &'static str,
}

impl JobMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let new = JobMetrics::default();
        metrics.register(|registry| {
            registry.register("collector_reconcile_runs", "Runs of jobs by result", new.runs.clone());
            registry.register(
                "collector_reconcile_last_success_timestamp_seconds",
                "When the job last ran without an error",
                new.last_success.clone(),
            );
        });
        new
    }
}

/// Drives `job` until the stop; its first run begins at once.
pub fn spawn<J: Job>(job: J, clock: Clock, metrics: JobMetrics, tasks: &mut Tasks, shutdown: Shutdown) -> Handle {
    let (nudge, nudges) = mpsc::channel(1);
    let first = JobStatus { name: J::NAME, runs: 0, failures_in_row: 0, last: None, next_run: None };
    let (status, watch) = watch::channel(Arc::new(first));
    tasks.spawn(J::NAME, Driver { job, clock, metrics, nudges, status, shutdown }.run());
    Handle { nudge, status: watch }
}

struct Driver<J> {
    job: J,
    clock: Clock,
    metrics: JobMetrics,
    nudges: mpsc::Receiver<()>,
    status: watch::Sender<Arc<JobStatus>>,
    shutdown: Shutdown,
}

impl<J: Job> Driver<J> {
    async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let pause = tokio::select! {
                biased;
                // A run is a few idempotent calls: left half done, the next start finishes it.
                () = self.shutdown.requested() => return Ok(()),
                pause = once(&mut self.job, self.clock, &self.metrics, &self.status) => pause,
            };
            tokio::select! {
                () = self.shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
                // When nobody can nudge any more, as at the stop, the timer and the order to stop are still heard.
                Some(()) = self.nudges.recv() => {}
            }
        }
    }
}

/// Runs the job and answers how long to wait for the next run.
async fn once<J: Job>(
    job: &mut J,
    clock: Clock,
    metrics: &JobMetrics,
    status: &watch::Sender<Arc<JobStatus>>,
) -> Duration {
    let started = clock.now();
    let result = job.run(started).await;
    let now = clock.now();
    let before = status.borrow().clone();
    let (ok, message, failures_in_row, pause) = match result {
        Ok(done) => {
            let due = done.next.map_or(Duration::MAX, |at| at.since(now));
            (true, done.summary, 0, job.interval().min(due))
        }
        Err(error) => {
            let message = format!("{error:#}");
            // The first failure is news, and so is another one; the same one again is not.
            if before.last.as_ref().is_none_or(|last| last.ok || last.message != message) {
                tracing::warn!(job = J::NAME, error = message, "{} failed, trying again", J::NAME);
            }
            (false, message, before.failures_in_row + 1, job.interval().min(RETRY.delay(before.failures_in_row)))
        }
    };
    let pause = pause.max(PAUSE_MIN);
    metrics.runs.get_or_create(&Run { job: J::NAME, result: if ok { "ok" } else { "error" } }).inc();
    if ok {
        metrics.last_success.get_or_create(&JobLabel { job: J::NAME }).set(now.as_millis() / 1000);
    }
    let last = LastRun { started, took: now.since(started), ok, message };
    status.send_replace(Arc::new(JobStatus {
        name: J::NAME,
        runs: before.runs + 1,
        failures_in_row,
        last: Some(last),
        next_run: Some(now + pause),
    }));
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as often as told, then names a moment half a minute away.
    struct Flaky {
        failures: u32,
    }

    impl Job for Flaky {
        const NAME: &'static str = "flaky";

        fn interval(&self) -> Duration {
            Duration::from_secs(3600)
        }

        async fn run(&mut self, now: Timestamp) -> anyhow::Result<Done> {
            if self.failures > 0 {
                self.failures -= 1;
                anyhow::bail!("AWS is away");
            }
            Ok(Done { summary: "done".to_owned(), next: Some(now + Duration::from_secs(30)) })
        }
    }

    async fn runs(status: &mut watch::Receiver<Arc<JobStatus>>, count: u64) -> Arc<JobStatus> {
        status.wait_for(|s| s.runs >= count).await.expect("the job runs").clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_run_is_tried_again_soon_and_a_good_one_when_it_said() {
        let (clock, shutdown, mut tasks) = (Clock::starting_at(Timestamp(0)), Shutdown::new(), Tasks::new());
        let metrics = Metrics::new();
        let handle = spawn(Flaky { failures: 2 }, clock, JobMetrics::new(&metrics), &mut tasks, shutdown.clone());
        let mut status = handle.watch();
        let failed = runs(&mut status, 1).await;
        assert_eq!(failed.last.as_ref().map(|l| (l.ok, l.message.as_str())), Some((false, "AWS is away")));
        let good = runs(&mut status, 3).await;
        assert!(clock.now() < Timestamp(10_000), "two short waits: {:?}", clock.now());
        assert_eq!((good.failures_in_row, good.last.as_ref().map(|l| l.ok)), (0, Some(true)));
        let at_good = clock.now();
        runs(&mut status, 4).await;
        assert_eq!(clock.now().since(at_good), Duration::from_secs(30));

        handle.nudge();
        runs(&mut status, 5).await;
        assert_eq!(clock.now().since(at_good), Duration::from_secs(30), "a nudge needs no timer");
        assert!(metrics.expose().contains("collector_reconcile_runs_total{job=\"flaky\",result=\"error\"} 2"));
        shutdown.request();
        tasks.run(shutdown, Duration::from_secs(1)).await.expect("stops");
    }

    /// Whoever can nudge it, the API above all, ends before it at the stop.
    #[tokio::test(start_paused = true)]
    async fn a_job_that_nobody_can_nudge_any_more_ends_at_the_stop_and_runs_until_then() {
        let (clock, shutdown, mut tasks) = (Clock::starting_at(Timestamp(0)), Shutdown::new(), Tasks::new());
        let jobs = JobMetrics::new(&Metrics::new());
        let handle = spawn(Flaky { failures: 0 }, clock, jobs, &mut tasks, shutdown.clone());
        let mut status = handle.watch();
        runs(&mut status, 1).await;
        drop(handle);
        runs(&mut status, 3).await;
        assert_eq!(clock.now(), Timestamp(60_000), "by its timer");
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.request();
        tasks.run(shutdown, Duration::from_secs(10)).await.expect("stops");
        assert_eq!(clock.now(), Timestamp(61_000), "at once");
    }
}
