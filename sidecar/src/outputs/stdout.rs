//! Log records to stdout, one line each; or nowhere, for who only wants the recent lines and the counters.

use std::io::Write;

use crate::pipeline::intake::Record;
use crate::pipeline::queue::Queue;

/// How many records are written at once, at most.
const WRITE_RECORDS_MAX: usize = 1000;

/// Writes until the queue is closed and empty.
pub async fn run(queue: Queue<Record>, mut out: impl Write) -> anyhow::Result<()> {
    while let Some(first) = queue.next().await {
        let more = std::iter::from_fn(|| queue.try_next()).take(WRITE_RECORDS_MAX - 1);
        let records: Vec<Record> = std::iter::once(first).chain(more).collect();
        let text: String = records.iter().flat_map(|record| [&record.line, "\n"]).collect();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = &written {
            tracing::warn!(error = %error, "failed to write log records to stdout");
        }
        for record in records {
            match written {
                Ok(()) => record.ticket.delivered(),
                Err(_) => record.ticket.dropped(crate::pipeline::account::DropReason::Refused),
            }
        }
    }
    Ok(())
}

/// Takes records away; the recent lines have them already.
pub async fn run_nowhere(queue: Queue<Record>) -> anyhow::Result<()> {
    while let Some(record) = queue.next().await {
        record.ticket.delivered();
    }
    Ok(())
}
