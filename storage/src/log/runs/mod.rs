//! Index runs: the footers of older sealed segments, merged into sorted files, so that what the
//! log keeps in memory does not grow with what it stores.
//!
//! | file | what |
//! |---|---|
//! | `state` | the runs of a log, and what waits to be done about them |
//! | `builder` | rows into pages and fences |
//! | `search` | from the root to a row |
//! | `page_cache` | pages that were read |
//! | `job` | a run on its way to disk |
//! | `ahead` | rows that readers come to next |
//! | `lookup` | rows of a partition over all runs |
//! | `cover`, `merge`, `switch` | choosing, making and taking over runs |
//! | `bad_blocks` | what a reader of covered segments has found damaged |
//! | `account` | which rows still count, and so which segments live |
//! | `open_group` | what of a segment's end was committed |
//! | `replace` | a cleaner's segments |
//! | `restore` | runs at a start |
//! | `memory` | what the index takes |
//! | `expand` | the index of a log at rest, back in memory |
//!
//! Invariant: a row counts only if its segment lives and names this run as its own. So each row
//! of the log is in memory or in exactly one run, whatever else lies in old runs.

pub(super) mod account;
pub(super) mod ahead;
pub(super) mod bad_blocks;
pub(super) mod builder;
pub(super) mod cover;
pub(super) mod covered_rows;
pub(super) mod damaged;
pub(super) mod expand;
pub(super) mod job;
pub(super) mod lookup;
pub(super) mod memory;
pub(super) mod merge;
pub(super) mod open_group;
pub(super) mod page_cache;
pub(super) mod replace;
pub(super) mod restore;
pub(super) mod search;
pub(super) mod state;
pub(super) mod switch;
