//! The Prometheus API, endpoint by endpoint: whole documents, error types and status codes.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::rig::{Rig, answer};

const RULES: &str = "groups:\n\
    - {name: one, rules: [{record: a, expr: vector(1)}, {alert: B, expr: vector(1), labels: {team: x}}]}\n\
    - {name: two, rules: [{record: c, expr: vector(1), labels: {team: y}}]}\n\
    - {name: three, rules: [{record: a, expr: vector(2)}]}\n";

#[tokio::test]
async fn a_query_tree_is_given_as_prometheus_3_gives_it() {
    let rig = Rig::start("").await;
    let (status, body) =
        answer(rig.post("/api/v1/parse_query").form(&[("query", "-up{job=\"a\"}[5m:] offset 1m")])).await;
    assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")), "{body}");
    let (_, body) = rig.json("/api/v1/parse_query?query=foo/on(a,b)group_left(c)bar").await;
    let selector = |name: &str| {
        json!({
            "type": "vectorSelector", "name": name, "matchers": [{"type": "=", "name": "__name__", "value": name}],
            "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
        })
    };
    assert_eq!(
        body,
        json!({"status": "success", "data": {
            "type": "binaryExpr", "op": "/", "bool": false, "lhs": selector("foo"), "rhs": selector("bar"),
            "matching": {
                "card": "many-to-one", "on": true, "labels": ["a", "b"], "include": ["c"],
                "fillValues": {"lhs": null, "rhs": null},
            },
        }})
    );
}

#[tokio::test]
async fn statistics_come_with_an_answer_that_asks_for_them() {
    let rig = Rig::start("").await;
    rig.until("/api/v1/query?query=jobs_total", |d| d["result"][0]["value"][1] == "7").await;
    let (_, body) = rig.json("/api/v1/query?query=jobs_total&stats=true").await;
    let stats = &body["data"]["stats"];
    assert_eq!(stats["samples"]["totalQueryableSamples"], 1, "{body}");
    let seconds = |name: &str| stats["timings"][name].as_f64().unwrap_or_else(|| panic!("{name} in {body}"));
    assert!(seconds("execTotalTime") >= seconds("evalTotalTime") && seconds("evalTotalTime") > 0.0, "{body}");
    assert!(seconds("execQueueTime") >= 0.0 && seconds("innerEvalTime") <= seconds("evalTotalTime"), "{body}");
    assert_eq!(body.get("warnings"), None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let range = format!("/api/v1/query_range?query=jobs_total&start={}&end={}&step=1&stats=all", now + 1, now + 2);
    let (_, body) = rig.json(&range).await;
    let samples = &body["data"]["stats"]["samples"];
    assert_eq!(
        samples["totalQueryableSamplesPerStep"],
        json!([[(now + 1) as f64, 1], [(now + 2) as f64, 1]]),
        "{body}"
    );
    assert_eq!(samples["samplesReadPerStep"].as_array().map(Vec::len), Some(2), "{body}");
    let (_, body) = rig.json("/api/v1/query?query=jobs_total&stats=yes").await;
    assert!(body["warnings"][0].as_str().unwrap().starts_with("value \"yes\" for parameter \"stats\""), "{body}");
    let (_, body) = rig.json("/api/v1/query?query=jobs_total").await;
    assert_eq!(body["data"].get("stats"), None);
}

#[tokio::test]
async fn a_query_may_look_back_less_far_and_be_given_less_time() {
    let rig = Rig::start("").await;
    rig.until("/api/v1/query?query=jobs_total", |d| d["result"][0]["value"][1] == "7").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let later = |lookback: &str| format!("/api/v1/query?query=jobs_total&time={}&lookback_delta={lookback}", now + 120);
    assert_eq!(rig.json(&later("5s")).await.1["data"]["result"], json!([]));
    assert_eq!(rig.json(&later("200s")).await.1["data"]["result"][0]["value"][1], "7");
    let (status, body) = rig.json(&later("x")).await;
    let error = "error parsing lookback delta duration: cannot parse \"x\" to a valid duration";
    assert_eq!((status.as_u16(), &body["error"]), (400, &json!(error)));
    let (status, body) = rig.json("/api/v1/query?query=jobs_total&timeout=0").await;
    assert_eq!((status.as_u16(), &body["errorType"]), (503, &json!("timeout")), "{body}");
    let (status, _) = rig.json("/api/v1/query?query=jobs_total&timeout=10h").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn parameters_come_from_the_form_first_and_only_from_a_form() {
    let rig = Rig::start("").await;
    let ask = async |request: reqwest::RequestBuilder| answer(request).await.1["data"]["result"][1].clone();
    assert_eq!(ask(rig.post("/api/v1/query?query=1").form(&[("query", "2")])).await, "2");
    assert_eq!(ask(rig.post("/api/v1/query?query=1")).await, "1");
    assert_eq!(ask(rig.post("/api/v1/query?query=1").body("query=2")).await, "1", "no content type, no form");
    let (status, body) = answer(rig.post("/api/v1/query").json(&json!({"query": "1"}))).await;
    assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")));
}

#[tokio::test]
async fn exemplars_of_a_scrape_are_found_by_expression_and_time() {
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 5;
    let metrics = format!(
        "# TYPE wait_seconds histogram\nwait_seconds_bucket{{le=\"1\"}} 2 # {{trace_id=\"abc\"}} 0.25 {at}.5\n\
         wait_seconds_bucket{{le=\"+Inf\"}} 2\n# TYPE hits counter\nhits_total 1 # {{trace_id=\"def\"}} 1 {at}\n# EOF\n"
    );
    let rig = Rig::start_scraping(metrics, "", &[]).await;
    let instance = rig.target.to_string();
    let query = "query=histogram_quantile(0.9, sum by (le) (rate(wait_seconds_bucket[5m])))";
    let data = rig.until(&format!("/api/v1/query_exemplars?{query}"), |d| d[0].is_object()).await;
    let exemplars = json!([{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": at as f64 + 0.5}]);
    assert_eq!(data[0]["exemplars"], exemplars, "{data}");
    assert_eq!(data[0]["seriesLabels"]["__name__"], "wait_seconds_bucket");
    assert_eq!(
        (data[0]["seriesLabels"]["instance"].as_str(), data.as_array().map(Vec::len)),
        (Some(&*instance), Some(1))
    );
    let (_, body) = rig.json("/api/v1/query_exemplars?query=hits_total %2B wait_seconds_bucket").await;
    assert_eq!(body["data"].as_array().map(Vec::len), Some(2), "{body}");
    // A collector whose samples are elsewhere asks there.
    let beside = Rig::start(&format!("query: {{url: 'http://{}'}}", rig.addr)).await;
    let (_, told) = beside.json("/api/v1/query_exemplars?query=hits_total %2B wait_seconds_bucket").await;
    assert_eq!(told, body);
    let (_, body) = rig.json(&format!("/api/v1/query_exemplars?query=hits_total&start={}", at + 1)).await;
    assert_eq!(body, json!({"status": "success", "data": []}));
    let (_, body) = rig.json("/api/v1/query_exemplars?query=1").await;
    assert_eq!(body, json!({"status": "success", "data": []}));
    let (status, body) = rig.json("/api/v1/query_exemplars?query=up&start=5&end=4").await;
    let error = "end timestamp must not be before start timestamp";
    assert_eq!((status.as_u16(), &body["error"]), (400, &json!(error)));
}

#[tokio::test]
async fn rules_are_filtered_and_given_by_pages() {
    let rig = Rig::start_with("rule_files: ['*.rules.yml']", &[("a.rules.yml", RULES)]).await;
    rig.until("/api/v1/rules", |d| d["groups"].as_array().is_some_and(|groups| groups.len() == 3)).await;
    let names = |body: &Value| -> String {
        let groups = body["data"]["groups"].as_array().unwrap_or_else(|| panic!("{body}")).iter();
        let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
        let shown = groups.map(|g| {
            let rules = g["rules"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(",");
            format!("{}: {rules}", name(g))
        });
        shown.collect::<Vec<_>>().join("; ")
    };
    for (query, expected) in [
        ("", "one: a,B; three: a; two: c"),
        ("type=alert", "one: B"),
        ("type=Record", "one: a; three: a; two: c"),
        ("rule_name[]=a&rule_name[]=c", "one: a; three: a; two: c"),
        ("rule_group[]=two&rule_group[]=three", "three: a; two: c"),
        ("match[]={team=\"x\"}&match[]={team=\"y\"}", "one: B; two: c"),
        ("file[]=elsewhere", ""),
    ] {
        let (_, body) = rig.json(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(names(&body), expected, "{query}");
    }
    // Groups that the filter empties do not count for the page.
    let (_, first) = rig.json("/api/v1/rules?rule_name[]=a&group_limit=1").await;
    assert_eq!(names(&first), "one: a");
    let token = first["data"]["groupNextToken"].as_str().expect("a token");
    let (_, second) = rig.json(&format!("/api/v1/rules?rule_name[]=a&group_limit=1&group_next_token={token}")).await;
    assert_eq!((names(&second).as_str(), second["data"].get("groupNextToken")), ("three: a", None));
    for (query, error) in [
        ("group_limit=0", "invalid parameter \"group_limit\": group_limit needs to be greater than 0"),
        ("group_limit=x", "invalid parameter \"group_limit\": group_limit needs to be a valid number"),
        ("group_next_token=x", "invalid parameter \"group_next_token\": group_limit needs to be present"),
        ("group_limit=1&group_next_token=x", "invalid parameter \"group_next_token\": invalid group_next_token 'x'"),
        ("exclude_alerts=maybe", "invalid parameter \"exclude_alerts\": error converting exclude_alerts"),
        ("match[]={}", "match[] must contain at least one non-empty matcher"),
    ] {
        let (status, body) = rig.json(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body["error"].as_str().unwrap().starts_with(error), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_pool_s_configuration_and_its_relabelling_can_be_followed() {
    let rig = Rig::start(
        "- job_name: kept\n  relabel_configs:\n\
         \x20 - {source_labels: [a], target_label: b}\n\
         \x20 - {source_labels: [a], regex: drop, action: drop}\n\
         \x20 - {target_label: c, replacement: x}",
    )
    .await;
    let steps = async |labels: &str| {
        let (_, body) = rig.json(&format!("/api/v1/targets/relabel_steps?scrapePool=kept&labels={labels}")).await;
        let steps = body["data"]["steps"].as_array().unwrap_or_else(|| panic!("{body}")).clone();
        assert_eq!(steps[0]["rule"], json!({"action": "replace", "source_labels": ["a"], "target_label": "b"}));
        steps.into_iter().map(|step| (step["keep"].clone(), step["output"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        steps("{\"a\":\"1\"}").await,
        [
            (json!(true), json!({"a": "1", "b": "1"})),
            (json!(true), json!({"a": "1", "b": "1"})),
            (json!(true), json!({"a": "1", "b": "1", "c": "x"})),
        ]
    );
    assert_eq!(steps("{\"a\":\"drop\"}").await[1..], [(json!(false), json!({})), (json!(false), json!({}))]);
    let (_, body) = rig.json("/api/v1/scrape_pools/config?scrapePool=kept").await;
    assert!(body["data"]["yaml"].as_str().unwrap().contains("job_name: kept"), "{body}");
    for (path, error) in [
        ("/api/v1/scrape_pools/config", "no scrapePool parameter provided"),
        ("/api/v1/scrape_pools/config?scrapePool=x", "error retrieving scrape config: scrape pool \"x\" not found"),
        ("/api/v1/targets/relabel_steps?scrapePool=kept", "no labels parameter provided"),
        ("/api/v1/targets/relabel_steps?scrapePool=kept&labels=1", "error parsing labels: "),
    ] {
        let (status, body) = rig.json(path).await;
        assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")), "{path}");
        assert!(body["error"].as_str().unwrap().starts_with(error), "{path}: {body}");
    }
}

#[tokio::test]
async fn the_store_s_cardinality_is_counted() {
    let rig = Rig::start("").await;
    let full = |d: &Value| d["labelValueCountByLabelName"].to_string().contains("queue");
    let data = rig.until("/api/v1/status/tsdb?limit=10000", full).await;
    let count = |list: &str, name: &str| {
        let list = data[list].as_array().unwrap();
        list.iter().find(|entry| entry["name"] == name).map(|entry| entry["value"].as_u64().unwrap())
    };
    assert_eq!(count("seriesCountByMetricName", "jobs_total"), Some(1));
    assert_eq!(count("labelValueCountByLabelName", "queue"), Some(1));
    assert_eq!(count("memoryInBytesByLabelName", "queue"), Some(4));
    assert_eq!(count("seriesCountByLabelValuePair", "queue=mail"), Some(1));
    let head = &data["headStats"];
    assert!(head["minTime"].as_i64().unwrap() <= head["maxTime"].as_i64().unwrap() && head["minTime"] != 0, "{head}");
    let (_, body) = rig.json("/api/v1/status/tsdb?limit=1").await;
    assert_eq!(body["data"]["seriesCountByMetricName"].as_array().unwrap().len(), 1);
    for (limit, error) in [
        ("0", "limit must be a positive number"),
        ("x", "limit must be a positive number"),
        ("10001", "limit must not exceed 10000"),
    ] {
        let (status, body) = rig.json(&format!("/api/v1/status/tsdb?limit={limit}")).await;
        assert_eq!((status.as_u16(), &body["error"]), (400, &json!(error)));
    }
}

#[tokio::test]
async fn what_is_switched_off_says_so_as_prometheus_does() {
    let rig = Rig::start("").await;
    for path in ["admin/tsdb/delete_series?match[]=up", "admin/tsdb/clean_tombstones", "admin/tsdb/snapshot"] {
        let (status, body) = answer(rig.post(&format!("/api/v1/{path}"))).await;
        let expected = json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"});
        assert_eq!((status.as_u16(), body), (500, expected));
    }
    let quit = rig.post("/-/quit").send().await.unwrap();
    assert_eq!(quit.status(), StatusCode::FORBIDDEN);
    assert_eq!(rig.get("/-/quit").send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(rig.get("/-/reload").send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    let (_, body) = rig.json("/api/v1/status/walreplay").await;
    assert_eq!(body, json!({"status": "success", "data": {"min": 0, "max": 0, "current": 0}}));
    let (_, body) = rig.json("/api/v1/features").await;
    assert_eq!(
        (&body["data"]["promql_functions"]["rate"], &body["data"]["api"]["admin"]),
        (&json!(true), &json!(false))
    );
    let (_, body) = rig.json("/api/v1/notifications").await;
    assert_eq!(body["data"], json!([]));
    rig.configure("- {job_name: third, nonsense: 1}");
    assert_eq!(rig.post("/-/reload").send().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (_, body) = rig.json("/api/v1/notifications").await;
    assert_eq!(
        (&body["data"][0]["text"], &body["data"][0]["active"]),
        (&json!("Configuration reload has failed."), &json!(true))
    );
}

#[tokio::test]
async fn names_beyond_ascii_are_asked_for_in_escaped_form() {
    let rig = Rig::start("").await;
    rig.until("/api/v1/label/queue/values", |d| *d == json!(["mail"])).await;
    let (_, body) = rig.json("/api/v1/label/U__queue/values").await;
    assert_eq!(body["data"], json!(["mail"]));
    let (_, body) = rig.json("/api/v1/label/U______name____/values?match[]=jobs_total").await;
    assert_eq!(body["data"], json!(["jobs_total"]));
    let (status, body) = rig.json("/api/v1/label/%ff/values").await;
    assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")));
    let (_, body) = rig.json("/api/v1/series?match[]=jobs_total&start=5&end=4").await;
    assert_eq!(body, json!({"status": "success", "data": []}));
}
