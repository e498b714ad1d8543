//! What a probe asks, by the scheme of its address, and what it takes for an answer.
//!
//! Sources: grpc.health.v1 (GRPC Health Checking Protocol), PostgreSQL's frontend/backend protocol 3.0 ("Message
//! Formats"), RESP (Redis serialization protocol). None of them needs a password: that the other side asks for one
//! shows that it is there.

use std::str::FromStr;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer that takes longer is as good as none.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Of a failed probe's body, in reports.
const BODY_CHARS: usize = 200;
/// Of any answer that is no HTTP body.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where a probe asks, and in which manner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A GET that must be answered with 2xx.
    Http(String),
    /// A connection that must be accepted.
    Tcp(Address),
    /// `Check` of `grpc.health.v1.Health` in plain HTTP/2: the named service, or the whole server, must be serving.
    Grpc { url: String, service: String },
    /// A server that takes connections: not starting up, not full.
    Postgres { address: Address, user: String, database: String },
    /// A server that answers PING and is not loading its data.
    Redis(Address),
}

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Http(url) => f.write_str(url),
            Target::Tcp(address) => write!(f, "tcp://{address}"),
            Target::Grpc { url, .. } => f.write_str(url),
            Target::Postgres { address, .. } => write!(f, "postgres://{address}"),
            Target::Redis(address) => write!(f, "redis://{address}"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// The address is not repeated in messages: somebody may have written a password into it.
    fn from_str(text: &str) -> Result<Target, String> {
        let url = Url::parse(text).map_err(|error| format!("this is no address: {error}"))?;
        if url.password().is_some() {
            return Err("a probe needs no password: leave it out".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the address has no host")?.to_owned();
        let address = |port: Option<u16>| {
            let port = url.port().or(port).ok_or("the address has no port")?;
            let host = host.trim_matches(['[', ']']).to_owned();
            Ok::<Address, String>(Address { host, port })
        };
        let path = url.path().trim_matches('/').to_owned();
        match url.scheme() {
            "http" | "https" => Ok(Target::Http(text.to_owned())),
            "tcp" => Ok(Target::Tcp(address(None)?)),
            "grpc" => {
                let port = address(None)?.port;
                Ok(Target::Grpc { url: format!("http://{host}:{port}"), service: path })
            }
            "postgres" | "postgresql" => {
                let user = if url.username().is_empty() { "sidecar" } else { url.username() }.to_owned();
                let database = if path.is_empty() { "postgres".to_owned() } else { path };
                Ok(Target::Postgres { address: address(Some(5432))?, user, database })
            }
            "redis" => Ok(Target::Redis(address(Some(6379))?)),
            other => Err(format!(
                "{other}:// cannot be asked: write http://, https://, tcp://, grpc://, postgres:// or redis://"
            )),
        }
    }
}

/// What an HTTP probe may find besides yes and no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No(String),
    /// 404: there is no such probe.
    Absent,
}

impl Target {
    /// Asks once, within two seconds.
    pub(super) async fn ask(&self, client: &Client, http2: Option<&Client>) -> Answer {
        let asked = async {
            match self {
                Target::Http(url) => return http(client, url).await,
                Target::Tcp(address) => connect(address).await.map(drop),
                Target::Grpc { url, service } => grpc(http2, url, service).await,
                Target::Postgres { address, user, database } => postgres(address, user, database).await,
                Target::Redis(address) => redis(address).await,
            }
            .map_or_else(Answer::No, |()| Answer::Yes)
        };
        let timeout = || Answer::No(format!("{self} did not answer within {TIMEOUT:?}"));
        tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| timeout())
    }
}

async fn http(client: &Client, url: &str) -> Answer {
    match client.get(url).send().await {
        Ok(answer) if answer.status().is_success() => Answer::Yes,
        Ok(answer) if answer.status() == StatusCode::NOT_FOUND => Answer::Absent,
        Ok(mut answer) => {
            let status = answer.status();
            let body = answer.chunk().await.ok().flatten().unwrap_or_default();
            let body: String = String::from_utf8_lossy(&body).chars().take(BODY_CHARS).collect();
            Answer::No(format!("{url} answered {status}: {body}"))
        }
        Err(_) => Answer::No(format!("nothing answers at {url}")),
    }
}

async fn connect(address: &Address) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((address.host.as_str(), address.port)).await;
    connected.map_err(|error| format!("no connection to {address}: {error}"))
}

async fn grpc(http2: Option<&Client>, url: &str, service: &str) -> Result<(), String> {
    let client = http2.ok_or("there is no HTTP/2 client")?;
    let mut message = Vec::new();
    if !service.is_empty() {
        // HealthCheckRequest: field 1, a string.
        let length = u8::try_from(service.len()).ok().filter(|length| *length < 128);
        message.extend([0x0a, length.ok_or("the service's name is longer than 127 bytes")?]);
        message.extend(service.bytes());
    }
    let mut body = vec![0, 0, 0, 0, message.len() as u8];
    body.extend(message);
    let request = client.post(format!("{url}/grpc.health.v1.Health/Check")).body(body);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let mut answer = request.send().await.map_err(|_| format!("nothing answers in HTTP/2 at {url}"))?;
    // An error comes without a message: its status is among the headers.
    match answer.headers().get("grpc-status").and_then(|status| status.to_str().ok()) {
        None | Some("0") => {}
        Some("5") => return Err(format!("{url} knows no service `{service}`")),
        Some("12") => return Err(format!("{url} has no health service (grpc.health.v1)")),
        Some(status) => return Err(format!("{url} answered with gRPC status {status}")),
    }
    let mut frame = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        frame.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX)]);
        if frame.len() >= 5 + frame.get(4).map_or(0, |length| usize::from(*length)) || frame.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    // HealthCheckResponse: field 1, an enum; 0 is left out.
    match frame.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, 2, ..]) => Err(format!("{url} says NOT_SERVING")),
        Some([0x08, 3, ..]) => Err(format!("{url} knows no service `{service}`")),
        // Some say so of a service that they do not know, with the status behind the message.
        Some([]) => Err(format!("{url} says UNKNOWN of `{service}`")),
        _ => Err(format!("{url} gave no answer of grpc.health.v1")),
    }
}

async fn postgres(address: &Address, user: &str, database: &str) -> Result<(), String> {
    /// Length 8 and the code that no protocol version has.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
    /// AuthenticationOk: without a password.
    const LET_IN: [u8; 4] = [0; 4];
    let lost = |error: std::io::Error| format!("{address} broke off: {error}");
    let mut stream = connect(address).await?;
    stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        // It talks TLS, and has answered: without a handshake more cannot be known.
        b'S' => return Ok(()),
        b'N' => {}
        _ => return Err(format!("{address} does not speak PostgreSQL's protocol")),
    }
    let mut parameters = 196_608u32.to_be_bytes().to_vec();
    for part in ["user", user, "database", database, "application_name", "sidecar"] {
        parameters.extend(part.bytes());
        parameters.push(0);
    }
    parameters.push(0);
    let length = u32::try_from(parameters.len() + 4).map_err(|_| "the names are too long".to_owned())?;
    let startup = [&length.to_be_bytes()[..], &parameters].concat();
    stream.write_all(&startup).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        b'R' | b'v' => {
            // As pg_isready: it would let somebody in, and that was the question. What it said is read and the
            // connection ended in order, or the server's log would fill with complaints.
            let length = stream.read_u32().await.map_err(lost)? as usize;
            let mut asked = vec![0; length.saturating_sub(4).min(ANSWER_BYTES_MAX)];
            stream.read_exact(&mut asked).await.map_err(lost)?;
            if asked == LET_IN {
                drop(stream.write_all(&TERMINATE).await);
            }
            drop(stream.shutdown().await);
            let mut rest = [0; 512];
            while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
            Ok(())
        }
        b'E' => {
            let length = stream.read_u32().await.map_err(lost)? as usize;
            let mut fields = vec![0; length.saturating_sub(4).min(ANSWER_BYTES_MAX)];
            stream.read_exact(&mut fields).await.map_err(lost)?;
            refusal(&fields).map_or(Ok(()), |why| Err(format!("{address}: {why}")))
        }
        _ => Err(format!("{address} does not speak PostgreSQL's protocol")),
    }
}

/// Why the server takes no connections; None where it merely does not want this one.
fn refusal(fields: &[u8]) -> Option<String> {
    let field = |kind: u8| {
        let found = fields.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind))?;
        Some(String::from_utf8_lossy(&found[1..]).into_owned())
    };
    // cannot_connect_now (starting up, shutting down) and too_many_connections.
    let takes_nobody = ["57P03", "53300"].contains(&field(b'C')?.as_str());
    takes_nobody.then(|| field(b'M').unwrap_or_default())
}

async fn redis(address: &Address) -> Result<(), String> {
    let lost = |error: std::io::Error| format!("{address} broke off: {error}");
    let mut stream = connect(address).await?;
    stream.write_all(b"PING\r\n").await.map_err(lost)?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < ANSWER_BYTES_MAX {
        if stream.read_buf(&mut line).await.map_err(lost)? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&line);
    let line = line.lines().next().unwrap_or_default();
    // Who asks for a password is there.
    if ["+PONG", "-NOAUTH", "-NOPERM"].iter().any(|yes| line.starts_with(yes)) {
        return Ok(());
    }
    match line.strip_prefix('-') {
        Some(error) => Err(format!("{address}: {}", error.chars().take(BODY_CHARS).collect::<String>())),
        None => Err(format!("{address} does not speak Redis' protocol")),
    }
}
