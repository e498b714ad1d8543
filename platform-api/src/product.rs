//! Products, their stock, and the holds that orders have on it.

pub mod routes;

pub mod service;

pub mod repo;

pub mod model;

pub use routes::router;
