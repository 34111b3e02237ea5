//! What an export takes along.
