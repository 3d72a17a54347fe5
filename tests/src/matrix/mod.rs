//! Which clients can do what against this node: each client is driven by a program in its own
//! language (`tests/clients/README.md`), each feature by the same commands to each of them, and what
//! came of it is judged by the history checker.
//!
//! ```text
//! run ─► feature by feature: commands ─► driver (client) ─► node
//!                                           └─► history ─► check ─► cell of the table
//! ```

mod admin;
pub mod client;
pub mod driver;
mod groups;
pub mod node_view;
pub mod outcome;
mod records;
pub mod run;
mod security;
pub mod table;
mod trial;

pub use client::Client;
pub use outcome::{Cell, Feature};
pub use run::{Results, run};
