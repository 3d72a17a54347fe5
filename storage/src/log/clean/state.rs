//! How far a run of the cleaner is.

use ringlog_types::Sequence;

use super::held::Walk;
use super::moving_state::Moving;
use super::targets::{Targets, Written};
use super::task::{CleanTask, Gathered, Source};
use crate::format::replaced::Moved;
use crate::log::runs::covered_rows::CoveredRows;

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    pub sources: Vec<u64>,
    pub moved: Moved,
    /// Rows of those sources that a run covers, as far as they move.
    pub rows: CoveredRows,
    /// First and last block of the log that the sources hold.
    pub covers: (Sequence, Sequence),
    /// An operation is in flight.
    pub waits: bool,
    pub state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// The bytes of a source (its place among the sources) are read.
    Read(usize, Gathered, Vec<u8>),
    /// It is read; what lives in it is listed.
    List(usize, Gathered, Box<Source>, Walk),
    /// Waits for the helper to take it.
    Task(usize, CleanTask),
    /// With the helper, which works on this source, or behind the last.
    Helping(usize),
    /// Targets are written.
    Write(Box<Targets>),
    /// All are durable; the entry is to be appended.
    Switch(Vec<Written>),
    /// The entry is on its way.
    Switching(Sequence, Vec<Written>),
    /// It is durable: the sources are emptied.
    Moving(Box<Moving>),
    /// A partition is read to be compacted.
    Scan,
    /// Nothing any more.
    Over,
}

impl Run {
    pub fn new(sources: Vec<u64>, moved: Moved) -> Run {
        Run {
            sources,
            moved,
            rows: CoveredRows::new(),
            covers: (Sequence::NONE, Sequence::NONE),
            waits: false,
            state: State::Read(0, Gathered::default(), Vec::new()),
        }
    }
}
