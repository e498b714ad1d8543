//! What happens to data between an input and an output: every item is accounted for, log lines become
//! records, secrets are struck out, a bounded queue decides what happens when the output is slow, and
//! batches are cut to what the destination takes.
//!
//! In: bytes of one log line, or one OTLP request. Out: records in the batches of their destinations, requests in
//! queues. Promises that in = delivered + waiting + dropped at every moment. Knows no input, and of an output its name.

pub mod account;
pub mod aggregate;
pub mod batch;
mod bits;
pub mod choose;
pub mod enrich;
pub mod intake;
pub mod limit;
pub mod multiline;
pub mod parse;
pub mod partials;
pub mod queue;
pub mod red;
pub mod redact;
pub mod route;
pub mod sample;
pub mod signature;
pub mod spans;
