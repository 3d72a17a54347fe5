//! Checking a log that no node has open: every structure and every checksum, the order of the
//! blocks, the offsets of every partition; and telling damage from what a crash may leave.
//!
//! ```text
//! survey ─► checkpoint ─► segments up to its anchor ─► the chain behind it ─► end, torn tail
//!                          (against its manifest)       (as a start replays it)
//! ```
//! | file | what |
//! |---|---|
//! | `source` | where bytes come from |
//! | `survey` | what each file is |
//! | `scan` | a segment's blocks |
//! | `checkpoint` | the newest one |
//! | `runs` | the index runs that it names |
//! | `cold` | segments that the cleaner wrote |
//! | `adopted` | segments that the checkpoint knows |
//! | `replayed` | the chain behind it, and where it ends |
//! | `sealed` | footers and trailers |
//! | `offsets` | partitions |
//! | `repair` | writing over a torn tail |
//!
//! The rules are recovery's, worked out a second time over whole files: what a start would keep,
//! discard and report is found here without changing anything, and a mistake in one of the two
//! shows where they differ.
//!
//! Invariant: a torn tail is what no valid block, trailer or checkpoint states to have been
//! durable. Everything else that cannot be read is damage.

mod adopted;
mod check;
mod checkpoint;
mod cold;
mod error;
mod finding;
mod offsets;
mod progress;
mod repair;
mod replayed;
mod runs;
mod scan;
mod sealed;
mod source;
mod survey;

pub use check::check;
pub use error::{CheckError, RepairError};
pub use finding::{
    Fault, Finding, LogCheck, OffsetRange, Place, Role, SegmentCheck, Severity, TornTail,
};
pub use progress::CheckOptions;
pub use repair::repair;
pub use source::{Directory, Source};
