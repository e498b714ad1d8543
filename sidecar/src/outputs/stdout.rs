//! Log records to stdout, one line each; or nowhere, for who only wants the recent lines and the counters.

use std::io::Write;

use bytes::Bytes;

use super::retry::Attempt;
use super::sink::{Answer, Send};

pub struct Stdout;

impl Send for Stdout {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        let mut out = std::io::stdout().lock();
        match out.write_all(body).and_then(|()| out.flush()) {
            Ok(()) => Attempt::Done(Answer::Stored),
            // A pipe that nobody reads from any more.
            Err(error) => Attempt::Never { why: error.to_string() },
        }
    }
}

/// Takes records away; the recent lines have them already.
pub struct Nowhere;

impl Send for Nowhere {
    async fn attempt(&self, _body: &Bytes) -> Attempt<Answer> {
        Attempt::Done(Answer::Stored)
    }
}
