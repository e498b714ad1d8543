//! What `inject` keeps of itself in a label of the sidecar's container, so that it can be repeated and undone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Options;
use super::value::{Key, Value};

/// The label that holds it, as JSON.
pub(super) const LABEL: &str = "picket.inject";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) options: Options,
    /// Fields of the task that were replaced: what stood there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) task: BTreeMap<String, String>,
    /// What was done to each container, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) containers: BTreeMap<String, Kept>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Fields that were not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) new: Vec<String>,
    /// Fields that were replaced: what stood there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) was: BTreeMap<String, String>,
    /// Names of the variables that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    environment: Vec<String>,
    /// Names of the containers in the dependencies that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

impl Record {
    pub(super) fn parse(label: &str) -> Option<Record> {
        serde_json::from_str(label).ok()
    }

    pub(super) fn to_label(&self) -> String {
        serde_json::to_string(self).expect("strings and lists are JSON")
    }
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        *self == Kept::default()
    }

    /// Remembers which elements were added to a list, by what names them.
    pub(super) fn note_elements(&mut self, field: &str, elements: &[Value]) {
        let (key, names) = match field {
            "environment" => ("name", &mut self.environment),
            _ => ("containerName", &mut self.depends_on),
        };
        for element in elements {
            let Value::Map(entries) = element else { continue };
            for (field, value) in entries {
                if let (Key::Field(field), Value::Text(name)) = (field, value)
                    && *field == key
                {
                    names.push(name.clone());
                }
            }
        }
    }

    /// List, the key that names an element, the names.
    pub(super) fn elements(&self) -> impl Iterator<Item = (&'static str, &'static str, &[String])> {
        let lists =
            [("environment", "name", &self.environment[..]), ("dependsOn", "containerName", &self.depends_on[..])];
        lists.into_iter().filter(|(_, _, names)| !names.is_empty())
    }
}
