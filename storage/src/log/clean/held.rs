//! What a segment holds, and how far a walk over it is.

use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use crate::log::index::Footer;

/// What is readable of a partition in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
    pub bytes: u64,
}

/// How far a walk is.
#[derive(Debug)]
pub(super) struct Walk {
    pub segment: u64,
    pub rows: Option<Rc<Footer>>,
    /// The next row of the footer.
    pub at: usize,
    /// The last partition in memory.
    pub behind: Option<PartitionId>,
    /// What the footer's rows have shown so far of the partition that they are at.
    pub open: Option<Held>,
}

/// What a step came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All that the segment holds of a partition.
    Held(Held),
    /// More of a partition, or what nobody may ask for any more.
    Passed,
    /// The end.
    End,
}

impl Walk {
    /// Over a segment with these rows in its footer, if a run covers it.
    pub fn new(segment: u64, rows: Option<Rc<Footer>>) -> Walk {
        Walk {
            segment,
            rows,
            at: 0,
            behind: None,
            open: None,
        }
    }
}
