//! PostgreSQL of its own, by `platform-api dev --only-database`.

use std::time::Instant;

use anyhow::bail;

use super::{START_POLL, START_TIMEOUT, Suite};

impl Suite {
    /// Returns the URL that platform-api printed when the database was ready.
    pub(super) async fn start_database(&mut self) -> anyhow::Result<String> {
        let mut command = self.binary("platform-api")?;
        command.args(["dev", "--only-database", "--port", &self.options.postgres_port.to_string()]);
        command.arg("--data").arg(self.workplace.dir.join("postgres"));
        self.launch("postgres", command)?;
        let (started, log) = (Instant::now(), self.workplace.log("postgres"));
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(url) = text.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")) {
                return Ok(url.trim().to_owned());
            }
            self.check_alive()?;
            if started.elapsed() > START_TIMEOUT {
                bail!("PostgreSQL was not ready within {START_TIMEOUT:?}; its log: {}", log.display());
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Keys for the tokens, and the schema.
    pub(super) async fn prepare_platform(&mut self, database_url: &str) -> anyhow::Result<()> {
        let keys = self.workplace.dir.join("keys");
        if !keys.exists() {
            let mut keygen = self.binary("platform-api")?;
            keygen.arg("keygen").arg("--out").arg(&keys);
            self.finish("keygen", keygen).await?;
        }
        let mut migrate = self.binary("platform-api")?;
        migrate.arg("migrate").env("DATABASE_URL", database_url).envs(super::services::ADMIN);
        self.finish("migrate", migrate).await
    }
}
