//! The real binary: log lines, traces, a stop in good order, a database that is away.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform_api::shared::auth::keys;
use serde_json::{Value, json};
use telemetry::log_record::LogRecord;

use crate::fixture::{self, ADMIN_EMAIL, ADMIN_PASSWORD};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";

struct Process {
    child: Child,
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str], database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platform-api"));
    command
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database)
        .env("JWT_PRIVATE_KEY_PATH", fixture::key_dir().join(keys::PRIVATE_KEY_FILE))
        .env("ENVIRONMENT", "test")
        .env("LOG_FORMAT", "json")
        .env("BOOTSTRAP_ADMIN_EMAIL", ADMIN_EMAIL)
        .env("BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD)
        .stdin(Stdio::null());
    command
}

/// `serve --domain all` on a free port, migrated by `migrate`.
async fn serve(database: &str, settings: &[(&str, &str)]) -> Process {
    let migrated = command(&["migrate"], database).output().expect("migrate runs");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut child = command(&["serve", "--listen", "127.0.0.1:0"], database)
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("serve starts");
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let (reader, collected) = (BufReader::new(child.stdout.take().expect("piped")), lines.clone());
    std::thread::spawn(move || {
        reader.lines().map_while(Result::ok).for_each(|line| collected.lock().unwrap().push(line))
    });
    let mut process = Process { child, url: String::new(), lines };
    let listening = process.line_with("listens on").await;
    process.url = format!("http://{}", listening.message.rsplit(' ').next().unwrap());
    process.line_with("ready, with the database").await;
    process
}

impl Process {
    /// The first log line whose message has this text, which comes within ten seconds.
    async fn line_with(&self, text: &str) -> LogRecord {
        let found = async {
            loop {
                let records = self.records();
                if let Some(record) = records.into_iter().find(|r| r.message.contains(text)) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        found.unwrap_or_else(|_| panic!("no line with {text:?} in {:#?}", self.lines.lock().unwrap()))
    }

    fn records(&self) -> Vec<LogRecord> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }
}

#[tokio::test]
async fn a_request_is_logged_traced_and_continued_across_services_and_the_outbox() {
    let Some(database) = fixture::empty_database().await else { return };
    let spans: Arc<Mutex<Vec<u8>>> = Arc::default();
    let received = spans.clone();
    let collector = Router::new()
        .route("/v1/traces", post(move |body: Bytes| async move { received.lock().unwrap().extend_from_slice(&body) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    service::task::spawn("otlp", async move { axum::serve(listener, collector).await });
    let process = serve(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("DRAIN_DELAY", "0s")]).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |path: &str, body: Value| http.post(format!("{}{path}", process.url)).json(&body);
    let login = post("/api/v1/auth/login", json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD }));
    let token: Value = login.send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap().to_owned();
    let product = json!({ "sku": "A", "name": "A", "price_minor": 5, "currency": "EUR", "on_hand": 5 });
    let product: Value =
        post("/api/v1/products", product).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    let order = post("/api/v1/orders?utm=1", json!({ "lines": [{ "product_id": product["id"], "quantity": 1 }] }))
        .bearer_auth(&token)
        .header("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-01"))
        .header("x-request-id", "req-7")
        .header("user-agent", "a browser")
        .send()
        .await
        .unwrap();
    assert_eq!(order.status(), 201);

    let created = process.line_with("order created").await;
    assert_eq!((created.service.as_str(), created.environment.as_str()), ("platform-api", "test"));
    assert_eq!(created.trace_id.as_deref(), Some(TRACE_ID));
    assert_eq!(created.parent_span_id.as_deref(), Some(PARENT_ID));
    assert_eq!(created.span_id.as_ref().map(String::len), Some(16));
    let request = created.request.expect("a request");
    assert_eq!((request.id.as_str(), request.method.as_str()), ("req-7", "POST"));
    assert_eq!(request.path, "/api/v1/orders");
    assert_eq!((request.ip.as_deref(), request.user_agent.as_deref()), (Some("127.0.0.1"), Some("a browser")));
    assert!(request.user_id.is_some() && request.org_id.is_some());

    let records = process.records();
    let of = |path: &str| {
        records.iter().find(|r| r.message == "request answered" && r.request.as_ref().is_some_and(|q| q.path == path))
    };
    let answered = of("/api/v1/orders").expect("a line per request");
    assert!(answered.duration_ms.is_some_and(|ms| ms > 0.0));
    assert_eq!(answered.data["status"], 201);
    let reserved = of("/internal/product/reservations").expect("the product service was asked");
    assert_eq!(reserved.trace_id.as_deref(), Some(TRACE_ID), "the call continues the trace");

    let metrics = http.get(format!("{}/metrics", process.url)).send().await.unwrap().text().await.unwrap();
    telemetry::exposition::strict::check(metrics.as_bytes()).expect("what we expose is OpenMetrics to the letter");
    let exemplar = format!(r#"# {{trace_id="{TRACE_ID}"}}"#);
    for name in ["http_requests_total", "http_request_duration_seconds_bucket"] {
        let traced = metrics.lines().any(|line| line.starts_with(name) && line.contains(&exemplar));
        assert!(traced, "{name} has the trace as exemplar in\n{metrics}");
    }

    let pool = sqlx::PgPool::connect(&database).await.unwrap();
    let stored: String = sqlx::query_scalar("SELECT traceparent FROM shared.outbox WHERE type = 'order.created.v1'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(stored.starts_with(&format!("00-{TRACE_ID}-")), "{stored}");

    stop(process).await;
    let trace_id = telemetry::trace::TraceId::parse(TRACE_ID).unwrap();
    let spans = spans.lock().unwrap();
    let count = spans.windows(16).filter(|window| window == trace_id.as_bytes()).count();
    assert!(count >= 3, "request, call and answer are exported, before the process ends: {count}");
    let name = b"POST /api/v1/orders";
    assert!(spans.windows(name.len()).any(|window| window == name), "spans are named by their route");
}

/// SIGTERM, and the process ends well within its grace.
async fn stop(mut process: Process) {
    kill(Pid::from_raw(process.child.id() as i32), Signal::SIGTERM).unwrap();
    let ended = async {
        loop {
            match process.child.try_wait().unwrap() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(15), ended).await.expect("it stops");
    assert!(status.success(), "{status}: {:#?}", process.lines.lock().unwrap());
}

#[tokio::test]
async fn on_sigterm_it_is_unready_at_once_and_still_serves_while_it_drains() {
    let Some(database) = fixture::empty_database().await else { return };
    // An endpoint that is dead must not hold the stop up.
    let settings = [("DRAIN_DELAY", "1s"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let process = serve(&database, &settings).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let status =
        async |path: &str| http.get(format!("{}{path}", process.url)).send().await.map(|r| r.status().as_u16());
    for path in ["/health", "/health/live", "/health/ready", "/health/startup", "/.well-known/jwks.json"] {
        assert_eq!(status(path).await.unwrap(), 200, "{path}");
    }
    kill(Pid::from_raw(process.child.id() as i32), Signal::SIGTERM).unwrap();
    process.line_with("stopping").await;
    let unready = async {
        while status("/health/ready").await.unwrap() != 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(800), unready).await.expect("unready at once");
    assert_eq!(status("/.well-known/jwks.json").await.unwrap(), 200, "it still serves");
    assert_eq!(status("/health/live").await.unwrap(), 200);
    let mut process = process;
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    assert!(tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it stops").unwrap().success());
}

fn failure(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("readable");
    (child.wait().expect("it ends").code(), text)
}

#[test]
fn a_database_that_is_away_is_one_message_without_the_password() {
    let mut away = command(&["serve", "--listen", "127.0.0.1:0"], "postgres://app:hunter2@127.0.0.1:1/platform");
    away.env("DATABASE_WAIT", "1s");
    let (code, message) = failure(away);
    assert_eq!(code, Some(1));
    assert!(
        message.contains("gave up on the database at 127.0.0.1:1/platform after 1s: Connection refused"),
        "{message}"
    );
    assert!(!message.contains("hunter2") && message.lines().count() == 1, "{message}");
}

#[tokio::test]
async fn a_database_without_schema_names_the_command_that_makes_it() {
    let Some(database) = fixture::empty_database().await else { return };
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0"], &database);
    serve.env("DATABASE_WAIT", "1s");
    let (code, message) = failure(serve);
    assert_eq!(code, Some(1));
    assert!(message.contains("it has no schema yet: run `platform-api migrate`"), "{message}");
}

#[test]
fn settings_that_are_missing_exit_64_and_are_named() {
    let mut no_key = command(&["serve", "--domain", "user", "--listen", "127.0.0.1:0"], "postgres://a@127.0.0.1:1/d");
    no_key.env_remove("JWT_PRIVATE_KEY_PATH");
    let no_stock = command(&["worker", "--listen", "127.0.0.1:0"], "postgres://a@127.0.0.1:1/d");
    for (command, variable) in [
        (no_key, "JWT_PRIVATE_KEY_PATH"),
        (no_stock, "SERVICE_URL_ANALYTICS"),
        (command(&["serve"], ""), "DATABASE_URL"),
    ] {
        let (code, message) = failure(command);
        assert_eq!(code, Some(64), "{message}");
        assert!(message.contains(variable), "{message}");
    }
}

#[test]
fn a_taken_port_is_one_message_that_names_the_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, message) = failure(command(&["serve", "--listen", &addr], "postgres://a@127.0.0.1:1/d"));
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("{addr} is already in use")) && message.contains("--listen"), "{message}");
}

#[tokio::test]
async fn the_load_generator_makes_products_and_orders_and_tells_what_happened() {
    let Some(platform) = fixture::start().await else { return };
    let target = format!("http://{}", platform.addr);
    let mut loadgen = command(&["loadgen", "--target", &target, "--rate", "40", "--duration", "3s", "--seed", "5"], "");
    loadgen.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || loadgen.output().expect("it runs")).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).unwrap();
    assert_eq!((&last["final"], &last["errors"], &last["seed"]), (&json!(true), &json!(0), &json!(5)), "{last}");
    assert!(last["requests"].as_u64().unwrap() >= 100, "{last}");
    assert!(last["orders"].as_u64().unwrap() >= 5 && last["paid"].as_u64().unwrap() >= 1, "{last}");
    let products = platform.get("/api/v1/products?limit=100", &platform.admin).await;
    assert_eq!(products.body["items"].as_array().unwrap().len(), 20);
}

/// `dev --only-database` on this directory, up to its line.
fn database(data: &std::path::Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_platform-api"))
        .args(["dev", "--only-database", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
    (child, line.trim().strip_prefix("DATABASE_URL=").unwrap_or_default().to_owned())
}

async fn answers(url: &str) -> bool {
    sqlx::PgPool::connect(url).await.is_ok()
}

#[tokio::test]
async fn the_private_database_is_kept_between_runs_and_an_abandoned_server_is_stopped() {
    if fixture::empty_database().await.is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // PostgreSQL's user must get through where the tests run as root.
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let data = dir.path().join("pg");

    let (mut first, url) = database(&data);
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept (n int)").execute(&pool).await.unwrap();
    let (mut rival, nothing) = database(&data);
    let mut message = String::new();
    rival.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert!(!rival.wait().unwrap().success() && nothing.is_empty());
    assert!(message.contains("is in use") && message.contains(&first.id().to_string()), "{message}");
    kill(Pid::from_raw(first.id() as i32), Signal::SIGTERM).unwrap();
    assert!(first.wait().unwrap().success());
    assert!(!answers(&url).await, "it stopped its server");

    let (mut second, url) = database(&data);
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES (1)").execute(&pool).await.expect("the table is still there");
    // SIGKILL leaves the server behind.
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(answers(&url).await);

    let (mut third, url) = database(&data);
    assert!(answers(&url).await);
    kill(Pid::from_raw(third.id() as i32), Signal::SIGTERM).unwrap();
    let mut message = String::new();
    third.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert!(third.wait().unwrap().success());
    assert!(message.contains("left behind by an earlier run"), "{message}");
}
