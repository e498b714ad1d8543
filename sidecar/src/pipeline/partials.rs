//! Puts lines together that a container's log driver has cut into pieces of 16 KiB.
//!
//! The driver marks pieces with an id, an order and the last one's mark. The last line of a container that
//! ends without a newline is marked as unfinished for ever: what has been quiet for a while, or whose
//! stream has ended, is handed out as it is. Bounded in bytes; pieces that would go beyond are cut off.

use std::time::Duration;

use telemetry::Timestamp;
use tokio::time::Instant;

/// A line that is longer is of no use to anybody, and no destination takes it.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Of all lines that wait for their end, per stream.
const OPEN_MAX: usize = 16;
/// Pieces follow each other at once; who is silent for so long has ended.
pub const QUIET: Duration = Duration::from_secs(3);

/// What the driver says of a piece.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub id: &'a [u8],
    /// `stdout` or `stderr`: their pieces interleave.
    pub source: &'a [u8],
    pub last: bool,
    pub text: &'a [u8],
    pub time: Timestamp,
}

/// A line that is whole, or as whole as it will be, and the time of its first piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    pub text: Vec<u8>,
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub source: Vec<u8>,
}

/// The open lines of one stream.
#[derive(Default)]
pub struct Partials {
    open: Vec<Open>,
}

struct Open {
    id: Vec<u8>,
    line: Joined,
    touched: Instant,
}

impl Partials {
    /// Adds a piece; lines that are whole by it come back, and the oldest open one where there are too many.
    pub fn add(&mut self, piece: Piece<'_>) -> Vec<Joined> {
        let found = self.open.iter().position(|o| o.id == piece.id && o.line.source == piece.source);
        let index = found.unwrap_or_else(|| {
            self.open.push(Open {
                id: piece.id.to_vec(),
                line: Joined { text: Vec::new(), time: piece.time, source: piece.source.to_vec() },
                touched: Instant::now(),
            });
            self.open.len() - 1
        });
        let open = &mut self.open[index];
        let room = LINE_BYTES_MAX - open.line.text.len();
        open.line.text.extend_from_slice(&piece.text[..piece.text.len().min(room)]);
        open.touched = Instant::now();
        if piece.last {
            return vec![self.open.remove(index).line];
        }
        match self.open.len() > OPEN_MAX {
            true => vec![self.open.remove(0).line],
            false => Vec::new(),
        }
    }

    /// Lines whose end has not come for a while.
    pub fn overdue(&mut self) -> Vec<Joined> {
        let overdue = self.open.extract_if(.., |open| open.touched.elapsed() >= QUIET);
        overdue.map(|open| open.line).collect()
    }

    /// When the next line will be overdue.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.touched + QUIET).min()
    }

    /// The stream has ended: everything that is open.
    pub fn finish(&mut self) -> Vec<Joined> {
        self.open.drain(..).map(|open| open.line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece<'a>(id: &'a str, source: &'a str, text: &'a str, last: bool) -> Piece<'a> {
        Piece { id: id.as_bytes(), source: source.as_bytes(), last, text: text.as_bytes(), time: Timestamp(7) }
    }

    fn texts(lines: Vec<Joined>) -> Vec<String> {
        lines.into_iter().map(|l| String::from_utf8(l.text).expect("utf-8")).collect()
    }

    #[test]
    fn interleaved_pieces_find_their_own_line() {
        let mut partials = Partials::default();
        assert!(partials.add(piece("1", "stdout", "out ", false)).is_empty());
        assert!(partials.add(piece("1", "stderr", "err ", false)).is_empty());
        assert_eq!(texts(partials.add(piece("1", "stdout", "whole", true))), ["out whole"]);
        assert_eq!(texts(partials.add(piece("1", "stderr", "whole", true))), ["err whole"]);
        assert!(partials.finish().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_whose_end_never_comes_is_handed_out_after_a_while_or_at_the_end() {
        let mut partials = Partials::default();
        partials.add(piece("1", "stderr", "panic: no newline", false));
        assert!(partials.overdue().is_empty());
        tokio::time::sleep_until(partials.next_overdue().expect("one is open")).await;
        assert_eq!(texts(partials.overdue()), ["panic: no newline"]);
        partials.add(piece("2", "stdout", "last words", false));
        assert_eq!(texts(partials.finish()), ["last words"]);
        assert_eq!(partials.next_overdue(), None);
    }

    #[test]
    fn memory_is_bounded_in_lines_and_in_bytes() {
        let mut partials = Partials::default();
        for n in 0..OPEN_MAX {
            assert!(partials.add(piece(&n.to_string(), "stdout", "x", false)).is_empty());
        }
        assert_eq!(partials.add(piece("one too many", "stdout", "x", false)).len(), 1);
        let large = "y".repeat(LINE_BYTES_MAX);
        partials.add(piece("large", "stdout", &large, false));
        let [line] = &partials.add(piece("large", "stdout", &large, true))[..] else { panic!("one line") };
        assert_eq!(line.text.len(), LINE_BYTES_MAX);
    }
}
