//! Attributes of resources, scopes and points as labels.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;

use super::{Settings, label_name};
use crate::Labels;
use crate::labels::METRIC_NAME;
use crate::names::label::{INSTANCE, JOB};

const NAME: &str = "service.name";
const NAMESPACE: &str = "service.namespace";
const INSTANCE_ID: &str = "service.instance.id";

/// What a resource says of all its series.
pub(super) struct ResourceLabels<'r> {
    attributes: &'r [KeyValue],
    /// `job` and `instance`, which outrank a point's own.
    identity: Vec<(&'static str, String)>,
    /// Promoted attributes, which do not.
    promoted: Vec<(String, String)>,
}

impl<'r> ResourceLabels<'r> {
    pub(super) fn new(attributes: &'r [KeyValue], settings: &Settings) -> Self {
        let get = |key: &str| attributes.iter().find(|kv| kv.key == key).map(|kv| text(kv.value.as_ref()));
        let job = get(NAME).map(|name| match get(NAMESPACE) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        });
        let identity = [(JOB, job), (INSTANCE, get(INSTANCE_ID))];
        let identity = identity.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let is_promoted = |key: &String| match settings.promote_all_resource_attributes {
            true => !settings.ignore_resource_attributes.contains(key),
            false => settings.promote_resource_attributes.contains(key),
        };
        let promoted = attributes.iter().filter(|kv| is_promoted(&kv.key));
        let promoted = promoted.map(|kv| (label_name(&kv.key, settings.strategy), text(kv.value.as_ref()))).collect();
        ResourceLabels { attributes, identity, promoted }
    }

    /// `target_info`; None where there is nothing to say, or nothing to say it of.
    pub(super) fn target_info(&self, settings: &Settings) -> Option<Labels> {
        let is_identifying = |kv: &&KeyValue| [NAME, NAMESPACE, INSTANCE_ID].contains(&kv.key.as_str());
        let telling = self.attributes.iter().filter(|kv| !is_identifying(kv)).count();
        if telling == 0 || self.identity.is_empty() {
            return None;
        }
        let kept =
            self.attributes.iter().filter(|kv| settings.keep_identifying_resource_attributes || !is_identifying(kv));
        let mut labels = merged(kept, settings);
        labels.extend(self.identity.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        labels.insert(METRIC_NAME.to_owned(), "target_info".to_owned());
        Some(Labels::from_pairs(labels))
    }

    /// The labels of a point's series but for the metric's name.
    pub(super) fn series(
        &self,
        attributes: &[KeyValue],
        scope: &[(String, String)],
        settings: &Settings,
    ) -> BTreeMap<String, String> {
        let mut labels = merged(attributes.iter(), settings);
        for (name, value) in &self.promoted {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        labels.extend(scope.iter().cloned());
        labels.extend(self.identity.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        labels
    }
}

pub(super) fn scope_labels(of_scope: &ScopeMetrics, settings: &Settings) -> Vec<(String, String)> {
    let Some(scope) = of_scope.scope.as_ref().filter(|s| settings.promote_scope_metadata && !s.name.is_empty()) else {
        return Vec::new();
    };
    let own = [
        ("otel_scope_name", &scope.name),
        ("otel_scope_version", &scope.version),
        ("otel_scope_schema_url", &of_scope.schema_url),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    let further = scope
        .attributes
        .iter()
        .map(|kv| (label_name(&format!("otel_scope_{}", kv.key), settings.strategy), text(kv.value.as_ref())));
    own.chain(further).collect()
}

/// Attributes whose names become equal are joined by `;`, in the order of their keys.
fn merged<'k>(attributes: impl Iterator<Item = &'k KeyValue>, settings: &Settings) -> BTreeMap<String, String> {
    let mut sorted: Vec<&KeyValue> = attributes.filter(|kv| !kv.key.is_empty()).collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for kv in sorted {
        let (name, value) = (label_name(&kv.key, settings.strategy), text(kv.value.as_ref()));
        match labels.get_mut(&name) {
            Some(joined) => {
                joined.push(';');
                joined.push_str(&value);
            }
            None => drop(labels.insert(name, value)),
        }
    }
    labels
}

/// A value in words; what is nested becomes JSON.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BytesValue(bytes)) => BASE64_STANDARD.encode(bytes),
        Some(other) => json(Some(other)).to_string(),
        None => String::new(),
    }
}

fn json(value: Option<&Value>) -> serde_json::Value {
    let inner = |value: Option<&AnyValue>| json(value.and_then(|v| v.value.as_ref()));
    match value {
        Some(Value::StringValue(text)) => text.clone().into(),
        Some(Value::BoolValue(flag)) => (*flag).into(),
        Some(Value::IntValue(number)) => (*number).into(),
        // Whole numbers are written without a point, as Go does.
        Some(Value::DoubleValue(number)) if number.fract() == 0.0 && number.abs() < 1e15 => (*number as i64).into(),
        Some(Value::DoubleValue(number)) => (*number).into(),
        Some(Value::BytesValue(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(|v| inner(Some(v))).collect(),
        Some(Value::KvlistValue(list)) => {
            list.values.iter().map(|kv| (kv.key.clone(), inner(kv.value.as_ref()))).collect()
        }
        _ => serde_json::Value::Null,
    }
}
