//! When the task ends: after the order to stop, the other containers may still have something to say.
//!
//! ECS stops the containers of a task together unless their dependencies say otherwise, so the sidecar is
//! often told to stop before the app has written its last line. The task's metadata is the evidence: while
//! the task is to stop and another container runs, inputs stay open.

use std::time::Duration;

use super::wire::Task;

/// How often the endpoint is asked while the task ends.
const ASK_EVERY: Duration = Duration::from_millis(500);
const BUDGET: Duration = Duration::from_secs(2);

/// Returns when no other container of the task has anything to say any more, as far as anybody can tell:
/// at once where the task goes on and only the sidecar stops, where there is no endpoint or it is silent.
pub async fn others_have_ended(uri: Option<&str>, client: &reqwest::Client) {
    let Some(uri) = uri else { return };
    let mut said = false;
    loop {
        let running = match super::describe(client, uri, BUDGET).await {
            Ok(task) => others_running(&task, own_id(uri)),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no evidence of how the other containers are");
                return;
            }
        };
        if running.is_empty() {
            return;
        }
        if !std::mem::replace(&mut said, true) {
            tracing::info!(containers = running.join(", "), "waiting for the last words of containers that still run");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The last part of the address is the Docker id of the container that it was given to.
fn own_id(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or_default()
}

/// The other containers that still run in a task that is to stop; none where we cannot tell which one we are.
fn others_running(task: &Task, own_id: &str) -> Vec<String> {
    let known = task.containers.iter().any(|c| c.docker_id == own_id);
    if !known || task.desired_status != "STOPPED" {
        return Vec::new();
    }
    let runs = |status: &str| status == "RUNNING" || status == "RESOURCES_PROVISIONED";
    let others = task.containers.iter().filter(|c| c.docker_id != own_id && runs(&c.known_status));
    others.map(|c| c.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(desired: &str, app: &str) -> Task {
        serde_json::from_value(serde_json::json!({
            "DesiredStatus": desired,
            "Containers": [
                {"DockerId": "t-1", "Name": "app", "KnownStatus": app},
                {"DockerId": "t-2", "Name": "sidecar", "KnownStatus": "RUNNING"},
                {"DockerId": "t-3", "Name": "migrate", "KnownStatus": "STOPPED"},
            ],
        }))
        .expect("a task")
    }

    #[test]
    fn only_a_task_that_is_to_stop_and_whose_other_containers_run_is_waited_for() {
        assert_eq!(others_running(&task("STOPPED", "RUNNING"), "t-2"), ["app"]);
        assert_eq!(others_running(&task("STOPPED", "STOPPED"), "t-2"), [""; 0]);
        assert_eq!(others_running(&task("RUNNING", "RUNNING"), "t-2"), [""; 0], "the sidecar alone is replaced");
        assert_eq!(others_running(&task("STOPPED", "RUNNING"), "t"), [""; 0], "we do not know which one we are");
    }
}
