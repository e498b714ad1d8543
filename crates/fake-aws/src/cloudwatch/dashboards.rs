//! Dashboards: stored whole, global in the account, validated as CloudWatch validates them.

mod body;

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::invalid_value;
use crate::ecs::unix_now;
use crate::topology::Topology;
use crate::wire::page::page;
use crate::wire::{AwsError, input};

const PAGE: usize = 1000;
const NAME_LEN_MAX: usize = 255;

pub(super) struct Dashboards {
    account: String,
    page_size: usize,
    all: Mutex<BTreeMap<String, Dashboard>>,
}

struct Dashboard {
    body: String,
    modified_at: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutInput {
    dashboard_name: String,
    dashboard_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetInput {
    dashboard_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput {
    dashboard_name_prefix: Option<String>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteInput {
    dashboard_names: Vec<String>,
}

impl Dashboards {
    pub(super) fn new(topology: &Topology) -> Self {
        Dashboards {
            account: topology.account.clone(),
            page_size: topology.page_size_max.unwrap_or(PAGE),
            all: Mutex::default(),
        }
    }

    pub(super) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "PutDashboard" => self.put(input(value)?),
            "GetDashboard" => self.get(&input(value)?),
            "ListDashboards" => self.list(&input(value)?),
            _ => self.delete(&input(value)?),
        }
    }

    fn put(&self, put: PutInput) -> Result<Value, AwsError> {
        let name_fits = (1..=NAME_LEN_MAX).contains(&put.dashboard_name.len())
            && put.dashboard_name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !name_fits {
            return Err(invalid_input(
                "The value for field DashboardName contains invalid characters. It can only contain alphanumerics, \
                 dash (-) and underscore (_) characters, and at most 255 of them.",
                Vec::new(),
            ));
        }
        let findings = body::validate(&put.dashboard_body)
            .map_err(|_| invalid_input("The field DashboardBody must be a valid JSON object.", Vec::new()))?;
        if !findings.errors.is_empty() {
            let message =
                format!("The dashboard body is invalid, there are {} validation errors.", findings.errors.len());
            return Err(invalid_input(&message, findings.errors));
        }
        let dashboard = Dashboard { body: put.dashboard_body, modified_at: unix_now() };
        self.lock().insert(put.dashboard_name, dashboard);
        Ok(json!({ "DashboardValidationMessages": findings.warnings }))
    }

    fn get(&self, get: &GetInput) -> Result<Value, AwsError> {
        let all = self.lock();
        let dashboard = all.get(&get.dashboard_name).ok_or_else(|| not_found(&get.dashboard_name))?;
        Ok(json!({
            "DashboardArn": self.arn(&get.dashboard_name),
            "DashboardBody": dashboard.body,
            "DashboardName": get.dashboard_name,
        }))
    }

    fn list(&self, list: &ListInput) -> Result<Value, AwsError> {
        let all = self.lock();
        let prefix = list.dashboard_name_prefix.as_deref().unwrap_or_default();
        let entries = all.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, dashboard)| {
            let entry = json!({
                "DashboardName": name,
                "DashboardArn": self.arn(name),
                "LastModified": dashboard.modified_at,
                "Size": dashboard.body.len(),
            });
            (name.clone(), entry)
        });
        let (entries, next) = page("ListDashboards", entries, list.next_token.as_deref(), self.page_size)
            .map_err(|_| invalid_value("The next token is not valid"))?;
        let mut answer = json!({ "DashboardEntries": entries });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }

    /// All or none: one missing name refuses the whole call.
    fn delete(&self, delete: &DeleteInput) -> Result<Value, AwsError> {
        let mut all = self.lock();
        if let Some(missing) = delete.dashboard_names.iter().find(|name| !all.contains_key(*name)) {
            return Err(not_found(missing));
        }
        delete.dashboard_names.iter().for_each(|name| drop(all.remove(name)));
        Ok(json!({}))
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:cloudwatch::{}:dashboard/{name}", self.account)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Dashboard>> {
        self.all.lock().expect("no one panics holding it")
    }
}

fn not_found(name: &str) -> AwsError {
    AwsError::new("DashboardNotFoundError", format!("Dashboard {name} does not exist"))
        .query("ResourceNotFound")
        .status(StatusCode::NOT_FOUND)
}

fn invalid_input(message: &str, messages: Vec<Value>) -> AwsError {
    AwsError::new("DashboardInvalidInputError", message)
        .query("InvalidParameterInput")
        .member("dashboardValidationMessages", Value::Array(messages))
}
