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

    /// As it is printed.
    pub fn hex(&self) -> [u8; 32] {
        hex_digits(&self.0)
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

    /// As it is printed.
    pub fn hex(&self) -> [u8; 16] {
        hex_digits(&self.0)
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

/// What a byte is worth as a lower-case hex digit; others are worth more than any digit.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Exactly `2 * N` lower-case hex digits; upper case is invalid in trace context.
fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let (mut bytes, mut seen) = ([0; N], 0);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < 16).then_some(bytes)
}

fn hex_digits<const N: usize, const M: usize>(bytes: &[u8; N]) -> [u8; M] {
    let mut text = [0; M];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text
}

macro_rules! print_as_hex {
    ($id:ty) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.hex()).expect("hex digits are ASCII"))
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
