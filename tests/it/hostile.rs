//! Packages that are not what they seem.
