//! The running tasks as a Prometheus file_sd document, replaced at once on each change.
//!
//! A container is a target when its docker label `PROMETHEUS_EXPORTER_PORT` names its port, or when it is called
//! `sidecar` and has a port; `PROMETHEUS_EXPORTER_PATH` names another path than /metrics.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};

use super::Ecs;
use crate::topology::Container;

const PORT_LABEL: &str = "PROMETHEUS_EXPORTER_PORT";
const SIDECAR: &str = "sidecar";
const PATH_LABEL: &str = "PROMETHEUS_EXPORTER_PATH";

pub(super) async fn run(ecs: Arc<Ecs>, path: PathBuf, shutdown: service::Shutdown) -> anyhow::Result<()> {
    let mut changes = ecs.changes();
    let mut written = None;
    loop {
        changes.mark_unchanged();
        let groups = groups(&ecs);
        if written.as_ref() != Some(&groups) {
            replace(&path, &groups)?;
            written = Some(groups);
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            changed = changes.changed() => changed.context("the ECS state is gone")?,
        }
    }
}

fn groups(ecs: &Ecs) -> Value {
    let mut groups: Vec<(String, Value)> = ecs.read(|state| {
        let running = state.tasks.values().filter(|t| t.is_running());
        running
            .flat_map(|task| {
                task.definition.spec.containers.iter().filter_map(move |container| {
                    let port = metrics_port(container)?;
                    let target = format!("{}:{port}", task.ip);
                    let mut group = json!({
                        "targets": [target],
                        "labels": {
                            "service": task.key.service,
                            "environment": ecs.topology.environment,
                            "cluster": task.key.cluster,
                            "task_id": task.id,
                            "task_arn": task.arn,
                        },
                    });
                    if let Some(path) = container.docker_labels.get(PATH_LABEL) {
                        group["labels"]["__metrics_path__"] = json!(path);
                    }
                    Some((format!("{} {target}", task.key.service), group))
                })
            })
            .collect()
    });
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Array(groups.into_iter().map(|(_, group)| group).collect())
}

fn metrics_port(container: &Container) -> Option<String> {
    let sidecar = || container.port.filter(|_| container.name == SIDECAR).map(|port| port.to_string());
    container.docker_labels.get(PORT_LABEL).cloned().or_else(sidecar)
}

/// Readers see the old or the new document, never half of one.
fn replace(path: &Path, groups: &Value) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let text = format!("{groups:#}\n");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("failed to write service discovery file `{}`", path.display()))
}
