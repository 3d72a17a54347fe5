//! The targets of a run and how far they are written.

use std::collections::VecDeque;

use super::lay::Laid;
use crate::format::checksum::Key;
use crate::format::replaced::Target;
use crate::format::segment_header::SegmentHeader;
use crate::io::FileId;
use crate::log::segments::FreeFile;

/// What is to be written, what is being, and what was.
#[derive(Debug)]
pub(super) struct Targets {
    pub waiting: VecDeque<Laid>,
    pub writing: Option<Writing>,
    pub written: Vec<Written>,
}

/// A target that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    pub laid: Laid,
    pub file: FreeFile,
    pub header: SegmentHeader,
    pub key: Key,
    pub step: Step,
    /// Bytes of the operation in flight.
    pub expected: usize,
}

impl Writing {
    /// The first block that is left begins at byte `at` of the segment.
    pub fn blocks_from(&self, at: usize) -> Step {
        if self.laid.blocks.is_empty() {
            Step::Footer
        } else {
            Step::Blocks { at, within: 0 }
        }
    }

    /// That block is written up to byte `within` of it.
    pub fn blocks_behind(&mut self, at: usize, within: usize) -> Step {
        match self.laid.blocks.front() {
            Some(block) if within < block.len() => Step::Blocks { at, within },
            _ => {
                self.laid.blocks.pop_front();
                self.blocks_from(at + within)
            }
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Header,
    /// Reading the header back, so many attempts failed.
    Check(u32),
    /// The first of the blocks that are left, which begins at byte `at` of the segment, from byte
    /// `within` of it on.
    Blocks {
        at: usize,
        within: usize,
    },
    Footer,
    Flush,
    Trailer,
}

/// A target that is durable.
#[derive(Debug)]
pub(super) struct Written {
    pub target: Target,
    pub file: FreeFile,
    pub key: Key,
    pub last_checksum: u64,
}

impl Written {
    pub fn into_file(self) -> (String, FileId) {
        (self.file.name, self.file.file)
    }
}

impl Targets {
    pub fn new(laid: Vec<Laid>) -> Targets {
        Targets {
            waiting: laid.into(),
            writing: None,
            written: Vec::new(),
        }
    }

    /// The files that were used.
    pub fn into_files(self) -> Vec<(String, FileId)> {
        let writing = self.writing.into_iter();
        let writing = writing.map(|writing| (writing.file.name, writing.file.file));
        writing
            .chain(self.written.into_iter().map(Written::into_file))
            .collect()
    }
}
