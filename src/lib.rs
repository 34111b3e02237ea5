//! Ferry moves the resources of a BI and data-development platform from one environment to another.

pub mod domain;
