//! The seam between the log and the world: disk, clock, entropy.
//!
//! The log submits operations and takes completions; it never blocks on one while serving.
//! Two implementations: [`uring`] on a real disk, [`sim`] on a simulated one with faults.
//!
//! Invariant: a buffer handed to an operation belongs to the operation until its completion.
//! Completions may arrive in any order; the log alone decides what an order means.

use std::time::Duration;

use crate::buffer::{Buf, BufMut, Pool};

pub mod medium;
pub mod random;
pub mod record;
pub mod sim;
pub mod uring;

/// A file opened through the seam. Valid until its [`Op::Close`] completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// What the submitter gets back with the completion, chosen by the submitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// An operation on the log's directory. Offsets, lengths and buffer addresses of reads and
/// writes are multiples of [`Geometry::block_bytes`].
#[derive(Debug)]
pub enum Op {
    /// Opens a file by its name in the log's directory. Completes with [`Completion::file`].
    Open {
        /// A plain name, without separators.
        name: String,
        /// Make it: fails with `AlreadyExists` when it is there. The new name is durable only
        /// after a [`Op::SyncDir`] that was submitted after this completed.
        create: bool,
    },
    /// Closes a file.
    Close {
        /// Which.
        file: FileId,
    },
    /// Reserves space for the file up to `bytes`, and makes that its length.
    Allocate {
        /// Which.
        file: FileId,
        /// New length in bytes.
        bytes: u64,
    },
    /// Cuts the file to `bytes` (`ftruncate`). Not awaited for durability: after a power cut
    /// the old length may be back.
    Truncate {
        /// Which.
        file: FileId,
        /// New length in bytes.
        bytes: u64,
    },
    /// Writes the buffers one after the other from `offset`.
    Write {
        /// Where to.
        file: FileId,
        /// Byte offset in the file.
        offset: u64,
        /// Extents, each a whole number of device blocks.
        bufs: Vec<Buf>,
        /// On completion the data is on stable storage (`RWF_DSYNC`).
        durable: bool,
    },
    /// Fills the buffer from `offset`. Completes with the buffer; a result shorter than the
    /// buffer means end of file.
    Read {
        /// Where from.
        file: FileId,
        /// Byte offset in the file.
        offset: u64,
        /// What to fill, whole.
        buf: BufMut,
    },
    /// Makes every write to the file that completed before this was submitted durable
    /// (`fdatasync`).
    Flush {
        /// Which.
        file: FileId,
    },
    /// Makes creations and removals that completed before this was submitted durable.
    SyncDir,
    /// Removes a file by name. Durable after a later [`Op::SyncDir`].
    Remove {
        /// Name in the log's directory.
        name: String,
    },
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The submitter's token.
    pub token: Token,
    /// Bytes moved, or 0 for operations that move none.
    pub result: std::io::Result<usize>,
    /// The buffer of a [`Op::Read`], also when it failed.
    pub buf: Option<BufMut>,
    /// The file of a successful [`Op::Open`].
    pub file: Option<FileId>,
}

/// What the device asks of offsets, lengths and memory (`statx` with `STATX_DIOALIGN`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Unit of every offset and length: the larger of the device's offset alignment and
    /// 4096, a power of two.
    pub block_bytes: usize,
    /// Alignment of buffer addresses, at most `block_bytes`.
    pub memory_align: usize,
    /// Whether writes bypass the page cache.
    pub direct: bool,
}

/// Disk, clock and entropy of one log. Single-threaded.
pub trait Io {
    /// What the device asks for.
    fn geometry(&self) -> Geometry;

    /// The pool whose buffers this seam writes with the least work (registered with the
    /// kernel where that is allowed). Buffers of other origin work as well.
    fn pool(&self) -> &Pool;

    /// Names and lengths of the files in the log's directory. Blocks; for start-up.
    ///
    /// # Errors
    /// The directory's own.
    fn list(&mut self) -> std::io::Result<Vec<(String, u64)>>;

    /// Accepts an operation. It may start at once or with the next [`Io::kick`].
    fn submit(&mut self, op: Op, token: Token);

    /// Starts everything accepted so far. Never blocks.
    fn kick(&mut self);

    /// Appends the completions that are there. Never blocks.
    fn completions(&mut self, out: &mut Vec<Completion>);

    /// Blocks until at least one operation has completed, or `timeout` passed; returns at
    /// once when none is in flight. For start-up and shutdown.
    fn wait(&mut self, timeout: Duration);

    /// Operations accepted and not yet given back by [`Io::completions`].
    fn in_flight(&self) -> usize;

    /// Wall clock, milliseconds since the Unix epoch. May jump.
    fn wall_ms(&self) -> i64;

    /// Monotonic clock.
    fn monotonic(&self) -> Duration;

    /// Unpredictable bits (deterministic under simulation).
    fn entropy(&mut self) -> u128;
}
