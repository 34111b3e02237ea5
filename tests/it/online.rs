//! Targets and online migrations.
