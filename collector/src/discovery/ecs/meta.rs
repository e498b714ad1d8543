//! A task as labels: Prometheus' `__meta_ecs_*` names, and ours for containers and docker labels.

use aws_sdk_ecs::types::{Cluster, Container, ContainerDefinition, Service, Tag, Task, TaskDefinition};
use telemetry::{Labels, LabelsBuilder};

use super::super::{ADDRESS, TargetGroup};
use super::fetch::Tasks;

const PREFIX: &str = "__meta_ecs_";

/// One group per task that runs and has an address.
pub(super) fn groups(cluster: &Cluster, tasks: &Tasks, port: u16) -> Vec<TargetGroup> {
    let running = tasks.tasks.iter().filter(|task| task.last_status() == Some("RUNNING"));
    running.filter_map(|task| group(cluster, tasks, task, port)).collect()
}

fn group(cluster: &Cluster, tasks: &Tasks, task: &Task, port: u16) -> Option<TargetGroup> {
    let address = ip_address(task)?;
    let definition = task.task_definition_arn().and_then(|arn| tasks.definitions.get(arn));
    let service = task.group().and_then(|g| g.strip_prefix("service:")).and_then(|name| tasks.services.get(name));
    let mut of_task = LabelsBuilder::default();
    of_task.set(ADDRESS, &format!("{}:{port}", bracketed(&address)));
    set(&mut of_task, "ip_address", Some(&address));
    describe_cluster(&mut of_task, cluster);
    describe_task(&mut of_task, task);
    if let Some(service) = service {
        describe_service(&mut of_task, service);
    }
    if let Some(definition) = definition {
        set(&mut of_task, "task_definition_family", definition.family());
        set(&mut of_task, "task_definition_revision", Some(&definition.revision().to_string()));
    }
    let definition_of = |container: &Container| {
        let definitions = definition.map(|d| TaskDefinition::container_definitions(d)).unwrap_or_default();
        definitions.iter().find(|d| d.name() == container.name())
    };
    let mut targets: Vec<Labels> = task
        .containers()
        .iter()
        .flat_map(|container| of_container(&of_task, container, definition_of(container)))
        .collect();
    if targets.is_empty() {
        targets.push(of_task.build());
    }
    Some(TargetGroup { source: task.task_arn().unwrap_or_default().to_owned(), targets })
}

/// One label set per port, one without a port where the container has none.
fn of_container(
    of_task: &LabelsBuilder,
    container: &Container,
    definition: Option<&ContainerDefinition>,
) -> Vec<Labels> {
    let mut labels = of_task.clone();
    set(&mut labels, "container_name", container.name());
    set(&mut labels, "container_image", container.image());
    set(&mut labels, "container_image_digest", container.image_digest());
    set(&mut labels, "container_health", container.health_status().map(|h| h.as_str()));
    for (name, value) in definition.and_then(|d| d.docker_labels()).into_iter().flatten() {
        set(&mut labels, &format!("docker_label_{}", sanitized(name)), Some(value));
    }
    let mappings = definition.map(|d| d.port_mappings()).unwrap_or_default();
    let ports: Vec<i32> = mappings.iter().filter_map(|mapping| mapping.container_port()).collect();
    if ports.is_empty() {
        return vec![labels.build()];
    }
    let with_port = |port: i32| {
        let mut labels = labels.clone();
        set(&mut labels, "container_port", Some(&port.to_string()));
        labels.build()
    };
    ports.into_iter().map(with_port).collect()
}

fn describe_cluster(labels: &mut LabelsBuilder, cluster: &Cluster) {
    set(labels, "cluster", cluster.cluster_name());
    set(labels, "cluster_arn", cluster.cluster_arn());
    set(labels, "region", cluster.cluster_arn().and_then(|arn| arn.split(':').nth(3)));
    tags(labels, "cluster", cluster.tags());
}

fn describe_service(labels: &mut LabelsBuilder, service: &Service) {
    set(labels, "service", service.service_name());
    set(labels, "service_arn", service.service_arn());
    set(labels, "service_status", service.status());
    set(labels, "service_deployment", deployment(service).as_deref());
    tags(labels, "service", service.tags());
}

/// What is being rolled out, and how far it is: `order:12 IN_PROGRESS, 1 of 3 running`.
fn deployment(service: &Service) -> Option<String> {
    let primary = service.deployments().iter().find(|d| d.status() == Some("PRIMARY"))?;
    let definition = primary.task_definition().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
    let state = primary.rollout_state().map(|state| state.as_str()).unwrap_or("UNKNOWN");
    let (running, desired) = (primary.running_count(), primary.desired_count());
    let reason = primary.rollout_state_reason().filter(|_| state == "FAILED");
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(format!("{definition} {state}, {running} of {desired} running{reason}"))
}

/// `app sha256:…, sidecar sha256:…`: what exactly the task runs.
fn images(task: &Task) -> Option<String> {
    let image = |c: &Container| Some(format!("{} {}", c.name()?, c.image_digest()?));
    let images: Vec<String> = task.containers().iter().filter_map(image).collect();
    (!images.is_empty()).then(|| images.join(", "))
}

fn describe_task(labels: &mut LabelsBuilder, task: &Task) {
    set(labels, "task_group", task.group());
    set(labels, "task_arn", task.task_arn());
    set(labels, "task_id", task.task_arn().and_then(|arn| arn.rsplit('/').next()));
    set(labels, "task_definition", task.task_definition_arn());
    set(labels, "task_image_digests", images(task).as_deref());
    set(labels, "availability_zone", task.availability_zone());
    set(labels, "subnet_id", interface_detail(task, "subnetId"));
    set(labels, "launch_type", task.launch_type().map(|t| t.as_str()));
    set(labels, "capacity_provider", task.capacity_provider_name());
    set(labels, "desired_status", task.desired_status());
    set(labels, "last_status", task.last_status());
    set(labels, "health_status", task.health_status().map(|h| h.as_str()));
    set(labels, "platform_family", task.platform_family());
    set(labels, "platform_version", task.platform_version());
    set(labels, "started_by", task.started_by());
    set(labels, "container_instance_arn", task.container_instance_arn());
    let awsvpc = interface_detail(task, "privateIPv4Address").is_some();
    set(labels, "network_mode", Some(if awsvpc { "awsvpc" } else { "bridge" }));
    tags(labels, "task", task.tags());
}

/// The task's own network interface, else its first container's.
pub(super) fn ip_address(task: &Task) -> Option<String> {
    let of_container = || {
        let interfaces = task.containers().iter().flat_map(Container::network_interfaces);
        interfaces.into_iter().find_map(|i| i.private_ipv4_address().or(i.ipv6_address()))
    };
    interface_detail(task, "privateIPv4Address").or_else(of_container).map(str::to_owned)
}

fn interface_detail<'a>(task: &'a Task, name: &str) -> Option<&'a str> {
    let interfaces = task.attachments().iter().filter(|a| a.r#type() == Some("ElasticNetworkInterface"));
    interfaces.flat_map(|a| a.details()).find(|d| d.name() == Some(name))?.value()
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn tags(labels: &mut LabelsBuilder, of: &str, tags: &[Tag]) {
    for (key, value) in tags.iter().filter_map(|tag| Some((tag.key()?, tag.value()?))) {
        set(labels, &format!("tag_{of}_{}", sanitized(key)), Some(value));
    }
}

fn set(labels: &mut LabelsBuilder, name: &str, value: Option<&str>) {
    labels.set(&format!("{PREFIX}{name}"), value.unwrap_or_default());
}

/// A label name holds letters, digits and `_` only.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
