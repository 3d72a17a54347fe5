//! The Ringlog node: its cores, the faces it shows to clients and the command line.
//!
//! `cli` reads the command line, `config` makes the settings of it, `node` runs the cores on
//! `runtime`, `security` has TLS and passwords, `kafka` and `http` are the faces. Invariant: faces hold no state that must
//! survive, and nothing in `node` knows a protocol.

pub mod cli;
pub mod config;
pub mod http;
pub mod kafka;
pub mod node;
pub mod runtime;
pub mod security;
