//! A PostgreSQL for this run, and a platform on a database of its own for each test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use platform_api::app::{App, Role};
use platform_api::cli::Domain;
use platform_api::config::Config;
use platform_api::shared::Platform;
use platform_api::shared::auth::keys;
use platform_api::shared::db::MIGRATIONS;
use reqwest::Method;
use serde_json::{Value, json};
use service::Shutdown;
use service::cli::Exit;
use service::config::{Env, ProcessEnv};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

pub(crate) const ADMIN_EMAIL: &str = "admin@example.com";
pub(crate) const ADMIN_PASSWORD: &str = "an administrator's password";
pub(crate) const PASSWORD: &str = "a customer's password";

struct Server {
    url: String,
    /// Its standard input: the server stops when this process is gone, however it goes.
    _child: Child,
}

/// The server's URL; None where there is no PostgreSQL and that is allowed.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start_server).as_ref().map(|server| server.url.as_str())
}

fn start_server() -> Option<Server> {
    let dir = std::env::temp_dir().join(format!("platform-api-test-{}", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_platform-api"))
        .args(["dev", "--only-database", "--throwaway", "--until-stdin-closes", "--data"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("stdout is readable");
    if let Some(url) = line.trim().strip_prefix("DATABASE_URL=") {
        return Some(Server { url: url.to_owned(), _child: child });
    }
    let output = child.wait_with_output().expect("the child ends");
    let why = String::from_utf8_lossy(&output.stderr);
    let missing = why.contains("no PostgreSQL found");
    assert!(missing && ProcessEnv.get("CI").as_deref() != Some("true"), "PostgreSQL does not start: {why}");
    eprintln!("untested: orders, stock, tokens, outbox and metrics of platform-api against a database: {why}");
    None
}

/// A new, empty database; None where there is no PostgreSQL.
pub(crate) async fn empty_database() -> Option<String> {
    let server = server()?;
    let name = format!("t_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server).await.expect("the server answers");
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
    let (base, _) = server.rsplit_once('/').expect("a URL with a database");
    Some(format!("{base}/{name}"))
}

/// A key pair for this run.
pub(crate) fn key_dir() -> &'static PathBuf {
    static KEYS: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, dir) = KEYS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        keys::generate(dir.path()).expect("keys");
        let path = dir.path().to_owned();
        (dir, path)
    });
    dir
}

/// All domains in this process, on a database of their own. The worker runs only where a test runs it.
pub(crate) struct Running {
    pub(crate) platform: Platform,
    pub(crate) pool: PgPool,
    pub(crate) addr: SocketAddr,
    pub(crate) http: reqwest::Client,
    pub(crate) admin: String,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

/// An answer with its body as JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Uuid {
        self.body["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id in {self:?}"))
    }
}

pub(crate) async fn start() -> Option<Running> {
    start_with(&[]).await
}

/// With further settings of the environment.
pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Option<Running> {
    let url = empty_database().await?;
    let private = key_dir().join(keys::PRIVATE_KEY_FILE).display().to_string();
    let mut env: HashMap<&str, &str> = HashMap::from([
        ("DATABASE_URL", url.as_str()),
        ("JWT_PRIVATE_KEY_PATH", &private),
        ("BOOTSTRAP_ADMIN_EMAIL", ADMIN_EMAIL),
        ("BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD),
        ("DRAIN_DELAY", "0s"),
        ("DB_POOL_MAX", "20"),
    ]);
    env.extend(settings.iter().copied());
    let config = Config::from_env(&env).unwrap_or_else(|exit| panic!("{exit:?}"));
    let pool = config.database.pool(4);
    MIGRATIONS.run(&pool).await.expect("the migrations apply");
    let app = App::build(config, Role::Serve(Domain::All), ([127, 0, 0, 1], 0).into()).await;
    let app = app.unwrap_or_else(|exit: Exit| panic!("{exit:?}"));
    let (platform, addr, health, shutdown) =
        (app.platform.clone(), app.local_addr(), app.health.clone(), Shutdown::new());
    service::task::spawn("platform", app.run(shutdown.clone()));
    let up = async {
        while !health.is_started() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), up).await.expect("the platform starts");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut running = Running { platform, pool, addr, http, admin: String::new(), shutdown };
    running.admin =
        running.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await.body["access_token"].as_str().expect("a token").into();
    Some(running)
}

impl Running {
    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.addr));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("a body");
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path, token).json(&body)).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.request(Method::GET, path, "").send().await.expect("an answer").text().await.expect("a body")
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Answer {
        self.post("/api/v1/auth/login", "", json!({ "email": email, "password": password })).await
    }

    /// A new customer's token.
    pub(crate) async fn customer(&self) -> String {
        let email = format!("{}@example.com", Uuid::new_v4().simple());
        self.register(&email, None).await
    }

    pub(crate) async fn register(&self, email: &str, organisation: Option<&str>) -> String {
        let body =
            json!({ "email": email, "password": PASSWORD, "display_name": "Somebody", "organisation": organisation });
        let registered = self.post("/api/v1/auth/register", "", body).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        let tokens = self.log_in(email, PASSWORD).await;
        tokens.body["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn product(&self, price_minor: i64, on_hand: i32) -> Uuid {
        let sku = format!("SKU-{}", Uuid::new_v4().simple());
        let body =
            json!({ "sku": sku, "name": "A thing", "price_minor": price_minor, "currency": "EUR", "on_hand": on_hand });
        let created = self.post("/api/v1/products", &self.admin, body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.id()
    }

    pub(crate) async fn order(&self, token: &str, product: Uuid, quantity: i32) -> Answer {
        self.post("/api/v1/orders", token, json!({ "lines": [{ "product_id": product, "quantity": quantity }] })).await
    }

    /// (on hand, reserved)
    pub(crate) async fn stock(&self, product: Uuid) -> (i64, i64) {
        let stock = self.get(&format!("/api/v1/products/{product}/inventory"), &self.admin).await.body;
        (stock["on_hand"].as_i64().expect("a number"), stock["reserved"].as_i64().expect("a number"))
    }
}
