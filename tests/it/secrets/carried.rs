//! Migrations that carry secrets.
