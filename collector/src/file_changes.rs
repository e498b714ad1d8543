//! Notices that files changed: the kernel's notifications where they work, the caller's own poll where they do not
//! (network file systems, a directory that does not exist yet).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use regex::Regex;
use tokio::sync::mpsc;

/// Editors and atomic writers make several events of one change.
const SETTLE: Duration = Duration::from_millis(50);

/// None: every name matters.
type Names = Arc<Mutex<Option<Vec<Regex>>>>;

/// Watches directories rather than files: a file that is replaced by a rename is another file.
pub struct FileChanges {
    events: mpsc::Receiver<()>,
    /// Keeps the sender alive where there is no watcher, so that `changed` waits instead of ending.
    _keep: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Names that matter; others share their directories: logs, databases, the parts of an atomic write.
    names: Names,
}

impl FileChanges {
    pub fn new() -> Self {
        // Full means that a change is announced already.
        let (sender, events) = mpsc::channel(1);
        let names = Names::default();
        let (announce, wanted) = (sender.clone(), names.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if matters(&event, wanted.lock().expect("no one panics holding it").as_deref()) {
                let _ = announce.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "file changes are not announced here, files are polled"))
            .ok();
        FileChanges { events, _keep: sender, watcher, watched: BTreeSet::new(), names }
    }

    /// Watches these files and no others; `*` may stand in a file's name.
    pub fn watch_files<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        let files: Vec<&Path> = files.into_iter().collect();
        let names = files.iter().filter_map(|f| f.file_name()?.to_str()).map(name_pattern).collect();
        *self.names.lock().expect("no one panics holding it") = Some(names);
        self.watch(files.iter().filter_map(|f| f.parent()).map(Path::to_path_buf));
    }

    /// Watches these directories and no others, one that cannot be watched is tried again at the next call. Any file
    /// in them counts, unless [`FileChanges::watch_files`] has named some.
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

    /// Returns when a watched file changed and the writer has had a moment to finish.
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

/// A file name in which `*` stands for anything.
pub fn name_pattern(name: &str) -> Regex {
    let pattern = format!("^{}$", regex::escape(name).replace(r"\*", ".*"));
    Regex::new(&pattern).expect("an escaped name with wildcards compiles")
}

/// Reads do not matter, and neither do other files in the same directory. Lost events may have been anything.
fn matters(event: &notify::Result<notify::Event>, names: Option<&[Regex]>) -> bool {
    let Ok(event) = event else { return true };
    let mut changed = event.paths.iter().filter_map(|path| path.file_name()?.to_str());
    let named = |file: &str| names.is_none_or(|names| names.iter().any(|name| name.is_match(file)));
    event.need_rescan() || (!matches!(event.kind, EventKind::Access(_)) && changed.any(named))
}

/// The parent of a bare file name is "", which means here.
fn or_current(directory: PathBuf) -> PathBuf {
    if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory }
}
