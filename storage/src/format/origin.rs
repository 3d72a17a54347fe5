//! Where a segment comes from that another log wrote. When partitions change their log, the
//! segments with their records go along as they are: header, blocks, footer and trailer keep the
//! numbers that their log gave them. The log that takes one in gives it a number of its own, and
//! its checkpoints say which origin that number stands for.
//!
//! Invariant: a segment of another log is read and removed, never written.

use std::fmt;

use ringlog_types::LogId;

const PREFIX: &str = "foreign-";
const SUFFIX: &str = ".segment";

/// The log that wrote a segment, and the number it gave it. Neither is ever given twice in a
/// data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The log.
    pub log: LogId,
    /// Its number for the segment.
    pub segment: u64,
}

impl Origin {
    /// The name of the segment's file in the directory of a log that took it in.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{PREFIX}{}-{}{SUFFIX}", self.log, self.segment)
    }

    /// The origin in a file's name; `None` for any other file.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Origin> {
        let numbers = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (log, segment) = numbers.split_once('-')?;
        let origin = Origin {
            log: LogId(log.parse().ok()?),
            segment: segment.parse().ok()?,
        };
        // One name for each: `foreign-01-2` is nobody's.
        (origin.file_name() == name).then_some(origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} of log {}", self.segment, self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_name::{file_name, slot_of};

    #[test]
    fn an_origin_is_found_in_its_name_and_in_no_other() {
        let origin = Origin {
            log: LogId(3),
            segment: 17,
        };
        assert_eq!(Origin::of_file_name(&origin.file_name()), Some(origin));
        assert_eq!(slot_of(&origin.file_name()), None);
        for name in [
            &file_name(7),
            "foreign-3-17",
            "foreign-03-17.segment",
            "foreign-3.segment",
            "foreign--1-2.segment",
            "foreign-3-17-1.segment",
        ] {
            assert_eq!(Origin::of_file_name(name), None, "{name}");
        }
    }
}
