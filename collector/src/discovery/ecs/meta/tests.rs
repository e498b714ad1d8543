use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_ecs::types::{Attachment, KeyValuePair, LaunchType, PortMapping};

use super::*;

const TASK: &str = "arn:aws:ecs:eu-west-1:000000000000:task/demo/0123456789abcdef";
const DEFINITION: &str = "arn:aws:ecs:eu-west-1:000000000000:task-definition/order:7";

fn cluster() -> Cluster {
    Cluster::builder()
        .cluster_name("demo")
        .cluster_arn("arn:aws:ecs:eu-west-1:000000000000:cluster/demo")
        .tags(Tag::builder().key("cost-centre").value("42").build())
        .build()
}

fn task(status: &str, address: Option<&str>) -> Task {
    let detail = |name: &str, value: &str| KeyValuePair::builder().name(name).value(value).build();
    let interface = address.map(|address| {
        Attachment::builder()
            .r#type("ElasticNetworkInterface")
            .details(detail("subnetId", "subnet-1"))
            .details(detail("privateIPv4Address", address))
            .build()
    });
    let container = |name: &str| Container::builder().name(name).image(format!("registry/{name}:1")).build();
    Task::builder()
        .task_arn(TASK)
        .task_definition_arn(DEFINITION)
        .group("service:order")
        .launch_type(LaunchType::Fargate)
        .last_status(status)
        .desired_status("RUNNING")
        .set_attachments(interface.map(|i| vec![i]))
        .containers(container("app"))
        .containers(container("sidecar"))
        .build()
}

fn tasks(tasks: Vec<Task>) -> Tasks {
    let app = ContainerDefinition::builder()
        .name("app")
        .port_mappings(PortMapping::builder().container_port(3000).build())
        .docker_labels("PROMETHEUS_EXPORTER_PATH", "/internal/metrics")
        .build();
    let sidecar = ContainerDefinition::builder()
        .name("sidecar")
        .port_mappings(PortMapping::builder().container_port(9464).build())
        .port_mappings(PortMapping::builder().container_port(4318).build())
        .build();
    let definition = TaskDefinition::builder()
        .family("order")
        .revision(7)
        .container_definitions(app)
        .container_definitions(sidecar)
        .build();
    let service = Service::builder().service_name("order").status("ACTIVE").build();
    Tasks {
        tasks,
        services: HashMap::from([("order".to_owned(), service)]),
        definitions: HashMap::from([(DEFINITION.to_owned(), Arc::new(definition))]),
    }
}

#[test]
fn a_task_is_a_target_per_container_port_with_prometheus_labels() {
    let groups = groups(&cluster(), &tasks(vec![task("RUNNING", Some("10.0.1.7"))]), 9464);
    assert_eq!((groups.len(), groups[0].source.as_str()), (1, TASK));
    let of = |labels: &Labels, name: &str| labels.get(&format!("__meta_ecs_{name}")).unwrap_or_default().to_owned();
    let ports: Vec<_> = groups[0].targets.iter().map(|t| (of(t, "container_name"), of(t, "container_port"))).collect();
    let pair = |name: &str, port: &str| (name.to_owned(), port.to_owned());
    assert_eq!(ports, [pair("app", "3000"), pair("sidecar", "9464"), pair("sidecar", "4318")]);

    let app = &groups[0].targets[0];
    assert_eq!(app.get(ADDRESS), Some("10.0.1.7:9464"));
    for (name, value) in [
        ("cluster", "demo"),
        ("region", "eu-west-1"),
        ("service", "order"),
        ("service_status", "ACTIVE"),
        ("task_group", "service:order"),
        ("task_id", "0123456789abcdef"),
        ("task_definition", DEFINITION),
        ("task_definition_family", "order"),
        ("task_definition_revision", "7"),
        ("ip_address", "10.0.1.7"),
        ("subnet_id", "subnet-1"),
        ("launch_type", "FARGATE"),
        ("last_status", "RUNNING"),
        ("network_mode", "awsvpc"),
        ("tag_cluster_cost_centre", "42"),
        ("container_image", "registry/app:1"),
        ("docker_label_PROMETHEUS_EXPORTER_PATH", "/internal/metrics"),
    ] {
        assert_eq!(of(app, name), value, "{name}");
    }
}

#[test]
fn a_task_that_does_not_run_or_has_no_address_is_no_target() {
    let waiting = tasks(vec![task("PENDING", Some("10.0.1.7")), task("RUNNING", None)]);
    assert!(groups(&cluster(), &waiting, 80).is_empty());
}
