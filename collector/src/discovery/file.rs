//! `file_sd_configs`: targets in JSON or YAML files that others write.
//!
//! A file that cannot be read or parsed keeps the targets that it last had; one that is gone takes its targets along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::Shutdown;
use service::config::{ConfigError, load_yaml};

use super::source::Publisher;
use super::{TargetGroup, fixed};
use crate::file_changes::{FileChanges, name_pattern};

const META_FILEPATH: &str = "__meta_filepath";

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Paths ending in .json, .yml or .yaml, relative to the configuration file; `*` may stand in the file's name.
    pub files: Vec<PathBuf>,
    /// How often they are read even if no change was announced.
    #[serde(default = "default_refresh", with = "service::config::duration")]
    pub refresh_interval: Duration,
}

/// Prometheus' default.
fn default_refresh() -> Duration {
    Duration::from_secs(5 * 60)
}

impl Config {
    /// # Errors
    /// A path that file discovery cannot read.
    pub fn check(&self) -> Result<(), String> {
        match self.files.iter().find(|f| !is_readable_name(f)) {
            Some(file) => Err(format!("path name {:?} is not valid for file discovery", file.display().to_string())),
            None if self.files.is_empty() => Err("file discovery needs at least one path in 'files'".to_owned()),
            None => Ok(()),
        }
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        self.files.iter_mut().for_each(|f| *f = base.join(&*f));
    }
}

/// Ends in a known suffix and has wildcards only in its last component.
fn is_readable_name(path: &Path) -> bool {
    let known = path
        .extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| ["json", "yml", "yaml"].contains(&e.to_ascii_lowercase().as_str()));
    let wildcard = path.parent().is_some_and(|dir| dir.to_string_lossy().contains('*'));
    known && !wildcard
}

/// Reads the files, and again whenever they change.
pub(super) struct FileSource {
    config: Config,
    /// What each file last had.
    groups: BTreeMap<PathBuf, Vec<TargetGroup>>,
    changes: FileChanges,
    complaint: Option<String>,
    publisher: Publisher,
}

impl FileSource {
    /// The files are read once before this returns, so that the first list of targets is whole.
    pub(super) fn new(config: Config, publisher: Publisher) -> Self {
        let mut source =
            FileSource { config, groups: BTreeMap::new(), changes: FileChanges::new(), complaint: None, publisher };
        // Watched before they are read, so that no change falls in between.
        source.watch();
        source.refresh();
        source
    }

    pub(super) async fn run(mut self, stop: Shutdown) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = self.changes.changed() => {}
                () = tokio::time::sleep(self.config.refresh_interval) => {}
            }
            self.watch();
            self.refresh();
        }
    }

    fn watch(&mut self) {
        self.changes.watch_files(self.config.files.iter().map(PathBuf::as_path));
    }

    fn refresh(&mut self) {
        let files: Vec<PathBuf> = self.config.files.iter().flat_map(|pattern| matching(pattern)).collect();
        self.groups.retain(|file, _| files.contains(file));
        let mut error = None;
        for file in files {
            match read(&file) {
                Ok(groups) => drop(self.groups.insert(file, groups)),
                // Gone since it was listed: the next event or poll settles it.
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => {
                    error = Some(chain(&cause));
                }
            }
        }
        self.complain(error.as_ref());
        self.publisher.publish(self.groups.values().flatten().cloned().collect(), error);
    }
}

impl FileSource {
    /// Once per fault, however often the file is read.
    fn complain(&mut self, error: Option<&String>) {
        if let Some(error) = error
            && self.complaint.as_ref() != Some(error)
        {
            tracing::error!(error, "target file is not usable, keeping its last targets");
        }
        self.complaint = error.cloned();
    }
}

fn chain(error: &ConfigError) -> String {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}

/// JSON is YAML, so one parser reads both and its errors name line and column.
fn read(file: &Path) -> Result<Vec<TargetGroup>, ConfigError> {
    let lists: Vec<fixed::Config> = load_yaml("target file", file)?;
    let path = file.display().to_string();
    let group = |(i, list): (usize, &fixed::Config)| list.group(&format!("{path}:{i}"), &[(META_FILEPATH, &path)]);
    Ok(lists.iter().enumerate().map(group).collect())
}

/// The files that a path with `*` in its last component stands for, sorted; the path itself where it has none.
pub fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !name.contains('*') {
        return vec![pattern.to_owned()];
    }
    let expression = name_pattern(name);
    let directory = pattern.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_str().is_some_and(|n| expression.is_match(n))).map(|e| e.path()).collect();
    files.sort();
    files
}
