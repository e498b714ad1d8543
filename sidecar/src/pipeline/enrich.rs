//! The standard labels on every series: service, environment, task_id.
//!
//! Where a series has such a label with another value already, that one is kept as `exported_<name>`, as
//! Prometheus does.

use std::sync::Arc;

use telemetry::Labels;
use telemetry::exposition::Family;
use telemetry::names::label;

/// A handle; clones share the labels.
#[derive(Clone)]
pub struct Enrich(Arc<[(&'static str, String)]>);

impl Enrich {
    pub fn new(standard: Vec<(&'static str, String)>) -> Self {
        Enrich(standard.into())
    }

    pub fn families(&self, families: &mut [Family]) {
        for sample in families.iter_mut().flat_map(|family| &mut family.samples) {
            sample.labels = self.labels(&sample.labels);
        }
    }

    fn labels(&self, labels: &Labels) -> Labels {
        let mut builder = labels.to_builder();
        for (name, value) in self.0.iter() {
            if let Some(other) = labels.get(name).filter(|other| other != value) {
                let mut exported = format!("{}{name}", label::EXPORTED_PREFIX);
                while labels.get(&exported).is_some() {
                    exported.insert_str(0, label::EXPORTED_PREFIX);
                }
                builder.set(&exported, other);
            }
            builder.set(name, value);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_labels_do_not_clash_with_the_app_s() {
        let standard = [("environment", "prod"), ("service", "order"), ("task_id", "t1")];
        let enrich = Enrich::new(standard.map(|(n, v)| (n, v.to_owned())).to_vec());
        for (before, after) in [
            (vec![("path", "/")], r#"{environment="prod", path="/", service="order", task_id="t1"}"#),
            (vec![("service", "order")], r#"{environment="prod", service="order", task_id="t1"}"#),
            (
                vec![("service", "payment")],
                r#"{environment="prod", exported_service="payment", service="order", task_id="t1"}"#,
            ),
            (
                vec![("service", "a"), ("exported_service", "b")],
                r#"{environment="prod", exported_exported_service="a", exported_service="b", service="order", task_id="t1"}"#,
            ),
        ] {
            assert_eq!(enrich.labels(&Labels::from_pairs(before)).to_string(), after);
        }
    }
}
