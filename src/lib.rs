//! Ferry moves the resources of a BI and data-development platform from one environment to another:
//! **resolve → pack → plan → apply → report**.
//!
//! # Words
//! What is moved:
//! - **environment**: a Ferry server, or several on one database; **domain**: a tenant in it.
//! - **resource**: ID, type, name, directory, owner and a **definition** (JSON) at a **revision**. Each revision is a
//!   **version**; a **tombstone** is what a deleted resource leaves.
//! - **type**: described by a type file, never by code. Its **rules** say where **references** to other resources stand
//!   in a definition, where **children** (parts with IDs of their own, such as fields) and the paths of **attachments**;
//!   its **slots** where secrets and environment-specific values stand.
//! - **body** and **overlay**: a definition taken apart. The body is content alone and is the same wherever it goes; the
//!   overlay (`own` in a package entry) has the slots' values, which stay where they are.
//! - **content hash**: over what a resource is, without its overlay. Same hash, same content, in any environment.
//!
//! What moves it:
//! - **record**: one export, import or migration, with its items, checklist and warnings. A **job** is a piece of
//!   background work for it, a **run** one try of that.
//! - **package**: the zip that carries resources. Its **manifest** is its table of contents; the **index** lists its
//!   **entries**, one for each resource, in **pages** that are named by their hash. A **thin** one leaves out what its
//!   target has already.
//! - **block**: the IDs of the bodies that one run wrote.
//! - **closure**: what an export takes along with its **roots**, and why.
//! - **plan**: for each entry a **method** (create, update, unchanged, skip, map, blocked) and what speaks against it.
//!   A **resolution** is the user's word on one entry. An **item** is what the record shows of an entry.
//! - **ID map**: source → target; a **remapping** is how one resource is changed by it on the way.
//! - **base**: what an earlier import left at the target. What differs from it now has **drifted**.
//! - **checklist**: what is left to do by hand, such as secrets to be filled in.
//!
//! # Rooms
//! - [`domain`]: rules alone; no I/O, no clock, no random.
//! - [`db`], [`store`], [`package`], [`secrets`]: rows, bytes, zip files, keys. Each knows the domain and none of the
//!   others, so each can be read by itself.
//! - [`wire`]: the JSON of the contract, for [`api`], which serves it, and [`remote`], which asks another environment.
//! - [`planning`]: from a parsed package to a plan, for the request that shows it and for the job that executes it;
//!   [`trust`]: whether a package's signer is accepted, for both as well.
//! - [`api`]: requests; [`jobs`]: the work behind them. They never meet but in the database: a row and a queued job, in
//!   one transaction.
//! - [`app`]: what both have at hand; [`config`], [`telemetry`], [`postgres`] (one of its own where no address is
//!   given), [`page`], [`server`] and [`cli`] put it together.
//!
//! # Arrows
//! ```text
//! cli → server → { api, jobs, page } → app
//! api, jobs → planning, trust, remote, wire, db, store, package, secrets → domain → nothing
//! ```
//! A test compares the table in `ARCHITECTURE.md` with the `use` lines; the invariants stand there too.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod jobs;
pub mod package;
pub mod page;
pub mod planning;
pub mod postgres;
pub mod remote;
pub mod secrets;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod wire;
