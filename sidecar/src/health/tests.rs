use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

#[test]
fn siblings_are_asked_where_the_path_has_the_usual_form() {
    let named = |url: &str| -> Vec<(String, String, bool)> {
        app_probes(url).0.into_iter().map(|p| (p.name, p.target.to_string(), p.configured)).collect()
    };
    let probe = |name: &str, url: &str, configured| (name.to_owned(), url.to_owned(), configured);
    assert_eq!(
        named("http://127.0.0.1:3000/health/live"),
        [
            probe("ready", "http://127.0.0.1:3000/health/ready", false),
            probe("live", "http://127.0.0.1:3000/health/live", true),
            probe("startup", "http://127.0.0.1:3000/health/startup", false),
        ]
    );
    assert_eq!(named("http://a/ping"), [probe("health", "http://a/ping", true)]);
}

#[test]
fn probes_are_read_by_name_and_a_password_is_not_repeated() {
    let probes =
        Config::parse_probes("db=postgres://shop@db/orders, cache=redis://c:6380,x=grpc://127.0.0.1:50051/shop.Cart");
    let texts: Vec<String> = probes.expect("valid").iter().map(|(name, target)| format!("{name} {target:?}")).collect();
    assert_eq!(
        texts,
        [
            r#"db Postgres { address: Address { host: "db", port: 5432 }, user: "shop", database: "orders" }"#,
            r#"cache Redis(Address { host: "c", port: 6380 })"#,
            r#"x Grpc { url: "http://127.0.0.1:50051", service: "shop.Cart" }"#,
        ]
    );
    for (text, why) in [
        ("db", "write name=address, separated by commas"),
        ("live=tcp://a:1", r#"the name "live" is taken"#),
        ("a=tcp://a:1,a=tcp://a:1", r#"the name "a" is taken"#),
        ("a b=tcp://a:1", r#""a b" is no name: letters, digits, _ and -"#),
        ("a=tcp://a", "a: the address has no port"),
        ("a=redis://:hunter2@a", "a: a probe needs no password: leave it out"),
        (
            "a=mysql://a",
            "a: mysql:// cannot be asked: write http://, https://, tcp://, grpc://, postgres:// or redis://",
        ),
    ] {
        assert_eq!(Config::parse_probes(text).expect_err(text), why, "{text}");
    }
}

/// A server that answers each thing it reads by the next of these.
async fn scripted(answers: &'static [&'static [u8]]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let port = listener.local_addr().expect("bound").port();
    service::task::spawn("scripted", async move {
        let (mut stream, _) = listener.accept().await?;
        for answer in answers {
            let mut asked = [0; 512];
            let _ = stream.read(&mut asked).await?;
            stream.write_all(answer).await?;
        }
        let _ = stream.read(&mut [0; 512]).await?;
        anyhow::Ok(())
    });
    port
}

async fn ask(scheme: &str, port: u16) -> String {
    let target: Target = format!("{scheme}://127.0.0.1:{port}").parse().expect("an address");
    match target.ask(&Client::new(), None).await {
        Answer::Yes => "yes".to_owned(),
        Answer::No(why) => why.replace(&port.to_string(), "PORT"),
        Answer::Absent => "absent".to_owned(),
    }
}

#[tokio::test]
async fn postgres_is_well_when_it_would_let_somebody_in() {
    const STARTING: &[u8] = b"E\0\0\0\x2bSFATAL\0C57P03\0Mthe system is starting\0\0";
    const STRANGER: &[u8] = b"E\0\0\0\x1eSFATAL\0C28000\0Mno such role\0\0";
    for (answers, said) in [
        (&[b"S" as &[u8]][..], "yes"),
        (&[b"N", b"R\0\0\0\x08\0\0\0\x03"], "yes"),
        (&[b"N", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"], "yes"),
        (&[b"N", STRANGER], "yes"),
        (&[b"N", STARTING], "127.0.0.1:PORT: the system is starting"),
        (&[b"HTTP/1.1 400"], "127.0.0.1:PORT does not speak PostgreSQL's protocol"),
        (&[b"N", b"garbage"], "127.0.0.1:PORT does not speak PostgreSQL's protocol"),
    ] {
        let answers: &'static [&'static [u8]] = Vec::leak(answers.to_vec());
        assert_eq!(ask("postgres", scripted(answers).await).await, said);
    }
}

#[tokio::test]
async fn redis_is_well_when_it_answers_or_asks_who_is_there() {
    for (answers, said) in [
        (&[b"+PONG\r\n" as &[u8]][..], "yes"),
        (&[b"-NOAUTH Authentication required.\r\n"], "yes"),
        (
            &[b"-LOADING Redis is loading the dataset in memory\r\n"],
            "127.0.0.1:PORT: LOADING Redis is loading the dataset in memory",
        ),
        (&[b"HTTP/1.1 400 Bad Request\r\n"], "127.0.0.1:PORT does not speak Redis' protocol"),
    ] {
        let answers: &'static [&'static [u8]] = Vec::leak(answers.to_vec());
        assert_eq!(ask("redis", scripted(answers).await).await, said);
    }
}

#[tokio::test]
async fn a_closed_port_and_a_silent_one_are_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let port = listener.local_addr().expect("bound").port();
    assert_eq!(ask("tcp", port).await, "yes");
    assert_eq!(ask("redis", port).await, "redis://127.0.0.1:PORT did not answer within 2s");
    drop(listener);
    assert!(ask("tcp", port).await.starts_with("no connection to 127.0.0.1:PORT: "));
}

/// A gRPC server by the same HTTP stack as ours, answering `Check` with this frame and this status.
async fn grpc_server(frame: &'static [u8], status: Option<&'static str>) -> u16 {
    use axum::http::header::{HeaderName, HeaderValue};
    let check = move |body: axum::body::Bytes| async move {
        assert_eq!(&body[..], b"\0\0\0\0\x06\x0a\x04cart", "HealthCheckRequest of the service cart");
        let mut answer = axum::response::Response::new(axum::body::Body::from(frame));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(status) = status {
            answer.headers_mut().insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
        }
        answer
    };
    let router = Router::new().route("/grpc.health.v1.Health/Check", axum::routing::post(check));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let port = listener.local_addr().expect("bound").port();
    service::task::spawn("grpc", async move {
        let (stream, _) = listener.accept().await?;
        let service = hyper_util::service::TowerToHyperService::new(router);
        let io = hyper_util::rt::TokioIo::new(stream);
        let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        builder.serve_connection(io, service).await?;
        anyhow::Ok(())
    });
    port
}

#[tokio::test]
async fn a_grpc_service_is_well_when_it_says_serving() {
    let http2 = Client::builder().http2_prior_knowledge().build().expect("a client");
    for (frame, status, said) in [
        (&b"\0\0\0\0\x02\x08\x01"[..], None, Ok(())),
        (b"\0\0\0\0\x02\x08\x02", None, Err("http://127.0.0.1:PORT says NOT_SERVING")),
        (b"\0\0\0\0\0", None, Err("http://127.0.0.1:PORT says UNKNOWN of `cart`")),
        (b"", Some("5"), Err("http://127.0.0.1:PORT knows no service `cart`")),
        (b"", Some("12"), Err("http://127.0.0.1:PORT has no health service (grpc.health.v1)")),
        (b"", None, Err("http://127.0.0.1:PORT gave no answer of grpc.health.v1")),
    ] {
        let port = grpc_server(frame, status).await;
        let target: Target = format!("grpc://127.0.0.1:{port}/cart").parse().expect("an address");
        let wanted = said.map_or_else(|why| Answer::No(why.replace("PORT", &port.to_string())), |()| Answer::Yes);
        assert_eq!(target.ask(&Client::new(), Some(&http2)).await, wanted);
    }
}
