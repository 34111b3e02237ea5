//! Wrong requests get a clear problem and leave nothing behind.
