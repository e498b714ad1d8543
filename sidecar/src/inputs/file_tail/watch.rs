//! Hears from the kernel that something changed in the directories of the log files.
//!
//! A nudge says "look", nothing more: it may be late or missing (NFS), so the files are polled as well.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    nudges: mpsc::Receiver<()>,
}

impl Watch {
    pub(super) fn start(patterns: &[String]) -> Watch {
        // One nudge stands for all that came since the last look.
        let (send, nudges) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is an access too.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // Full: a nudge is waiting already.
                let _ = send.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(error = %error, "changes of log files are polled for: they cannot be watched");
        });
        let mut watch = Watch { watcher: watcher.ok(), watched: HashSet::new(), nudges };
        watch.follow(patterns);
        watch
    }

    /// Watches the directories of the patterns that exist by now.
    pub(super) fn follow(&mut self, patterns: &[String]) {
        let Some(watcher) = &mut self.watcher else { return };
        for pattern in patterns {
            let (directory, mode) = directory_of(pattern);
            if !self.watched.contains(&directory) && watcher.watch(&directory, mode).is_ok() {
                self.watched.insert(directory);
            }
        }
        // A directory that was removed and made again is another one.
        self.watched.retain(|directory| directory.is_dir());
    }

    pub(super) fn works(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Returns when something changed; never where nothing can be watched.
    pub(super) async fn nudge(&mut self) {
        if self.nudges.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The directory in which a pattern's files lie: watched deeply where the pattern has a star in a directory.
fn directory_of(pattern: &str) -> (PathBuf, RecursiveMode) {
    let is_glob = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    let parent = Path::new(pattern).parent().unwrap_or(Path::new(""));
    let mut directory = parent;
    while is_glob(directory) {
        directory = directory.parent().unwrap_or(Path::new(""));
    }
    let mode = if directory == parent { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    (directory.to_owned(), mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_pattern_is_the_part_without_stars() {
        for (pattern, directory, mode) in [
            ("/var/log/app.log", "/var/log", RecursiveMode::NonRecursive),
            ("/var/log/*.log", "/var/log", RecursiveMode::NonRecursive),
            ("/var/log/*/app.log", "/var/log", RecursiveMode::Recursive),
            ("app.log", ".", RecursiveMode::NonRecursive),
        ] {
            assert_eq!(directory_of(pattern), (PathBuf::from(directory), mode), "{pattern}");
        }
    }
}
