//! Producing: options, a run over its threads, and what comes out of it.
//!
//! Rooms: [`schedule`] when a batch is due, [`partition`] which batch is next, [`connection`]
//! bytes out and answers in, [`worker`] one thread's loop,
//! [`mend`] lost connections and moved leaders, [`run`] the threads together.

pub mod connection;
pub mod mend;
pub mod options;
pub mod partition;
pub mod progress;
pub mod report;
pub mod run;
pub mod schedule;
pub mod worker;
