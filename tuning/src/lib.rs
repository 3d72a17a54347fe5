//! What the device under a log's directory can do: the probe that measures it, the profile that
//! keeps what it found, and the block device's own counters. And what the host around it should
//! be like: [`host`]. Recipes for profiling are in `PROFILING.md` beside this crate.
//!
//! Invariant: everything is measured through the storage engine's own seam, so that a figure here
//! is one that the log can reach.

pub mod block_device;
pub mod device;
pub mod host;
pub mod probe;
pub mod profile;
