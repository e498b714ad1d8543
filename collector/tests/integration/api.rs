//! The Prometheus API of a running collector, as Grafana and promtool use it.

use std::net::Ipv4Addr;

use collector::app::{App, Options};
use collector::ask::Question;
use collector::clock::Clock;
use reqwest::StatusCode;
use serde_json::json;
use service::Shutdown;
use service::cli::Exit;

use crate::rig::{Rig, answer};

#[tokio::test]
async fn a_scraped_sample_is_answered_to_get_and_to_a_form() {
    let rig = Rig::start("").await;
    let data = rig.until("/api/v1/query?query=jobs_total", |d| d["result"][0]["value"][1] == "7").await;
    let instance = rig.target.to_string();
    assert_eq!(data["resultType"], "vector");
    assert_eq!(
        data["result"][0]["metric"],
        json!({"__name__": "jobs_total", "instance": instance, "job": "app", "queue": "mail"})
    );

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let form = [
        ("query", "sum(jobs_total)".to_owned()),
        ("start", (now - 10).to_string()),
        ("end", (now + 10).to_string()),
        ("step", "5".to_owned()),
    ];
    let (status, body) = answer(rig.post("/api/v1/query_range").form(&form)).await;
    assert_eq!((status, &body["data"]["resultType"]), (StatusCode::OK, &json!("matrix")), "{body}");
    assert!(body["data"]["result"][0]["values"].as_array().unwrap().iter().any(|v| v[1] == "7"), "{body}");
}

#[tokio::test]
async fn grafana_s_test_query_works_on_an_empty_store() {
    let rig = Rig::start("").await;
    let (status, body) = rig.json("/api/v1/query?query=1%2B1&time=4").await;
    let expected = json!({"status": "success", "data": {"resultType": "scalar", "result": [4, "2"]}});
    assert_eq!((status, body), (StatusCode::OK, expected));
}

#[tokio::test]
async fn wrong_questions_have_prometheus_status_codes_and_error_types() {
    let rig = Rig::start("").await;
    for (path, status, kind, error) in [
        ("/api/v1/query?query=up%7B", 400, "bad_data", "invalid parameter \"query\": 1:4: parse error: "),
        ("/api/v1/query", 400, "bad_data", "invalid parameter \"query\""),
        (
            "/api/v1/query?query=up&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/api/v1/query_range?query=up&start=5&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "/api/v1/query_range?query=up&start=1&end=5&step=0",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative",
        ),
        (
            "/api/v1/query_range?query=up&start=1&end=5&step=-3",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative",
        ),
        (
            "/api/v1/query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points",
        ),
        ("/api/v1/query_range?query=up&end=5&step=1", 400, "bad_data", "invalid parameter \"start\""),
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        ("/api/v1/series?match[]=up+up", 400, "bad_data", "invalid parameter \"match[]\""),
        ("/api/v1/labels?limit=-1", 400, "bad_data", "invalid parameter \"limit\""),
        ("/api/v1/rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        ("/api/v1/nonsense", 404, "not_found", "no such path"),
    ] {
        let (got, body) = rig.json(path).await;
        assert_eq!(
            (got.as_u16(), &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{path}: {body}"
        );
        assert!(body["error"].as_str().unwrap().starts_with(error), "{path}: {body}");
    }
    let both = "/api/v1/query?query=label_replace(vector(1),%22a%22,%22x%22,%22%22,%22%22)%20or%20vector(1)%20%2B%20on(a)%20(vector(1)%20or%20label_replace(vector(1),%22b%22,%22x%22,%22%22,%22%22))";
    let (status, body) = rig.json(both).await;
    assert_eq!((status.as_u16(), &body["errorType"]), (422, &json!("execution")), "{body}");
}

#[tokio::test]
async fn labels_values_and_series_are_listed_and_cut_at_a_limit() {
    let rig = Rig::start("").await;
    rig.until("/api/v1/label/__name__/values", |d| {
        d.as_array().is_some_and(|names| names.contains(&json!("jobs_total")))
    })
    .await;
    let (_, body) = rig.json("/api/v1/label/queue/values").await;
    assert_eq!(body, json!({"status": "success", "data": ["mail"]}));
    let (_, body) = rig.json("/api/v1/labels?match[]=jobs_total").await;
    assert_eq!(body["data"], json!(["__name__", "instance", "job", "queue"]));
    let (_, body) = rig.json("/api/v1/labels?match[]=jobs_total&limit=2").await;
    assert_eq!(body["data"], json!(["__name__", "instance"]));
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
    let (_, body) = rig.json("/api/v1/series?match[]=%7Bqueue!=%22%22%7D").await;
    assert_eq!(body["data"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(body["data"][0]["__name__"], "jobs_total");
}

#[tokio::test]
async fn targets_and_metadata_say_what_is_scraped() {
    let rig = Rig::start("").await;
    let data = rig.until("/api/v1/targets?scrapePool=app", |d| d["activeTargets"][0]["health"] == "up").await;
    let target = &data["activeTargets"][0];
    assert_eq!(target["scrapeUrl"], format!("http://{}/metrics", rig.target));
    assert_eq!(target["labels"], json!({"instance": rig.target.to_string(), "job": "app"}));
    assert_eq!((&target["scrapeInterval"], &target["lastError"]), (&json!("200ms"), &json!("")));
    let data = rig.until("/api/v1/metadata?metric=jobs_total", |d| d["jobs_total"].is_array()).await;
    assert_eq!(data["jobs_total"], json!([{"type": "counter", "unit": "", "help": "Jobs done."}]));
    let (_, body) = rig.json("/api/v1/targets/metadata?metric=jobs_total&match_target=%7Bjob=%22app%22%7D").await;
    assert_eq!(body["data"][0]["type"], "counter", "{body}");
    let (_, body) = rig.json("/api/v1/scrape_pools").await;
    assert_eq!(body["data"], json!({"scrapePools": ["app", "collector"]}));
}

#[tokio::test]
async fn the_collector_scrapes_itself() {
    let rig = Rig::start("").await;
    let query = "/api/v1/query?query=collector_scrapes_total%7Bjob=%22collector%22%7D";
    rig.until(query, |d| d["result"][0]["value"][1].is_string()).await;
}

#[tokio::test]
async fn a_firing_rule_stands_in_rules_and_alerts() {
    let rules = "groups:\n- name: g\n  rules:\n\
                 \x20 - {alert: Jobs, expr: jobs_total > 5, labels: {severity: warning}, annotations: {summary: '{{ $value }} jobs'}}\n\
                 \x20 - {record: jobs:sum, expr: sum(jobs_total)}\n";
    let rig = Rig::start_with("rule_files: ['*.rules.yml']", &[("a.rules.yml", rules)]).await;
    let data = rig.until("/api/v1/alerts", |d| d["alerts"][0]["state"] == "firing").await;
    let alert = &data["alerts"][0];
    assert_eq!(alert["labels"]["alertname"], "Jobs");
    assert_eq!((&alert["value"], &alert["annotations"]["summary"]), (&json!("7e+00"), &json!("7 jobs")));
    let data = rig.until("/api/v1/rules", |d| d["groups"][0]["rules"][1]["health"] == "ok").await;
    let (alerting, recording) = (&data["groups"][0]["rules"][0], &data["groups"][0]["rules"][1]);
    assert_eq!((&alerting["type"], &alerting["state"]), (&json!("alerting"), &json!("firing")));
    assert_eq!((&recording["type"], &recording["name"]), (&json!("recording"), &json!("jobs:sum")));
    let data = rig.until("/api/v1/rules?type=record&exclude_alerts=true", |d| d["groups"].is_array()).await;
    assert_eq!(data["groups"][0]["rules"].as_array().unwrap().len(), 1);
    rig.until("/api/v1/query?query=jobs:sum", |d| d["result"][0]["value"][1] == "7").await;
}

#[tokio::test]
async fn status_says_what_runs_and_hides_secrets() {
    let rig = Rig::start("- {job_name: b, basic_auth: {username: u, password: hunter2}}").await;
    let (_, body) = rig.json("/api/v1/status/config").await;
    let yaml = body["data"]["yaml"].as_str().unwrap();
    assert!(yaml.contains("job_name: app") && yaml.contains("password: <secret>"), "{yaml}");
    assert!(!body.to_string().contains("hunter2"));
    let (_, body) = rig.json("/api/v1/status/buildinfo").await;
    assert!(body["data"]["version"].is_string() && body["data"]["features"].is_null(), "{body}");
    let (_, body) = rig.json("/api/v1/status/runtimeinfo").await;
    assert_eq!(body["data"]["reloadConfigSuccess"], true);
    let (_, body) = rig.json("/api/v1/status/flags").await;
    assert!(body["data"]["config.file"].as_str().unwrap().ends_with("collector.yml"));
    let (status, body) = rig.json("/api/v1/query_exemplars?query=up").await;
    assert_eq!((status, body), (StatusCode::OK, json!({"status": "success", "data": []})));
    let (_, body) = rig.json("/api/v1/format_query?query=sum(up)by(job)").await;
    assert_eq!(body["data"], "sum by (job) (up)");
    assert_eq!(rig.get("/-/healthy").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(rig.get("/-/ready").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let rig = Rig::start("").await;
    let plain = rig.get("/metrics").header("accept-encoding", "identity").send().await.unwrap();
    assert!(plain.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(plain.headers().get("content-encoding").is_none());
    let zipped = rig.get("/api/v1/status/config").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn a_reload_takes_a_good_file_and_refuses_a_bad_one() {
    let rig = Rig::start("").await;
    rig.configure("- {job_name: second}");
    let response = rig.post("/-/reload").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    rig.until("/api/v1/scrape_pools", |d| d["scrapePools"] == json!(["app", "collector", "second"])).await;

    rig.configure("- {job_name: third, nonsense: 1}");
    let response = rig.post("/-/reload").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = response.text().await.unwrap();
    assert!(text.contains("collector.yml:") && text.contains("nonsense"), "{text}");
    let (_, body) = rig.json("/api/v1/scrape_pools").await;
    assert_eq!(body["data"]["scrapePools"], json!(["app", "collector", "second"]));
    let (_, body) = rig.json("/api/v1/status/runtimeinfo").await;
    assert_eq!(body["data"]["reloadConfigSuccess"], false);
}

#[tokio::test]
async fn a_changed_file_is_taken_without_being_asked() {
    let rig = Rig::start("").await;
    rig.configure("- {job_name: second}");
    rig.until("/api/v1/scrape_pools", |d| d["scrapePools"] == json!(["app", "collector", "second"])).await;
}

#[tokio::test]
async fn tokens_decide_who_reads_and_who_reloads() {
    // The hashes of "viewer" and "operator".
    let web = "web: {auth: {tokens: [\
        {name: v, role: viewer, sha256: d35ca5051b82ffc326a3b0b6574a9a3161dee16b9478a199ee39cd803ce5b799},\
        {name: o, role: operator, sha256: 06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23}]}}";
    let rig = Rig::start(web).await;
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(rig.get("/api/v1/query?query=1")).await, 401);
    assert_eq!(status(rig.get("/metrics")).await, 401);
    assert_eq!(status(rig.get("/api/v1/query?query=1").bearer_auth("guess")).await, 401);
    assert_eq!(status(rig.get("/api/v1/query?query=1").bearer_auth("viewer")).await, 200);
    assert_eq!(status(rig.post("/api/v1/query").form(&[("query", "1")]).bearer_auth("viewer")).await, 200);
    assert_eq!(status(rig.post("/-/reload").bearer_auth("viewer")).await, 403);
    assert_eq!(status(rig.post("/-/reload").bearer_auth("operator")).await, 200);
    assert_eq!(status(rig.get("/health/live")).await, 200, "probes carry no token");
    let up = "/api/v1/query?query=up%7Bjob=%22collector%22%7D";
    for _ in 0..500 {
        let (_, body) = answer(rig.get(up).bearer_auth("viewer")).await;
        if body["data"]["result"][0]["value"][1] == "1" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the collector cannot scrape itself");
}

#[tokio::test]
async fn samples_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("collector.yml");
    std::fs::write(&config, "global: {scrape_interval: 100ms, scrape_timeout: 100ms}").unwrap();
    let options = Options { config, data: dir.path().join("data"), listen: (Ipv4Addr::LOCALHOST, 0).into() };
    for instances in 1..=2 {
        let shutdown = Shutdown::new();
        let app = App::build(options.clone(), Clock::System, shutdown.clone()).await.unwrap();
        let url: url::Url = format!("http://{}/", app.addr()).parse().unwrap();
        let running = service::task::spawn("collector", app.run());
        // Each run scrapes itself on another port: the second must still know the first one's instance.
        let wait = async {
            loop {
                let expr = "last_over_time(up[1h])".to_owned();
                let answer = Question { url: url.clone(), token: None, expr, time: None }.ask().await.unwrap();
                if answer.matches("job=\"collector\"").count() == instances {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("both instances");
        shutdown.request();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("collector.yml");
    std::fs::write(&config, "{}").unwrap();
    let options = |data: &str, listen| Options { config: config.clone(), data: dir.path().join(data), listen };
    let refused = async |options| match App::build(options, Clock::System, Shutdown::new()).await {
        Ok(_) => panic!("it started"),
        Err(Exit::Config(error)) => format!("64: {error:#}"),
        Err(Exit::Failure(error)) => format!("1: {error:#}"),
    };
    let message = refused(options("data", (Ipv4Addr::UNSPECIFIED, 0).into())).await;
    assert!(message.starts_with("64: refusing to listen on 0.0.0.0:0 without authentication"), "{message}");

    let message = refused(options("collector.yml", (Ipv4Addr::LOCALHOST, 0).into())).await;
    assert!(message.starts_with("64: failed to make the data directory"), "{message}");

    let taken = service::http::bind((Ipv4Addr::LOCALHOST, 0).into(), "test").await.unwrap();
    let message = refused(options("data", taken.local_addr().unwrap())).await;
    assert!(
        message.contains("is already in use: stop the other program or choose another address by --listen"),
        "{message}"
    );
}
