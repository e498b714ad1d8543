//! What ECS says of a service: counts, and how its deployment goes.

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{DeploymentRolloutState, Service};

use super::guard::{Facts, Rollout};
use super::schedule::Resource;
use crate::aws::explain;

pub(super) async fn facts(client: &Client, resource: &Resource) -> Result<Facts, String> {
    let answer = client.describe_services().cluster(&resource.cluster).services(&resource.service).send().await;
    let answer = answer.map_err(|error| explain(&error))?;
    let service = answer.services().first().ok_or_else(|| {
        let reason = answer.failures().first().and_then(|f| f.reason()).unwrap_or("MISSING");
        format!("ECS has no service {resource}: {reason}")
    })?;
    let count = |n: i32| u32::try_from(n).unwrap_or_default();
    Ok(Facts {
        desired: count(service.desired_count()),
        running: count(service.running_count()),
        rollout: rollout(service),
    })
}

/// Blue/green controllers report no rollout state; there a second deployment means that one is in progress.
fn rollout(service: &Service) -> Rollout {
    let states: Vec<_> = service.deployments().iter().filter_map(|d| d.rollout_state()).collect();
    match () {
        () if states.contains(&&DeploymentRolloutState::Failed) => Rollout::Failed,
        () if states.contains(&&DeploymentRolloutState::InProgress) => Rollout::InProgress,
        () if states.is_empty() && service.deployments().len() > 1 => Rollout::InProgress,
        () => Rollout::Completed,
    }
}
