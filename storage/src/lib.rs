//! Ringlog's storage: one log per core, made of commit blocks in recycled segment files.
//!
//! The log appends what a core must remember to one sequence of blocks, says when it is on
//! stable storage, finds it again by partition and offset, and rebuilds all of it after a kill
//! or a power cut.
//!
//! Invariant: storage knows no protocol. A record batch is bytes with a base offset, a count
//! and a timestamp; what else is in it is for the rooms above.

pub mod buffer;
pub mod format;
pub mod fsck;
pub mod io;
pub mod log;
