//! The demo's story is the end-to-end test: fault, alert with evidence, delivery, resolution, dashboards, scaling.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use service::config::{Env, ProcessEnv};

/// `cargo xtask test` builds the binaries and says where they lie.
fn binaries() -> Option<PathBuf> {
    named_by("PICKET_BIN_DIR", "the suite end to end")
}

/// What `cargo xtask test` prepared, by the variable that names it. In CI everything is prepared.
pub(crate) fn named_by(variable: &str, untested: &str) -> Option<PathBuf> {
    let path = ProcessEnv.get(variable).map(PathBuf::from);
    if path.is_none() {
        assert_ne!(ProcessEnv.get("CI").as_deref(), Some("true"), "{variable} is not set: run `cargo xtask test`");
        eprintln!("{variable} is not set, untested: {untested} (run `cargo xtask test`)");
    }
    path
}

fn tool_is_there(program: &str) -> bool {
    let path = ProcessEnv.get("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    assert!(found || ProcessEnv.get("CI").as_deref() != Some("true"), "{program} is missing");
    found
}

struct Ports {
    collector: String,
    alertmanager: String,
    aws: String,
    postgres: String,
    services: String,
}

impl Ports {
    fn free() -> Self {
        let [collector, alertmanager, aws, postgres] = free_ports();
        Ports { collector, alertmanager, aws, postgres, services: free_row() }
    }
}

/// Free ports of this moment: each is bound once and let go.
fn free_ports<const N: usize>() -> [String; N] {
    let listeners: [_; N] = std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port().to_string())
}

/// Five free ports in a row for the services.
fn free_row() -> String {
    let row = (20_000u16..30_000)
        .step_by(5)
        .find(|first| (0..5).all(|i| std::net::TcpListener::bind(("127.0.0.1", first + i)).is_ok()));
    row.expect("five free ports in a row").to_string()
}

fn demo(binaries: &Path, dir: &Path, report: &Path, ports: &Ports) -> Command {
    let mut demo = Command::new(binaries.join("picket-demo"));
    demo.arg("--report").arg(report).arg("--data").arg(dir).arg("--bin-dir").arg(binaries);
    demo.args(["--collector-port", &ports.collector, "--alertmanager-port", &ports.alertmanager]);
    demo.args(["--aws-port", &ports.aws, "--postgres-port", &ports.postgres, "--service-port", &ports.services]);
    // A network of its own, so that a demo may run beside the test.
    demo.args(["--network", "78", "--baseline", "20", "--fault", "60"]);
    demo
}

/// The story, and then what a user would do with the running suite: look at the pages, ask by promtool, list
/// AWS by Amazon's own client, press Ctrl-C.
#[test]
fn a_fault_becomes_an_alert_with_evidence_and_a_schedule_moves_the_bounds() {
    let Some(binaries) = binaries() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (report, ports) = (dir.path().join("report.json"), Ports::free());
    let mut demo = demo(&binaries, &dir.path().join("data"), &report, &ports);
    let mut demo = demo.stdout(Stdio::piped()).spawn().expect("picket-demo is built");
    let mut said = Vec::new();
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let came_true = lines.by_ref().inspect(|line| said.push(line.clone())).find_map(|line| {
        (line.contains("came true") || line.contains("did not come true")).then(|| !line.contains("did not"))
    });
    let logs = dir.path().join("data/logs");
    assert_eq!(came_true, Some(true), "{}\n{}", said.join("\n"), ends_of_logs(&logs));

    let report: Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
    assert_eq!(report["services_up"], 6, "{report:#}");
    assert!(report["requests"].as_u64() > Some(100), "{report:#}");
    assert_eq!(report["alert"]["name"], "HighErrorRate");
    assert!(report["alert"]["evidence_lines"].as_u64() >= Some(1), "{report:#}");
    assert_eq!(report["alert"]["trace_in_log"], true, "{report:#}");
    assert_eq!(report["scaling"]["before"], json!([1, 2]));
    assert_eq!(report["scaling"]["after"], json!([2, 4]));

    promtool_answers(&ports.collector);
    amazons_client_sees_the_dashboards_and_the_bounds(&ports.aws);
    the_pages_are_whole_in_a_browser(&ports.collector);

    nix::sys::signal::kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT).expect("the demo runs");
    let rest: Vec<String> = lines.collect();
    assert!(demo.wait().expect("the demo ends").success(), "{}", rest.join("\n"));
    assert!(!rest.iter().any(|line| line.contains("had to be killed")), "{}", rest.join("\n"));
    for entry in std::fs::read_dir(&logs).expect("logs").flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        assert!(!text.contains("panicked at"), "{}: {text}", entry.path().display());
    }
    let left: Vec<String> = processes_naming(&dir.path().join("data").to_string_lossy());
    assert!(left.is_empty(), "processes left behind: {left:?}");
}

fn promtool_answers(collector: &str) {
    if !tool_is_there("promtool") {
        return;
    }
    let url = format!("http://127.0.0.1:{collector}");
    let output =
        Command::new("promtool").args(["query", "instant", &url, "count(up == 1)"]).output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.starts_with("{} => "), "{said}");
}

fn amazons_client_sees_the_dashboards_and_the_bounds(aws: &str) {
    let Some(python) = named_by("PICKET_PYTHON", "what Amazon's own client sees") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/list_aws.py");
    let mut client = Command::new(python);
    client
        .arg(script)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{aws}"))
        .env("AWS_DEFAULT_REGION", "us-east-1");
    let output = client.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert!(seen["dashboards"].as_object().map(|dashboards| dashboards.len()) >= Some(5), "{seen:#}");
    assert_eq!(seen["scalable_targets"]["service/dev-enterprise-cluster/product"], json!([2, 4]), "{seen:#}");
}

fn the_pages_are_whole_in_a_browser(collector: &str) {
    let Some(tools) = named_by("PICKET_UI_TOOLS", "the web UI in a browser") else { return };
    let mut node = Command::new("node");
    node.args(["--test", "../tests/e2e/"]).current_dir(tools);
    node.env("COLLECTOR_URL", format!("http://127.0.0.1:{collector}"));
    if let Some(pictures) = ProcessEnv.get("SCREENSHOTS") {
        node.env("SCREENSHOTS", pictures);
    }
    let output = node.output().expect("node");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_port_in_use_is_one_clear_message_that_names_the_flag() {
    let Some(binaries) = binaries() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ports = Ports { alertmanager: port.clone(), ..Ports::free() };
    let mut demo = demo(&binaries, dir.path(), &dir.path().join("report.json"), &ports);
    let output = demo.arg("--once").output().expect("picket-demo is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&port) && said.contains("--alertmanager-port"), "{said}");
}

fn ends_of_logs(dir: &Path) -> String {
    let mut ends = String::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n");
        ends.push_str(&format!("--- {}\n{end}\n", entry.path().display()));
    }
    ends
}

/// Command lines of live processes that name this folder.
fn processes_naming(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(dir)).collect()
}
