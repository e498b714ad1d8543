//! A request full of spans on its way through: bytes that nobody needs to understand.

use bytes::Bytes;
use tokio::time::Instant;

use super::account::Ticket;
use super::queue::Weigh;

/// An OTLP trace request as it came, to be sent on as it is.
pub struct SpanBatch {
    pub body: Bytes,
    /// `application/x-protobuf` or `application/json`.
    pub content_type: &'static str,
    /// The body is compressed by gzip.
    pub gzip: bool,
    pub received: Instant,
    pub ticket: Ticket,
}

/// What a batch costs beside its body.
const BATCH_OVERHEAD_BYTES: usize = 256;

impl Weigh for SpanBatch {
    fn bytes(&self) -> usize {
        self.body.len() + BATCH_OVERHEAD_BYTES
    }
}
