//! The `healthcheck` subcommand: one HTTP request by the standard library, no runtime, so that a
//! container's probe costs milliseconds and needs neither shell nor curl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// ECS' default health check timeout is 5 s; an answer that takes longer than this is a failure.
const BUDGET: Duration = Duration::from_secs(2);
/// A probe's answer is a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks `http://addr/path` and succeeds on a 2xx status.
///
/// # Errors
/// Connection refused, no answer within two seconds, or another status, with the answer's body.
pub fn check(addr: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, BUDGET).with_context(|| format!("nothing listens on {addr}"))?;
    stream.set_read_timeout(Some(BUDGET))?;
    stream.set_write_timeout(Some(BUDGET))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .with_context(|| format!("no answer from http://{addr}{path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
        bail!("http://{addr}{path} answered {status}: {body}");
    }
    Ok(())
}
