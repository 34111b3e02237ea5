//! Who may come in, and what they may do.

pub mod grants;
pub mod passwords;
pub mod roles;
pub mod session;
pub mod sessions;
pub mod users;
