//! The files of a turn, without the task around them: what is read, and when.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::*;

fn files(directory: &Path, pattern: &str, from_beginning: bool) -> Files {
    let pattern = directory.join(pattern).to_string_lossy().into_owned();
    Files::new(&Config { files: vec![pattern], from_beginning, line_bytes_max: 20, state_dir: None })
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("open");
    file.write_all(text.as_bytes()).expect("write");
}

fn lines(files: &mut Files) -> Vec<String> {
    files.turn().lines.into_iter().map(|line| String::from_utf8(line).expect("utf-8")).collect()
}

#[test]
fn reading_starts_at_the_end_and_an_unfinished_line_waits_for_its_end() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    append(&path, "old\nhalf of an old ");
    let mut files = files(directory.path(), "app.log", false);
    assert!(lines(&mut files).is_empty());
    append(&path, "line\nnew\npar");
    assert_eq!(lines(&mut files), ["new"]);
    append(&path, "tial\n");
    assert_eq!(lines(&mut files), ["partial"]);
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning() {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut files = files(directory.path(), "*.log", false);
    assert!(lines(&mut files).is_empty());
    append(&directory.path().join("late.log"), "first\n");
    assert_eq!(lines(&mut files), ["first"]);
}

#[test]
fn rotation_by_rename_loses_nothing_and_repeats_nothing() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut files = files(directory.path(), "app.log", true);
    append(&path, "1\n2\n");
    assert_eq!(lines(&mut files), ["1", "2"]);
    std::fs::rename(&path, directory.path().join("app.log.1")).expect("rename");
    // The app still writes to the old file for a while.
    append(&directory.path().join("app.log.1"), "3\n");
    append(&path, "4\n");
    let mut after = lines(&mut files);
    after.sort();
    assert_eq!(after, ["3", "4"]);
    assert_eq!(files.readers.len(), 2);
    append(&path, "5\n");
    assert_eq!(lines(&mut files), ["5"]);
}

#[test]
fn a_rotated_name_that_matches_the_pattern_too_is_the_same_file() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut files = files(directory.path(), "app.log*", true);
    append(&path, "1\n");
    assert_eq!(lines(&mut files), ["1"]);
    std::fs::rename(&path, directory.path().join("app.log.1")).expect("rename");
    append(&path, "2\n");
    assert_eq!(lines(&mut files), ["2"]);
}

#[test]
fn truncation_starts_again_and_hands_out_the_unfinished_line() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut files = files(directory.path(), "app.log", true);
    append(&path, "1\nunfinished");
    assert_eq!(lines(&mut files), ["1"]);
    File::create(&path).expect("truncate");
    append(&path, "2\n");
    assert_eq!(lines(&mut files), ["unfinished", "2"]);
}

#[test]
fn a_line_that_is_too_long_is_cut() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut files = files(directory.path(), "app.log", true);
    append(&path, "12345678901234567890\n123456789012345678901\nx\n");
    let turn = files.turn();
    let lines: Vec<&[u8]> = turn.lines.iter().map(Vec::as_slice).collect();
    assert_eq!(lines, [b"12345678901234567890".as_slice(), b"12345678901234567890", b"x"]);
}

#[test]
fn a_large_file_is_read_in_turns() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut files = files(directory.path(), "app.log", true);
    append(&path, &"0123456789abcde\n".repeat(TURN_BYTES / 16 + 10));
    let first = files.turn();
    assert!(first.more);
    let second = files.turn();
    assert_eq!(first.lines.len() + second.lines.len(), TURN_BYTES / 16 + 10);
    assert!(!second.more);
}

/// As [`files`], remembering in the same directory; everything is settled at once.
fn remembering(directory: &Path) -> Files {
    let config = Config { state_dir: Some(directory.to_owned()), ..files(directory, "*.log", false).config };
    Files::new(&config)
}

fn leave(mut files: Files) {
    files.remember(0, 0);
}

#[test]
fn a_restart_goes_on_where_the_last_run_left_off() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    append(&path, "before\n");
    let mut first = remembering(directory.path());
    assert!(lines(&mut first).is_empty(), "the very first run starts at the end");
    append(&path, "1\nhalf");
    assert_eq!(lines(&mut first), ["1"]);
    leave(first);
    append(&path, " a line\n2\n");
    append(&directory.path().join("new.log"), "made meanwhile\n");
    let mut second = remembering(directory.path());
    let mut found = lines(&mut second);
    found.sort();
    assert_eq!(found, ["2", "half a line", "made meanwhile"]);
    leave(second);
    assert!(lines(&mut remembering(directory.path())).is_empty());
}

#[test]
fn another_file_in_the_place_of_a_known_one_is_read_from_its_beginning() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut first = remembering(directory.path());
    assert!(lines(&mut first).is_empty());
    append(&path, "old 1\nold 2\n");
    assert_eq!(lines(&mut first), ["old 1", "old 2"]);
    leave(first);
    // The same inode with other content, and longer than before.
    std::fs::write(&path, "new 1\nnew 2\nnew 3\n").expect("write");
    assert_eq!(lines(&mut remembering(directory.path())), ["new 1", "new 2", "new 3"]);
}
