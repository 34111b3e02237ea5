//! Resource types as data.
