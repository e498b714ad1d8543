//! The ECS operations: AWS JSON 1.1, AWS' limits, `failures[]` and error shapes.

use serde::Deserialize;
use serde_json::{Value, json};

use super::model::{Definition, Rollout, State, unix_now};
use super::{Ecs, ServiceKey};
use crate::wire::page::page;
use crate::wire::{AwsError, input};

const PAGE_MAX: usize = 100;
const PAGE_DEFAULT: usize = 100;
/// ListServices and ListServiceDeployments answer fewer unless asked.
const SERVICES_PAGE_DEFAULT: usize = 10;
const DESCRIBE_SERVICES_MAX: usize = 10;
const DESCRIBE_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListInput {
    cluster: Option<String>,
    service: Option<String>,
    service_name: Option<String>,
    family: Option<String>,
    desired_status: Option<String>,
    launch_type: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeInput {
    cluster: Option<String>,
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    tasks: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    task_definition: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateServiceInput {
    cluster: Option<String>,
    service: String,
    desired_count: Option<i64>,
    task_definition: Option<String>,
    #[serde(default)]
    force_new_deployment: bool,
}

impl Ecs {
    pub(crate) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "ListClusters" => self.list_clusters(&input(value)?),
            "DescribeClusters" => self.describe_clusters(&input(value)?),
            "ListServices" => self.list_services(&input(value)?),
            "DescribeServices" => self.describe_services(&input(value)?),
            "ListTasks" => self.list_tasks(&input(value)?),
            "DescribeTasks" => self.describe_tasks(&input(value)?),
            "DescribeTaskDefinition" => self.describe_task_definition(&input(value)?),
            "ListServiceDeployments" => self.list_service_deployments(&input(value)?),
            "UpdateService" => self.update_service(&input(value)?),
            other => Err(AwsError::new("UnknownOperationException", format!("fake-aws has no ecs:{other}"))),
        }
    }

    pub(super) fn arn(&self, rest: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{rest}", self.topology.region, self.topology.account)
    }

    pub(super) fn cluster_arn(&self, cluster: &str) -> String {
        self.arn(&format!("cluster/{cluster}"))
    }

    fn list_clusters(&self, list: &ListInput) -> Result<Value, AwsError> {
        let arns = self.read(|state| state.clusters.iter().map(|c| self.cluster_arn(c)).collect());
        self.list("ListClusters", "clusterArns", arns, list, PAGE_DEFAULT)
    }

    fn list_services(&self, list: &ListInput) -> Result<Value, AwsError> {
        let arns = self.read(|state| {
            let cluster = find_cluster(state, list.cluster.as_deref())?;
            let fargate = list.launch_type.as_deref().is_none_or(|t| t == "FARGATE");
            let services = state.services.iter().filter(|(key, _)| fargate && key.cluster == cluster);
            Ok(services.map(|(_, service)| service.arn.clone()).collect())
        })?;
        self.list("ListServices", "serviceArns", arns, list, SERVICES_PAGE_DEFAULT)
    }

    fn list_tasks(&self, list: &ListInput) -> Result<Value, AwsError> {
        let wants_stopped = list.desired_status.as_deref() == Some("STOPPED");
        let arns = self.read(|state| {
            let cluster = find_cluster(state, list.cluster.as_deref())?;
            if let Some(name) = &list.service_name {
                let known = find_service(state, &cluster, name).is_some();
                known.then_some(()).ok_or_else(service_not_found)?;
            }
            let tasks = state.tasks.values().filter(|task| {
                task.key.cluster == cluster
                    && list.launch_type.as_deref().is_none_or(|t| t == "FARGATE")
                    && list.service_name.as_deref().is_none_or(|name| short(name) == task.key.service)
                    && list.family.as_deref().is_none_or(|family| family == task.definition.family)
                    && task.is_wanted() != wants_stopped
            });
            Ok(tasks.map(|task| task.arn.clone()).collect())
        })?;
        self.list("ListTasks", "taskArns", arns, list, PAGE_DEFAULT)
    }

    fn list_service_deployments(&self, list: &ListInput) -> Result<Value, AwsError> {
        let name = list.service.as_deref().ok_or_else(|| invalid("Service cannot be empty."))?;
        let (deployments, cluster_arn, service_arn) = self.read(|state| {
            let cluster = find_cluster(state, list.cluster.as_deref())?;
            let key = find_service(state, &cluster, name).ok_or_else(service_not_found)?;
            let service = &state.services[&key];
            let deployments = service.deployments.iter().map(|d| (d.id.clone(), d.created_at, d.rollout));
            Ok((deployments.collect::<Vec<_>>(), self.cluster_arn(&cluster), service.arn.clone()))
        })?;
        let brief = deployments.into_iter().map(|(id, created_at, rollout)| {
            let number = id.trim_start_matches("ecs-svc/").to_owned();
            let brief = json!({
                "serviceDeploymentArn": format!("{}/{number}", service_arn.replace(":service/", ":service-deployment/")),
                "serviceArn": service_arn,
                "clusterArn": cluster_arn,
                "startedAt": created_at,
                "createdAt": created_at,
                "targetServiceRevisionArn": format!("{}/{number}", service_arn.replace(":service/", ":service-revision/")),
                "status": if rollout == Rollout::Completed { "SUCCESSFUL" } else { "IN_PROGRESS" },
            });
            (number, brief)
        });
        let size = self.page_size(list.max_results, PAGE_DEFAULT)?;
        let (page, next) =
            page("ListServiceDeployments", brief, list.next_token.as_deref(), size).map_err(|_| bad_token())?;
        Ok(with_token(json!({ "serviceDeployments": page }), next))
    }

    fn list(
        &self,
        operation: &str,
        member: &str,
        mut arns: Vec<String>,
        list: &ListInput,
        default: usize,
    ) -> Result<Value, AwsError> {
        arns.sort();
        let size = self.page_size(list.max_results, default)?;
        let items = arns.into_iter().map(|arn| (arn.clone(), arn));
        let (page, next) = page(operation, items, list.next_token.as_deref(), size).map_err(|_| bad_token())?;
        Ok(with_token(json!({ member: page }), next))
    }

    fn page_size(&self, wanted: Option<i64>, default: usize) -> Result<usize, AwsError> {
        let size = match wanted {
            None => default,
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=PAGE_MAX).contains(n))
                .ok_or_else(|| invalid("maxResults should be between 1 and 100"))?,
        };
        Ok(size.min(self.topology.page_size_max.unwrap_or(PAGE_MAX)))
    }

    fn describe_clusters(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        at_most(describe.clusters.len(), DESCRIBE_MAX, "clusters")?;
        let asked = if describe.clusters.is_empty() { vec!["default".to_owned()] } else { describe.clusters.clone() };
        self.read(|state| {
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for name in asked {
                match state.clusters.iter().find(|c| *c == short(&name)) {
                    Some(cluster) => found.push(self.cluster_json(state, cluster)),
                    None => failures.push(missing(&self.cluster_arn(short(&name)))),
                }
            }
            Ok(json!({"clusters": found, "failures": failures}))
        })
    }

    fn describe_services(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        if describe.services.is_empty() {
            return Err(invalid("Services cannot be empty."));
        }
        at_most(describe.services.len(), DESCRIBE_SERVICES_MAX, "services")?;
        self.read(|state| {
            let cluster = find_cluster(state, describe.cluster.as_deref())?;
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for name in &describe.services {
                match find_service(state, &cluster, name) {
                    Some(key) => found.push(self.service_json(state, &key)),
                    None => failures.push(missing(&self.arn(&format!("service/{cluster}/{}", short(name))))),
                }
            }
            Ok(json!({"services": found, "failures": failures}))
        })
    }

    fn describe_tasks(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        if describe.tasks.is_empty() {
            return Err(invalid("Tasks cannot be empty."));
        }
        at_most(describe.tasks.len(), DESCRIBE_MAX, "tasks")?;
        self.read(|state| {
            let cluster = find_cluster(state, describe.cluster.as_deref())?;
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for name in &describe.tasks {
                match state.tasks.get(short(name)).filter(|t| t.key.cluster == cluster) {
                    Some(task) => found.push(self.task_json(task)),
                    None => failures.push(missing(&self.arn(&format!("task/{cluster}/{}", short(name))))),
                }
            }
            Ok(json!({"tasks": found, "failures": failures}))
        })
    }

    fn describe_task_definition(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        let wanted = describe.task_definition.as_deref().unwrap_or_default();
        self.read(|state| {
            let definition = find_definition(state, wanted)
                .ok_or_else(|| AwsError::new("ClientException", "Unable to describe task definition."))?;
            let mut answer = json!({"taskDefinition": self.definition_json(definition)});
            if describe.include.iter().any(|i| i == "TAGS") {
                answer["tags"] = json!([]);
            }
            Ok(answer)
        })
    }

    fn update_service(&self, update: &UpdateServiceInput) -> Result<Value, AwsError> {
        let desired = update
            .desired_count
            .map(|n| u32::try_from(n).map_err(|_| invalid("The desired count cannot be negative.")))
            .transpose()?;
        self.update(|state| {
            let cluster = find_cluster(state, update.cluster.as_deref())?;
            let key = find_service(state, &cluster, &update.service).ok_or_else(service_not_found)?;
            let definition = update
                .task_definition
                .as_deref()
                .map(|d| {
                    find_definition(state, d)
                        .ok_or_else(|| AwsError::new("ClientException", "TaskDefinition not found."))
                })
                .transpose()?
                .cloned();
            if let Some(service) = state.services.get_mut(&key) {
                if let Some(desired) = desired {
                    service.set_desired(desired, unix_now());
                }
                let current = service.primary().definition.clone();
                let wanted = definition.unwrap_or_else(|| current.clone());
                if update.force_new_deployment || wanted.arn != current.arn {
                    service.deploy(wanted, unix_now());
                }
            }
            Ok(json!({"service": self.service_json(state, &key)}))
        })
    }
}

/// The last part of an ARN, or the name itself.
fn short(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

fn find_cluster(state: &State, name: Option<&str>) -> Result<String, AwsError> {
    let name = short(name.unwrap_or("default"));
    let found = state.clusters.iter().find(|c| *c == name).cloned();
    found.ok_or_else(|| AwsError::new("ClusterNotFoundException", "Cluster not found."))
}

fn find_service(state: &State, cluster: &str, name: &str) -> Option<ServiceKey> {
    let key = ServiceKey { cluster: cluster.to_owned(), service: short(name).to_owned() };
    state.services.contains_key(&key).then_some(key)
}

/// By ARN, by `family:revision`, or the newest of a family.
fn find_definition<'a>(state: &'a State, wanted: &str) -> Option<&'a std::sync::Arc<Definition>> {
    let wanted = short(wanted);
    match wanted.rsplit_once(':') {
        Some((family, revision)) => {
            let revision: u32 = revision.parse().ok()?;
            state.definitions.values().find(|d| d.family == family && d.revision == revision)
        }
        None => state.definitions.values().filter(|d| d.family == wanted).max_by_key(|d| d.revision),
    }
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}

fn missing(arn: &str) -> Value {
    json!({"arn": arn, "reason": "MISSING"})
}

fn at_most(count: usize, max: usize, what: &str) -> Result<(), AwsError> {
    match count > max {
        true => Err(invalid(&format!("{what} can have at most {max} items."))),
        false => Ok(()),
    }
}

fn invalid(message: &str) -> AwsError {
    AwsError::new("InvalidParameterException", message)
}

fn bad_token() -> AwsError {
    invalid("Invalid token.")
}

fn service_not_found() -> AwsError {
    AwsError::new("ServiceNotFoundException", "Service not found.")
}
