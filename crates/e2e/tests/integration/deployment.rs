//! The compose file and the CloudFormation templates agree with the programs that they start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/e2e").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is YAML")
}

/// Every Rust source below a folder in one string.
fn sources(folder: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(path).expect("a source"));
            }
        }
    }
    text
}

/// Variables that the libraries read for us: the AWS SDK, and OpenTelemetry's exporter.
const READ_BY_LIBRARIES: [&str; 4] = ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

#[test]
fn no_two_services_of_the_compose_file_publish_one_port_and_all_bind_loopback() {
    let compose = compose();
    let mut seen = BTreeSet::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("the short syntax");
            let parts: Vec<&str> = port.split(':').collect();
            assert_eq!(parts.len(), 3, "{name}: {port} does not say which address it binds");
            assert_eq!(parts[0], "127.0.0.1", "{name}: {port} is open to the network");
            assert!(seen.insert(parts[1].to_owned()), "{name}: host port {} is published twice", parts[1]);
        }
    }
    assert!(seen.len() >= 10, "only {} ports are published", seen.len());
}

#[test]
fn images_of_the_compose_file_have_a_version() {
    for (name, service) in compose()["services"].as_object().expect("services") {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        assert!(!tag.is_empty() && tag != "latest", "{name}: image {image} has no fixed version");
    }
}

#[test]
fn every_variable_in_the_compose_file_is_read_by_its_program() {
    let compose = compose();
    let service = sources("crates/service/src");
    let programs = [
        ("picket/platform-api", "platform-api/src"),
        ("picket/sidecar", "sidecar/src"),
        ("picket/collector", "collector/src"),
    ];
    let mut checked = 0;
    for (name, definition) in compose["services"].as_object().expect("services") {
        let image = definition["image"].as_str().unwrap_or_default();
        let Some((_, folder)) = programs.iter().find(|(prefix, _)| image.starts_with(prefix)) else { continue };
        let text = sources(folder);
        for variable in definition["environment"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
            checked += 1;
            assert!(is_read(variable, &text, &service), "{name}: {variable} is read by no source in {folder}");
        }
    }
    assert!(checked > 50, "only {checked} variables were checked");
}

#[test]
fn every_variable_in_the_service_templates_is_read_by_a_program() {
    let templates =
        ["60-service", "61-worker", "62-migrate-task"].map(|name| read(&format!("infra/cloudformation/{name}.yaml")));
    let template = templates.concat();
    let (platform, sidecar, service) =
        (sources("platform-api/src"), sources("sidecar/src"), sources("crates/service/src"));
    let variable = Regex::new(r"Name: ([A-Z][A-Z0-9_]{3,})[,\n]").expect("a constant pattern");
    let names: BTreeSet<&str> =
        variable.captures_iter(&template).map(|found| found.get(1).expect("one group").as_str()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(
            is_read(name, &format!("{platform}{sidecar}"), &service),
            "{name} is read by neither platform-api nor sidecar"
        );
    }
}

#[test]
fn every_import_of_a_template_is_exported_by_a_layer_below_it() {
    let import =
        Regex::new(r#"ImportValue['"]?: !Sub '?(\$\{Environment\}-platform-[a-z-]+)'?"#).expect("a constant pattern");
    let export =
        Regex::new(r"Export: \{Name: !Sub '(\$\{Environment\}-platform-[a-z-]+)'\}").expect("a constant pattern");
    let entries = std::fs::read_dir(root().join("infra/cloudformation")).expect("templates").flatten();
    let mut templates: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    templates.sort();
    let (mut exported, mut imports) = (BTreeSet::new(), 0);
    for template in templates {
        let text = read(&format!("infra/cloudformation/{template}"));
        let names =
            |pattern: &Regex| -> Vec<String> { pattern.captures_iter(&text).map(|c| c[1].to_owned()).collect() };
        let imported = names(&import);
        assert_eq!(
            imported.len(),
            text.matches("ImportValue").count(),
            "{template}: an import is written in another way"
        );
        for name in imported {
            imports += 1;
            assert!(exported.contains(&name), "{template} imports {name}, which no layer below it exports");
        }
        for name in names(&export) {
            assert!(exported.insert(name.clone()), "{template} exports {name} a second time");
        }
    }
    assert!(imports > 30, "only {imports} imports were found");
}

#[test]
fn the_template_and_the_programs_agree_on_the_sidecar_s_port() {
    assert!(read("infra/cloudformation/60-service.yaml").contains("ContainerPort: 9464"));
    assert!(sources("sidecar/src").contains("9464"));
}

/// `SERVICE_URL_USER` and its kind are composed from a prefix and the domain.
fn is_read(variable: &str, program: &str, service: &str) -> bool {
    let composed = variable.starts_with("SERVICE_URL_") && program.contains("SERVICE_URL_");
    composed || READ_BY_LIBRARIES.contains(&variable) || program.contains(variable) || service.contains(variable)
}

#[test]
fn our_rules_pass_our_own_lint_and_our_own_unit_tests() {
    let Some(binaries) = crate::story::named_by("PICKET_BIN_DIR", "our rules by our own tools") else { return };
    let files = |suffix: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root().join("alertmanager-rules")).expect("alertmanager-rules").flatten();
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    };
    for (command, suffix) in
        [(["check", "rules", "--strict"], ".rules.yml"), (["test", "rules", "--coverage"], ".test.yml")]
    {
        let output = std::process::Command::new(binaries.join("collector")).args(command).args(files(suffix)).output();
        let output = output.expect("the collector is built");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {said}");
    }
}
