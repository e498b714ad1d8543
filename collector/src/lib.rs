//! The central service, as a list of its stages in the order in which data meets them; `app` joins them.

pub mod clock;

pub mod config;
pub mod phase;

pub mod file_changes;

pub mod tls;

pub mod http_client;

pub mod reload;

pub mod discovery;

pub mod scrape;

pub mod expected;

pub mod ingest;

pub mod write;

pub mod remote_write;

pub mod query;

pub mod rules;

pub mod notify;

pub mod state;

pub mod aws;

pub mod reconcile;

pub mod publish;

pub mod scaling;

pub mod api;

pub mod ui;

pub mod app;

pub mod ask;
