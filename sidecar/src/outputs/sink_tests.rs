//! Queue, disk and sending, with a destination of which the test decides what it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use service::backoff::Backoff;
use service::metrics::Metrics;

use super::*;
use crate::outputs::spool::Share;
use crate::pipeline::account::Balance;

/// Takes bodies while it is up.
#[derive(Clone, Default)]
struct Cloud {
    taken: Arc<Mutex<Vec<u8>>>,
    down: Arc<AtomicBool>,
    doubted: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Send for Cloud {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        if self.down.load(Ordering::Relaxed) {
            return Attempt::Later { after: None, why: "down".into() };
        }
        self.taken.lock().expect("not poisoned").extend_from_slice(body);
        Attempt::Done(Answer::Stored)
    }

    fn doubt(&self, body: &[u8]) {
        self.doubted.lock().expect("not poisoned").push(body.to_vec());
    }
}

impl Cloud {
    fn lines(&self) -> Vec<String> {
        let taken = self.taken.lock().expect("not poisoned");
        let mut lines: Vec<String> = String::from_utf8_lossy(&taken).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn sink(memory_bytes: usize, spool: Option<(Spool, Left)>) -> (Sink, Account) {
    let account = Account::of_logs(&Metrics::new(), "test");
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
    let options = Options {
        name: "test".into(),
        output: "test",
        codec: Codec::Lines,
        memory_bytes,
        ceiling: Ceiling::new(48 << 20),
        retry: Retry::new("test".into(), Duration::from_secs(3600), Counter::default()).with_backoff(backoff),
        in_flight_max: 4,
    };
    (Sink::new(options, account.clone(), spool, QueueGauge::default()), account)
}

fn push(sink: &Sink, numbers: std::ops::Range<usize>) {
    for n in numbers {
        // As large as a batch of lines takes, nearly: one record per batch.
        sink.push(format!("{n:060000}").as_bytes(), Timestamp(n as i64), Level::Info, 1, None);
    }
    sink.commit();
}

fn spool(directory: &std::path::Path, max: u64) -> Option<(Spool, Left)> {
    Some(Spool::open(directory, "key", Share::new(max)).expect("opens"))
}

#[tokio::test]
async fn without_a_disk_the_oldest_batch_gives_way_and_is_counted() {
    let (sink, account) = sink(200_000, None);
    push(&sink, 0..10);
    assert!(!sink.has_room());
    sink.close();
    let cloud = Cloud::default();
    sink.run(cloud.clone()).await.expect("ends");
    let kept: Vec<usize> = cloud.lines().iter().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(kept, [6, 7, 8, 9], "three sealed ones fit, and the open one");
    assert_eq!(account.balance(), Balance { received: 10, delivered: 4, dropped: 6, waiting: 0 });
    assert_eq!(account.dropped(DropReason::QueueFull), 6);
}

#[tokio::test]
async fn records_that_are_pushed_one_behind_the_other_are_in_the_books_when_they_are_done() {
    let (sink, account) = sink(200_000, None);
    let mut pushing = sink.pushing();
    for n in 0..10 {
        // Batches are sealed meanwhile, and the oldest of them given up.
        pushing.push(format!("{n:060000}").as_bytes(), Timestamp(n), Level::Info, 2, None);
        assert_eq!(account.balance().received % 2, 0);
        let Balance { received, delivered, dropped, waiting } = account.balance();
        assert_eq!(received, delivered + dropped + waiting);
    }
    pushing.push(&[b'x'; 70_000], Timestamp(10), Level::Info, 1, None);
    drop(pushing);
    assert_eq!(account.balance(), Balance { received: 21, delivered: 0, dropped: 13, waiting: 8 });
}

#[tokio::test]
async fn what_does_not_fit_the_memory_waits_on_disk() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (sink, account) = sink(200_000, spool(directory.path(), 10 << 20));
    push(&sink, 0..50);
    assert!(sink.lock().held <= 200_000 + 49 * 128);
    assert!(sink.has_room());
    sink.close();
    let cloud = Cloud::default();
    sink.clone().run(cloud.clone()).await.expect("ends");
    assert_eq!(cloud.lines().len(), 50);
    assert_eq!(account.balance(), Balance { received: 50, delivered: 50, dropped: 0, waiting: 0 });
    sink.abandon();
    assert!(!directory.path().exists(), "nothing is left");
}

#[tokio::test]
async fn nothing_that_is_on_disk_is_given_up_because_memory_is_short() {
    let directory = tempfile::tempdir().expect("tempdir");
    // Not even one batch fits.
    let (sink, account) = sink(10_000, spool(directory.path(), 10 << 20));
    push(&sink, 0..50);
    assert!(sink.lock().held <= 50 * 128, "no body is in memory");
    sink.close();
    let cloud = Cloud::default();
    sink.run(cloud.clone()).await.expect("ends");
    assert_eq!(cloud.lines().len(), 50);
    assert_eq!(account.balance(), Balance { received: 50, delivered: 50, dropped: 0, waiting: 0 });
}

#[tokio::test]
async fn the_disk_s_share_is_kept_by_giving_up_the_oldest_segment() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (sink, account) = sink(200_000, spool(directory.path(), 6 << 20));
    // Segments of 4 MiB hold 70 of these; the second one would break the bound of 6 MiB.
    push(&sink, 0..150);
    assert!(!sink.has_room());
    sink.close();
    sink.run(Cloud::default()).await.expect("ends");
    assert_eq!(account.dropped(DropReason::SpoolFull), 70);
    assert_eq!(account.balance().delivered, 80);
}

#[tokio::test]
async fn a_new_process_sends_what_the_old_one_left() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (old, account) = sink(1 << 20, spool(directory.path(), 10 << 20));
    push(&old, 0..3);
    // Two batches are sealed, the third is open. The process is killed: nothing is closed.
    assert_eq!(account.balance().waiting, 3);
    std::mem::forget(old);
    let (new, account) = sink(1 << 20, spool(directory.path(), 10 << 20));
    assert_eq!(account.balance(), Balance { received: 3, delivered: 0, dropped: 0, waiting: 3 });
    new.close();
    let cloud = Cloud::default();
    new.clone().run(cloud.clone()).await.expect("ends");
    assert_eq!(cloud.lines().len(), 3);
    assert_eq!(account.balance().delivered, 3);
}

#[tokio::test]
async fn a_batch_that_was_on_its_way_at_the_kill_is_doubted_and_no_other() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (old, _) = sink(1 << 20, spool(directory.path(), 10 << 20));
    push(&old, 0..3);
    let cloud = Cloud::default();
    cloud.down.store(true, Ordering::Relaxed);
    let running = service::task::spawn("sink", old.clone().run(cloud));
    tokio::task::yield_now().await;
    running.abort();
    assert!(running.await.is_err(), "it was killed while it was sending");
    std::mem::forget(old);
    let (new, account) = sink(1 << 20, spool(directory.path(), 10 << 20));
    new.close();
    let cloud = Cloud::default();
    new.run(cloud.clone()).await.expect("ends");
    let doubted: Vec<usize> = cloud.doubted.lock().expect("not poisoned").iter().map(Vec::len).collect();
    assert_eq!(doubted, [60_001], "one request at a time in the beginning");
    assert_eq!((cloud.lines().len(), account.balance().delivered), (3, 3));
}

#[tokio::test]
async fn what_could_not_be_sent_before_the_end_stays_on_disk_and_in_the_books() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (sink, account) = sink(1 << 20, spool(directory.path(), 10 << 20));
    push(&sink, 0..3);
    sink.abandon();
    assert_eq!(account.balance(), Balance { received: 3, delivered: 0, dropped: 0, waiting: 3 });
    let (_, left) = spool(directory.path(), 10 << 20).expect("opens");
    assert_eq!(left.frames.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_comes_back_gets_everything_once() {
    let (sink, account) = sink(8 << 20, None);
    let cloud = Cloud::default();
    cloud.down.store(true, Ordering::Relaxed);
    let running = service::task::spawn("sink", sink.clone().run(cloud.clone()));
    push(&sink, 0..20);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(account.balance().waiting, 20);
    cloud.down.store(false, Ordering::Relaxed);
    sink.close();
    running.await.expect("no panic").expect("ends");
    let lines: Vec<usize> = cloud.lines().iter().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(lines, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_open_batch_is_sent_when_it_has_waited_long_enough() {
    let (sink, account) = sink(1 << 20, None);
    let _running = service::task::spawn("sink", sink.clone().run(Cloud::default()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    sink.push(b"alone", Timestamp(1), Level::Info, 1, None);
    tokio::time::sleep(Limits::LOCAL.wait * 2).await;
    assert_eq!(account.balance().delivered, 1);
}

#[test]
fn a_record_that_no_request_can_carry_is_dropped_and_counted() {
    let (sink, account) = sink(1 << 20, None);
    sink.push(&[b'x'; 65 * 1024], Timestamp(1), Level::Info, 1, None);
    assert_eq!(account.dropped(DropReason::TooLarge), 1);
}
