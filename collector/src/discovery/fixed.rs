//! `static_configs`: targets that stand in the configuration.

use serde::{Deserialize, Serialize};
use telemetry::Labels;

use super::{ADDRESS, TargetGroup};

/// Addresses, and the labels that all of them carry. File discovery reads lists of the same shape.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port`.
    pub targets: Vec<String>,
    #[serde(default)]
    pub labels: Labels,
}

impl Config {
    pub(super) fn group(&self, source: &str, meta: &[(&str, &str)]) -> TargetGroup {
        let with_meta = |address: &String| {
            let mut labels = self.labels.to_builder();
            for (name, value) in meta {
                labels.set(name, value);
            }
            labels.set(ADDRESS, address);
            labels.build()
        };
        TargetGroup { source: source.to_owned(), targets: self.targets.iter().map(with_meta).collect() }
    }
}
