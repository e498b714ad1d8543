//! The app's log files, read as they grow.
//!
//! In: paths and globs. Out: lines, handed to the intake. Promises each complete line once, through
//! rotation by rename and by truncation, and the unfinished last line when the file ends for good.
//! Waits when the pipeline is full: the file is the buffer. Goes on after a restart where it left off, where it
//! has a directory to remember that in.

mod offsets;
mod read;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::gauge::Gauge;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::names::sidecar as names;
use tokio::time::Instant;

use self::offsets::{Offsets, Place};
use self::read::{FileId, Reader, Start};
use self::watch::Watch;
use super::Stop;
use crate::pipeline::batch::Mark;
use crate::pipeline::intake::{Intake, Stream};
use crate::pipeline::route::Origin;

#[derive(Clone, Debug)]
pub struct Config {
    /// Paths and globs.
    pub files: Vec<String>,
    /// Read files that are there at the start from their beginning; otherwise from their end.
    pub from_beginning: bool,
    /// A longer line is cut here.
    pub line_bytes_max: usize,
    /// Where offsets are kept across a restart: a volume of the task. None: they are not.
    pub state_dir: Option<PathBuf>,
}

/// What one turn reads of one file before the others have theirs.
const TURN_BYTES: usize = 256 * 1024;
/// How often files are looked for and read where the kernel tells of changes, and where it does not.
const POLL_WATCHED: Duration = Duration::from_secs(1);
const POLL_UNWATCHED: Duration = Duration::from_millis(250);
/// Between two turns, so that an app that writes line by line costs one turn for many lines.
const PAUSE: Duration = Duration::from_millis(20);
/// A file that is gone from its path is kept open until nothing came for this long.
const ROTATED_QUIET: Duration = Duration::from_secs(3);
/// While stopping: files in which nothing happened for this long have ended.
pub const STOP_QUIET: Duration = Duration::from_secs(1);
const STOP_POLL: Duration = Duration::from_millis(100);

pub struct FileTail {
    files: Files,
    intake: Intake,
    stream: Stream,
    open: Gauge,
    turns: Turns,
}

/// Which turns' lines are still on their way; clones share them.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<TurnState>>);

#[derive(Default)]
struct TurnState {
    begun: u64,
    open: VecDeque<(u64, Mark)>,
}

impl Turns {
    /// A mark for the lines of a new turn.
    fn begin(&self) -> Mark {
        let mut state = self.0.lock().expect("no one panics holding it");
        state.begun += 1;
        let (number, mark) = (state.begun, Mark::default());
        state.open.push_back((number, mark.clone()));
        mark
    }

    fn begun(&self) -> u64 {
        self.0.lock().expect("no one panics holding it").begun
    }

    /// The last turn up to which every line is settled.
    fn settled(&self) -> u64 {
        let mut state = self.0.lock().expect("no one panics holding it");
        while state.open.front().is_some_and(|(_, mark)| Arc::strong_count(mark) == 1) {
            state.open.pop_front();
        }
        state.open.front().map_or(state.begun, |(number, _)| number - 1)
    }
}

/// What is to be written when everything has been delivered at the end.
pub struct LastOffsets {
    offsets: Offsets,
    turns: Turns,
}

impl LastOffsets {
    /// Writes how far everything is settled, if all of it is.
    pub fn flush(&self) {
        self.offsets.flush(self.turns.settled());
    }
}

impl Config {
    /// None where there is nothing to tail.
    pub fn build(&self, intake: Intake, metrics: &Metrics) -> Option<FileTail> {
        if self.files.is_empty() {
            return None;
        }
        let open = Gauge::default();
        metrics.register(|r| r.register(names::LOG_FILES_OPEN, "Log files that are being read", open.clone()));
        let files = Files::new(self);
        let stream = intake.stream(&Origin::default());
        Some(FileTail { files, intake, stream, open, turns: Turns::default() })
    }
}

impl FileTail {
    /// What is to be flushed when everything has been delivered at the end.
    pub fn offsets(&self) -> Option<LastOffsets> {
        Some(LastOffsets { offsets: self.files.offsets.clone()?, turns: self.turns.clone() })
    }

    /// Reads until it is told to stop and the files are quiet, or until it is cut off.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let FileTail { mut files, intake, stream, open, turns } = self;
        let mut watch = Watch::start(&files.config.files);
        let (mut last_line, mut stopping_since) = (Instant::now(), None);
        loop {
            let turn;
            let (begun, settled) = (turns.begun(), turns.settled());
            (files, turn) = on_a_thread(move || {
                files.remember(begun, settled);
                let turn = files.turn();
                (files, turn)
            })
            .await?;
            open.set(files.readers.len() as i64);
            if !turn.lines.is_empty() {
                last_line = Instant::now();
            }
            accept(&intake, &stream, turn.lines, &turns, &stop.now).await;
            if stop.now.is_requested() {
                warn_of_rest(&files);
                return Ok(());
            }
            if turn.more {
                continue;
            }
            if stop.when_quiet.is_requested() {
                // The quiet time counts from the order to stop.
                let since = *stopping_since.get_or_insert_with(Instant::now);
                if since.max(last_line).elapsed() >= STOP_QUIET {
                    break;
                }
                tokio::time::sleep(STOP_POLL).await;
                continue;
            }
            watch.follow(&files.config.files);
            let poll = if watch.works() { POLL_WATCHED } else { POLL_UNWATCHED };
            tokio::select! {
                () = watch.nudge() => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep(poll) => {}
                () = stop.when_quiet.requested() => {}
            }
        }
        let rest = files.readers.values_mut().filter_map(Reader::finish).collect();
        accept(&intake, &stream, rest, &turns, &stop.now).await;
        if let Some(offsets) = files.offsets.clone() {
            offsets.note_last(files.places(), turns.begun());
        }
        Ok(())
    }
}

/// Lines that are handed on between two looks at the room there is.
const LINES_AT_A_TIME: usize = 256;

/// Hands lines on, waiting for room. What finds none when the time is up is taken in all the same, and the books say
/// what became of it.
async fn accept(intake: &Intake, stream: &Stream, lines: Vec<Vec<u8>>, turns: &Turns, stop: &Shutdown) {
    if lines.is_empty() {
        return;
    }
    let (now, mark) = (super::now(), turns.begin());
    for lines in lines.chunks(LINES_AT_A_TIME) {
        if !stream.has_room() {
            tokio::select! {
                biased;
                () = stream.room() => {}
                () = stop.requested() => {}
            }
        }
        lines.iter().for_each(|line| intake.accept(stream, line, now, Some(&mark)));
        // Others want to run too.
        tokio::task::yield_now().await;
    }
    intake.commit();
}

/// What nobody has read is in no book.
fn warn_of_rest(files: &Files) {
    let unread: u64 = files.readers.values().map(Reader::unread).sum();
    tracing::warn!(unread_bytes = unread, "time to stop is up before the log files were quiet");
}

/// File systems may hang (EFS does): never on the thread that answers health checks.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("reading log files panicked")
}

/// The files that are open, by identity: a path may change hands, an inode does not while it is open.
struct Files {
    config: Config,
    readers: HashMap<FileId, Reader>,
    /// The first look is over: what appears from now on is new and is read from its beginning.
    seen_before: bool,
    offsets: Option<Offsets>,
}

#[derive(Default)]
struct Turn {
    lines: Vec<Vec<u8>>,
    /// Some file had more than a turn's worth.
    more: bool,
}

impl Files {
    fn new(config: &Config) -> Self {
        let offsets = config.state_dir.as_deref().map(Offsets::load);
        Files { config: config.clone(), readers: HashMap::new(), seen_before: false, offsets }
    }

    /// Keeps on disk how far everything is settled. Everything that was read before this turn was handed on.
    fn remember(&mut self, begun: u64, settled: u64) {
        let Some(offsets) = self.offsets.clone() else { return };
        offsets.note(|| self.places(), begun);
        offsets.flush(settled);
    }

    fn places(&mut self) -> Vec<Place> {
        let mut places: Vec<Place> =
            self.readers.iter_mut().filter_map(|(id, reader)| reader.place(*id).ok()).collect();
        places.sort_unstable_by_key(|place| place.id);
        places
    }

    fn turn(&mut self) -> Turn {
        self.look();
        let mut turn = Turn::default();
        for reader in self.readers.values_mut() {
            match reader.read(TURN_BYTES, self.config.line_bytes_max, &mut turn.lines) {
                Ok(progress) => turn.more |= progress.more,
                Err(error) => reader.complain(&error),
            }
        }
        self.readers.retain(|_, reader| {
            let ended = !reader.linked && reader.quiet_for() >= ROTATED_QUIET;
            if ended {
                turn.lines.extend(reader.finish());
            }
            !ended
        });
        turn
    }

    /// Opens what is new at the configured paths and notes what is still there.
    fn look(&mut self) {
        self.readers.values_mut().for_each(|reader| reader.linked = false);
        // What an earlier run does not know of came after it.
        let resumed = self.offsets.as_ref().is_some_and(Offsets::is_resumed);
        let unknown = match self.seen_before || self.config.from_beginning || resumed {
            true => Start::Beginning,
            false => Start::End,
        };
        for path in self.config.files.iter().flat_map(|pattern| paths(pattern)) {
            let Some(id) = FileId::of(&path) else { continue };
            match self.readers.get_mut(&id) {
                Some(reader) => reader.linked = true,
                None => match Reader::open(&path, self.start_of(id).unwrap_or(unknown.clone())) {
                    // Between the look and the opening the path may have changed hands.
                    Ok((id, reader)) => {
                        tracing::debug!(path = %path.display(), "reading log file");
                        self.readers.insert(id, reader);
                    }
                    Err(error) => {
                        tracing::debug!(path = %path.display(), error = %error, "log file cannot be opened");
                    }
                },
            }
        }
        self.seen_before = true;
    }

    /// Where an earlier run left off. Only at the first look: later the file would be known by itself.
    fn start_of(&self, id: FileId) -> Option<Start> {
        self.offsets.as_ref().filter(|_| !self.seen_before)?.of(id).map(Start::At)
    }
}

/// Existing regular files. A pattern that is no glob was reported by the configuration already.
fn paths(pattern: &str) -> Vec<PathBuf> {
    glob::glob(pattern).map(|found| found.filter_map(Result::ok).filter(|p| p.is_file()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
