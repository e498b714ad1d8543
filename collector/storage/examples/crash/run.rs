//! Round after round: a child is killed, and what it left behind is compared.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use storage::Storage;

use crate::batches::{config, random};
use crate::files::newest;
use crate::model::{Model, newest_of, newest_time};
use crate::power::lose_power;

/// What a child said before it was killed.
pub(crate) struct Heard {
    pub(crate) acknowledged: u64,
    pub(crate) synced: u64,
    pub(crate) synced_log: Option<(PathBuf, u64)>,
    /// What was durable when segments were written to last.
    pub(crate) writing: Option<Durable>,
}

/// The newest checkpoint, and the lengths of the segments.
pub(crate) struct Durable {
    pub(crate) checkpoint: Option<PathBuf>,
    pub(crate) segments: HashMap<PathBuf, u64>,
}

pub(crate) fn run(rounds: u64, seed: u64) -> Result<String, String> {
    let place = std::env::temp_dir().join(format!("picket-crash-{}", std::process::id()));
    let directory = place.join("data");
    let (mut model, mut batches, mut lost, mut kills_in_checkpoint) = (Model::default(), 0, 0u64, 0u64);
    let mut with_segments = 0u64;
    let began = Instant::now();
    for round in 0..rounds {
        drop(Storage::open(&directory, config()).map_err(|e| e.to_string())?);
        let heard = kill_child(&directory, seed, batches, random(seed, round ^ 0xc0ffee))?;
        let is_unfinished = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|e| e == "unfinished");
        let listing = fs::read_dir(&directory).map_err(|e| e.to_string())?;
        kills_in_checkpoint += u64::from(listing.flatten().any(|entry| is_unfinished(&entry)));
        with_segments += u64::from(newest(&directory, "segment-").is_some());
        let power_fails = round % 3 == 2;
        let least = match power_fails {
            true => {
                lose_power(&directory, &heard, random(seed, round ^ 0xdead)).map_err(|e| e.to_string())?;
                heard.synced
            }
            false => heard.acknowledged,
        };
        let (storage, recovery) = Storage::open(&directory, config()).map_err(|e| format!("round {round}: {e}"))?;
        if recovery.samples_lost > 0 || recovery.segments_set_aside > 0 {
            return Err(format!("round {round}: {recovery:?}; it is kept in {}", directory.display()));
        }
        // The batch under way may be there too, whole.
        let most = heard.acknowledged + 1;
        let found = (least..=most).rev().find(|count| {
            let mut candidate = Model { batches: model.batches, ..Model::default() };
            (candidate.samples, candidate.histograms) = (model.samples.clone(), model.histograms.clone());
            newest_time(&storage) == newest_of(seed, *count) && {
                candidate.go_on_to(seed, *count);
                candidate.equals(&storage)
            }
        });
        let Some(found) = found else {
            return Err(format!(
                "round {round}: the store equals no state from batch {least} to {most} (recovered: {recovery:?}); it is \
                 kept in {}",
                directory.display()
            ));
        };
        lost += heard.acknowledged.saturating_sub(found);
        model.go_on_to(seed, found);
        batches = found;
    }
    fs::remove_dir_all(&place).map_err(|e| e.to_string())?;
    Ok(format!(
        "{batches} batches in {:.0} s, {rounds} kills, {} of them with a loss of power ({lost} unsynced batches lost by \
         that), {kills_in_checkpoint} in the middle of a checkpoint, {with_segments} with segments: nothing acknowledged \
         lost, nothing invented",
        began.elapsed().as_secs_f64(),
        rounds / 3,
    ))
}

fn kill_child(directory: &Path, seed: u64, from: u64, chance: u64) -> Result<Heard, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.arg("child").arg(directory).arg(seed.to_string()).arg(from.to_string()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let mut heard = Heard { acknowledged: from, synced: from, synced_log: None, writing: None };
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    // Counted from the first batch on, so that a slow start is not all that is killed.
    let first = lines.next();
    let begun = Instant::now();
    let lives = Duration::from_micros(chance % 400_000);
    let mut killed = false;
    for line in first.into_iter().chain(lines) {
        hear(&mut heard, &line);
        if !killed && begun.elapsed() >= lives {
            child.kill().map_err(|e| e.to_string())?;
            killed = true;
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !killed {
        return Err(format!("the child ended by itself: {status}"));
    }
    Ok(heard)
}

fn hear(heard: &mut Heard, line: &str) {
    if let Some(begun) = line.strip_prefix("C ") {
        heard.writing = durable(begun);
        return;
    }
    let mut words = line.splitn(4, ' ');
    let kind = words.next();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    match kind {
        Some("A") => heard.acknowledged = number().unwrap_or(heard.acknowledged),
        Some("S") => {
            if let (Some(synced), Some(len)) = (number(), number())
                && let Some(log) = words.next()
            {
                heard.synced = heard.synced.max(synced);
                heard.synced_log = Some((PathBuf::from(log), len));
            }
        }
        _ => {}
    }
}

/// `CHECKPOINT LENGTH SEGMENT …`.
fn durable(text: &str) -> Option<Durable> {
    let mut words = text.split(' ');
    let checkpoint = Some(words.next()?).filter(|path| *path != "-").map(PathBuf::from);
    let mut segments = HashMap::new();
    while let Some(len) = words.next() {
        segments.insert(PathBuf::from(words.next()?), len.parse().ok()?);
    }
    Some(Durable { checkpoint, segments })
}
