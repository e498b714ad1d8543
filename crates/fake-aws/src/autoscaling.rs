//! Application Auto Scaling for ECS services: bounds that pull the desired count, and scheduled actions that run.
//!
//! As AWS does it: an action or a registration sets bounds; a desired count outside of them is moved to the nearer
//! bound, one inside stays. Has no scaling policies.

mod input;
mod schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ecs::{Ecs, ServiceKey, unix_now};
use crate::wire::page::page;
use crate::wire::{AwsError, input};
use input::{DescribeInput, PutActionInput, RegisterInput, Suspended};
use schedule::Schedule;

const DIMENSION: &str = "ecs:service:DesiredCount";
const PAGE: usize = 50;
const SCHEDULED_ACTIONS_MAX: usize = 200;
/// AWS keeps six weeks; a development run never gets there.
const ACTIVITIES_MAX: usize = 1000;
const NAME_LEN_MAX: usize = 256;
const TICK: Duration = Duration::from_millis(500);

pub(crate) struct AutoScaling {
    region: String,
    account: String,
    page_size_max: usize,
    ecs: Arc<Ecs>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    targets: BTreeMap<String, Target>,
    actions: BTreeMap<(String, String), Action>,
    /// The newest last.
    activities: Vec<Activity>,
}

struct Target {
    arn: String,
    min: i64,
    max: i64,
    role: String,
    created_at: f64,
    suspended: Suspended,
}

struct Action {
    arn: String,
    text: String,
    schedule: Schedule,
    timezone: Option<String>,
    start: Option<f64>,
    end: Option<f64>,
    min: Option<i64>,
    max: Option<i64>,
    created_at: f64,
    next: Option<f64>,
}

struct Activity {
    id: String,
    resource: String,
    description: String,
    cause: String,
    started_at: f64,
    ended_at: Option<f64>,
    desired: u32,
    status: &'static str,
}

impl AutoScaling {
    pub(crate) fn new(topology: &crate::topology::Topology, ecs: Arc<Ecs>) -> Arc<Self> {
        Arc::new(AutoScaling {
            region: topology.region.clone(),
            account: topology.account.clone(),
            page_size_max: topology.page_size_max.unwrap_or(PAGE),
            ecs,
            state: Mutex::default(),
        })
    }

    /// Runs scheduled actions at their time and closes activities that are fulfilled.
    pub(crate) async fn run(self: Arc<Self>, shutdown: service::Shutdown) -> anyhow::Result<()> {
        while !shutdown.is_requested() {
            self.tick(unix_now());
            tokio::select! {
                () = shutdown.requested() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "RegisterScalableTarget" => self.register(&input(value)?),
            "DescribeScalableTargets" => self.describe_targets(&input(value)?),
            "DeregisterScalableTarget" => self.deregister(&input(value)?),
            "PutScheduledAction" => self.put_action(input(value)?),
            "DescribeScheduledActions" => self.describe_actions(&input(value)?),
            "DeleteScheduledAction" => self.delete_action(&input(value)?),
            "DescribeScalingActivities" => self.describe_activities(&input(value)?),
            other => Err(AwsError::new(
                "UnknownOperationException",
                format!("fake-aws has no application-autoscaling:{other}"),
            )),
        }
    }

    fn register(&self, register: &RegisterInput) -> Result<Value, AwsError> {
        check_place(&register.service_namespace, Some(&register.scalable_dimension))?;
        let key = self.find_service(&register.resource_id)?;
        let mut state = self.lock();
        let known = state.targets.get(&register.resource_id).map(|t| (t.min, t.max));
        let (min, max) = match (known, register.min_capacity, register.max_capacity) {
            (None, Some(min), Some(max)) => (min, max),
            (None, _, _) => {
                return Err(validation(
                    "Minimum and maximum capacity must be specified when registering a new scalable target",
                ));
            }
            (Some((min, max)), new_min, new_max) => (new_min.unwrap_or(min), new_max.unwrap_or(max)),
        };
        check_bounds(min, max)?;
        let region = &self.region;
        let target = state.targets.entry(register.resource_id.clone()).or_insert_with(|| Target {
            arn: format!(
                "arn:aws:application-autoscaling:{region}:{}:scalable-target/0ec5{}",
                self.account,
                &uuid::Uuid::new_v4().simple().to_string()[..28]
            ),
            min,
            max,
            role: String::new(),
            created_at: unix_now(),
            suspended: Suspended::default(),
        });
        (target.min, target.max) = (min, max);
        if let Some(new) = register.suspended_state {
            let old = &mut target.suspended;
            old.dynamic_scaling_in_suspended = new.dynamic_scaling_in_suspended.or(old.dynamic_scaling_in_suspended);
            old.dynamic_scaling_out_suspended = new.dynamic_scaling_out_suspended.or(old.dynamic_scaling_out_suspended);
            old.scheduled_scaling_suspended = new.scheduled_scaling_suspended.or(old.scheduled_scaling_suspended);
        }
        target.role = register.role_arn.clone().unwrap_or_else(|| {
            format!(
                "arn:aws:iam::{}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/\
                 AWSServiceRoleForApplicationAutoScaling_ECSService",
                self.account
            )
        });
        let arn = target.arn.clone();
        self.pull_into_bounds(&mut state, &register.resource_id, &key, "the scalable target was registered");
        Ok(json!({ "ScalableTargetARN": arn }))
    }

    /// Moves a desired count that lies outside of the bounds to the nearer one.
    fn pull_into_bounds(&self, state: &mut State, resource: &str, key: &ServiceKey, why: &str) {
        let (Some(target), Some((desired, _))) = (state.targets.get(resource), self.ecs.counts(key)) else { return };
        let wanted = i64::from(desired).clamp(target.min, target.max);
        if wanted == i64::from(desired) {
            return;
        }
        let bound = if wanted > i64::from(desired) { "minimum" } else { "maximum" };
        let desired = u32::try_from(wanted).expect("bounds were checked to be counts");
        self.ecs.set_desired(key, desired);
        state.activities.push(Activity {
            id: uuid::Uuid::new_v4().to_string(),
            resource: resource.to_owned(),
            description: format!("Setting desired count to {desired}."),
            cause: format!("{why}: {bound} capacity was set to {desired}"),
            started_at: unix_now(),
            ended_at: None,
            desired,
            status: "InProgress",
        });
        let surplus = state.activities.len().saturating_sub(ACTIVITIES_MAX);
        state.activities.drain(..surplus);
    }

    fn describe_targets(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        check_place(&describe.service_namespace, describe.scalable_dimension.as_deref())?;
        let state = self.lock();
        let wanted = |id: &&String| describe.resource_ids.is_empty() || describe.resource_ids.contains(id);
        let targets = state.targets.iter().filter(|(id, _)| wanted(id)).map(|(id, target)| {
            let flag = |flag: Option<bool>| flag.unwrap_or(false);
            let json = json!({
                "ServiceNamespace": "ecs",
                "ResourceId": id,
                "ScalableDimension": DIMENSION,
                "MinCapacity": target.min,
                "MaxCapacity": target.max,
                "RoleARN": target.role,
                "CreationTime": target.created_at,
                "ScalableTargetARN": target.arn,
                "SuspendedState": {
                    "DynamicScalingInSuspended": flag(target.suspended.dynamic_scaling_in_suspended),
                    "DynamicScalingOutSuspended": flag(target.suspended.dynamic_scaling_out_suspended),
                    "ScheduledScalingSuspended": flag(target.suspended.scheduled_scaling_suspended),
                },
            });
            (id.clone(), json)
        });
        self.page("DescribeScalableTargets", "ScalableTargets", targets, describe)
    }

    fn deregister(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        check_place(&describe.service_namespace, describe.scalable_dimension.as_deref())?;
        let resource = describe.resource_id.as_deref().unwrap_or_default();
        let mut state = self.lock();
        state.targets.remove(resource).ok_or_else(|| no_target(resource))?;
        state.actions.retain(|(of, _), _| of != resource);
        Ok(json!({}))
    }

    fn put_action(&self, put: PutActionInput) -> Result<Value, AwsError> {
        check_place(&put.service_namespace, Some(&put.scalable_dimension))?;
        check_action_name(&put.scheduled_action_name)?;
        let mut state = self.lock();
        if !state.targets.contains_key(&put.resource_id) {
            return Err(no_target(&put.resource_id));
        }
        let key = (put.resource_id.clone(), put.scheduled_action_name.clone());
        let known = state.actions.get(&key);
        if known.is_none()
            && state.actions.keys().filter(|(of, _)| *of == put.resource_id).count() >= SCHEDULED_ACTIONS_MAX
        {
            return Err(AwsError::new(
                "LimitExceededException",
                format!("The maximum number of scheduled actions ({SCHEDULED_ACTIONS_MAX}) was reached"),
            ));
        }
        // Schedule, time zone and bounds that are left out stay as they were; start and end times do not.
        let text = put
            .schedule
            .or_else(|| known.map(|a| a.text.clone()))
            .ok_or_else(|| validation("Schedule must be specified for a new scheduled action"))?;
        let timezone = put.timezone.or_else(|| known.and_then(|a| a.timezone.clone()));
        let schedule = Schedule::parse(&text, timezone.as_deref()).map_err(|why| validation(&why))?;
        let (min, max) = match &put.scalable_target_action {
            Some(action) => (action.min_capacity, action.max_capacity),
            None => known.map_or((None, None), |a| (a.min, a.max)),
        };
        if min.is_none() && max.is_none() {
            return Err(validation("ScalableTargetAction must have a minimum or a maximum capacity"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            check_bounds(min, max)?;
        }
        if let (Some(start), Some(end)) = (put.start_time, put.end_time)
            && start >= end
        {
            return Err(validation("StartTime must be before EndTime"));
        }
        let now = unix_now();
        let action = Action {
            arn: known.map_or_else(|| self.action_arn(&put.resource_id, &put.scheduled_action_name), |a| a.arn.clone()),
            created_at: known.map_or(now, |a| a.created_at),
            next: schedule.next_after(now.max(put.start_time.unwrap_or(now))),
            text,
            schedule,
            timezone,
            start: put.start_time,
            end: put.end_time,
            min,
            max,
        };
        state.actions.insert(key, action);
        Ok(json!({}))
    }

    fn action_arn(&self, resource: &str, name: &str) -> String {
        format!(
            "arn:aws:autoscaling:{}:{}:scheduledAction:{}:resource/ecs/{resource}:scheduledActionName/{name}",
            self.region,
            self.account,
            uuid::Uuid::new_v4()
        )
    }

    fn describe_actions(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        check_place(&describe.service_namespace, describe.scalable_dimension.as_deref())?;
        let state = self.lock();
        let names = &describe.scheduled_action_names;
        let wanted = |(resource, name): &(String, String)| {
            describe.resource_id.as_ref().is_none_or(|r| r == resource) && (names.is_empty() || names.contains(name))
        };
        let actions = state.actions.iter().filter(|(key, _)| wanted(key)).map(|((resource, name), action)| {
            let mut json = json!({
                "ScheduledActionName": name,
                "ScheduledActionARN": action.arn,
                "ServiceNamespace": "ecs",
                "Schedule": action.text,
                "ResourceId": resource,
                "ScalableDimension": DIMENSION,
                "ScalableTargetAction": {},
                "CreationTime": action.created_at,
            });
            let optional = [
                ("Timezone", action.timezone.as_ref().map(|t| json!(t))),
                ("StartTime", action.start.map(|t| json!(t))),
                ("EndTime", action.end.map(|t| json!(t))),
            ];
            optional.into_iter().filter_map(|(n, v)| Some((n, v?))).for_each(|(n, v)| json[n] = v);
            let bounds = [("MinCapacity", action.min), ("MaxCapacity", action.max)];
            bounds.into_iter().filter_map(|(n, v)| Some((n, v?))).for_each(|(n, v)| {
                json["ScalableTargetAction"][n] = json!(v);
            });
            (format!("{resource}\u{1}{name}"), json)
        });
        self.page("DescribeScheduledActions", "ScheduledActions", actions, describe)
    }

    fn delete_action(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        check_place(&describe.service_namespace, describe.scalable_dimension.as_deref())?;
        let resource = describe.resource_id.clone().unwrap_or_default();
        let name = describe.scheduled_action_name.clone().unwrap_or_default();
        let removed = self.lock().actions.remove(&(resource.clone(), name.clone()));
        removed.map(|_| json!({})).ok_or_else(|| {
            AwsError::new(
                "ObjectNotFoundException",
                format!("No scheduled action found for service namespace: ecs, resource ID: {resource}, scheduled action name: {name}"),
            )
        })
    }

    fn describe_activities(&self, describe: &DescribeInput) -> Result<Value, AwsError> {
        check_place(&describe.service_namespace, describe.scalable_dimension.as_deref())?;
        let state = self.lock();
        let wanted = |a: &&Activity| describe.resource_id.as_ref().is_none_or(|r| *r == a.resource);
        let newest_first = state.activities.iter().rev().filter(wanted).enumerate().map(|(index, activity)| {
            let mut json = json!({
                "ActivityId": activity.id,
                "ServiceNamespace": "ecs",
                "ResourceId": activity.resource,
                "ScalableDimension": DIMENSION,
                "Description": activity.description,
                "Cause": activity.cause,
                "StartTime": activity.started_at,
                "StatusCode": activity.status,
                "StatusMessage": match activity.status {
                    "Successful" => format!(
                        "Successfully set desired count to {}. Change successfully fulfilled by ecs.",
                        activity.desired
                    ),
                    _ => format!("Successfully set desired count to {}. Waiting for change to be fulfilled by ecs.", activity.desired),
                },
            });
            if let Some(at) = activity.ended_at {
                json["EndTime"] = json!(at);
            }
            (format!("{index:08}"), json)
        });
        self.page("DescribeScalingActivities", "ScalingActivities", newest_first, describe)
    }

    fn page(
        &self,
        operation: &str,
        member: &str,
        items: impl Iterator<Item = (String, Value)>,
        describe: &DescribeInput,
    ) -> Result<Value, AwsError> {
        let size = match describe.max_results {
            None => PAGE,
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=PAGE).contains(n))
                .ok_or_else(|| validation("MaxResults must be between 1 and 50"))?,
        };
        let size = size.min(self.page_size_max);
        let (page, next) = page(operation, items, describe.next_token.as_deref(), size)
            .map_err(|_| AwsError::new("InvalidNextTokenException", "Unable to decode the next token"))?;
        let mut answer = json!({ member: page });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }

    fn tick(&self, now: f64) {
        let mut state = self.lock();
        let due: Vec<(String, String)> =
            state.actions.iter().filter(|(_, a)| a.next.is_some_and(|at| at <= now)).map(|(k, _)| k.clone()).collect();
        for key in due {
            self.run_action(&mut state, &key, now);
        }
        let open = state.activities.iter_mut().filter(|a| a.ended_at.is_none());
        for activity in open {
            let counts = self.find_service(&activity.resource).ok().and_then(|key| self.ecs.counts(&key));
            match counts {
                Some((desired, running)) if desired == activity.desired && running == desired => {
                    (activity.status, activity.ended_at) = ("Successful", Some(now));
                }
                Some((desired, _)) if desired != activity.desired => {
                    (activity.status, activity.ended_at) = ("Overridden", Some(now));
                }
                _ => {}
            }
        }
    }

    fn run_action(&self, state: &mut State, (resource, name): &(String, String), now: f64) {
        let Some(action) = state.actions.get_mut(&(resource.clone(), name.clone())) else { return };
        action.next = action.schedule.next_after(now).filter(|next| action.end.is_none_or(|end| *next <= end));
        let (min, max, once) = (action.min, action.max, action.schedule.is_once());
        let expired = action.end.is_some_and(|end| now > end);
        if once {
            state.actions.remove(&(resource.clone(), name.clone()));
        }
        let Some(target) = state.targets.get_mut(resource) else { return };
        if expired || target.suspended.scheduled_scaling_suspended == Some(true) {
            return;
        }
        let (new_min, new_max) = (min.unwrap_or(target.min), max.unwrap_or(target.max));
        if new_min > new_max {
            tracing::warn!(resource, action = name, "scheduled action would set minimum above maximum, not done");
            return;
        }
        (target.min, target.max) = (new_min, new_max);
        if let Ok(key) = self.find_service(resource) {
            self.pull_into_bounds(state, resource, &key, &format!("scheduled action name {name} was triggered"));
        }
    }

    fn find_service(&self, resource: &str) -> Result<ServiceKey, AwsError> {
        let parts: Vec<&str> = resource.split('/').collect();
        let ["service", cluster, service] = parts[..] else {
            return Err(validation(&format!(
                "Unsupported service namespace, resource type or scalable dimension: {resource}"
            )));
        };
        let key = ServiceKey { cluster: cluster.to_owned(), service: service.to_owned() };
        match self.ecs.counts(&key) {
            Some(_) => Ok(key),
            None => Err(validation(&format!("ECS service doesn't exist: {resource}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no one panics holding it")
    }
}

fn check_place(namespace: &str, dimension: Option<&str>) -> Result<(), AwsError> {
    if namespace != "ecs" {
        return Err(validation(&format!("fake-aws scales service namespace ecs alone, not {namespace}")));
    }
    match dimension {
        None | Some(DIMENSION) => Ok(()),
        Some(other) => Err(validation(&format!("Unsupported scalable dimension: {other}"))),
    }
}

fn check_bounds(min: i64, max: i64) -> Result<(), AwsError> {
    let range = 0..=i64::from(i32::MAX);
    if !range.contains(&min) || !range.contains(&max) {
        return Err(validation("Minimum and maximum capacity must be greater than or equal to 0"));
    }
    if min > max {
        return Err(validation("Maximum capacity cannot be less than minimum capacity"));
    }
    Ok(())
}

fn check_action_name(name: &str) -> Result<(), AwsError> {
    let bad_character = |c: char| c.is_control() || matches!(c, ':' | '/' | '|');
    if name.is_empty() || name.chars().count() > NAME_LEN_MAX || name.contains(bad_character) {
        return Err(validation(&format!(
            "1 validation error detected: Value '{name}' at 'scheduledActionName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: (?!((^[ ]+.*)|(.*([\\u0000-\\u001f]|[\\u007f-\\u009f]|[:/|])+.*)|(.*[ ]+$))).+"
        )));
    }
    Ok(())
}

fn validation(message: &str) -> AwsError {
    AwsError::new("ValidationException", message)
}

fn no_target(resource: &str) -> AwsError {
    AwsError::new(
        "ObjectNotFoundException",
        format!(
            "No scalable target registered for service namespace: ecs, resource ID: {resource}, scalable dimension: {DIMENSION}"
        ),
    )
}
