//! The calls to ECS, with its limits: pages of 100, ten services and a hundred tasks per description.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{
    Cluster, ClusterField, DesiredStatus, Failure, Service, ServiceField, Task, TaskDefinition, TaskField,
};

use super::pace::Bucket;
use super::stopped::Stops;
use crate::aws::{EcsPace, explain};

const CLUSTERS_PER_CALL: usize = 100;
const SERVICES_PER_CALL: usize = 10;
const TASKS_PER_CALL: usize = 100;
const PAGE: i32 = 100;

/// A revision never changes, so what is known of it is kept; this bounds the memory.
const DEFINITIONS_MAX: usize = 2000;

pub(super) struct Api {
    client: Client,
    pace: EcsPace,
    definitions: Mutex<HashMap<String, Arc<TaskDefinition>>>,
}

/// The running tasks of a cluster with what is needed to describe them.
pub(super) struct Tasks {
    pub(super) tasks: Vec<Task>,
    /// By name.
    pub(super) services: HashMap<String, Service>,
    /// By ARN.
    pub(super) definitions: HashMap<String, Arc<TaskDefinition>>,
}

impl Api {
    pub(super) fn new(client: Client, pace: EcsPace) -> Self {
        Api { client, pace, definitions: Mutex::default() }
    }

    /// The named clusters, or all.
    pub(super) async fn clusters(&self, named: &[String]) -> Result<Vec<Cluster>, String> {
        let names = if named.is_empty() { self.cluster_arns().await? } else { named.to_vec() };
        let mut clusters = Vec::new();
        for names in names.chunks(CLUSTERS_PER_CALL) {
            self.pace.turn(Bucket::Clusters).await;
            let call = self.client.describe_clusters().set_clusters(Some(names.to_vec())).include(ClusterField::Tags);
            let answer = call.send().await.map_err(|e| explain(&e))?;
            refuse(answer.failures())?;
            clusters.extend(answer.clusters.unwrap_or_default());
        }
        Ok(clusters)
    }

    async fn cluster_arns(&self) -> Result<Vec<String>, String> {
        let (mut arns, mut next) = (Vec::new(), None);
        loop {
            self.pace.turn(Bucket::Clusters).await;
            let call = self.client.list_clusters().max_results(PAGE).set_next_token(next);
            let answer = call.send().await.map_err(|e| explain(&e))?;
            arns.extend(answer.cluster_arns.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                return Ok(arns);
            }
        }
    }

    pub(super) async fn tasks(&self, cluster: &Cluster) -> Result<Tasks, String> {
        let arn = cluster.cluster_arn().unwrap_or_default();
        let (services, tasks) = futures::try_join!(self.services(arn), self.running(arn))?;
        let mut definitions = HashMap::new();
        for task in &tasks {
            if let Some(arn) = task.task_definition_arn()
                && !definitions.contains_key(arn)
            {
                definitions.insert(arn.to_owned(), self.definition(arn).await?);
            }
        }
        Ok(Tasks { tasks, services, definitions })
    }

    async fn services(&self, cluster: &str) -> Result<HashMap<String, Service>, String> {
        let (mut arns, mut next) = (Vec::new(), None);
        loop {
            self.pace.turn(Bucket::Services).await;
            let call = self.client.list_services().cluster(cluster).max_results(PAGE).set_next_token(next);
            let answer = call.send().await.map_err(|e| explain(&e))?;
            arns.extend(answer.service_arns.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        let mut services = HashMap::new();
        for arns in arns.chunks(SERVICES_PER_CALL) {
            self.pace.turn(Bucket::Services).await;
            let call = self.client.describe_services().cluster(cluster).set_services(Some(arns.to_vec()));
            let answer = call.include(ServiceField::Tags).send().await.map_err(|e| explain(&e))?;
            refuse(answer.failures())?;
            let named = |s: Service| Some((s.service_name()?.to_owned(), s));
            services.extend(answer.services.unwrap_or_default().into_iter().filter_map(named));
        }
        Ok(services)
    }

    async fn running(&self, cluster: &str) -> Result<Vec<Task>, String> {
        let arns = self.task_arns(cluster, DesiredStatus::Running).await?;
        let mut tasks = Vec::new();
        for arns in arns.chunks(TASKS_PER_CALL) {
            self.pace.turn(Bucket::Tasks).await;
            let call = self.client.describe_tasks().cluster(cluster).set_tasks(Some(arns.to_vec()));
            let answer = call.include(TaskField::Tags).send().await.map_err(|e| explain(&e))?;
            refuse(answer.failures())?;
            tasks.extend(answer.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }

    async fn task_arns(&self, cluster: &str, desired: DesiredStatus) -> Result<Vec<String>, String> {
        let (mut arns, mut next) = (Vec::new(), None);
        loop {
            self.pace.turn(Bucket::Tasks).await;
            let call = self.client.list_tasks().cluster(cluster).desired_status(desired.clone());
            let call = call.max_results(PAGE).set_next_token(next);
            let answer = call.send().await.map_err(|e| explain(&e))?;
            arns.extend(answer.task_arns.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                return Ok(arns);
            }
        }
    }

    /// The tasks that have ended and are not known yet.
    pub(super) async fn stopped(&self, cluster: &str, known: &Stops) -> Result<Vec<Task>, String> {
        let arns = self.task_arns(cluster, DesiredStatus::Stopped).await?;
        let mut tasks = Vec::new();
        for arns in known.unknown(arns).chunks(TASKS_PER_CALL) {
            self.pace.turn(Bucket::Tasks).await;
            let call = self.client.describe_tasks().cluster(cluster).set_tasks(Some(arns.to_vec()));
            tasks.extend(call.send().await.map_err(|e| explain(&e))?.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }

    async fn definition(&self, arn: &str) -> Result<Arc<TaskDefinition>, String> {
        if let Some(known) = self.definitions.lock().expect("no one panics holding it").get(arn) {
            return Ok(known.clone());
        }
        self.pace.turn(Bucket::Definitions).await;
        let answer = self.client.describe_task_definition().task_definition(arn).send().await;
        let definition = answer.map_err(|e| explain(&e))?.task_definition;
        let definition = Arc::new(definition.ok_or_else(|| format!("task definition {arn} is empty"))?);
        let mut definitions = self.definitions.lock().expect("no one panics holding it");
        if definitions.len() >= DEFINITIONS_MAX {
            definitions.clear();
        }
        definitions.insert(arn.to_owned(), definition.clone());
        Ok(definition)
    }
}

/// Something that went away between the listing and the description is no fault; anything else is.
fn refuse(failures: &[Failure]) -> Result<(), String> {
    match failures.iter().find(|f| f.reason() != Some("MISSING")) {
        Some(failure) => {
            let what = failure.arn().unwrap_or("something");
            Err(format!("ECS does not describe {what}: {}", failure.reason().unwrap_or("no reason given")))
        }
        None => Ok(()),
    }
}
