//! What a process leaves on disk, whole or cut off, and what the next one makes of it.

use super::*;

fn open(directory: &Path) -> (Spool, Left) {
    Spool::open(directory, "key", Share::new(1 << 20)).expect("opens")
}

fn head(events: u32) -> FrameHead {
    FrameHead { events, units: vec![] }
}

fn bodies(spool: &Spool, left: &Left) -> Vec<(u32, Vec<u8>)> {
    left.frames.iter().map(|f| (f.head.events, spool.read(f.at).expect("is there"))).collect()
}

#[test]
fn undelivered_batches_and_the_open_one_survive_the_process() {
    let parent = tempfile::tempdir().expect("tempdir");
    let directory = parent.path().join("logs");
    let (mut spool, left) = open(&directory);
    assert_eq!(left, Left::default());
    let first = spool.append(&head(1), b"first").expect("written");
    spool.append(&FrameHead { events: 2, units: vec![3, 1] }, b"second").expect("written");
    spool.note(Timestamp(7), Level::Error, 2, b"open");
    spool.commit().expect("written");
    spool.note(Timestamp(8), Level::Info, 1, b"never committed");
    spool.done(first);
    drop(spool);

    let (spool, left) = open(&directory);
    assert_eq!(bodies(&spool, &left), [(2, b"second".to_vec())]);
    assert_eq!(left.frames[0].head.lines(), 4);
    let entry = Entry { at: Timestamp(7), level: Level::Error, units: 2, text: b"open".to_vec() };
    assert_eq!(left.open, std::slice::from_ref(&entry));
    drop(spool);
    let (spool, left) = open(&directory);
    assert_eq!((left.open, left.frames.len()), (vec![entry], 1), "and the one after it");
    assert_eq!(left_in(parent.path()), [("key".to_owned(), directory)]);
    drop(spool);
}

#[test]
fn a_segment_goes_with_its_last_frame_and_the_share_is_given_back() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    let places: Vec<FrameAt> = (0..3).map(|n| spool.append(&head(n), &[0; 100]).expect("written")).collect();
    assert_eq!(spool.share().used(), 3 * 124);
    places.iter().for_each(|at| spool.done(*at));
    assert_eq!(spool.share().used(), 0);
    let one = numbers(directory.path()).expect("readable");
    assert_eq!(one.len(), 1, "the last one is written over");
    let file = File::open(segment_path(directory.path(), one[0])).expect("is there");
    assert!(read_frames(&file, one[0]).expect("readable").0.is_empty(), "and has nothing in it");
    spool.append(&head(9), b"after").expect("written");
    assert!(spool.remove_oldest().is_some());
    assert_eq!(spool.share().used(), 0);
    spool.close();
    assert!(!directory.path().exists());
}

#[test]
fn whatever_a_kill_leaves_of_the_files_is_read_as_far_as_it_is_whole() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    spool.append(&head(1), b"whole").expect("written");
    spool.append(&head(1), b"cut off").expect("written");
    spool.note(Timestamp(1), Level::Info, 1, b"a");
    spool.note(Timestamp(2), Level::Info, 1, b"b");
    spool.commit().expect("written");
    drop(spool);
    let segment = segment_path(directory.path(), numbers(directory.path()).expect("one")[0]);
    let (segment_bytes, journal_bytes) =
        (std::fs::read(&segment).expect("read"), std::fs::read(directory.path().join("open.log")).expect("read"));
    for cut in 1..31 {
        std::fs::write(&segment, &segment_bytes[..segment_bytes.len() - cut]).expect("write");
        let cut = cut.min(journal_bytes.len() - 8);
        std::fs::write(directory.path().join("open.log"), &journal_bytes[..journal_bytes.len() - cut]).expect("write");
        let (spool, left) = open(directory.path());
        assert_eq!(bodies(&spool, &left), [(1, b"whole".to_vec())], "{cut} bytes are gone");
        assert!(left.open.len() < 2);
    }
}

#[test]
fn a_journal_whose_batch_was_sealed_is_not_read_again() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    spool.note(Timestamp(1), Level::Info, 1, b"a");
    spool.commit().expect("written");
    let journal = std::fs::read(directory.path().join("open.log")).expect("read");
    spool.append(&head(1), b"a").expect("written");
    drop(spool);
    // Killed between the two.
    std::fs::write(directory.path().join("open.log"), journal).expect("write");
    let (_, left) = open(directory.path());
    assert_eq!((left.frames.len(), left.open.len()), (1, 0));
}

#[test]
fn what_an_earlier_batch_left_in_the_journal_is_not_read() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    let note = |spool: &mut Spool, texts: &[&str]| {
        texts.iter().for_each(|text| spool.note(Timestamp(1), Level::Info, 1, text.as_bytes()));
        spool.commit().expect("written");
    };
    note(&mut spool, &["first", "again", "third"]);
    let at = spool.append(&head(3), b"sealed").expect("written");
    spool.done(at);
    // As long as the entries of the batch before, so that those behind it are whole.
    note(&mut spool, &["fresh"]);
    drop(spool);
    let (_, left) = open(directory.path());
    assert_eq!(left.open.iter().map(|e| &e.text[..]).collect::<Vec<_>>(), [b"fresh"]);
}

#[test]
fn only_what_was_on_its_way_is_in_doubt_after_a_kill() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    let places: Vec<FrameAt> = (1..5).map(|n| spool.append(&head(n), b"x").expect("written")).collect();
    places[..3].iter().for_each(|at| spool.sending(*at));
    spool.done(places[0]);
    drop(spool);
    let doubts = |left: &Left| left.frames.iter().map(|f| (f.head.events, f.in_doubt)).collect::<Vec<_>>();
    let (spool, left) = open(directory.path());
    assert_eq!(doubts(&left), [(2, true), (3, true), (4, false)]);
    drop(spool);
    let (mut spool, left) = open(directory.path());
    assert_eq!(doubts(&left)[0], (2, true), "a run that was killed before it asked leaves the doubt");
    spool.done(left.frames[0].at);
    drop(spool);
    assert_eq!(doubts(&open(directory.path()).1), [(3, true), (4, false)]);
}

#[test]
fn a_segment_that_is_written_over_has_what_is_new_and_nothing_that_was() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    // Three frames of one length, all delivered, two of them noted in a file of their own on the way.
    let places: Vec<FrameAt> = (1..4).map(|n| spool.append(&head(n), b"before").expect("written")).collect();
    places.iter().for_each(|at| spool.done(*at));
    assert!(!delivered_path(directory.path(), places[0].segment).exists());
    let fresh = spool.append(&head(7), b"fresh!").expect("written");
    assert_eq!(fresh, places[0], "in the same place");
    drop(spool);
    let (mut spool, left) = open(directory.path());
    assert_eq!(bodies(&spool, &left), [(7, b"fresh!".to_vec())]);
    spool.done(fresh);
    spool.close();
    assert!(!directory.path().exists());
}

#[test]
fn a_kill_with_nothing_to_deliver_leaves_nothing_to_read() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut spool, _) = open(directory.path());
    let at = spool.append(&head(1), b"sent").expect("written");
    spool.done(at);
    drop(spool);
    let (spool, left) = open(directory.path());
    assert_eq!(
        (left, spool.share().used(), numbers(directory.path()).expect("readable").len()),
        (Left::default(), 0, 0)
    );
}
