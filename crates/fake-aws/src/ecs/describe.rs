//! Clusters, services, tasks and task definitions as ECS describes them.

use serde_json::{Value, json};

use super::model::{
    Container, ContainerStatus, Definition, Deployment, Health, Rollout, Service, State, Task, TaskStatus,
};
use super::{Ecs, ServiceKey};

impl Ecs {
    pub(super) fn cluster_json(&self, state: &State, cluster: &str) -> Value {
        let tasks = || state.tasks.values().filter(|t| t.key.cluster == cluster);
        json!({
            "clusterArn": self.cluster_arn(cluster),
            "clusterName": cluster,
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": tasks().filter(|t| t.is_running()).count(),
            "pendingTasksCount": tasks().filter(|t| t.status < TaskStatus::Running).count(),
            "activeServicesCount": state.services.keys().filter(|k| k.cluster == cluster).count(),
            "statistics": [],
            "tags": [],
            "settings": [{"name": "containerInsights", "value": "disabled"}],
            "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
            "defaultCapacityProviderStrategy": [],
        })
    }

    pub(super) fn service_json(&self, state: &State, key: &ServiceKey) -> Value {
        let service = &state.services[key];
        let tasks: Vec<&Task> = state.tasks_of(key).collect();
        let balancers: Vec<Value> = service
            .load_balancer
            .iter()
            .map(|lb| {
                json!({
                    "targetGroupArn": format!(
                        "arn:aws:elasticloadbalancing:{}:{}:targetgroup/{}/0123456789abcdef",
                        self.topology.region, self.topology.account, key.service
                    ),
                    "containerName": lb.container,
                    "containerPort": lb.port,
                })
            })
            .collect();
        let events = service.events.iter().map(|e| json!({"id": e.id, "createdAt": e.at, "message": e.message}));
        json!({
            "serviceArn": service.arn,
            "serviceName": key.service,
            "clusterArn": self.cluster_arn(&key.cluster),
            "status": "ACTIVE",
            "desiredCount": service.desired,
            "runningCount": tasks.iter().filter(|t| t.is_running()).count(),
            "pendingCount": tasks.iter().filter(|t| t.status < TaskStatus::Running).count(),
            "launchType": "FARGATE",
            "platformVersion": "LATEST",
            "platformFamily": "Linux",
            "taskDefinition": service.primary().definition.arn,
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {"enable": true, "rollback": true},
                "maximumPercent": 200,
                "minimumHealthyPercent": 100,
                "strategy": "ROLLING",
            },
            "deploymentController": {"type": "ECS"},
            "deployments": service.deployments.iter().map(|d| deployment_json(d, service, &tasks)).collect::<Vec<_>>(),
            "events": events.collect::<Vec<_>>(),
            "createdAt": service.created_at,
            "loadBalancers": balancers,
            "serviceRegistries": [],
            "placementConstraints": [],
            "placementStrategy": [],
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": [subnet(service.subnet)], "securityGroups": ["sg-00000000000000001"], "assignPublicIp": "DISABLED",
            }},
            "schedulingStrategy": "REPLICA",
            "enableECSManagedTags": false,
            "propagateTags": "NONE",
            "enableExecuteCommand": false,
        })
    }

    pub(super) fn task_json(&self, task: &Task) -> Value {
        let stop = task.stop.borrow().clone();
        let octets = task.ip.octets();
        let eni = format!("eni-{}", &task.id[..17]);
        let mut json = json!({
            "taskArn": task.arn,
            "clusterArn": self.cluster_arn(&task.key.cluster),
            "taskDefinitionArn": task.definition.arn,
            "group": format!("service:{}", task.key.service),
            "startedBy": task.deployment,
            "lastStatus": task.status,
            "desiredStatus": if task.is_wanted() { "RUNNING" } else { "STOPPED" },
            "healthStatus": task.health(),
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "availabilityZone": format!("{}a", self.topology.region),
            "connectivity": "CONNECTED",
            "connectivityAt": task.created_at,
            "cpu": task.definition.spec.cpu.to_string(),
            "memory": task.definition.spec.memory.to_string(),
            "ephemeralStorage": {"sizeInGiB": 20},
            "createdAt": task.created_at,
            "version": task.version,
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
            "tags": [],
            "attachments": [{
                "id": task.id,
                "type": "ElasticNetworkInterface",
                "status": if task.is_stopped() { "DELETED" } else { "ATTACHED" },
                "details": [
                    {"name": "subnetId", "value": subnet(octets[2])},
                    {"name": "networkInterfaceId", "value": eni},
                    {"name": "macAddress", "value": format!("0a:00:{:02x}:{:02x}:{:02x}:{:02x}", octets[0], octets[1], octets[2], octets[3])},
                    {"name": "privateIPv4Address", "value": task.ip.to_string()},
                ],
            }],
            "containers": task.containers.iter().map(|c| self.container_json(task, c)).collect::<Vec<_>>(),
        });
        let times = [
            ("startedAt", task.started_at),
            ("pullStartedAt", task.started_at),
            ("pullStoppedAt", task.started_at),
            ("stoppingAt", task.stopping_at),
            ("executionStoppedAt", task.stopped_at),
            ("stoppedAt", task.stopped_at),
        ];
        for (name, at) in times {
            if let Some(at) = at {
                json[name] = json!(at);
            }
        }
        if let Some(stop) = stop {
            json["stopCode"] = json!(stop.code);
            json["stoppedReason"] = json!(stop.reason);
        }
        json
    }

    fn container_json(&self, task: &Task, container: &Container) -> Value {
        let spec = &container.definition;
        let mut json = json!({
            "containerArn": self.arn(&format!("container/{}/{}/{}", task.key.cluster, task.id, container.runtime_id)),
            "taskArn": task.arn,
            "name": spec.name,
            "image": spec.image,
            "runtimeId": container.runtime_id,
            "lastStatus": match container.status {
                ContainerStatus::Pending => "PENDING",
                ContainerStatus::Running => "RUNNING",
                ContainerStatus::Stopped => "STOPPED",
            },
            "healthStatus": if spec.health_check.is_some() { container.health } else { Health::Unknown },
            "networkBindings": [],
            "networkInterfaces": [{"attachmentId": task.id, "privateIpv4Address": task.ip.to_string()}],
            "cpu": "0",
        });
        if let Some(code) = container.exit_code {
            json["exitCode"] = json!(code);
        }
        if let Some(reason) = &container.reason {
            json["reason"] = json!(reason);
        }
        json
    }

    pub(super) fn definition_json(&self, definition: &Definition) -> Value {
        let containers: Vec<Value> = definition.spec.containers.iter().map(container_definition_json).collect();
        json!({
            "taskDefinitionArn": definition.arn,
            "family": definition.family,
            "revision": definition.revision,
            "status": "ACTIVE",
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "compatibilities": ["EC2", "FARGATE"],
            "cpu": definition.spec.cpu.to_string(),
            "memory": definition.spec.memory.to_string(),
            "registeredAt": definition.registered_at,
            "volumes": [],
            "placementConstraints": [],
            "containerDefinitions": containers,
        })
    }
}

fn container_definition_json(container: &crate::topology::Container) -> Value {
    let ports: Vec<Value> =
        container.port.iter().map(|port| json!({"containerPort": port, "hostPort": port, "protocol": "tcp"})).collect();
    let mut json = json!({
        "name": container.name,
        "image": container.image,
        "cpu": 0,
        "essential": container.essential,
        "command": container.command,
        "environment": container.env.iter().map(|(n, v)| json!({"name": n, "value": v})).collect::<Vec<_>>(),
        "dockerLabels": container.docker_labels,
        "portMappings": ports,
        "mountPoints": [],
        "volumesFrom": [],
        "stopTimeout": container.stop_timeout.as_secs(),
    });
    if let Some(check) = &container.health_check {
        json["healthCheck"] = json!({
            "command": check.command,
            "interval": check.interval.as_secs(),
            "timeout": check.timeout.as_secs(),
            "retries": check.retries,
            "startPeriod": check.start_period.as_secs(),
        });
    }
    json
}

fn deployment_json(deployment: &Deployment, service: &Service, tasks: &[&Task]) -> Value {
    let is_primary = deployment.id == service.primary().id;
    let of = |t: &&&Task| t.deployment == deployment.id;
    json!({
        "id": deployment.id,
        "status": if is_primary { "PRIMARY" } else { "ACTIVE" },
        "taskDefinition": deployment.definition.arn,
        "desiredCount": if is_primary { service.desired } else { 0 },
        "runningCount": tasks.iter().filter(of).filter(|t| t.is_running()).count(),
        "pendingCount": tasks.iter().filter(of).filter(|t| t.status < TaskStatus::Running).count(),
        "failedTasks": deployment.failed_tasks,
        "createdAt": deployment.created_at,
        "updatedAt": deployment.updated_at,
        "launchType": "FARGATE",
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
        "rolloutState": if deployment.rollout == Rollout::Completed { "COMPLETED" } else { "IN_PROGRESS" },
        "rolloutStateReason": match deployment.rollout {
            Rollout::Completed => format!("ECS deployment {} completed.", deployment.id),
            Rollout::InProgress => format!("ECS deployment {} in progress.", deployment.id),
        },
    })
}

fn subnet(number: u8) -> String {
    format!("subnet-{number:017x}")
}
