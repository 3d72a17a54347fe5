//! The `loadgen` command: arguments to options, reports to text, JSON and an exit status.

pub mod arguments;
pub mod commands;
pub mod json;
