//! Host checks: settings of this machine that cost a log throughput, latency or its promise.
//!
//! One file per concern: [`queue`] the block device, [`filesystem`], [`interrupts`], [`ring`],
//! [`limits`], [`processor`], [`memory`]; [`finding`] what each of them says, [`check`] all of
//! them on the real machine.
//!
//! Invariant: a concern's file decides from texts that it is given (what the kernel shows in
//! `/proc` and `/sys`) and reads nothing itself; what cannot be read is said to be unknown,
//! never guessed.

pub mod check;
pub mod filesystem;
pub mod finding;
pub mod interrupts;
pub mod limits;
pub mod memory;
pub mod processor;
pub mod queue;
pub mod ring;
