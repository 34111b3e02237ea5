//! Changed IDs, resolutions, prefixes, owners, drift.
