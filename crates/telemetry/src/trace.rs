//! W3C trace context: ids and the `traceparent` header (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

/// 16 bytes, not all zero; printed as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// 8 bytes, not all zero; printed as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The `traceparent` header of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: TraceId,
    pub parent_id: SpanId,
    pub sampled: bool,
}

impl TraceId {
    pub fn parse(text: &str) -> Option<Self> {
        hex_bytes(text).filter(|b: &[u8; 16]| b.iter().any(|b| *b != 0)).map(TraceId)
    }

    /// None for the all-zero id, which the specification calls invalid.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        bytes.iter().any(|b| *b != 0).then_some(TraceId(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SpanId {
    pub fn parse(text: &str) -> Option<Self> {
        hex_bytes(text).filter(|b: &[u8; 8]| b.iter().any(|b| *b != 0)).map(SpanId)
    }

    /// None for the all-zero id, which the specification calls invalid.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        bytes.iter().any(|b| *b != 0).then_some(SpanId(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl TraceParent {
    /// Parses the header; an unknown higher version is read by its version-00 prefix, as the specification asks.
    pub fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        let (version, rest) = header.split_at_checked(2)?;
        if version == "ff" || hex_bytes::<1>(version).is_none() || (version == "00" && header.len() != 55) {
            return None;
        }
        let mut parts = rest.strip_prefix('-')?.splitn(4, '-');
        let trace_id = TraceId::parse(parts.next()?)?;
        let parent_id = SpanId::parse(parts.next()?)?;
        let [flags] = hex_bytes::<1>(parts.next()?)?;
        Some(TraceParent { trace_id, parent_id, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

/// Exactly `2 * N` lower-case hex digits; upper case is invalid in trace context.
fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! print_as_hex {
    ($id:ty) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}
print_as_hex!(TraceId);
print_as_hex!(SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = TraceParent::parse(header).expect("valid");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), header);
    }

    #[test]
    fn invalid_ids_are_refused() {
        for header in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-abc123-def456-01",
        ] {
            assert_eq!(TraceParent::parse(header), None, "{header}");
        }
    }
}
