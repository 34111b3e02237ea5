//! Ferry moves the resources of a BI and data-development platform from one environment to another.

pub mod app;
pub mod config;
pub mod db;
pub mod domain;
pub mod package;
pub mod planning;
pub mod postgres;
pub mod secrets;
pub mod store;
pub mod wire;
