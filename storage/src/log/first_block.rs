//! What the first block of a segment says of its group: whether a group that is open where the segment
//! before it ends was committed.

use ringlog_types::Sequence;

use crate::format::block_header::{BlockHeader, Group};

/// What the first block of a segment says of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstBlock {
    pub sequence: Sequence,
    pub group: Group,
    /// First block of the group.
    pub group_first: Sequence,
}

impl FirstBlock {
    pub fn of(header: &BlockHeader) -> FirstBlock {
        FirstBlock {
            sequence: header.sequence,
            group: header.group,
            group_first: header.group_first,
        }
    }

    /// Whether the group that begins with the block `open` and is open before this block was
    /// committed; `None`: it goes on, and nobody knows how far.
    pub fn commits(&self, open: Sequence) -> Option<bool> {
        match self.group {
            _ if self.group_first != open => Some(false),
            Group::Commit => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_segment_says_what_became_of_an_open_group() {
        let first = |group, group_first| FirstBlock {
            sequence: Sequence(9),
            group,
            group_first: Sequence(group_first),
        };
        assert_eq!(first(Group::Commit, 7).commits(Sequence(7)), Some(true));
        assert_eq!(first(Group::Continue, 7).commits(Sequence(7)), None);
        assert_eq!(first(Group::Whole, 9).commits(Sequence(7)), Some(false));
        assert_eq!(first(Group::Begin, 9).commits(Sequence(7)), Some(false));
    }
}
