//! Accounts: registration, login, tokens, one's own profile.

pub mod routes;

pub mod service;

pub mod repo;

pub mod model;

pub use routes::router;
