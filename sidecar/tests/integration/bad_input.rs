//! The program itself, given what nobody should send, on every port: it stays well, its memory stays bounded, what it
//! refuses is counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the container may use is 128 MiB; the program of a debug build is larger than the shipped one.
const RESIDENT_MAX_KIB: u64 = 112 * 1024;
const MIB: usize = 1 << 20;

struct Victim {
    child: Child,
    addr: SocketAddr,
    otlp: SocketAddr,
    fluent: SocketAddr,
    grpc: SocketAddr,
    statsd: SocketAddr,
    directory: tempfile::TempDir,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("port 0").local_addr().expect("bound")
}

impl Victim {
    /// `prefix` is what the shell does before it becomes the sidecar.
    fn start(prefix: &str, env: &[(&str, &str)]) -> Victim {
        let [addr, otlp, fluent, grpc, statsd] = [(); 5].map(|()| free_port());
        let directory = tempfile::tempdir().expect("tempdir");
        let log = std::fs::File::create(directory.path().join("said")).expect("a file");
        let child = Command::new("sh")
            .args(["-c", &format!("{prefix} exec \"$0\" run"), env!("CARGO_BIN_EXE_sidecar")])
            .env_clear()
            .env("SIDECAR_LISTEN", addr.to_string())
            .env("SIDECAR_OTLP_LISTEN", otlp.to_string())
            .env("SIDECAR_FLUENT_LISTEN", fluent.to_string())
            .env("SIDECAR_FLUENT_SOCKET", directory.path().join("fluent.sock"))
            .env("SIDECAR_OTLP_GRPC_LISTEN", grpc.to_string())
            .env("SIDECAR_STATSD_LISTEN", statsd.to_string())
            .env("SIDECAR_APP_METRICS_URL", "off")
            .env("SIDECAR_APP_HEALTH_URL", "off")
            .envs(env.iter().copied())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let victim = Victim { child, addr, otlp, fluent, grpc, statsd, directory };
        let begun = Instant::now();
        while !victim.is_well() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not start: {}", victim.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        victim
    }

    fn is_well(&self) -> bool {
        let mut check = Command::new(env!("CARGO_BIN_EXE_sidecar"));
        check.arg("healthcheck").env_clear().env("SIDECAR_LISTEN", self.addr.to_string());
        check.output().expect("runs").status.success()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("said")).unwrap_or_default()
    }

    fn metric(&self, name: &str) -> f64 {
        let answer = ask(self.addr, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".as_bytes());
        let lines = answer.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number")).sum()
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    }

    /// What must hold whatever was sent.
    fn is_unharmed(&self) {
        assert!(self.is_well(), "{}", self.said());
        let resident = self.resident_kib();
        assert!(resident < RESIDENT_MAX_KIB, "{resident} KiB resident at the most: {}", self.said());
        assert!(!self.said().contains("panicked"), "{}", self.said());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends and reads what comes, until the other side closes or is silent.
fn ask(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // It may close in the middle of what it refuses.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(addr: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    ask(addr, &[head.as_bytes(), body].concat())
}

/// xorshift64*: the same bytes every time.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; MIB];
    for _ in 0..bytes / MIB {
        encoder.write_all(&zeros).expect("memory");
    }
    encoder.finish().expect("memory")
}

#[test]
fn random_bytes_on_every_port() {
    let victim = Victim::start("", &[]);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("port 0");
    for seed in 0..60 {
        let bytes = random(seed, 1 + (seed as usize * 97) % 3000);
        for addr in [victim.addr, victim.otlp, victim.fluent, victim.grpc] {
            let mut stream = TcpStream::connect(addr).expect("listens");
            drop(stream.write_all(&bytes));
        }
        let mut stream = UnixStream::connect(victim.directory.path().join("fluent.sock")).expect("listens");
        drop(stream.write_all(&bytes));
        drop(udp.send_to(&bytes[..bytes.len().min(1000)], victim.statsd));
        // Bytes behind a beginning that is right.
        post(victim.otlp, "/v1/traces", "application/x-protobuf", &bytes);
        post(victim.otlp, "/v1/metrics", "application/json", &bytes);
        // [tag, [[…
        let mut stream = TcpStream::connect(victim.fluent).expect("listens");
        drop(stream.write_all(&[&b"\x93\xa3app"[..], &bytes].concat()));
    }
    victim.is_unharmed();
    assert!(victim.metric("sidecar_otlp_requests_refused_total") > 0.0);
    assert!(victim.metric("sidecar_forward_refused_total") > 0.0);
    assert!(victim.metric(r#"sidecar_statsd_refused_total{environment="dev",reason="malformed""#) > 0.0);
}

#[test]
fn json_of_a_million_brackets_is_refused_and_of_a_million_unknown_numbers_skipped() {
    let victim = Victim::start("", &[]);
    let deep = "[".repeat(MIB);
    let answer = post(victim.otlp, "/v1/traces", "application/json", deep.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let wide = format!("{{\"x\":[{}0]}}", "0,".repeat(MIB));
    let answer = post(victim.otlp, "/v1/traces", "application/json", wide.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    victim.is_unharmed();
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_has_arrived() {
    let victim = Victim::start("", &[]);
    let piece = vec![b'x'; MIB];
    for (addr, path, head) in [
        (victim.otlp, "/v1/traces", "Content-Length: 1073741824"),
        (victim.otlp, "/v1/traces", "Transfer-Encoding: chunked"),
        (victim.addr, "/metrics", "Content-Length: 1073741824"),
    ] {
        let mut stream = TcpStream::connect(addr).expect("listens");
        stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a head");
        let mut sent = 0;
        while sent < 1024 {
            let part =
                if head.contains("chunked") { [b"100000\r\n", &piece[..], b"\r\n"].concat() } else { piece.clone() };
            if stream.write_all(&part).is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent < 64, "{sent} MiB were taken at {path}");
    }
    victim.is_unharmed();
    assert!(victim.metric("sidecar_otlp_requests_refused_total") >= 1.0);
}

#[test]
fn what_unpacks_to_a_quarter_of_a_gigabyte_is_refused() {
    let victim = Victim::start("", &[]);
    let bomb = bomb(256 * MIB);
    assert!(bomb.len() < MIB, "it has to pass the limit of what is sent");
    for content_type in ["application/x-protobuf", "application/json"] {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            bomb.len()
        );
        let answer = ask(victim.otlp, &[head.as_bytes(), &bomb].concat());
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // CompressedPackedForward: [tag, bin32, {"compressed": "gzip"}].
    let mut message = b"\x93\xa3app\xc6".to_vec();
    message.extend((bomb.len() as u32).to_be_bytes());
    message.extend(&bomb);
    message.extend(b"\x81\xaacompressed\xa4gzip");
    let mut stream = TcpStream::connect(victim.fluent).expect("listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    drop(stream.write_all(&message));
    drop(stream.shutdown(std::net::Shutdown::Write));
    drop(stream.read_to_end(&mut Vec::new()));
    victim.is_unharmed();
    assert!(victim.metric("sidecar_forward_refused_total") >= 1.0);
}

#[test]
fn a_hundred_thousand_label_sets_cost_what_the_budget_allows() {
    let app = TcpListener::bind("127.0.0.1:0").expect("port 0");
    let url = format!("http://{}/metrics", app.local_addr().expect("bound"));
    let mut body = String::from("# TYPE requests_total counter\n");
    for n in 0..100_000 {
        body += &format!("requests_total{{user=\"u{n}\"}} 1\n");
    }
    std::thread::spawn(move || {
        for stream in app.incoming() {
            let Ok(mut stream) = stream else { return };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.read(&mut [0; 2048]));
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
        }
    });
    let victim = Victim::start("", &[("SIDECAR_APP_METRICS_URL", &url), ("SIDECAR_APP_SERIES_MAX", "1000")]);
    assert_eq!(victim.metric("sidecar_app_series_cut"), 99_000.0);
    assert_eq!(victim.metric("requests_total{"), 100_000.0, "what was cut is summed up");
    victim.is_unharmed();
}

#[test]
fn a_hundred_thousand_label_sets_by_statsd_and_by_otlp_have_the_same_budget() {
    let victim = Victim::start("", &[]);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("port 0");
    let (mut taken, mut sent) = (0.0, 0);
    // Some datagrams are lost on the way, as they may be.
    while taken < 100_000.0 {
        for _ in 0..50 {
            let lines: String = (0..25).map(|n| format!("logins:1|c|#user:{}\n", sent + n)).collect();
            udp.send_to(lines.as_bytes(), victim.statsd).expect("sent");
            sent += 25;
        }
        taken = victim.metric(r#"sidecar_statsd_lines_total{environment="dev",kind="metric""#);
    }
    for thousand in 0..100 {
        let point = |n| {
            let user = thousand * 1000 + n;
            format!(r#"{{"asInt":"1","attributes":[{{"key":"user","value":{{"stringValue":"u{user}"}}}}]}}"#)
        };
        let points: Vec<String> = (0..1000).map(point).collect();
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"seen","gauge":{{"dataPoints":[{}]}}}}]}}]}}]}}"#,
            points.join(",")
        );
        let answer = post(victim.otlp, "/v1/metrics", "application/json", body.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let text = ask(victim.addr, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((series("logins_total{"), series("seen{")), (5001, 5000));
    for metric in ["logins_total", "seen"] {
        let overflowed = format!(r#"sidecar_events_overflowed{{environment="dev",metric="{metric}""#);
        assert!(victim.metric(&overflowed) >= 95_000.0, "{metric}");
    }
    victim.is_unharmed();
}

/// Connections that say nothing, or begin a request and never end it, from another address than the health check's.
#[test]
fn many_who_never_finish_their_request_do_not_keep_the_health_check_out() {
    let victim = Victim::start("ulimit -n 512;", &[]);
    let dial = |addr: SocketAddr| -> Option<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("a loopback address");
        let stream = runtime.block_on(async { socket.connect(addr).await }).ok()?.into_std().ok()?;
        stream.set_nonblocking(false).ok()?;
        Some(stream)
    };
    let mut open = Vec::new();
    for n in 0..450 {
        let addr = [victim.addr, victim.otlp, victim.grpc][n % 3];
        let Some(mut stream) = dial(addr) else { continue };
        let begin = if n % 6 < 3 { &b""[..] } else { b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nX-Slow: " };
        drop(stream.write_all(begin));
        open.push(stream);
    }
    assert!(open.len() > 200, "only {} connected", open.len());
    victim.is_unharmed();
    assert!(victim.metric("sidecar_connections_refused_total") > 100.0);
    // The app on loopback is still heard too.
    let request = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    assert!(ask(victim.otlp, request).starts_with("HTTP/1.1 200"));
}
