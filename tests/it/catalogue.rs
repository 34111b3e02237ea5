//! Writing, reading, listing, deleting resources.
