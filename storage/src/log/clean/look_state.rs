//! How far a look at segments is, and what it has found.
//!
//! ```text
//! survey, from memory ─► policy ─► closer, with footers ─► policy ─► order ─► a run
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::held::{Held, Walk};
use super::order::Ordering;
use super::policy::{Candidate, Reason};
use super::state::Run;
use crate::log::index::{Covered, Footer};
use crate::log::runs::covered_rows::CoveredRows;

/// A look at segments.
#[derive(Debug)]
pub(super) enum Look {
    Survey(Survey),
    Closer(Closer),
    Order(Order),
}

/// What the log knows of a stretch of sealed segments without reading anything.
#[derive(Debug)]
pub(super) struct Survey {
    pub left: VecDeque<u64>,
    pub at: Option<(Walk, Tally)>,
    pub candidates: Vec<Candidate>,
}

/// What some of them hold, in the order of their first blocks.
#[derive(Debug)]
pub(super) struct Closer {
    pub left: VecDeque<u64>,
    pub at: Option<Box<Closeup>>,
    pub found: Found,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Closeup {
    /// Of a covered one: its rows are counted first.
    pub count: Option<Count>,
    pub walk: Walk,
    pub held: Vec<Held>,
    pub tally: Tally,
}

/// Whether the look at one of them began.
#[derive(Debug)]
pub(super) enum Begun {
    Yes(Box<Closeup>),
    /// Its footer has to be read first.
    Later,
    /// It cannot be cleaned now.
    No,
}

/// Rows of a covered segment's footer.
#[derive(Debug)]
pub(super) struct Count {
    pub footer: Rc<Footer>,
    /// What was said of it when the count began.
    pub covered: Option<Covered>,
    pub at: usize,
    /// Those that count.
    pub rows: u64,
    /// Bytes that readers of each partition read, and those that they want.
    pub read: f64,
    pub wanted: f64,
}

/// In which order they can be replaced.
#[derive(Debug)]
pub(super) struct Order {
    pub found: Found,
    pub ordering: Ordering,
    /// Why those that are put in order are to be cleaned. `None`: it is only seen whether all can be.
    pub reason: Option<Reason>,
}

/// What a closer look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub sources: Vec<u64>,
    pub rows: CoveredRows,
    pub held: BTreeMap<u64, Vec<Held>>,
    pub tallies: BTreeMap<u64, Tally>,
}

/// Sums over what a segment holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub live_bytes: u64,
    pub lasting_bytes: u64,
    pub partitions: usize,
    pub is_damaged: bool,
}

/// What was found of a covered segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its live bytes then.
    pub live_bytes: u64,
    /// Those that last.
    pub lasting_bytes: u64,
    pub partitions: usize,
    /// It was not to be cleaned for what lies around it.
    pub stays: bool,
}

impl Known {
    /// Whether so much of it has died since that it is worth another look.
    pub fn is_old(&self, live_bytes: u64) -> bool {
        live_bytes < self.live_bytes / 4 * 3
    }
}

/// How far a look came in a call.
#[derive(Debug)]
pub(super) enum Looked {
    /// It goes on with this.
    On(Look),
    /// The next call does.
    Later(Look),
    /// Nothing is to be cleaned now.
    Over,
    /// These are cleaned.
    Run(Run),
}

impl Closer {
    pub fn new(sources: Vec<u64>) -> Closer {
        Closer {
            left: sources.iter().copied().collect(),
            at: None,
            found: Found {
                sources,
                ..Found::default()
            },
        }
    }
}
