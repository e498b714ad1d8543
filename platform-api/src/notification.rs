//! What users are told inside the application about their accounts and orders.

pub mod routes;

pub mod service;

pub mod repo;

pub mod model;

pub use routes::router;
