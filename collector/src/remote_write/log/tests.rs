use super::*;

fn record(n: u64) -> Record {
    // Texts that snappy would not shorten either.
    sized(n, 1_000)
}

fn sized(n: u64, len: u64) -> Record {
    let body: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(n + 7) >> 3) as u8).collect();
    Record {
        message: Message::V1,
        counts: Counts::of([n, 2 * n, 0, 1]),
        shard: Shard { bits: 3, number: n as u16 % 8 },
        newest: Timestamp(n as i64),
        body: body.into(),
    }
}

/// Takes all that waits.
fn drain(log: &mut Log) -> Vec<u64> {
    let mut seen = Vec::new();
    while let Ok(Some((place, found))) = log.next() {
        assert_eq!(found, record(found.counts.samples));
        seen.push(found.counts.samples);
        log.done(place);
    }
    seen
}

#[test]
fn records_come_out_in_order_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(directory.path(), 1 << 20).unwrap();
    assert!((1..=5).all(|n| log.append(record(n)).is_empty()));
    for expected in 1..=2 {
        let (place, found) = log.next().unwrap().unwrap();
        assert_eq!(found, record(expected));
        log.done(place);
    }
    log.save();
    assert_eq!(log.pending().samples, 3 + 4 + 5);
    drop(log);
    let mut log = Log::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(log.pending().samples, 3 + 4 + 5);
    assert!(log.append(record(6)).is_empty());
    assert_eq!(drain(&mut log), [3, 4, 5, 6]);
    assert_eq!(log.pending().samples, 0);
    log.save();
    drop(log);
    let mut log = Log::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(drain(&mut log), [0u64; 0]);
    assert!(log.append(record(7)).is_empty());
    assert_eq!(drain(&mut log), [7]);
}

#[test]
fn a_log_cut_anywhere_gives_the_records_that_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(directory.path(), 1 << 20).unwrap();
    (1..=3).for_each(|n| assert!(log.append(sized(n, 30)).is_empty()));
    let path = log.path(log.segments[0].number);
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let record_len = (whole.len() - MAGIC.len()) / 3;
    for cut in 0..=whole.len() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(path.file_name().unwrap()), &whole[..cut]).unwrap();
        let mut log = Log::open(directory.path(), 1 << 20).unwrap();
        assert!(log.append(sized(9, 30)).is_empty());
        let expected = (cut.saturating_sub(MAGIC.len()) / record_len) as u64;
        let expected: Vec<u64> = (1..=expected).chain([9]).collect();
        let mut found = Vec::new();
        while let Ok(Some((place, record))) = log.next() {
            assert_eq!(record, sized(record.counts.samples, 30));
            found.push(record.counts.samples);
            log.done(place);
        }
        assert_eq!(found, expected, "cut at {cut}");
    }
}

#[test]
fn over_the_limit_the_oldest_go_and_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(directory.path(), 40_000).unwrap();
    let mut lost = 0;
    for n in 1..=100 {
        lost += log
            .append(record(n))
            .iter()
            .map(|(reason, counts)| (assert_eq!(*reason, "log_full"), counts.samples).1)
            .sum::<u64>();
        assert!(log.bytes() <= 40_000);
    }
    let left = drain(&mut log);
    assert_eq!(left.last(), Some(&100));
    assert!(left.is_sorted() && left.len() > 20, "{left:?}");
    assert_eq!(lost + left.iter().sum::<u64>(), 5_050, "every sample is sent or counted");
}

#[test]
fn a_record_that_was_dropped_while_it_was_sent_takes_no_other_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(directory.path(), 8_000).unwrap();
    log.append(record(1));
    let (place, first) = log.next().unwrap().unwrap();
    let lost: u64 = (2..=20).flat_map(|n| log.append(record(n))).map(|(_, counts)| counts.samples).sum();
    log.done(place);
    assert_eq!(first.counts.samples + lost + drain(&mut log).iter().sum::<u64>(), 210, "each is sent or counted");
}

#[test]
fn a_disk_that_refuses_is_replaced_by_memory_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(&directory.path().join("log"), 1 << 20).unwrap();
    log.append(record(1));
    // The next file cannot be made: its name is a directory.
    log.writer = None;
    let next = log.segments.back().unwrap().number + 1;
    std::fs::create_dir(log.path(next)).unwrap();
    log.segments.push_back(Segment { number: next, len: 0, counts: Counts::NONE });
    let mut lost = Vec::new();
    for n in 2..=(MEMORY_RECORDS_MAX as u64 + 3) {
        lost.extend(log.append(record(n)));
    }
    assert!(log.is_failing());
    let lost: Vec<_> = lost.iter().map(|(reason, counts)| (*reason, counts.samples)).collect();
    assert_eq!(lost, [("log_failed", 2), ("log_failed", 3)]);
    let (place, found) = log.next().unwrap().unwrap();
    assert_eq!(found.counts.samples, 1);
    log.done(place);
    std::fs::remove_dir(log.path(next)).unwrap();
    assert_eq!(drain(&mut log).len(), MEMORY_RECORDS_MAX);
    log.append(record(500));
    assert!(!log.is_failing());
    assert_eq!(drain(&mut log), [500]);
}

#[test]
fn a_file_that_is_none_of_ours_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("0000000000000001.log"), b"something else entirely").unwrap();
    std::fs::write(directory.path().join("sent"), b"?").unwrap();
    let mut log = Log::open(directory.path(), 1 << 20).unwrap();
    log.append(record(1));
    assert_eq!(drain(&mut log), [1]);
}

#[test]
fn records_that_are_done_in_any_order_are_not_sent_again_once_all_before_them_are() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::open(directory.path(), 40_000).unwrap();
    // Over several files.
    assert!((1..=30).all(|n| log.append(record(n)).is_empty()));
    let mut read: Vec<_> = (1..=25).map(|n| (n, log.next().unwrap().unwrap())).collect();
    assert!(read.iter().all(|(n, (_, found))| found.counts.samples == *n));
    // All but the third, the last first.
    let (_, (third, _)) = read.remove(2);
    read.into_iter().rev().for_each(|(_, (place, _))| log.done(place));
    assert_eq!(log.pending().samples, 3 + (26..=30).sum::<u64>());
    log.save();
    drop(log);
    let mut log = Log::open(directory.path(), 40_000).unwrap();
    let again: Vec<u64> = std::iter::from_fn(|| log.next().unwrap().map(|(_, found)| found.counts.samples)).collect();
    assert_eq!(again, (3..=30).collect::<Vec<_>>(), "what was not noted as sent is sent twice");
    log.done(third);
    log.save();
    drop(log);
    let mut log = Log::open(directory.path(), 40_000).unwrap();
    assert_eq!(log.next().unwrap().unwrap().1.counts.samples, 4);
}
