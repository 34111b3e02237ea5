//! Tokens, roles, domains: who sees what.
