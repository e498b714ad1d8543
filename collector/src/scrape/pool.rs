//! Keeps one task per target: starts those that are new, stops those that are gone, tells the others of new settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use telemetry::Labels;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::request::Clients;
use super::target_task::TargetTask;
use super::{Cell, Shared, Status, TargetStatus};
use crate::discovery::{Target, Targets};
use crate::write::WriteClosed;

/// Same series, same place: the same target, whatever else about it changed.
type Identity = (Labels, url::Url);

struct Running {
    next: watch::Sender<Option<Target>>,
    cell: Cell,
}

pub(super) struct Pool {
    targets: Targets,
    running: HashMap<Identity, Running>,
    tasks: JoinSet<Result<(), WriteClosed>>,
    clients: Clients,
    status: Status,
    shared: Shared,
}

impl Pool {
    pub(super) fn new(targets: Targets, status: Status, shared: Shared) -> anyhow::Result<Self> {
        let clients = Clients::new().context("failed to build the HTTP client")?;
        Ok(Pool { targets, running: HashMap::new(), tasks: JoinSet::new(), clients, status, shared })
    }

    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.shared.shutdown.clone();
        self.follow();
        while !shutdown.is_requested() {
            tokio::select! {
                () = shutdown.requested() => {}
                changed = self.targets.changed() => match changed {
                    Ok(()) => self.follow(),
                    // Discovery has ended: the program is stopping.
                    Err(_) => shutdown.requested().await,
                },
                Some(ended) = self.tasks.join_next() => ended.context("a scrape task panicked")??,
            }
        }
        // Tasks hear the shutdown too; a batch that is being written is finished.
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a scrape task panicked")??;
        }
        Ok(())
    }

    fn follow(&mut self) {
        let targets = self.targets.borrow_and_update().clone();
        let mut before = std::mem::take(&mut self.running);
        let mut cells = Vec::with_capacity(targets.len());
        for target in targets.iter() {
            let identity = (target.labels.clone(), target.scrape_url.clone());
            let running = match before.remove(&identity) {
                Some(running) => {
                    running.next.send_if_modified(|current| {
                        let changed = current.as_ref() != Some(target);
                        if changed {
                            *current = Some(target.clone());
                        }
                        changed
                    });
                    running
                }
                // Two jobs may list the same target; it is scraped once for both.
                None if self.running.contains_key(&identity) => continue,
                None => self.start(target),
            };
            cells.push(running.cell.clone());
            self.running.insert(identity, running);
        }
        // Dropping their senders tells the tasks of what is left in `before` that the target is gone.
        drop(before);
        self.shared.metrics.targets.set(i64::try_from(cells.len()).unwrap_or(i64::MAX));
        self.status.0.store(Arc::new(cells));
    }

    fn start(&mut self, target: &Target) -> Running {
        let (next, receiver) = watch::channel(Some(target.clone()));
        let cell = Arc::new(Mutex::new(TargetStatus::new(target.clone())));
        let task = TargetTask::new(target.clone(), receiver, cell.clone(), self.clients.clone(), self.shared.clone());
        let span = tracing::info_span!("task", task = "scrape-target", instance = target.instance());
        self.tasks.spawn(task.run().instrument(span));
        Running { next, cell }
    }
}
