//! The architecture's arrows: which crate of the workspace may depend on which, and what the pure ones may not touch.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{cargo, quiet};

/// Crate -> workspace crates that it may depend on (development dependencies included).
const ALLOWED: [(&str, &[&str]); 12] = [
    ("telemetry", &[]),
    ("service", &["telemetry"]),
    ("promql", &["telemetry"]),
    ("storage", &["telemetry"]),
    ("dashboards", &["telemetry"]),
    ("sidecar", &["telemetry", "service"]),
    ("collector", &["telemetry", "service", "promql", "storage", "dashboards"]),
    ("platform-api", &["telemetry", "service"]),
    ("fake-aws", &["telemetry", "service"]),
    ("e2e", &["telemetry", "service", "fake-aws"]),
    ("fuzz", &["telemetry", "service", "promql", "storage", "sidecar", "collector"]),
    ("xtask", &[]),
];

/// Crates that only a development dependency of these may name.
const DEVELOPMENT_ONLY: [&str; 4] = ["fake-aws", "e2e", "fuzz", "xtask"];

/// No I/O, no tasks, no clock: what the pure crates may not depend on.
const PURE: [&str; 4] = ["telemetry", "promql", "storage", "dashboards"];
const IMPURE: [&str; 9] = ["tokio", "axum", "hyper", "reqwest", "sqlx", "notify", "aws-config", "chrono", "tokio-util"];

/// AWS SDK crate -> the only crates that may link it (build time and size of the others).
const SDK_OWNERS: [(&str, &[&str]); 4] = [
    ("aws-sdk-ecs", &["collector", "fake-aws"]),
    ("aws-sdk-cloudwatch", &["collector", "fake-aws"]),
    ("aws-sdk-applicationautoscaling", &["collector", "fake-aws"]),
    ("aws-sdk-cloudwatchlogs", &["sidecar", "fake-aws"]),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let json = quiet("cargo metadata", cargo().args(["metadata", "--format-version=1", "--no-deps", "--quiet"]))?;
    let metadata: Value = serde_json::from_str(&json).context("cargo metadata did not print JSON")?;
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!("{} arrows that docs/ARCHITECTURE.md does not allow:\n  {}", faults.len(), faults.join("\n  "));
    }
    eprintln!("arrows: {} crates, all as docs/ARCHITECTURE.md allows", ALLOWED.len());
    Ok(())
}

fn faults(metadata: &Value) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may) = allowed.get(name) else {
            faults.push(format!("{name}: a crate that the list of arrows (crates/xtask/src/arrows.rs) does not know"));
            continue;
        };
        for (dependency, kind) in dependencies(package) {
            let internal = allowed.contains_key(dependency.as_str());
            let development_edge =
                kind == "dev" && dependency == "fake-aws" && ["collector", "sidecar"].contains(&name);
            if internal && !may.contains(&dependency.as_str()) && !development_edge {
                faults.push(format!("{name} -> {dependency}"));
            }
            if DEVELOPMENT_ONLY.contains(&dependency.as_str()) && kind != "dev" && !DEVELOPMENT_ONLY.contains(&name) {
                faults.push(format!("{name} -> {dependency}: for development only, nothing that ships knows it"));
            }
            if PURE.contains(&name) && kind != "dev" && IMPURE.contains(&dependency.as_str()) {
                faults.push(format!("{name} -> {dependency}: {name} does no I/O, starts no tasks, reads no clock"));
            }
            if let Some((_, owners)) = SDK_OWNERS.iter().find(|(sdk, _)| *sdk == dependency)
                && !owners.contains(&name)
            {
                faults.push(format!("{name} -> {dependency}: only {} links it", owners.join(", ")));
            }
        }
    }
    faults
}

fn dependencies(package: &Value) -> BTreeSet<(String, String)> {
    let list = package["dependencies"].as_array().into_iter().flatten();
    list.map(|d| (d["name"].as_str().unwrap_or_default().to_owned(), d["kind"].as_str().unwrap_or("normal").to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Value)]) -> Value {
        let list: Vec<_> = dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"packages": [{"name": name, "dependencies": list}]})
    }

    #[test]
    fn allowed_arrows_pass_and_others_are_named() {
        let normal = Value::Null;
        assert_eq!(
            faults(&package("collector", &[("promql", normal.clone()), ("aws-sdk-ecs", normal.clone())])),
            [""; 0]
        );
        assert_eq!(faults(&package("promql", &[("storage", normal.clone())])), ["promql -> storage"]);
        assert_eq!(faults(&package("collector", &[("fake-aws", json!("dev"))])), [""; 0]);
        assert_eq!(faults(&package("sidecar", &[("fake-aws", json!("dev"))])), [""; 0]);
        assert_eq!(faults(&package("sidecar", &[("fake-aws", normal.clone())])).len(), 2);
        assert_eq!(
            faults(&package("storage", &[("tokio", normal.clone())])),
            ["storage -> tokio: storage does no I/O, starts no tasks, reads no clock"]
        );
        assert_eq!(faults(&package("platform-api", &[("aws-sdk-ecs", normal)])).len(), 1);
        assert_eq!(faults(&package("stranger", &[])).len(), 1);
    }
}
