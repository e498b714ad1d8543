//! Carrying the plan out: reads, writes, reads back.

use std::collections::BTreeMap;

use anyhow::Context;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::operation::put_dashboard::PutDashboardError;
use aws_sdk_cloudwatch::types::DashboardValidationMessage;
use dashboards::cloudwatch::{ServiceDashboard, canonical, service_dashboard};
use sha2::{Digest, Sha256};
use telemetry::Timestamp;

use super::plan::{Action, Step, Wanted, plan};
use super::{Config, DashboardStatus, Publisher, Status, SyncState, Write};
use crate::aws::explain;
use crate::state::Published;

const KIND: &str = "dashboard";

impl Publisher {
    /// Brings CloudWatch to what the configuration wants.
    ///
    /// # Errors
    /// CloudWatch could not be read at all; what fails for one dashboard stands in its status.
    pub(super) async fn sync(&mut self, config: &Config, now: Timestamp) -> anyhow::Result<Status> {
        let region = self.aws.region(config.region.as_deref()).await;
        let region = region.context("no AWS region: set cloudwatch.region or AWS_REGION")?;
        let client = self.aws.cloudwatch(config.region.as_deref()).await;
        let wanted = wanted(config, &region);
        let written = self.written().await;
        let actual = read_actual(&client, &wanted, &written).await?;
        let bodies: BTreeMap<String, String> = written.iter().map(|(n, p)| (n.clone(), p.body.clone())).collect();

        let mut status = Status {
            enabled: true,
            environment: config.environment.clone(),
            region: region.clone(),
            checked_at: Some(now),
            dashboards: Vec::new(),
        };
        for step in plan(&wanted, &actual, &bodies) {
            let published_at = written.get(&step.name).map(|p| p.published_at);
            match wanted.iter().find(|w| w.name == step.name) {
                Some(wanted) => {
                    status.dashboards.push(self.keep(&client, wanted, &step, published_at, &region, now).await);
                }
                None => self.let_go(&client, &step).await,
            }
        }
        Ok(status)
    }

    /// What we wrote earlier. Without this memory everything is compared two-way, which is still right.
    async fn written(&self) -> BTreeMap<String, Published> {
        match self.state.published(KIND).await {
            Ok(all) => all.into_iter().map(|p| (p.name.clone(), p)).collect(),
            Err(error) => {
                tracing::warn!(error = %error, "publishing without memory of what was written");
                BTreeMap::new()
            }
        }
    }

    async fn keep(
        &mut self,
        client: &Client,
        wanted: &Wanted,
        step: &Step,
        published_at: Option<Timestamp>,
        region: &str,
        now: Timestamp,
    ) -> DashboardStatus {
        let drifted = step.action == Action::Restore;
        if drifted {
            tracing::warn!(dashboard = wanted.name, "dashboard was changed by somebody else, putting it back");
            self.metrics.drifts.inc();
            *self.drifts.entry(wanted.name.clone()).or_default() += 1;
        }
        let mut status = DashboardStatus {
            name: wanted.name.clone(),
            service: wanted.service.clone(),
            state: SyncState::InSync,
            published_at,
            drifts: self.drifts.get(&wanted.name).copied().unwrap_or_default(),
            messages: Vec::new(),
            url: format!(
                "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#dashboards/dashboard/{}",
                wanted.name
            ),
        };
        if step.action == Action::Keep {
            return status;
        }
        let result = write(client, wanted).await;
        self.count("put", result.is_ok());
        match result {
            Ok(remarks) => {
                tracing::info!(dashboard = wanted.name, "dashboard published");
                status.messages = remarks;
                status.published_at = Some(now);
                self.remember(wanted, now).await;
            }
            Err(messages) => {
                status.state = SyncState::Failed;
                status.messages = messages;
            }
        }
        status
    }

    async fn remember(&self, wanted: &Wanted, now: Timestamp) {
        let published = Published {
            kind: KIND.to_owned(),
            name: wanted.name.clone(),
            hash: hex::encode(Sha256::digest(&wanted.body)),
            body: wanted.body.clone(),
            published_at: now,
        };
        if let Err(error) = self.state.save_published(&published).await {
            tracing::warn!(dashboard = wanted.name, error = %error, "a published dashboard is not remembered");
        }
    }

    /// Deletes or forgets a dashboard that is no longer wanted.
    async fn let_go(&self, client: &Client, step: &Step) {
        if step.action == Action::Delete {
            let result = client.delete_dashboards().dashboard_names(&step.name).send().await;
            self.count("delete", result.is_ok());
            if let Err(error) = result {
                tracing::warn!(dashboard = step.name, error = explain(&error), "failed to delete a dashboard");
                return;
            }
            tracing::info!(dashboard = step.name, "dashboard deleted, it is no longer wanted");
        }
        if let Err(error) = self.state.forget_published(KIND, &step.name).await {
            tracing::warn!(dashboard = step.name, error = %error, "a dashboard that is gone is still remembered");
        }
    }

    fn count(&self, action: &'static str, ok: bool) {
        self.metrics.writes.get_or_create(&Write { action, result: if ok { "ok" } else { "error" } }).inc();
    }
}

fn wanted(config: &Config, region: &str) -> Vec<Wanted> {
    let describe = |service: &String| {
        let dashboard = ServiceDashboard {
            environment: config.environment.clone(),
            service: service.clone(),
            cluster: config.cluster.clone(),
            region: region.to_owned(),
        };
        Wanted { name: dashboard.name(), service: service.clone(), body: service_dashboard(&dashboard) }
    };
    config.services.iter().map(describe).collect()
}

/// The canonical bodies of those dashboards that are wanted or were written by us and exist.
async fn read_actual(
    client: &Client,
    wanted: &[Wanted],
    written: &BTreeMap<String, Published>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut actual = BTreeMap::new();
    let mut pages = client.list_dashboards().dashboard_name_prefix("picket-").into_paginator().items().send();
    while let Some(entry) = pages.next().await {
        let entry = entry.map_err(|e| anyhow::anyhow!("failed to list dashboards: {}", explain(&e)))?;
        let Some(name) = entry.dashboard_name else { continue };
        if written.contains_key(&name) || wanted.iter().any(|w| w.name == name) {
            actual.insert(name.clone(), read(client, &name).await?);
        }
    }
    Ok(actual)
}

async fn read(client: &Client, name: &str) -> anyhow::Result<String> {
    let got = client.get_dashboard().dashboard_name(name).send().await;
    let got = got.map_err(|e| anyhow::anyhow!("failed to read dashboard `{name}`: {}", explain(&e)))?;
    let body = got.dashboard_body.unwrap_or_default();
    // A body that is no JSON differs from every wanted one, as it should.
    Ok(canonical(&body).unwrap_or(body))
}

/// Writes and reads back. Ok holds CloudWatch's remarks, Err what it found wrong.
async fn write(client: &Client, wanted: &Wanted) -> Result<Vec<String>, Vec<String>> {
    let put = client.put_dashboard().dashboard_name(&wanted.name).dashboard_body(&wanted.body).send().await;
    let remarks = match put {
        Ok(put) => messages(put.dashboard_validation_messages()),
        Err(error) => {
            let first = explain(&error);
            let details = match error.into_service_error() {
                PutDashboardError::DashboardInvalidInputError(e) => messages(e.dashboard_validation_messages()),
                _ => Vec::new(),
            };
            return Err(std::iter::once(first).chain(details).collect());
        }
    };
    match read(client, &wanted.name).await {
        Ok(body) if body == wanted.body => Ok(remarks),
        Ok(_) => Err(vec!["CloudWatch holds another body than the one just written".to_owned()]),
        Err(error) => Err(vec![format!("{error:#}")]),
    }
}

fn messages(all: &[DashboardValidationMessage]) -> Vec<String> {
    let line = |m: &DashboardValidationMessage| {
        format!("{}: {}", m.data_path().unwrap_or_default(), m.message().unwrap_or_default())
    };
    all.iter().map(line).collect()
}
