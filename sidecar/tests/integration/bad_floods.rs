//! Whatever comes in on any port: the program goes on, counts what it refuses, and its memory stays bounded.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sidecar of its own: what it uses is read from outside.
struct Victim {
    child: Child,
    metrics: SocketAddr,
    http: SocketAddr,
    grpc: SocketAddr,
    statsd: SocketAddr,
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("port 0")
}

impl Victim {
    fn start() -> Victim {
        let [metrics, http, grpc, statsd] = [(); 4].map(|()| free_addr());
        let child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
            .arg("run")
            .env("SIDECAR_LISTEN", metrics.to_string())
            .env("SIDECAR_OTLP_LISTEN", http.to_string())
            .env("SIDECAR_OTLP_GRPC_LISTEN", grpc.to_string())
            .env("SIDECAR_STATSD_LISTEN", statsd.to_string())
            .envs([("SIDECAR_APP_METRICS_URL", "off"), ("SIDECAR_APP_HEALTH_URL", "off"), ("LOG_LEVEL", "off")])
            .env_remove("ECS_CONTAINER_METADATA_URI_V4")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starts");
        let victim = Victim { child, metrics, http, grpc, statsd };
        let begun = Instant::now();
        while TcpStream::connect(metrics).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        victim
    }

    fn metrics(&self) -> String {
        request(self.metrics, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", &[])
    }

    fn counter(&self, start: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// The most memory that it ever had, in MiB.
    fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }
}

/// The whole answer, or what there was of it when the other side closed.
fn request(addr: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(addr: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    request(addr, &head, body)
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const JSON: &str = "content-type: application/json\r\n";

/// The same bytes in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn gzip_of_zeros(bytes: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(0).take(bytes), &mut encoder).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn bad_input_on_every_port_is_refused_counted_and_bounded() {
    let victim = Victim::start();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("port 0");

    // Noise, everywhere.
    for seed in 1..40 {
        let noise = noise(4_000, seed * 7919);
        for addr in [victim.metrics, victim.http, victim.grpc] {
            if let Ok(mut stream) = TcpStream::connect(addr) {
                let _ = stream.write_all(&noise);
            }
        }
        let _ = udp.send_to(&noise[..1_000], victim.statsd);
        post(victim.http, "/v1/traces", PROTOBUF, &noise);
        post(victim.http, "/v1/metrics", JSON, &noise);
    }

    // Clients that never finish: a hundred on each port, held while the rest goes on.
    let mut slow = Vec::new();
    for addr in [victim.metrics, victim.http, victim.grpc] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(addr).expect("connects");
            let _ = stream.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nx-slow: ");
            slow.push(stream);
        }
    }
    assert!(victim.metrics().contains("sidecar_build_info"), "it still answers");
    drop(slow);

    // A body that announces a gigabyte, one that does not say how long it is, and bombs.
    let announced = format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\n{PROTOBUF}content-length: 1073741824\r\n\r\n");
    assert!(request(victim.http, &announced, b"").starts_with("HTTP/1.1 413"));
    let mut endless = TcpStream::connect(victim.http).expect("connects");
    let head = format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\n{PROTOBUF}transfer-encoding: chunked\r\n\r\n");
    endless.write_all(head.as_bytes()).expect("sent");
    let chunk = [b"100000\r\n".as_slice(), &vec![0; 1 << 20], b"\r\n"].concat();
    let sent = (0..1024).take_while(|_| endless.write_all(&chunk).is_ok()).count();
    assert!(sent < 64, "{sent} MiB were taken");
    let bomb = gzip_of_zeros(1 << 30);
    let gzip = format!("{PROTOBUF}content-encoding: gzip\r\n");
    assert!(post(victim.http, "/v1/traces", &gzip, &bomb[..bomb.len().min(4 << 20)]).starts_with("HTTP/1.1 413"));
    let deep = "[".repeat(1 << 20);
    assert!(post(victim.http, "/v1/traces", JSON, deep.as_bytes()).starts_with("HTTP/1.1 400"));
    let wide = format!("{{\"x\":[{}0]}}", "0,".repeat(1 << 20));
    assert!(post(victim.http, "/v1/traces", JSON, wide.as_bytes()).starts_with("HTTP/1.1 200"), "an unknown field");

    // A hundred thousand label sets, by statsd and by OTLP.
    let (mut taken, mut sent) = (0.0, 0);
    while taken < 100_000.0 {
        for _ in 0..50 {
            let lines: String = (0..25).map(|n| format!("logins:1|c|#user:{}\n", sent + n)).collect();
            udp.send_to(lines.as_bytes(), victim.statsd).expect("sent");
            sent += 25;
        }
        taken = victim.counter("sidecar_statsd_lines_total{environment=\"dev\",kind=\"metric\"");
    }
    for thousand in 0..100 {
        let points: Vec<String> = (0..1000)
            .map(|n| {
                let user = thousand * 1000 + n;
                format!(r#"{{"asInt":"1","attributes":[{{"key":"user","value":{{"stringValue":"u{user}"}}}}]}}"#)
            })
            .collect();
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"seen","gauge":{{"dataPoints":[{}]}}}}]}}]}}]}}"#,
            points.join(",")
        );
        assert!(post(victim.http, "/v1/metrics", JSON, body.as_bytes()).starts_with("HTTP/1.1 200"));
    }
    let text = victim.metrics();
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((series("logins_total{"), series("seen{")), (5001, 5000));
    assert!(victim.counter("sidecar_events_overflowed{environment=\"dev\",metric=\"logins_total\"") >= 95_000.0);
    assert!(victim.counter("sidecar_events_overflowed{environment=\"dev\",metric=\"seen\"") >= 95_000.0);

    assert!(victim.counter("sidecar_otlp_requests_refused_total") >= 80.0);
    assert!(victim.counter("sidecar_statsd_refused_total{environment=\"dev\",reason=\"malformed\"") >= 1.0);
    // The limits that are set to it: bodies of 16 MiB in flight, one unpacked to 16 MiB, and itself, unoptimised.
    let peak = victim.peak_mib();
    assert!(peak < 128, "{peak} MiB");
}
