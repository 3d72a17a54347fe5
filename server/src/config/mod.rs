//! What can be set on a node, where a value comes from, and what is wrong with it.
//!
//! `options` is the one table of everything that can be set; `layers` finds each value (flag,
//! environment, file, default, in this order) and remembers where; `settings` is what comes out,
//! checked, `access` the part of it that says who gets in; `address` turns host and port into a
//! socket address.
//!
//! Invariant: a setting exists once, in the table: flags, environment, file, help and
//! `--print-config` are made of it.

pub mod access;
pub mod address;
pub mod layers;
pub mod options;
pub mod settings;

pub use access::{Access, SaslMechanism};
pub use layers::{ConfigError, Layers, Origin};
pub use settings::{LogFormat, ReplicationPolicy, Settings};
