//! Lines of one stream, one behind the other, with what they share taken and counted once.
//!
//! A lock or a count waits until everything that was written before has left the processor, and a line is copied several
//! times on its way: done for each line, that waiting took as long as the copies themselves.

use std::sync::MutexGuard;

use telemetry::Timestamp;

use super::{Additions, Buffers, Inner, Stream, marked_truncated};
use crate::outputs::sink::{Pushing, Sink};
use crate::pipeline::batch::Mark;
use crate::pipeline::choose::Chooser;
use crate::pipeline::parse;
use crate::pipeline::redact::redact;
use crate::recent::Remembering;
use telemetry::log_record::Level;

/// From when it is begun until it is dropped nobody else takes lines in.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    stream: &'a Stream,
    buffers: MutexGuard<'a, Buffers>,
    recent: Remembering<'a>,
    /// Where there is one output alone. Two may be the same sink.
    sink: Option<Pushing<'a>>,
    lines: [u64; Level::ALL.len()],
    redacted: u64,
    truncated: u64,
}

impl<'a> Turn<'a> {
    pub(super) fn begin(inner: &'a Inner, stream: &'a Stream) -> Self {
        let sink = match &stream.0.outputs[..] {
            [(sink, _)] => Some(sink.pushing()),
            _ => None,
        };
        let buffers = inner.buffers.lock().expect("no one panics holding it");
        let recent = inner.recent.remembering();
        Turn { inner, stream, buffers, recent, sink, lines: [0; 5], redacted: 0, truncated: 0 }
    }

    /// A line, or several that were joined.
    pub(super) fn take(&mut self, chooser: &mut Chooser, line: &[u8], now: Timestamp, lines: u32, mark: Option<&Mark>) {
        let inner = self.inner;
        let cut = line.len() > inner.config.line_bytes_max;
        let line = &line[..line.len().min(inner.config.line_bytes_max)];
        for (index, (sink, additions)) in self.stream.0.outputs.iter().enumerate() {
            let truncated;
            let additions: &Additions = match cut {
                true => {
                    truncated = marked_truncated(additions);
                    &truncated
                }
                false => additions,
            };
            let Buffers { scratch, line: out } = &mut *self.buffers;
            let Some(parsed) = parse::parse(line, &inner.author, now, additions, scratch, out) else { return };
            if index == 0 {
                self.lines[parsed.level as usize] += u64::from(lines);
                self.truncated += u64::from(cut);
                let left_out = inner.config.choose.leaves_out(chooser, parsed.level, parsed.trace_id);
                if let Some(reason) = left_out {
                    return inner.account.enter_dropped(u64::from(lines), reason);
                }
            }
            let struck = redact(out, inner.config.redact);
            let text = struck.as_ref().map_or(&out[..], |(text, _)| text);
            if index == 0 {
                self.redacted += struck.as_ref().map_or(0, |(_, count)| *count as u64);
                self.recent.remember(text, parsed.level, parsed.trace_id);
                if parsed.level == Level::Error {
                    inner.count_signature(text);
                }
            }
            push(&mut self.sink, sink, text, &parsed, lines, mark);
        }
    }
}

fn push(
    held: &mut Option<Pushing<'_>>,
    sink: &Sink,
    text: &[u8],
    parsed: &parse::Parsed,
    lines: u32,
    mark: Option<&Mark>,
) {
    match held {
        Some(held) => held.push(text, parsed.timestamp, parsed.level, lines, mark),
        None => sink.push(text, parsed.timestamp, parsed.level, lines, mark),
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        for (counter, lines) in self.stream.0.counters.iter().zip(self.lines) {
            add(counter, lines);
        }
        add(&self.inner.redacted, self.redacted);
        add(&self.inner.truncated, self.truncated);
    }
}

fn add(counter: &prometheus_client::metrics::counter::Counter, count: u64) {
    if count > 0 {
        counter.inc_by(count);
    }
}
