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
    pub footer: Vec<u8>,
    pub file: FreeFile,
    pub header: SegmentHeader,
    pub key: Key,
    pub step: Step,
    /// Bytes of the operation in flight.
    pub expected: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Header,
    /// Reading the header back, so many attempts failed.
    Check(u32),
    /// From this byte of the blocks on.
    Blocks(usize),
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
