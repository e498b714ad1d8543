//! Notices that files changed: the kernel's notifications where they work, the caller's own poll where they do not
//! (network file systems, a directory that does not exist yet).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors and atomic writers make several events of one change.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches directories rather than files: a file that is replaced by a rename is another file.
pub struct FileChanges {
    events: mpsc::Receiver<()>,
    /// Keeps the sender alive where there is no watcher, so that `changed` waits instead of ending.
    _keep: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl FileChanges {
    pub fn new() -> Self {
        // Full means that a change is announced already.
        let (sender, events) = mpsc::channel(1);
        let announce = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let read_only = event.is_ok_and(|e| matches!(e.kind, EventKind::Access(_)));
            if !read_only {
                let _ = announce.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "file changes are not announced here, files are polled"))
            .ok();
        FileChanges { events, _keep: sender, watcher, watched: BTreeSet::new() }
    }

    /// Watches these directories and no others; one that cannot be watched is tried again at the next call.
    pub fn watch(&mut self, directories: impl IntoIterator<Item = PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = directories.into_iter().map(or_current).collect();
        for gone in self.watched.difference(&wanted) {
            // Fails when the directory is gone, which is what is wanted.
            let _ = watcher.unwatch(gone);
        }
        self.watched.retain(|d| wanted.contains(d));
        for directory in wanted {
            if self.watched.contains(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(directory)),
                Err(error) => tracing::debug!(%error, directory = %directory.display(), "directory is polled"),
            }
        }
    }

    /// Returns when something in a watched directory changed and the writer has had a moment to finish.
    pub async fn changed(&mut self) {
        self.events.recv().await;
        tokio::time::sleep(SETTLE).await;
        while self.events.try_recv().is_ok() {}
    }
}

impl Default for FileChanges {
    fn default() -> Self {
        FileChanges::new()
    }
}

/// The parent of a bare file name is "", which means here.
fn or_current(directory: PathBuf) -> PathBuf {
    if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory }
}
