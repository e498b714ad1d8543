//! OTLP over gRPC: the three Export calls, unary, on HTTP/2 in the clear.
//!
//! h2 alone, which the HTTP client has brought along already: three unary calls need a frame of five bytes and a
//! trailer, and a gRPC framework would be the largest part of the binary after TLS. Bounded in connections, in calls
//! of one connection, in bytes of a message and of all together, and in the time that a call may take.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use service::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Encoding, OtlpInput, Refusal, Signal};

const CONNECTIONS_MAX: usize = 64;
const CALLS_MAX: u32 = 32;
const WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// For the handshake, and for one call from its headers to its last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// For open calls when we stop.
const DRAIN: Duration = Duration::from_secs(2);

/// gRPC's numbers of what went wrong.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const UNAVAILABLE: u32 = 14;
}

/// Serves until the shutdown, then lets open calls end.
pub async fn serve(listener: TcpListener, input: OtlpInput, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(connection(stream, input.clone(), shutdown.clone()));
                }
                Ok(_) => input.connection_refused(),
                // Out of descriptors, or a peer that went away: neither is for good.
                Err(error) => {
                    tracing::debug!(error = %error, "gRPC connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = shutdown.requested() => break,
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(DRAIN, drained).await);
    Ok(())
}

async fn connection(stream: TcpStream, input: OtlpInput, shutdown: Shutdown) {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(CALLS_MAX)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX);
    let Ok(Ok(mut connection)) = tokio::time::timeout(PATIENCE, builder.handshake::<_, Bytes>(stream)).await else {
        input.refused();
        return;
    };
    let mut calls = JoinSet::new();
    let mut draining = false;
    loop {
        tokio::select! {
            next = connection.accept() => match next {
                Some(Ok((request, respond))) => {
                    calls.spawn(call(request, respond, input.clone()));
                }
                Some(Err(error)) => {
                    tracing::debug!(error = %error, "gRPC connection failed");
                    break;
                }
                None => break,
            },
            Some(_) = calls.join_next(), if !calls.is_empty() => {}
            () = shutdown.requested(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
        }
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, input: OtlpInput) {
    let answered = match tokio::time::timeout(PATIENCE, take(request, &input)).await {
        Ok(result) => result,
        Err(_) => Err((code::DEADLINE_EXCEEDED, format!("the call was not complete within {PATIENCE:?}"))),
    };
    // The one who asked may be gone.
    let sent = match answered {
        Ok(()) => accept(&mut respond),
        Err((code, why)) => {
            input.refused();
            refuse(&mut respond, code, &why)
        }
    };
    if let Err(error) = sent {
        tracing::debug!(error = %error, "gRPC answer not sent");
    }
}

async fn take(request: Request<RecvStream>, input: &OtlpInput) -> Result<(), (u32, String)> {
    let Some(signal) = signal_of(request.uri().path()) else {
        return Err((code::UNIMPLEMENTED, format!("{} is not served here", request.uri().path())));
    };
    let gzip = match request.headers().get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip") => true,
        Some(_) => return Err((code::UNIMPLEMENTED, "this compression is not supported: send gzip or none".into())),
    };
    let mut stream = request.into_body();
    let mut held = input.hold();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.map_err(|error| (code::UNAVAILABLE, format!("the call broke off: {error}")))?;
        drop(stream.flow_control().release_capacity(chunk.len()));
        held.grow(chunk.len()).map_err(|refusal| (code_of(&refusal), refusal.into_why()))?;
        body.extend_from_slice(&chunk);
    }
    let (compressed, message) = unframe(Bytes::copy_from_slice(&body)).map_err(|why| (code::INVALID_ARGUMENT, why))?;
    let taken = input.take(signal, Encoding::Protobuf, compressed && gzip, message).await;
    taken.map_err(|refusal| (code_of(&refusal), refusal.into_why()))
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

/// The one message of a unary call: a flag whether it is compressed, four bytes of length, the message.
///
/// # Errors
/// What is wrong with the framing.
pub fn unframe(body: Bytes) -> Result<(bool, Bytes), String> {
    let Some((head, message)) = body.split_first_chunk::<5>() else {
        return Err(format!("{} bytes are no gRPC message", body.len()));
    };
    let [flag, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if length != message.len() {
        return Err(format!("the message announces {length} bytes and has {}", message.len()));
    }
    match flag {
        0 | 1 => Ok((flag == 1, body.slice(5..))),
        _ => Err(format!("the message's flags are {flag}, not 0 or 1")),
    }
}

fn code_of(refusal: &Refusal) -> u32 {
    match refusal {
        Refusal::Malformed(_) => code::INVALID_ARGUMENT,
        Refusal::TooLarge(_) => code::RESOURCE_EXHAUSTED,
        Refusal::Busy => code::UNAVAILABLE,
    }
}

/// An empty Export…ServiceResponse: everything was taken.
fn accept(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code::OK));
    stream.send_trailers(trailers)
}

fn refuse(respond: &mut SendResponse<Bytes>, code: u32, why: &str) -> Result<(), h2::Error> {
    let mut head = head();
    head.headers_mut().insert("grpc-status", HeaderValue::from(code));
    // Percent-encoded as the protocol wants it.
    let message: String = why
        .bytes()
        .take(400)
        .map(|b| if (0x20..0x7f).contains(&b) && b != b'%' { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect();
    if let Ok(message) = HeaderValue::from_str(&message) {
        head.headers_mut().insert("grpc-message", message);
    }
    respond.send_response(head, true).map(drop)
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip"));
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_five_bytes_and_the_message() {
        let unframed = |bytes: &'static [u8]| unframe(Bytes::from_static(bytes));
        assert_eq!(unframed(b"\0\0\0\0\x02ab"), Ok((false, Bytes::from_static(b"ab"))));
        assert_eq!(unframed(b"\x01\0\0\0\0"), Ok((true, Bytes::new())));
        for bytes in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\xff\xff\xff\xffab", b"\x02\0\0\0\0"] {
            assert!(unframed(bytes).is_err(), "{bytes:?}");
        }
    }
}
