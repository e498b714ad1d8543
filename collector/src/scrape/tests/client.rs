//! How a job's client reaches its targets: headers of one's own, proxies, tokens, redirects.

use std::net::SocketAddr;
use std::path::Path;

use axum::extract::{Form, Request};
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::routing::post;
use axum::{Json, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::super::request::{Clients, Scraped, fetch};
use super::*;

/// What a server was asked.
type Seen = Arc<Mutex<Vec<http::request::Parts>>>;

/// A job with these keys, as it is read from a file in this directory.
fn settings(base: &Path, keys: &str) -> Settings {
    let mut job: Config = serde_saphyr::from_str(&format!("job_name: test\n{keys}")).unwrap();
    job.resolve_paths(base);
    job.check().unwrap();
    Settings::new(&job, &crate::config::Global::default())
}

fn refused(keys: &str) -> String {
    match service::config::parse_yaml::<Config>(&format!("job_name: test\n{keys}"), Path::new("x.yml")) {
        Ok(job) => job.check().expect_err(keys),
        Err(error) => error.to_string(),
    }
}

pub(super) fn target(url: &str, settings: Settings) -> Target {
    Target {
        labels: Labels::empty(),
        discovered: Labels::empty(),
        pool: "test".into(),
        scrape_url: url::Url::parse(url).unwrap(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        settings: Arc::new(settings),
        refused: None,
    }
}

async fn scrape(target: &Target) -> Result<Scraped, ScrapeError> {
    fetch(&Clients::new().unwrap(), target, Vec::new()).await
}

async fn serve(router: Router) -> SocketAddr {
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.unwrap();
    let addr = listener.local_addr().unwrap();
    service::task::spawn("server", service::http::serve(listener, router, Shutdown::new()));
    addr
}

const TEXT: [(&str, &str); 1] = [("content-type", "text/plain; version=0.0.4")];

/// Answers every path, and remembers what it was asked.
async fn metrics() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let router = Router::new().fallback(async move |request: Request| {
        kept.lock().unwrap().push(request.into_parts().0);
        (TEXT, "a 1\n")
    });
    (serve(router).await, seen)
}

fn values(seen: &Seen, name: &str) -> Vec<String> {
    let seen = seen.lock().unwrap();
    let values = seen.last().unwrap().headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn headers_of_one_s_own_are_sent_and_their_files_read_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "first\n").unwrap();
    let keys = "http_headers:\n  X-Tenant: {values: [a, b]}\n  x-key: {secrets: [hunter2], files: [key]}\n";
    let (addr, seen) = metrics().await;
    let target = target(&format!("http://{addr}/metrics"), settings(directory.path(), keys));
    scrape(&target).await.unwrap();
    assert_eq!(values(&seen, "x-tenant"), ["a", "b"]);
    assert_eq!(values(&seen, "x-key"), ["hunter2", "first"]);
    std::fs::write(&file, "second").unwrap();
    scrape(&target).await.unwrap();
    assert_eq!(values(&seen, "x-key"), ["hunter2", "second"]);
    assert!(!format!("{target:?}").contains("hunter2"));

    std::fs::write(&file, "two\nlines").unwrap();
    let error = scrape(&target).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Credentials);
    assert!(error.message.contains("holds what cannot be sent") && !error.message.contains("two"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = scrape(&target).await.unwrap_err();
    assert!(error.message.starts_with("failed to read credentials file"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 2, "without them nothing is asked");

    for (keys, why) in [
        ("http_headers: {Host: {values: [a]}}", "the header \"Host\" is not yours to set"),
        ("http_headers: {'a b': {values: [a]}}", "\"a b\" is no header's name"),
        ("http_headers: {a: {secrets: [\"hunter2\\n\"]}}", "a: a value holds what cannot be sent"),
    ] {
        let error = refused(keys);
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn headers_of_one_s_own_are_not_shown_to_another_host() {
    let (other, seen) = metrics().await;
    let moved = |to: String| get(async move || (StatusCode::FOUND, [(LOCATION, to)]));
    let router = Router::new()
        .route("/near", moved("/metrics".to_owned()))
        .route("/far", moved(format!("http://{other}/metrics")))
        .route("/round", moved("/round".to_owned()))
        .route("/metrics", get(async || (TEXT, "a 1\n")));
    let addr = serve(router).await;
    let own = settings(Path::new(""), "http_headers: {x-key: {secrets: [hunter2]}}");
    let ask = async |path: &str, settings: &Settings| {
        scrape(&target(&format!("http://{addr}/{path}"), settings.clone())).await
    };
    assert_eq!(ask("near", &own).await.unwrap().body, b"a 1\n");
    let error = ask("far", &own).await.unwrap_err();
    assert!(error.message.contains("a redirect to another host"), "{error}");
    assert!(ask("round", &own).await.unwrap_err().message.contains("too many redirects"));
    assert_eq!(seen.lock().unwrap().len(), 0);

    // A password is left out where the host changes, so that may be followed.
    let password = settings(Path::new(""), "basic_auth: {username: u, password: hunter2}");
    assert_eq!(ask("far", &password).await.unwrap().body, b"a 1\n");
    assert_eq!(values(&seen, "authorization"), [""; 0]);
    let direct = settings(Path::new(""), "follow_redirects: false");
    assert_eq!(ask("near", &direct).await.unwrap_err().reason, FailureReason::HttpStatus);
}

#[tokio::test]
async fn targets_are_reached_by_the_proxy_but_for_those_of_no_proxy() {
    let (proxy, by_proxy) = metrics().await;
    let keys = format!("proxy_url: http://user:hunter2@{proxy}\n");
    let through = settings(Path::new(""), &keys);
    // Nobody knows this name: the proxy alone is asked.
    let far = target("http://order.invalid:9464/metrics?a=b", through.clone());
    assert_eq!(scrape(&far).await.unwrap().body, b"a 1\n");
    assert_eq!(by_proxy.lock().unwrap()[0].uri, "http://order.invalid:9464/metrics?a=b");
    assert_eq!(values(&by_proxy, "proxy-authorization"), ["Basic dXNlcjpodW50ZXIy"]);
    assert!(!format!("{far:?}").contains("hunter2"));

    let (own, directly) = metrics().await;
    let here = format!("http://{own}/metrics");
    scrape(&target(&here, through)).await.unwrap();
    assert_eq!((by_proxy.lock().unwrap().len(), directly.lock().unwrap().len()), (2, 0));
    let but = settings(Path::new(""), &format!("{keys}no_proxy: inner.test\n"));
    scrape(&target(&here, but.clone())).await.unwrap();
    scrape(&target("http://order.invalid/", but)).await.unwrap();
    assert_eq!((by_proxy.lock().unwrap().len(), directly.lock().unwrap().len()), (3, 1));

    for (keys, why) in [
        ("no_proxy: a", "no_proxy needs proxy_url"),
        ("proxy_url: socks5://a:hunter2@b", "by http or https, not by \"socks5\""),
        ("proxy_url: http://a\nproxy_from_environment: true", "exclude each other"),
    ] {
        let error = refused(keys);
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_target_with_tls_is_reached_through_the_proxy_s_tunnel() {
    let authority = tls::Authority::new();
    let port = tls::serve(&authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let head = asked.clone();
    service::task::spawn("proxy", async move {
        let (mut client, _) = listener.accept().await.unwrap();
        while !head.lock().unwrap().ends_with("\r\n\r\n") {
            let byte = client.read_u8().await.unwrap();
            head.lock().unwrap().push(char::from(byte));
        }
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    let directory = tempfile::tempdir().unwrap();
    let keys = tls::files(&authority, directory.path()) + &format!("proxy_url: http://{proxy}\n");
    let far = target("https://localhost:9464/metrics", settings(directory.path(), &keys));
    assert_eq!(scrape(&far).await.unwrap().body, b"a 1\n");
    assert!(asked.lock().unwrap().starts_with("CONNECT localhost:9464 HTTP/1.1\r\n"), "{asked:?}");
}

#[tokio::test]
async fn a_server_s_certificate_may_be_for_another_name_than_it_is_reached_by() {
    let authority = tls::Authority::new();
    let port = tls::serve(&authority).await;
    let directory = tempfile::tempdir().unwrap();
    let files = tls::files(&authority, directory.path());
    let ask = async |more: &str| {
        let settings = settings(directory.path(), &files.replace('}', &format!(", {more}}}")));
        scrape(&target(&format!("https://127.0.0.1:{port}/metrics"), settings)).await
    };
    // The certificate is for localhost.
    assert_eq!(ask("min_version: TLS12").await.unwrap_err().reason, FailureReason::Connect);
    assert_eq!(ask("server_name: localhost").await.unwrap().body, b"a 1\n");
    assert_eq!(ask("server_name: localhost, min_version: TLS13").await.unwrap().body, b"a 1\n");
    assert_eq!(ask("server_name: elsewhere").await.unwrap_err().reason, FailureReason::Connect);
    assert_eq!(ask("server_name: elsewhere, insecure_skip_verify: true").await.unwrap().body, b"a 1\n");
    // Of an authority that is not trusted no name is good.
    std::fs::write(directory.path().join("ca.pem"), tls::Authority::new().pem).unwrap();
    assert_eq!(ask("server_name: localhost").await.unwrap_err().reason, FailureReason::Connect);
    std::fs::write(directory.path().join("ca.pem"), "nothing").unwrap();
    let error = ask("server_name: localhost").await.unwrap_err();
    assert!(error.message.contains("holds no PEM certificates"), "{error}");
    assert!(refused("tls_config: {server_name: 'a b'}").contains("\"a b\" is no server's name"));
}

/// A request for a token: its `Authorization` header and its form.
type Asked = (Option<String>, HashMap<String, String>);

/// A server of tokens: what it answers, and what it was asked.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<(StatusCode, Value)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Issuer {
    async fn start(&self) -> SocketAddr {
        let issue =
            async |State(issuer): State<Issuer>, headers: HeaderMap, Form(form): Form<HashMap<String, String>>| {
                let header = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
                issuer.asked.lock().unwrap().push((header, form));
                let (status, body) = issuer.answer.lock().unwrap().clone();
                (status, Json(body))
            };
        serve(Router::new().route("/token", post(issue)).with_state(self.clone())).await
    }

    fn answer(&self, status: StatusCode, body: Value) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_ends_or_the_secret_changes() {
    let (issuer, directory) = (Issuer::default(), tempfile::tempdir().unwrap());
    let token_url = format!("http://{}/token", issuer.start().await);
    let file = directory.path().join("secret");
    std::fs::write(&file, "s/1\n").unwrap();
    let keys = format!(
        "oauth2: {{client_id: me, client_secret_file: secret, token_url: '{token_url}', scopes: [a, b], \
         endpoint_params: {{audience: metrics}}}}"
    );
    let (addr, seen) = metrics().await;
    let target = target(&format!("http://{addr}/metrics"), settings(directory.path(), &keys));
    issuer.answer(StatusCode::OK, json!({"access_token": "t1", "token_type": "bearer", "expires_in": 3600}));
    scrape(&target).await.unwrap();
    scrape(&target).await.unwrap();
    assert_eq!((values(&seen, "authorization"), issuer.asked()), (vec!["Bearer t1".to_owned()], 1));
    let (header, form) = issuer.asked.lock().unwrap()[0].clone();
    // me:s%2F1
    assert_eq!(header.as_deref(), Some("Basic bWU6cyUyRjE="));
    let form: Vec<_> = ["grant_type", "scope", "audience", "client_id"].map(|key| form.get(key).cloned()).into();
    let expected = ["client_credentials", "a b", "metrics"].map(|value| Some(value.to_owned()));
    assert_eq!((&form[..3], &form[3]), (&expected[..], &None));

    std::fs::write(&file, "s2").unwrap();
    issuer.answer(StatusCode::OK, json!({"access_token": "t2", "expires_in": "9"}));
    scrape(&target).await.unwrap();
    scrape(&target).await.unwrap();
    assert_eq!(values(&seen, "authorization"), ["Bearer t2"]);
    assert_eq!(issuer.asked(), 3, "a token that is about to end is used once");
}

#[tokio::test]
async fn a_server_that_gives_no_token_is_named_and_no_secret_is() {
    let issuer = Issuer::default();
    let token_url = format!("http://{}/token?key=hunter2", issuer.start().await);
    let keys = format!("oauth2: {{client_id: me, client_secret: hunter2, token_url: '{token_url}'}}");
    let (addr, seen) = metrics().await;
    for (status, body, why) in [
        (StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}), "401 Unauthorized: invalid_client"),
        (StatusCode::BAD_REQUEST, json!({"error": "You sent hunter2"}), "400 Bad Request"),
        (StatusCode::FOUND, json!({}), "302 Found"),
        (StatusCode::OK, json!({"token": "t"}), "the answer has no access_token"),
        (StatusCode::OK, json!("hunter2"), "the answer is no JSON object of a token"),
        (StatusCode::OK, json!({"access_token": "x".repeat(1 << 20)}), "the answer is longer than any token"),
        (StatusCode::OK, json!({"access_token": "a\nb"}), "the credentials cannot be sent in a header"),
    ] {
        issuer.answer(status, body);
        let target = target(&format!("http://{addr}/metrics"), settings(Path::new(""), &keys));
        let error = scrape(&target).await.unwrap_err();
        assert_eq!(error.reason, FailureReason::Credentials);
        assert!(error.message.ends_with(why) && !error.message.contains("hunter2"), "{error}");
        assert!(!format!("{target:?}").contains("client_secret: \"hunter2\""));
        // The next is told the same, and the server is not asked.
        let asked = issuer.asked();
        assert_eq!(scrape(&target).await.unwrap_err().message, error.message);
        assert_eq!(issuer.asked(), asked);
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
    // The second request of each pair had the credentials as parameters.
    let asked = issuer.asked.lock().unwrap();
    let (header, form) = &asked[1];
    assert_eq!((header, form.get("client_secret").map(String::as_str)), (&None, Some("hunter2")));

    for (keys, why) in [
        ("oauth2: {client_id: a, token_url: 'http://x'}", "one of client_secret and client_secret_file"),
        ("oauth2: {client_id: a, client_secret: b, token_url: x}", "oauth2: token_url"),
        ("oauth2: {client_id: a, client_secret: b, token_url: 'http://c:d@x'}", "token_url: the credentials have"),
        ("oauth2: {client_id: a, client_secret: b, token_url: 'http://x'}\nbearer_token: c", "at most one of"),
    ] {
        assert!(refused(keys).contains(why), "{}", refused(keys));
    }
}

#[tokio::test]
async fn older_files_bearer_tokens_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "t2\n").unwrap();
    let (addr, seen) = metrics().await;
    for (keys, header) in [("bearer_token: t1", "Bearer t1"), ("bearer_token_file: token", "Bearer t2")] {
        scrape(&target(&format!("http://{addr}/metrics"), settings(directory.path(), keys))).await.unwrap();
        assert_eq!(values(&seen, "authorization"), [header]);
    }
}
