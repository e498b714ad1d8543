//! `inject` on whole files: the result is the one that is kept beside the input, and can be taken back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sidecar::inject::{Logs, Options, inject, remove, snippet};

/// Writes what a test would compare with, after a wanted change: `PICKET_UPDATE=1 cargo test -p sidecar`.
fn wants_update() -> bool {
    std::env::var_os("PICKET_UPDATE").is_some()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

pub(crate) fn is_as_kept(path: &Path, text: &str) {
    if wants_update() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("write");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        kept == text,
        "{} is not what is made now; if that is wanted, run once with PICKET_UPDATE=1:\n{text}",
        path.display()
    );
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/inject").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(testdata(name)).expect("test data")
}

fn order() -> Options {
    Options {
        service: Some("order".to_owned()),
        environment: Some("prod".to_owned()),
        image: Some("example/sidecar@sha256:0000".to_owned()),
        ..Options::default()
    }
}

fn cases() -> Vec<(&'static str, &'static str, Options)> {
    let firelens = || Options { logs: Some(Logs::Firelens), ..order() };
    vec![
        ("service.yaml", "service.keep.yaml", order()),
        ("service.yaml", "service.firelens.yaml", firelens()),
        ("service.json", "service.keep.json", order()),
        ("service.json", "service.firelens.json", firelens()),
        ("described.json", "described.keep.json", order()),
        ("compact.json", "compact.firelens.json", firelens()),
        ("zero.yaml", "zero.keep.yaml", order()),
        (
            "flow.yaml",
            "flow.firelens.yaml",
            Options { resource: Some("Task".to_owned()), log_group: Some("/app/flow".to_owned()), ..order() },
        ),
    ]
}

#[test]
fn files_become_the_ones_that_are_kept() {
    for (before, after, options) in cases() {
        let outcome = inject(&read(before), &options).unwrap_or_else(|fault| panic!("{after}: {fault}"));
        is_as_kept(&testdata(after), &outcome.text);
        let mut said = outcome.notes.iter().map(|note| format!("- {note}\n")).collect::<String>();
        said += outcome.policy.as_deref().unwrap_or("no policy");
        is_as_kept(&testdata(&format!("{after}.notes")), &(said + "\n"));
    }
}

#[test]
fn twice_is_once_and_taken_out_again_is_every_byte_as_before() {
    for (before, after, options) in cases() {
        let (before, joined) = (read(before), read(after));
        let again = inject(&joined, &options).expect("joined already");
        assert!(again.text == joined, "{after}: {}", again.text);
        // What is not said again stays as it was.
        let silent = Options { resource: options.resource.clone(), ..Options::default() };
        assert!(inject(&joined, &silent).expect("joined already").text == joined, "{after}");
        assert!(remove(&joined, &silent).expect("joined already") == before, "{after}");
        assert!(remove(&before, &silent).expect("nothing to do") == before, "{after}");
        for newline in ["\r\n", "\n\n"] {
            let before = before.replace('\n', newline);
            let joined = inject(&before, &options).expect("line breaks of every kind").text;
            assert!(remove(&joined, &silent).expect("joined") == before, "{after}: {newline:?}");
            assert!(newline != "\r\n" || !joined.replace("\r\n", "").contains('\n'), "{after}: mixed line breaks");
        }
    }
}

#[test]
fn what_was_added_to_the_sidecar_by_hand_stays() {
    let joined = read("zero.keep.yaml");
    let ours = "    - {name: SIDECAR_SERVICE";
    let by_hand = joined.replacen(ours, &format!("    - {{name: SIDECAR_LOG_QUEUE, value: 16MiB}}\n{ours}"), 1);
    assert!(by_hand != joined);
    let options = Options { image: Some("example/sidecar:2".to_owned()), ..Options::default() };
    let again = inject(&by_hand, &options).expect("joined already").text;
    assert!(
        again.contains("SIDECAR_LOG_QUEUE") && again.contains("16MiB") && again.contains("example/sidecar:2"),
        "{again}"
    );
    assert_eq!(inject(&again, &Options::default()).expect("joined already").text, again);
    assert_eq!(remove(&again, &Options::default()).expect("joined"), read("zero.yaml"));
}

#[test]
fn the_policy_follows_the_addresses_that_were_added_by_hand() {
    let ours = "    - {name: SIDECAR_SERVICE";
    let remote = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";
    let variables = [
        ("SIDECAR_REMOTE_WRITE_URL", remote),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://xray.eu-central-1.amazonaws.com/v1/traces"),
    ];
    let lines: String = variables.map(|(name, value)| format!("    - {{name: {name}, value: '{value}'}}\n")).concat();
    let by_hand = read("zero.keep.yaml").replacen(ours, &format!("{lines}{ours}"), 1);
    let policy = inject(&by_hand, &Options::default()).expect("joined already").policy.expect("it sends to AWS");
    let policy: serde_json::Value = serde_json::from_str(&policy).expect("JSON");
    let allowed: Vec<(&str, &str)> = policy["Statement"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| (s["Action"][0].as_str().expect("an action"), s["Resource"].as_str().expect("a resource")))
        .collect();
    assert_eq!(
        allowed,
        [("aps:RemoteWrite", "arn:aws:aps:eu-central-1:*:workspace/ws-1"), ("xray:PutTraceSegments", "*")]
    );
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sidecar")).arg("inject").args(arguments).env_clear().output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_tells_by_its_exit_code_and_the_file_may_be_its_own_result() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("taskdef.json");
    let file = path.to_str().expect("a path");
    std::fs::write(&path, read("compact.json")).expect("write");
    let missing = run(&["--in", file, "--check"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("missing or not up to date"), "{}", text(&missing.stderr));
    let joined = run(&["--in", file, "--out", file, "--service", "worker", "--format", "ecs-json"]);
    assert_eq!((joined.status.code(), text(&joined.stdout)), (Some(0), String::new()));
    assert!(text(&joined.stderr).contains("size goes from 256/512 to 256/1024"), "{}", text(&joined.stderr));
    assert_eq!(run(&["--in", file, "--check"]).status.code(), Some(0));
    let bare = run(&["--in", file, "--remove"]);
    assert_eq!(text(&bare.stdout), read("compact.json"));
}

#[test]
fn a_fault_is_named_by_file_line_and_column() {
    let directory = tempfile::tempdir().expect("tempdir");
    let fault = |name: &str, content: &str, arguments: &[&str]| -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("write");
        let output = run(&[&["--in", path.to_str().expect("a path")], arguments].concat());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{name}");
        text(&output.stderr).replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(fault("a.json", "{\n  \"a\": 1,,\n}", &[]), "sidecar: a.json:2:10: key must be a string\n");
    assert!(fault("b.yaml", "a: [1\nb: 2\n", &[]).starts_with("sidecar: b.yaml:2:"), "unclosed");
    assert_eq!(
        fault("c.yaml", "# nothing\nversion: 3\n", &[]),
        "sidecar: c.yaml:2:1: this is no task definition: there is neither `containerDefinitions` (ECS) nor `Resources` \
         (CloudFormation) at the top\n"
    );
    let ec2 = "containerDefinitions:\n- name: app\n  image: a\n  privileged: true\n";
    assert_eq!(
        fault("d.yaml", ec2, &[]),
        "sidecar: d.yaml:4:15: container `app` has `privileged`, which Fargate does not have: the sidecar is for Fargate \
         tasks\n"
    );
    let two = fault("e.yaml", &read("flow.yaml"), &[]);
    assert!(two.contains("which of these? name it by --resource: Other, Task"), "{two}");
    let routed = fault("f.json", &read("described.json"), &["--logs", "firelens"]);
    assert!(routed.contains("f.json:35:7: container `log_router` routes the logs already"), "{routed}");
    let by_hand = "containerDefinitions:\n- name: app\n  image: a\n- name: sidecar\n  image: b\n";
    assert!(
        fault("g.yaml", by_hand, &[]).starts_with("sidecar: g.yaml:4:3: a container called `sidecar` is here already")
    );
    let shared = "x: &env [{name: A, value: b}]\ncontainerDefinitions:\n- name: app\n  image: a\n  environment: *env\n";
    assert!(fault("h.yaml", shared, &[]).starts_with("sidecar: h.yaml:5:16: `environment` has an anchor"));
    let size = "cpu: 256\nmemory: 4096\ncontainerDefinitions:\n- name: app\n  image: a\n";
    assert_eq!(
        fault("i.yaml", size, &[]),
        "sidecar: i.yaml:1:6: 256 CPU units with 4096 MiB is no size that Fargate has\n"
    );
}

#[test]
fn the_committed_parts_are_what_the_code_makes() {
    for (part, place) in snippet::PLACES {
        is_as_kept(&root().join(place), &snippet::part(part));
    }
}

/// The module's outputs for these inputs, by Terraform itself; None where there is no Terraform.
fn terraform(inputs: &serde_json::Value) -> Option<serde_json::Value> {
    let directory = tempfile::tempdir().expect("tempdir");
    let module = root().join("infra/terraform/modules/sidecar");
    let main = serde_json::json!({
        "module": {"sidecar": {"source": "./module"}},
        "output": {
            "containers": {"value": "${jsondecode(module.sidecar.container_definitions)}"},
            "policy": {"value": "${module.sidecar.policy == null ? null : jsondecode(module.sidecar.policy)}"},
        },
    });
    let mut main = main;
    let arguments = main["module"]["sidecar"].as_object_mut().expect("a map");
    arguments.extend(inputs.as_object().expect("a map").clone());
    std::fs::create_dir(directory.path().join("module")).expect("a folder");
    std::fs::copy(module.join("main.tf"), directory.path().join("module/main.tf")).expect("the module is there");
    std::fs::write(directory.path().join("main.tf.json"), main.to_string()).expect("write");
    let run = |arguments: &[&str]| {
        let command = Command::new("terraform")
            .current_dir(directory.path())
            .env("CHECKPOINT_DISABLE", "1")
            .args(arguments)
            .output();
        match command {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            command => Some(command.expect("terraform runs")),
        }
    };
    let steps: [&[&str]; 4] = [
        &["-chdir=module", "fmt", "-check", "-diff"],
        &["init", "-no-color", "-input=false"],
        &["apply", "-auto-approve", "-no-color", "-input=false"],
        &["output", "-json", "-no-color"],
    ];
    let mut last = None;
    for step in steps {
        let output = run(step)?;
        assert!(output.status.success(), "{step:?}: {}{}", text(&output.stdout), text(&output.stderr));
        last = Some(output.stdout);
    }
    Some(serde_json::from_slice(&last.expect("four steps")).expect("JSON"))
}

#[test]
fn the_terraform_module_makes_what_inject_makes() {
    let example =
        std::fs::read_to_string(root().join("infra/task-definition/example.before.json")).expect("the example");
    let routed = example.replace("DATABASE_POOL", "OTEL_EXPORTER_OTLP_ENDPOINT");
    let second = example.replacen(
        "\"containerDefinitions\": [",
        "\"containerDefinitions\": [{\"name\": \"first\", \"image\": \"x\", \"dependsOn\": [], \"cpu\": 8},",
        1,
    );
    for (example, logs) in
        [(&example, Logs::Keep), (&example, Logs::Firelens), (&routed, Logs::Keep), (&second, Logs::Firelens)]
    {
        let options = Options { logs: Some(logs), log_group: Some("/app/x".to_owned()), ..order() };
        let outcome = inject(example, &options).expect("the example can be joined");
        let mut wanted: serde_json::Value = serde_json::from_str(&outcome.text).expect("JSON");
        for container in wanted["containerDefinitions"].as_array_mut().expect("a list") {
            container.get_mut("dockerLabels").and_then(|labels| labels.as_object_mut()?.remove("picket.inject"));
        }
        let given: serde_json::Value = serde_json::from_str(example).expect("JSON");
        let inputs = serde_json::json!({
            // Terraform would read `${` in a string as its own.
            "container_definitions": given["containerDefinitions"].to_string(),
            "service": "order",
            "environment": "prod",
            "image": "example/sidecar@sha256:0000",
            "log_group": "/app/x",
            "logs": if logs == Logs::Keep { "keep" } else { "firelens" },
        });
        let Some(outputs) = terraform(&inputs) else {
            eprintln!("not tested: terraform is not installed");
            return;
        };
        assert_eq!(outputs["containers"]["value"], wanted["containerDefinitions"], "{logs:?}");
        let policy = outcome.policy.map_or(serde_json::Value::Null, |policy| {
            let mut policy: serde_json::Value = serde_json::from_str(&policy).expect("JSON");
            // The module does not know the account: a policy of this account's role allows nothing in another.
            let resource = &mut policy["Statement"][0]["Resource"];
            *resource = resource.as_str().expect("an ARN").replace("123456789012", "*").into();
            policy
        });
        assert_eq!(outputs["policy"]["value"], policy, "{logs:?}");
    }
}

#[test]
fn cfn_lint_finds_nothing_in_joined_templates() {
    let Some(python) = std::env::var_os("PICKET_PYTHON") else {
        eprintln!("not tested: PICKET_PYTHON does not name a Python with cfn-lint");
        return;
    };
    let lint = Path::new(&python).with_file_name("cfn-lint");
    let files = ["service.keep.yaml", "service.firelens.yaml", "service.keep.json", "service.firelens.json"];
    let output =
        Command::new(lint).args(["--regions", "us-east-1", "--"]).args(files.map(testdata)).output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stdout));
}
