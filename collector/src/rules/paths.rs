//! Which rule files there are: paths and globs in, files and their directories out.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Resolves `rule_files`. A plain path must exist; a pattern (`*`, `?`) may match nothing.
///
/// # Errors
/// Names the path that does not exist or cannot be listed.
pub(super) fn resolve(patterns: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for pattern in patterns {
        if !is_pattern(pattern) {
            if !pattern.is_file() {
                return Err(format!(
                    "rule file `{}` does not exist: check rule_files in the configuration",
                    pattern.display()
                ));
            }
            files.insert(pattern.clone());
            continue;
        }
        files.extend(expand(pattern).into_iter().filter(|path| path.is_file()));
    }
    Ok(files.into_iter().collect())
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?'])
}

/// Component by component, so that a pattern may stand for directories too.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        found = match component {
            Component::Normal(name) if is_pattern(Path::new(name)) => {
                let name = as_regex(&name.to_string_lossy());
                found.iter().flat_map(|directory| matching(directory, &name)).collect()
            }
            other => found.into_iter().map(|path| path.join(other)).collect(),
        };
    }
    found
}

fn as_regex(pattern: &str) -> regex::Regex {
    let escaped = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    regex::Regex::new(&format!("^{escaped}$")).expect("escaped text with wildcards is a regular expression")
}

fn matching(directory: &Path, name: &regex::Regex) -> Vec<PathBuf> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let visible = names.filter(|n| !n.to_string_lossy().starts_with('.') && name.is_match(&n.to_string_lossy()));
    visible.map(|name| directory.join(name)).collect()
}

/// The directories in which the files are, or would be.
pub(super) fn directories(patterns: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for pattern in patterns {
        let parent = pattern.parent().unwrap_or(Path::new(""));
        let parents = if is_pattern(parent) { expand(parent) } else { vec![parent.to_owned()] };
        directories.extend(parents);
    }
    directories
}

/// What tells one state of the files from the next, where the kernel announces no changes.
pub(super) fn state(patterns: &[PathBuf]) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let files = resolve(patterns).unwrap_or_default();
    let described = files.into_iter().map(|file| {
        let metadata = file.metadata().ok();
        let (len, modified) = metadata.map_or((0, None), |m| (m.len(), m.modified().ok()));
        (file, len, modified)
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_files_in_directories_and_a_missing_plain_path_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in ["a/one.rules.yml", "b/two.rules.yml", "b/.hidden.rules.yml", "b/other.txt"] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        let names = |pattern: &str| -> Result<Vec<String>, String> {
            let files = resolve(&[directory.path().join(pattern)])?;
            Ok(files.iter().map(|f| f.strip_prefix(directory.path()).expect("inside").display().to_string()).collect())
        };
        assert_eq!(names("*/*.rules.yml"), Ok(vec!["a/one.rules.yml".to_owned(), "b/two.rules.yml".to_owned()]));
        assert_eq!(names("b/t?o.rules.yml"), Ok(vec!["b/two.rules.yml".to_owned()]));
        assert_eq!(names("c/*.yml"), Ok(Vec::new()));
        assert!(names("a/none.yml").expect_err("missing").contains("a/none.yml` does not exist"));
    }
}
