//! What each operation in flight is for. The seam gives a token back; this room remembers
//! what the token meant.

use ringlog_types::{NumberMap, Sequence};

use super::runs::state::RunWork;
use super::wanted::{PieceRead, Wanted};
use crate::io::{Completion, FileId, Io, Op, Token};

/// Why an operation was submitted.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// The write of a block.
    Block(Sequence),
    /// The flush that makes blocks written to this file durable, up to the sequence.
    Flush(FileId, Sequence),
    /// The header of the next segment.
    SegmentHeader(u64),
    /// The same, read back.
    SegmentHeaderCheck(u64),
    /// The footer of a full segment.
    Footer(u64),
    /// The trailer behind a durable footer.
    Trailer(u64),
    /// Cutting a sealed segment that is mostly unused.
    Cut(u64),
    /// A step in making a new segment file.
    Making,
    /// A read for somebody who asked.
    BlockRead(Wanted),
    /// A part of a block, for somebody who asked for one partition's records.
    PieceRead(Box<PieceRead>),
    /// A footer, for somebody who asked.
    FooterRead(u64),
    /// A piece of a segment whose footer is damaged.
    Rescan(u64),
    /// Index runs.
    Run(RunWork),
    /// The cleaner's operation: one at a time.
    Clean,
    /// A piece of a sealed segment, to see whether it is still what was written.
    Scrub,
    /// Housekeeping whose failure costs nothing but space: said in the log, then forgotten.
    Housekeeping(&'static str),
}

impl Work {
    /// Whether somebody reads, and nothing that is written waits for it.
    pub fn is_for_a_reader(&self) -> bool {
        matches!(
            self,
            Work::BlockRead(_) | Work::PieceRead(_) | Work::FooterRead(_) | Work::Rescan(_)
        )
    }
}

/// The seam with a memory.
#[derive(Debug)]
pub(super) struct Submitter<I> {
    pub io: I,
    works: NumberMap<u64, Work>,
    next_token: u64,
    taken: Vec<Completion>,
}

impl<I: Io> Submitter<I> {
    pub fn new(io: I) -> Submitter<I> {
        Submitter {
            io,
            works: NumberMap::default(),
            next_token: 0,
            taken: Vec::new(),
        }
    }

    pub fn submit(&mut self, op: Op, work: Work) {
        let token = self.next_token;
        self.next_token += 1;
        self.works.insert(token, work);
        self.io.submit(op, Token(token));
    }

    /// The completions that are there, each with what it was for.
    pub fn completions(&mut self) -> Vec<(Work, Completion)> {
        let mut taken = std::mem::take(&mut self.taken);
        self.io.completions(&mut taken);
        let mut done = Vec::with_capacity(taken.len());
        for completion in taken.drain(..) {
            let work = self.works.remove(&completion.token.0);
            done.push((
                work.expect("the seam completes each operation once"),
                completion,
            ));
        }
        self.taken = taken;
        done
    }

    pub fn any(&self, wanted: impl Fn(&Work) -> bool) -> bool {
        self.works.values().any(wanted)
    }
}
