//! Alertmanager, where the machine has one.

use std::path::PathBuf;

use anyhow::Context;
use service::config::{Env, ProcessEnv};

use super::Suite;

pub(super) const ABSENT: &str = "no Alertmanager found (Debian package prometheus-alertmanager): \
    the alert's way from the collector to Alertmanager is not shown";

/// Debian's name first, then upstream's.
pub(super) fn program() -> Option<PathBuf> {
    let path = ProcessEnv.get("PATH")?;
    let names = ["prometheus-alertmanager", "alertmanager"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

impl Suite {
    pub(super) async fn start_alertmanager(&mut self, program: &std::path::Path) -> anyhow::Result<()> {
        // One receiver that keeps everything: the demo reads alerts from Alertmanager's own API.
        let config = self.workplace.dir.join("alertmanager.yml");
        let text =
            "route: {receiver: kept, group_by: [alertname, service], group_wait: 5s}\nreceivers: [{name: kept}]\n";
        std::fs::write(&config, text).with_context(|| format!("failed to write {}", config.display()))?;
        let mut command = std::process::Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", self.workplace.dir.join("alertmanager").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.options.alertmanager_port));
        // No gossip: one instance needs no neighbours.
        command.arg("--cluster.listen-address=");
        self.launch("alertmanager", command)?;
        let url = format!("http://127.0.0.1:{}", self.options.alertmanager_port);
        self.wait_for(&format!("{url}/-/ready")).await?;
        self.alertmanager = Some(url);
        Ok(())
    }
}
