//! Lines from standard input: `app | sidecar run`, for local use.
//!
//! Waits when the pipeline is full, for the pipe is the buffer. Ends with its input, or when it is told to stop: a
//! terminal never ends by itself.

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::Stop;
use crate::pipeline::intake::Intake;
use crate::pipeline::route::Origin;

/// A line beyond this is taken in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The process' standard input.
///
/// # Errors
/// It is closed.
pub async fn open() -> anyhow::Result<tokio::fs::File> {
    tokio::fs::File::open("/dev/stdin").await.context("failed to open standard input")
}

/// Reads until the input ends.
///
/// # Errors
/// It cannot be read any more.
pub async fn run(input: impl AsyncRead + Unpin, intake: Intake, stop: Stop) -> anyhow::Result<()> {
    let stream = intake.stream(&Origin { source: "stdin".to_owned(), ..Origin::default() });
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        let (used, whole) = tokio::select! {
            buffer = input.fill_buf() => {
                let buffer = buffer?;
                let end = buffer.iter().position(|b| *b == b'\n').map(|at| at + 1);
                let used = end.unwrap_or(buffer.len());
                line.extend_from_slice(&buffer[..used]);
                (used, end.is_some() || used == 0 || line.len() >= LINE_BYTES_MAX)
            }
            () = stop.when_quiet.requested() => (0, true),
        };
        input.consume(used);
        if whole {
            intake.accept(&stream, &line, super::now(), None);
            line.clear();
            // What is still in the buffer belongs to the same write.
            if !input.buffer().contains(&b'\n') {
                intake.commit();
            }
            stream.room().await;
        }
        if used == 0 {
            intake.commit();
            return Ok(());
        }
    }
}
