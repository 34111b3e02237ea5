//! What holds for every catalogue.
