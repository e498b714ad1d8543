//! Reloads of the real program: by SIGHUP, and by `POST /-/reload`.

use super::world::{Process, QUICK, RULES, World, signal};

/// The names of the groups that run.
async fn groups(world: &World, collector: &Process) -> Vec<String> {
    let rules = world.json(&collector.url("/api/v1/rules")).await;
    let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().filter_map(|group| Some(group["name"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_a_good_file_and_a_bad_one_leaves_the_rules_running_and_says_so() {
    let Some(world) = World::new().await else { return };
    // What the program reads is a link whose end lies elsewhere: nothing tells it of a change but the signal.
    let elsewhere = world.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    let (linked, file) = (world.config("c"), elsewhere.join("c.yml"));
    let write = |more: &str| {
        let written = world.configure("next", QUICK, "[]", more);
        std::fs::rename(written, &file).expect("renamed");
    };
    write("");
    std::os::unix::fs::symlink(&file, &linked).expect("linked");
    std::fs::write(world.dir.path().join("more.yml"), RULES.replace("name: now", "name: more")).expect("written");
    let collector = world.launch("c").await;
    assert_eq!(groups(&world, &collector).await, ["now"]);

    let both = std::fs::read_to_string(&file).expect("readable").replace("rule_files: [", "rule_files: ['more.yml', ");
    std::fs::write(&file, &both).expect("written");
    signal("HUP", collector.id());
    world.until("the second file's rules run", async || groups(&world, &collector).await == ["now", "more"]).await;

    let successful = "collector_config_last_reload_successful";
    assert_eq!(world.metric(&collector, successful).await, 1.0);
    std::fs::write(&file, both.replace("rule_files", "rule_flies")).expect("written");
    signal("HUP", collector.id());
    world.until("it says that it failed", async || world.metric(&collector, successful).await == 0.0).await;
    let log = std::fs::read_to_string(linked.with_extension("log")).expect("a log");
    let said = log.lines().find(|line| line.contains("configuration not reloaded")).expect("a line");
    assert!(said.contains("rule_flies"), "{said}");
    let evaluated = "collector_rule_evaluations_total{rule_group=\"now\"}";
    let before = world.metric(&collector, evaluated).await;
    world.until("the rules go on", async || world.metric(&collector, evaluated).await > before).await;
    assert_eq!(groups(&world, &collector).await, ["now", "more"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn post_reload_refuses_a_bad_rule_file_by_name_and_takes_it_when_it_is_mended() {
    let Some(world) = World::new().await else { return };
    let collector = world.collector("c", &[], "").await;
    let file = world.dir.path().join("it.rules.yml");
    let reload = async || {
        let answer = world.client.post(collector.url("/-/reload")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    std::fs::write(&file, RULES.replace("(failing) > 0", "(failing) >")).expect("written");
    let (status, text) = reload().await;
    assert_eq!(status, 500);
    assert!(text.contains("it.rules.yml:6:") && text.contains("could not parse the expression"), "{text}");
    assert_eq!(world.metric(&collector, "collector_config_last_reload_successful").await, 0.0);
    world.says(&[("failing", "order", 1)]);
    world.until("the rules from before go on", async || world.alert(&collector, "Failing").await.is_some()).await;

    std::fs::write(&file, RULES.replace("alert: Failing", "alert: Broken")).expect("written");
    assert_eq!(reload().await, (200, String::new()));
    world.until("the new rule fires", async || world.alert(&collector, "Broken").await.is_some()).await;
    assert_eq!(world.metric(&collector, "collector_config_last_reload_successful").await, 1.0);
}
