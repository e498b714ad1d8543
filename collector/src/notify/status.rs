//! What became of each alert, and how each Alertmanager is doing: for the API and the UI.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use serde::Serialize;
use telemetry::{Labels, Timestamp};

use crate::rules::alerting::Fingerprint;

/// Clones share it.
#[derive(Clone, Default)]
pub struct Status(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    deliveries: HashMap<Fingerprint, Delivery>,
    alertmanagers: BTreeMap<String, AlertmanagerStatus>,
}

/// One alert on its way.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Delivery {
    /// Annotations that were found when it fired; empty while they are looked up.
    pub evidence: Labels,
    /// The last attempt for each Alertmanager, by its address.
    pub receipts: BTreeMap<String, Receipt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    pub at: Timestamp,
    /// Why it was not taken; None when it was.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AlertmanagerStatus {
    pub last_success: Option<Timestamp>,
    pub last_attempt: Option<Timestamp>,
    /// Of the last attempt.
    pub last_error: Option<String>,
    /// Alerts that wait.
    pub queue_len: usize,
}

impl Status {
    pub fn delivery(&self, fingerprint: Fingerprint) -> Option<Delivery> {
        self.0.read().expect("no one panics holding it").deliveries.get(&fingerprint).cloned()
    }

    /// Annotations of an alert with its evidence among them, as Alertmanagers get them.
    pub fn annotated(&self, fingerprint: Fingerprint, annotations: &Labels) -> Labels {
        let inner = self.0.read().expect("no one panics holding it");
        let Some(delivery) = inner.deliveries.get(&fingerprint) else { return annotations.clone() };
        let mut annotated = annotations.to_builder();
        for (name, value) in delivery.evidence.iter() {
            annotated.set(name, value);
        }
        annotated.build()
    }

    /// By address.
    pub fn alertmanagers(&self) -> BTreeMap<String, AlertmanagerStatus> {
        self.0.read().expect("no one panics holding it").alertmanagers.clone()
    }

    pub(super) fn has_evidence(&self, fingerprint: Fingerprint, evidence: Labels) {
        let mut inner = self.0.write().expect("no one panics holding it");
        inner.deliveries.entry(fingerprint).or_default().evidence = evidence;
    }

    pub(super) fn forget(&self, fingerprint: Fingerprint) {
        self.0.write().expect("no one panics holding it").deliveries.remove(&fingerprint);
    }

    pub(super) fn set_alertmanagers(&self, urls: impl IntoIterator<Item = String>) {
        let mut inner = self.0.write().expect("no one panics holding it");
        let mut old = std::mem::take(&mut inner.alertmanagers);
        inner.alertmanagers = urls.into_iter().map(|url| (url.clone(), old.remove(&url).unwrap_or_default())).collect();
    }

    pub(super) fn attempted(
        &self,
        url: &str,
        alerts: impl IntoIterator<Item = Fingerprint>,
        at: Timestamp,
        error: Option<&str>,
        queue_len: usize,
    ) {
        let mut inner = self.0.write().expect("no one panics holding it");
        let receipt = Receipt { at, error: error.map(str::to_owned) };
        for fingerprint in alerts {
            inner.deliveries.entry(fingerprint).or_default().receipts.insert(url.to_owned(), receipt.clone());
        }
        // One that a reload has just removed is not put back by its last request.
        let Some(status) = inner.alertmanagers.get_mut(url) else { return };
        status.last_attempt = Some(at);
        status.last_error = receipt.error;
        status.queue_len = queue_len;
        if status.last_error.is_none() {
            status.last_success = Some(at);
        }
    }
}
