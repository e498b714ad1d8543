//! Reading and writing scalable targets.

use std::collections::BTreeMap;

use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};

use super::schedule::{Bounds, Resource};
use crate::aws::explain;

/// DescribeScalableTargets takes at most 50 resource ids.
const IDS_MAX: usize = 50;

/// The bounds of those resources that have a scalable target.
pub(super) async fn read(client: &Client, resources: &[Resource]) -> anyhow::Result<BTreeMap<Resource, Bounds>> {
    let mut all = BTreeMap::new();
    for chunk in resources.chunks(IDS_MAX) {
        let ids = chunk.iter().map(Resource::to_string).collect();
        let request = client
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .set_resource_ids(Some(ids));
        let mut targets = request.into_paginator().items().send();
        while let Some(target) = targets.next().await {
            let target = target.map_err(|e| anyhow::anyhow!("failed to read scalable targets: {}", explain(&e)))?;
            let bound = |n: i32| u32::try_from(n).unwrap_or_default();
            let bounds = Bounds { min: bound(target.min_capacity), max: bound(target.max_capacity) };
            if let Some(resource) = chunk.iter().find(|r| r.to_string() == target.resource_id) {
                all.insert(resource.clone(), bounds);
            }
        }
    }
    Ok(all)
}

/// Sets both bounds in one call, so that neither ever crosses the other, and reads them back.
pub(super) async fn write(client: &Client, resource: &Resource, bounds: Bounds) -> Result<(), String> {
    let bound = |n: u32| i32::try_from(n).map_err(|_| format!("{n} tasks are more than AWS can count"));
    client
        .register_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .resource_id(resource.to_string())
        .min_capacity(bound(bounds.min)?)
        .max_capacity(bound(bounds.max)?)
        .send()
        .await
        .map_err(|error| format!("failed to set bounds {bounds} of {resource}: {}", explain(&error)))?;
    let back = read(client, std::slice::from_ref(resource)).await.map_err(|error| format!("{error:#}"))?;
    match back.get(resource) {
        Some(there) if *there == bounds => Ok(()),
        Some(there) => Err(format!("AWS has bounds {there} of {resource} after {bounds} were set")),
        None => Err(format!("AWS has no scalable target {resource} after one was registered")),
    }
}
