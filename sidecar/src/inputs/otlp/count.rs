//! How many spans a trace request carries, without decoding them.
//!
//! ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2
//! (opentelemetry-proto trace/v1): three levels of length-delimited fields are walked, the rest is skipped.

use std::io::Read;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A request may unpack to no more than this: a bomb costs a bounded amount of memory.
const UNPACKED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// # Errors
/// What is wrong with the body, for the one who sent it.
pub(super) fn spans(body: &[u8], json: bool, gzip: bool) -> Result<u64, String> {
    let unpacked;
    let body = if gzip {
        unpacked = unpack(body)?;
        &unpacked
    } else {
        body
    };
    if json {
        return json_spans(body).map_err(|error| format!("body is not an OTLP trace request in JSON: {error}"));
    }
    protobuf_spans(body).ok_or_else(|| "body is not an OTLP trace request in protobuf".to_owned())
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(body)
        .take(UNPACKED_BYTES_MAX + 1)
        .read_to_end(&mut out)
        .map_err(|error| format!("body is not gzip: {error}"))?;
    if out.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(format!("body unpacks to more than {} MiB", UNPACKED_BYTES_MAX >> 20));
    }
    Ok(out)
}

fn protobuf_spans(body: &[u8]) -> Option<u64> {
    let mut count = 0;
    each_message(body, 1, |resource_spans| {
        each_message(resource_spans, 2, |scope_spans| {
            each_message(scope_spans, 2, |_span| {
                count += 1;
                Some(())
            })
        })
    })?;
    Some(count)
}

/// Calls `visit` with the bytes of each length-delimited field `number`; None where this is no protobuf.
fn each_message<'a>(mut rest: &'a [u8], number: u64, mut visit: impl FnMut(&'a [u8]) -> Option<()>) -> Option<()> {
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, after) = rest.split_at_checked(length)?;
        rest = after;
        if key == number << 3 | 2 {
            visit(field)?;
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "resourceSpans", default)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
struct ResourceSpans {
    #[serde(rename = "scopeSpans", default)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default)]
    spans: Vec<IgnoredAny>,
}

fn json_spans(body: &[u8]) -> Result<u64, serde_json::Error> {
    let request: Request = serde_json::from_slice(body)?;
    Ok(request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len() as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message;
    use std::io::Write;

    fn request(shape: &[Vec<usize>]) -> Vec<u8> {
        let span = Span { name: "GET /".into(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() };
        let scope = |n: &usize| ScopeSpans { spans: vec![span.clone(); *n], ..ScopeSpans::default() };
        let resource_spans = shape
            .iter()
            .map(|scopes| ResourceSpans { scope_spans: scopes.iter().map(scope).collect(), ..ResourceSpans::default() })
            .collect();
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn spans_are_counted_in_every_encoding() {
        let body = request(&[vec![2, 0], vec![], vec![3]]);
        assert_eq!(spans(&body, false, false), Ok(5));
        assert_eq!(spans(&gzip(&body), false, true), Ok(5));
        let json = br#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"name":"a"},{"name":"b"}]}]}]}"#;
        assert_eq!(spans(json, true, false), Ok(2));
        assert_eq!(spans(b"", false, false), Ok(0));
    }

    #[test]
    fn what_is_no_trace_request_is_refused_and_a_bomb_is_bounded() {
        assert!(spans(b"hello", false, false).is_err());
        assert!(spans(b"hello", false, true).is_err());
        assert!(spans(b"[]x", true, false).is_err());
        let bomb = gzip(&vec![0; 17 * 1024 * 1024]);
        assert!(spans(&bomb, false, true).is_err_and(|e| e.contains("16 MiB")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(spans(&body, false, false));
            drop(spans(&body, true, false));
            drop(spans(&body, false, true));
        }
    }
}
