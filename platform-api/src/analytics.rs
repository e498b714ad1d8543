//! Roll-ups of the platform's events, and the reports over them.

pub mod routes;

pub mod service;

pub mod repo;

pub mod model;

pub use routes::router;
