//! What the task knows of itself, added to the resource of everything that passes by OTLP.
//!
//! An ExportTraceServiceRequest, ExportMetricsServiceRequest and ExportLogsServiceRequest have the same outer shape:
//! field 1 repeats a message whose own field 1 is the resource. Attributes that the app has set are the app's; those
//! that are missing are appended. Nothing below the resource is looked at.

use std::sync::Arc;

use super::wire::{self, NotProtobuf, Value, fields, key_of, put_attribute, put_bytes};
use crate::identity::Identity;

/// Attributes in the order of OpenTelemetry's conventions.
#[derive(Clone, Debug, Default)]
pub struct ResourceAttributes(Arc<[(&'static str, String)]>);

impl ResourceAttributes {
    pub fn new(attributes: Vec<(&'static str, String)>) -> Self {
        ResourceAttributes(attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// `aws.ecs.*` and `cloud.*`; nothing outside ECS. `log_group` is where the task's log lines go.
    pub fn of(identity: &Identity, log_group: Option<&str>) -> Self {
        let task = &identity.task;
        if task.task_arn.is_empty() {
            return ResourceAttributes::default();
        }
        ResourceAttributes::new(vec![
            ("cloud.provider", "aws".to_owned()),
            ("cloud.platform", "aws_ecs".to_owned()),
            ("cloud.account.id", task.account.clone()),
            ("cloud.region", identity.region.clone().unwrap_or_default()),
            ("cloud.availability_zone", task.availability_zone.clone()),
            ("cloud.resource_id", task.task_arn.clone()),
            ("aws.ecs.cluster.arn", task.cluster_arn.clone()),
            ("aws.ecs.launchtype", task.launch_type.to_ascii_lowercase()),
            ("aws.ecs.task.arn", task.task_arn.clone()),
            ("aws.ecs.task.id", identity.task_id.clone()),
            ("aws.ecs.task.family", task.family.clone()),
            ("aws.ecs.task.revision", task.revision.clone()),
            ("aws.log.group.names", log_group.unwrap_or_default().to_owned()),
            ("service.name", identity.service.clone()),
            ("deployment.environment.name", identity.environment.clone()),
        ])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The request with the attributes in every resource.
    ///
    /// # Errors
    /// Where the bytes are no protobuf.
    pub fn add_to(&self, request: &[u8]) -> Result<Vec<u8>, NotProtobuf> {
        let room: usize = self.0.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        let mut out = Vec::with_capacity(request.len() + room);
        let mut walk = fields(request);
        for field in walk.by_ref() {
            match (field.number, field.value) {
                (1, Value::Bytes(of_resource)) => put_bytes(&mut out, 1, &self.add_to_one(of_resource)?),
                _ => out.extend_from_slice(field.raw),
            }
        }
        if walk.is_sound() { Ok(out) } else { Err(NotProtobuf) }
    }

    /// ResourceSpans, ResourceMetrics or ResourceLogs.
    pub fn add_to_one(&self, of_resource: &[u8]) -> Result<Vec<u8>, NotProtobuf> {
        // Repeated pieces of one message are one message: protobuf wants them merged.
        let mut resource = Vec::new();
        wire::each(of_resource, 1, |piece| {
            resource.extend_from_slice(piece);
            Ok(())
        })?;
        let mut known: Vec<&[u8]> = Vec::new();
        wire::each(&resource, 1, |pair| {
            known.push(key_of(pair));
            Ok(())
        })?;
        let missing: Vec<_> = self.iter().filter(|(key, _)| !known.contains(&key.as_bytes())).collect();
        drop(known);
        for (key, value) in missing {
            put_attribute(&mut resource, 1, key, value);
        }
        let mut out = Vec::with_capacity(of_resource.len() + resource.len() + 8);
        put_bytes(&mut out, 1, &resource);
        for field in fields(of_resource).filter(|field| field.number != 1) {
            out.extend_from_slice(field.raw);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    fn pair(key: &str, value: &str) -> KeyValue {
        let value = any_value::Value::StringValue(value.into());
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    #[test]
    fn missing_attributes_are_added_and_nothing_else_changes() {
        let spans = vec![Span { name: "GET /".into(), trace_id: vec![1; 16], ..Span::default() }];
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let with = |attributes: Option<Vec<KeyValue>>| ResourceSpans {
            resource: attributes.map(|attributes| Resource { attributes, ..Resource::default() }),
            scope_spans: scope_spans.clone(),
            schema_url: "https://opentelemetry.io/schemas/1.30.0".into(),
        };
        let mine = pair("cloud.region", "mars-1");
        let request = ExportTraceServiceRequest { resource_spans: vec![with(Some(vec![mine.clone()])), with(None)] };
        let added = ResourceAttributes::new(vec![
            ("cloud.region", "eu-central-1".into()),
            ("aws.ecs.task.arn", "arn".into()),
            ("empty", String::new()),
        ]);
        let out = added.add_to(&request.encode_to_vec()).expect("protobuf");
        let (region, arn) = (pair("cloud.region", "eu-central-1"), pair("aws.ecs.task.arn", "arn"));
        let expected = ExportTraceServiceRequest {
            resource_spans: vec![with(Some(vec![mine, arn.clone()])), with(Some(vec![region, arn]))],
        };
        assert_eq!(ExportTraceServiceRequest::decode(&out[..]).expect("decodes"), expected);
        assert!(added.add_to(b"\x0a\x7f").is_err());
    }
}
