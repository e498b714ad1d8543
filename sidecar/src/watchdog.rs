//! Ends a process whose event loop is stuck, so that ECS' restart policy starts it anew: a container that
//! merely turns unhealthy is not restarted by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use service::Shutdown;

/// How often the event loop shows that it runs, and how often that is looked at: a few times within the patience, but
/// every look wakes a processor.
const BEAT_MAX: Duration = Duration::from_secs(5);
const BEATS_WITHIN: u32 = 8;
/// `EX_SOFTWARE`: a defect of the program.
const EXIT_STUCK: i32 = 70;

/// Counts up as long as the event loop runs.
#[derive(Clone, Default)]
struct Heart(Arc<AtomicU64>);

/// Starts the thread that looks, and returns the task that beats. Throttling to a quarter of a CPU costs an event
/// loop fractions of a second; nothing healthy stands still for the default of 45 s, which is short of the minute
/// after which ECS' restart policy may act again.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(shutdown: Shutdown, stuck_after: Duration) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    let beat = (stuck_after / BEATS_WITHIN).min(BEAT_MAX);
    let heart = Heart::default();
    let watched = heart.clone();
    let look = move || {
        if ends_or_gets_stuck(&watched, beat, stuck_after) == End::Stuck {
            // The logger may be what hangs: straight to the terminal.
            eprintln!("sidecar: the event loop has been stuck for {stuck_after:?}, exiting to be restarted");
            std::process::exit(EXIT_STUCK);
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).stack_size(64 * 1024).spawn(look).context("no thread")?;
    Ok(async move {
        while !shutdown.is_requested() {
            heart.0.fetch_add(1, Ordering::Relaxed);
            tokio::select! { () = shutdown.requested() => {}, () = tokio::time::sleep(beat) => {} }
        }
        Ok(())
    })
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The task that beats is gone.
    Ended,
    Stuck,
}

fn ends_or_gets_stuck(heart: &Heart, beat: Duration, stuck_after: Duration) -> End {
    let (mut last, mut since) = (0, Duration::ZERO);
    while Arc::strong_count(&heart.0) > 1 {
        std::thread::sleep(beat);
        let now = heart.0.load(Ordering::Relaxed);
        // A suspended machine does not count: what is summed up is time in which this thread ran too.
        since = if now == last { since + beat } else { Duration::ZERO };
        last = now;
        if since >= stuck_after {
            return End::Stuck;
        }
    }
    End::Ended
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_millis(1);

    #[test]
    fn a_heart_that_stands_still_is_stuck_and_one_that_is_gone_is_not() {
        let heart = Heart::default();
        let other = heart.clone();
        assert_eq!(ends_or_gets_stuck(&heart, BEAT, 3 * BEAT), End::Stuck);
        drop(other);
        assert_eq!(ends_or_gets_stuck(&heart, BEAT, 3 * BEAT), End::Ended);
    }
}
