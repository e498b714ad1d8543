//! A request's body while it comes in: bounded alone, and together with all others that come in at the same time.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request may unpack to no more than this: a bomb costs a bounded amount of memory.
pub const UNPACKED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Of all bodies that are being read.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a request is not taken; the text is for the one who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed(String),
    TooLarge(String),
    /// Too much comes in at once; worth another attempt.
    Busy,
}

impl Refusal {
    pub fn into_why(self) -> String {
        match self {
            Refusal::Malformed(why) | Refusal::TooLarge(why) => why,
            Refusal::Busy => "too many requests at once, try again".to_owned(),
        }
    }
}

/// The bytes of all bodies that are being read.
#[derive(Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// The part of one body; given back when it is dropped.
pub struct Held {
    in_flight: InFlight,
    bytes: usize,
    bytes_max: usize,
}

impl InFlight {
    pub fn hold(&self, bytes_max: usize) -> Held {
        Held { in_flight: self.clone(), bytes: 0, bytes_max }
    }
}

impl Held {
    /// Whether as many bytes more would be too many for this body.
    ///
    /// # Errors
    /// When they would.
    pub fn check(&self, bytes: usize) -> Result<(), Refusal> {
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            let why = format!("body is larger than {} bytes (SIDECAR_OTLP_BODY_MAX)", self.bytes_max);
            return Err(Refusal::TooLarge(why));
        }
        Ok(())
    }

    /// Room for as many bytes more.
    ///
    /// # Errors
    /// When this body, or all together, are too large.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.check(bytes)?;
        let all = self.in_flight.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if all + bytes > IN_FLIGHT_BYTES_MAX { Err(Refusal::Busy) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// # Errors
/// Where it is no gzip, and where it is a bomb.
pub fn unpack(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(body)
        .take(UNPACKED_BYTES_MAX + 1)
        .read_to_end(&mut out)
        .map_err(|error| Refusal::Malformed(format!("body is not gzip: {error}")))?;
    if out.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(Refusal::TooLarge(format!("body unpacks to more than {} MiB", UNPACKED_BYTES_MAX >> 20)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_bomb_is_bounded_and_what_is_no_gzip_refused() {
        assert_eq!(unpack(&gzip(b"ab")), Ok(b"ab".to_vec()));
        assert!(unpack(b"hello").is_err());
        let bomb = gzip(&vec![0; 17 * 1024 * 1024]);
        assert_eq!(unpack(&bomb), Err(Refusal::TooLarge("body unpacks to more than 16 MiB".into())));
    }

    #[test]
    fn bodies_are_bounded_alone_and_together() {
        let in_flight = InFlight::default();
        let mut one = in_flight.hold(10);
        assert_eq!(one.grow(10), Ok(()));
        assert!(matches!(one.grow(1), Err(Refusal::TooLarge(_))));
        let mut large = in_flight.hold(usize::MAX);
        assert_eq!(large.grow(IN_FLIGHT_BYTES_MAX), Err(Refusal::Busy));
        drop(large);
        assert_eq!(in_flight.hold(100).grow(100), Ok(()));
    }
}
