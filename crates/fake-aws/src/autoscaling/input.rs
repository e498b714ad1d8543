//! What the operations take.

use serde::Deserialize;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Suspended {
    pub(super) dynamic_scaling_in_suspended: Option<bool>,
    pub(super) dynamic_scaling_out_suspended: Option<bool>,
    pub(super) scheduled_scaling_suspended: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterInput {
    pub(super) service_namespace: String,
    pub(super) resource_id: String,
    pub(super) scalable_dimension: String,
    pub(super) min_capacity: Option<i64>,
    pub(super) max_capacity: Option<i64>,
    #[serde(rename = "RoleARN")]
    pub(super) role_arn: Option<String>,
    pub(super) suspended_state: Option<Suspended>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeInput {
    pub(super) service_namespace: String,
    #[serde(default)]
    pub(super) resource_ids: Vec<String>,
    pub(super) resource_id: Option<String>,
    pub(super) scalable_dimension: Option<String>,
    #[serde(default)]
    pub(super) scheduled_action_names: Vec<String>,
    pub(super) scheduled_action_name: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutActionInput {
    pub(super) service_namespace: String,
    pub(super) schedule: Option<String>,
    pub(super) timezone: Option<String>,
    pub(super) scheduled_action_name: String,
    pub(super) resource_id: String,
    pub(super) scalable_dimension: String,
    pub(super) start_time: Option<f64>,
    pub(super) end_time: Option<f64>,
    pub(super) scalable_target_action: Option<TargetAction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TargetAction {
    pub(super) min_capacity: Option<i64>,
    pub(super) max_capacity: Option<i64>,
}
