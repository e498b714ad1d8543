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
    let reserved = of("/internal/reservations").expect("the product service was asked");
    assert_eq!(reserved.trace_id.as_deref(), Some(TRACE_ID), "the call continues the trace");

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
