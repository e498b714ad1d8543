//! Tasks with a name, joined at the end, whose failure is noticed.

use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use crate::Shutdown;

/// Spawns a task that logs under its name. The only place that calls tokio's spawn: a task without a
/// name cannot be found in a log.
#[expect(clippy::disallowed_methods, reason = "this is the wrapper that the ban points to")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::info_span!("task", task = name)))
}

/// Runs what computes or waits for a disk beside the tasks that serve sockets. A panic in it goes on here.
pub async fn beside<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
        // The runtime ends before the work began, and whoever waits here ends with it.
        Err(_) => std::future::pending().await,
    }
}

/// The long-lived tasks of a program. One that fails or panics takes the program down in order.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    names: Vec<&'static str>,
}

impl Tasks {
    pub fn new() -> Self {
        Tasks::default()
    }

    /// Adds a task. It should return soon after the shutdown has been ordered.
    pub fn spawn<F>(&mut self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.names.push(name);
        let span = tracing::info_span!("task", task = name);
        self.set.spawn(async move { (name, future.await) }.instrument(span));
    }

    /// Waits for the order to stop, or for the first failure, which orders it; then gives the tasks
    /// `grace` to end and names those that did not.
    ///
    /// # Errors
    /// The first task's error, a panic, or the tasks that outlived the grace period.
    pub async fn run(mut self, shutdown: Shutdown, grace: Duration) -> anyhow::Result<()> {
        let mut first_error = None;
        while !shutdown.is_requested() {
            tokio::select! {
                () = shutdown.requested() => {}
                ended = self.set.join_next() => match ended {
                    None => shutdown.request(),
                    Some(ended) => if let Err(error) = self.note(ended) {
                        tracing::error!(error = format!("{error:#}"), "task failed, stopping");
                        first_error = Some(error);
                        shutdown.request();
                    }
                },
            }
        }
        let drained = tokio::time::timeout(grace, async {
            while let Some(ended) = self.set.join_next().await {
                if let Err(error) = self.note(ended) {
                    tracing::error!(error = format!("{error:#}"), "task failed while stopping");
                    first_error.get_or_insert(error);
                }
            }
        })
        .await;
        if drained.is_err() {
            let late = self.names.join(", ");
            tracing::warn!(tasks = late, grace_s = grace.as_secs_f64(), "tasks did not stop in time");
            first_error.get_or_insert(anyhow::anyhow!("tasks did not stop within {grace:?}: {late}"));
        }
        first_error.map_or(Ok(()), Err)
    }

    fn note(
        &mut self,
        ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
    ) -> anyhow::Result<()> {
        match ended {
            Ok((name, result)) => {
                self.names.retain(|n| *n != name);
                result.map_err(|error| error.context(format!("task `{name}` failed")))
            }
            Err(join) if join.is_cancelled() => Ok(()),
            Err(join) => Err(anyhow::anyhow!("a task panicked: {join}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_task_stops_the_others_and_is_named() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        let heard = shutdown.clone();
        tasks.spawn("waits", async move {
            heard.requested().await;
            Ok(())
        });
        tasks.spawn("breaks", async { anyhow::bail!("disk is gone") });
        let error = tasks.run(shutdown, Duration::from_secs(5)).await.expect_err("must fail");
        assert_eq!(format!("{error:#}"), "task `breaks` failed: disk is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_will_not_stop_is_named_after_the_grace_period() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        shutdown.request();
        let error = tasks.run(shutdown, Duration::from_secs(1)).await.expect_err("must fail");
        assert!(error.to_string().ends_with("stuck"), "{error}");
    }
}
