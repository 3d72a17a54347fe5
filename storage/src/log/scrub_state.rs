//! How far the scrubbing of sealed segments is.

use std::time::Duration;

use ringlog_types::Sequence;

use super::segments::FooterPlace;
use crate::format::block_header::BlockHeader;
use crate::format::checksum::{Hasher, Key};
use crate::format::entry_header::{EntryHeader, EntryMeta};

/// How far scrubbing is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    pub place: Option<Place>,
    /// Segments up to here were looked at in this pass.
    pub done: u64,
    /// The last one that is to be looked at in it.
    pub until: Option<u64>,
    pub pass_began: Option<Duration>,
    pub is_reading: bool,
    /// Bytes that may be read; below 0 what was read ahead of the rate.
    pub allowance_bytes: i64,
    pub filled_at: Duration,
    pub wants_since: Option<Duration>,
    pub found: Option<(u64, Found)>,
}

#[derive(Debug)]
pub(super) struct Place {
    pub segment: u64,
    pub key: Key,
    pub last: Sequence,
    pub what: What,
}

/// What is read next, or being read.
#[derive(Debug)]
pub(super) enum What {
    SegmentHeader,
    Head {
        at: u64,
    },
    Table {
        at: u64,
        header: BlockHeader,
    },
    Payloads(Box<Payloads>),
    /// Behind a block that cannot be read: the next one is looked for.
    Search {
        at: u64,
    },
    Footer {
        place: FooterPlace,
        at: u64,
        hasher: Box<Hasher>,
    },
    Trailer,
}

/// A block whose payloads are checked.
#[derive(Debug)]
pub(super) struct Payloads {
    pub at: u64,
    pub block_bytes: u64,
    pub entries: Vec<EntryHeader>,
    pub next: usize,
    /// Bytes of the next entry that are in `hasher`.
    pub hashed: u64,
    pub hasher: Hasher,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Block(u64),
    Entry(u64, EntryMeta),
}
