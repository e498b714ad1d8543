//! Orders: created on reserved stock, paid through a provider, shipped.

pub mod routes;

pub mod service;

pub mod state;

pub mod payment;

pub mod idempotency;

pub mod repo;

pub mod model;

pub use routes::router;
