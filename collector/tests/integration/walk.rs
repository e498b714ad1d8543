//! A walk over the API by its descriptions: ours, and Prometheus' own where `PICKET_SHARED` has it; on an empty store
//! and on a filled one. Schemathesis makes the requests: each status and each shape must be one that is described,
//! and nothing may fail on the server's side.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use service::config::{Env, ProcessEnv};
use tokio::process::Command;

use crate::moto::python;
use crate::rig::Rig;

const OURS: &str = include_str!("../../api/openapi.yaml");
/// Of its description, what we have not: samples come in elsewhere, nothing is administered by HTTP, there are no
/// blocks on disk; `/search` is switched off.
const NOT_HERE: &str = "/(admin|search|otlp)/|/(read|write|blocks|self_metrics)$";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,unsupported_method";
/// Requests for each operation beside those that its description gives cause for. `PICKET_WALK` sets another number.
const EXAMPLES: &str = "5";

const METRICS: &str = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\n\
    jobs_total{queue=\"mail\"} 7\njobs_total{queue=\"web\"} 1e-9\n\
    # TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"0.1\"} 1\nwait_seconds_bucket{le=\"+Inf\"} 2\n\
    wait_seconds_sum 3.5\nwait_seconds_count 2\n\
    # TYPE odd gauge\nodd{kind=\"nan\"} NaN\nodd{kind=\"inf\"} -Inf\nodd{kind=\"\u{1f600} \\\"quoted\\\"\"} 1e300\n";

const RULES: &str = "groups: [{name: g, interval: 100ms, rules: [{record: 'jobs:sum', expr: sum(jobs_total)}, \
    {alert: Busy, expr: jobs_total > 5, for: 1h, labels: {severity: warning}}, {alert: Odd, expr: odd == odd}, \
    {record: broken, expr: 'jobs_total + on() jobs_total'}]}]";

/// Questions that yield each kind of answer, warnings and errors.
const QUERIES: [&str; 14] = [
    "jobs_total",
    "jobs_total[10s]",
    "odd * 1e25",
    "'a text'",
    "-1/0",
    "sum by (job) (rate(jobs_total[5m]))",
    "histogram_quantile(0.9, wait_seconds_bucket)",
    "quantile(2, up)",
    "rate(odd[1m])",
    "jobs_total * on() jobs_total",
    "sum_over_time(jobs_total[5s:1s])",
    "absent(nothing{job=\"x\"})",
    "up{",
    "",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_answers_as_described() {
    let Some(python) = python("the API against its descriptions, on an empty store") else { return };
    let rig = Rig::start_idle().await;
    walk(&python, &rig, "ours", &described(&[])).await;
    if let Some(golden) = golden() {
        walk(&python, &rig, "prometheus", &golden).await;
    }
    let (_, body) = rig.json("/api/v1/status/tsdb").await;
    assert_eq!(body["data"]["headStats"]["numSeries"], 0, "the store was not empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_store_answers_as_described() {
    let Some(python) = python("the API against its descriptions, on a filled store") else { return };
    let rig = Rig::start_scraping(METRICS.to_owned(), "rule_files: ['*.rules.yml']", &[("a.rules.yml", RULES)]).await;
    rig.until("/api/v1/alerts", |data| data["alerts"].as_array().is_some_and(|alerts| alerts.len() >= 3)).await;
    rig.until("/api/v1/query?query=jobs:sum", |data| data["result"][0]["value"][1] == "7.000000001").await;
    walk(&python, &rig, "ours", &described(&QUERIES)).await;
    if let Some(golden) = golden() {
        walk(&python, &rig, "prometheus", &golden).await;
    }
}

/// Our description, where questions are chosen from a list instead of made up.
fn described(queries: &[&str]) -> Value {
    let mut description: Value = serde_saphyr::from_str(OURS).expect("YAML");
    for path in ["/api/v1/query", "/api/v1/query_range"] {
        let form = &mut description["paths"][path]["post"]["requestBody"];
        forget_timeout(&mut form["content"]["application/x-www-form-urlencoded"]["schema"]);
        let parameters = description["paths"][path]["get"]["parameters"].as_array_mut().expect("parameters");
        parameters.retain(|parameter| parameter["$ref"] != "#/components/parameters/timeout");
    }
    if !queries.is_empty() {
        let selectors = json!({ "enum": ["jobs_total", "{__name__=~\".+\"}", "{kind!=\"\"}", "odd{", "{}"] });
        let parameters = &mut description["components"]["parameters"];
        parameters["query"]["schema"]["enum"] = json!(queries);
        for name in ["match", "match_required", "rule_match"] {
            parameters[name]["schema"]["items"] = selectors.clone();
        }
        let names = json!({ "enum": ["__name__", "job", "kind", "U__kind", "nothing"] });
        description["paths"]["/api/v1/label/{name}/values"]["get"]["parameters"][0]["schema"] = names;
        let paths = description["paths"].as_object_mut().expect("paths");
        let forms = paths.values_mut().filter_map(|path| path.get_mut("post")?.get_mut("requestBody"));
        for form in forms {
            let fields = &mut form["content"]["application/x-www-form-urlencoded"]["schema"]["properties"];
            if fields["query"].is_object() {
                fields["query"]["enum"] = json!(queries);
            }
            if fields["match[]"].is_object() {
                fields["match[]"]["items"] = selectors.clone();
            }
        }
    }
    description
}

/// Prometheus' own description, which is not ours to copy.
fn golden() -> Option<Value> {
    let shared = PathBuf::from(ProcessEnv.get("PICKET_SHARED").filter(|path| !path.is_empty())?);
    let text = std::fs::read_to_string(shared.join("fixtures/prometheus-api/openapi_3.1_golden.yaml")).ok()?;
    let mut description: Value = serde_saphyr::from_str(&text).expect("YAML");
    for (path, body) in [("/query", "QueryPostInputBody"), ("/query_range", "QueryRangePostInputBody")] {
        forget_timeout(&mut description["components"]["schemas"][body]);
        let parameters = description["paths"][path]["get"]["parameters"].as_array_mut().expect("parameters");
        parameters.retain(|parameter| parameter["name"] != "timeout");
    }
    Some(description)
}

/// Nobody asks for no time at all: the answer to that is rightly 503.
fn forget_timeout(schema: &mut Value) {
    schema["properties"].as_object_mut().expect("fields").remove("timeout");
}

async fn walk(python: &Path, rig: &Rig, whose: &str, description: &Value) {
    let file = rig.dir.path().join(format!("{whose}.json"));
    std::fs::write(&file, description.to_string()).expect("written");
    let base = if whose == "ours" { String::new() } else { "/api/v1".to_owned() };
    let examples = ProcessEnv.get("PICKET_WALK").unwrap_or_else(|| EXAMPLES.to_owned());
    let excluded = if whose == "ours" { "/(admin|-)/" } else { NOT_HERE };
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command.arg("run").arg(&file).arg("--url").arg(format!("http://{}{base}", rig.addr));
    command.args(["--checks", CHECKS]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples, "--seed", "1"]);
    command.args(["--exclude-path-regex", excluded, "--continue-on-failure", "--warnings", "off", "--no-color"]);
    command.current_dir(rig.dir.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("schemathesis runs: cargo xtask test installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{whose}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // It must have asked, or the walk proves nothing.
    assert!(said.contains("Fuzzing (in") && said.contains("Coverage (in"), "{said}");
}
