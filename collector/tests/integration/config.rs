//! testdata/*.good.yml load; testdata/*.bad.yml are refused with the message in their first line's comment.

use std::path::{Path, PathBuf};

use collector::config::Config;

fn files(suffix: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("testdata is there")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(suffix)))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn good_files_load_and_print_as_files_that_load_again() {
    for file in files(".good.yml") {
        let config = Config::load(&file).unwrap_or_else(|e| panic!("{e}"));
        let printed = serde_saphyr::to_string(&config).unwrap();
        let again: Config = serde_saphyr::from_str(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        // Secrets print as stars, so what is printed can only be compared as text.
        assert_eq!(serde_saphyr::to_string(&again).unwrap(), printed, "{}", file.display());
        assert!(!printed.contains("hunter2"), "a secret is printed: {printed}");
    }
}

#[test]
fn bad_files_are_refused_with_one_message_that_says_where_and_what() {
    for file in files(".bad.yml") {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = text.lines().next().unwrap().strip_prefix("# ").expect("the message, as a comment");
        let error = Config::load(&file).expect_err(&file.display().to_string());
        let name = format!("{}/", file.parent().unwrap().display());
        let message = error.to_string().replace(&name, "");
        assert!(message.contains(expected), "{}: expected {expected:?}, got {message:?}", file.display());
        assert!(!message.contains('\n'), "one line: {message:?}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("collector.yml");
    std::fs::write(
        &file,
        "rule_files: [rules/*.yml, /etc/rules.yml]\n\
         scrape_configs: [{job_name: a, file_sd_configs: [{files: [targets.json]}]}]\n",
    )
    .unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.rule_files, [dir.path().join("rules/*.yml"), PathBuf::from("/etc/rules.yml")]);
    assert_eq!(config.scrape_configs[0].file_sd_configs[0].files, [dir.path().join("targets.json")]);
}

#[test]
fn jobs_of_further_files_stand_beside_the_file_s_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::create_dir(dir.path().join("jobs")).unwrap();
    let own = "scrape_config_files: ['jobs/*.yml']\nscrape_configs: [{job_name: a}]\n";
    std::fs::write(&file, own).unwrap();
    let further = dir.path().join("jobs/b.yml");
    std::fs::write(&further, "scrape_configs: [{job_name: b, file_sd_configs: [{files: [x.json]}]}]").unwrap();
    let config = Config::load(&file).unwrap();
    let names: Vec<&str> = config.scrape_configs.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.scrape_configs[1].file_sd_configs[0].files, [dir.path().join("jobs/x.json")]);
    for (text, part) in [
        ("scrape_configs: [{job_name: a}]", "found multiple scrape configs with job name \"a\""),
        ("global: {}", "b.yml:1:1: unknown field `global`"),
    ] {
        std::fs::write(&further, text).unwrap();
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
