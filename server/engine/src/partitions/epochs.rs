//! Where the leader epochs of a partition began (KIP-101, KIP-320): so that a client that read
//! under an older epoch learns where that ended, and whether what it read was lost since.
//!
//! Only epochs in which something was written are kept, the newest
//! [`LEADER_EPOCHS_PER_PARTITION`] of them. What is asked of an older one is answered as Kafka
//! answers for epochs whose records were deleted: it ended where the oldest that is known began.
//!
//! Invariant: epochs rise, and so do the offsets at which they begin.

use ringlog_types::Offset;

use crate::limits::LEADER_EPOCHS_PER_PARTITION;

/// An epoch, and the first offset written in it.
pub(super) type Began = (i32, Offset);

/// The epochs of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    began: Vec<Began>,
}

impl Epochs {
    /// Puts together what [`Epochs::began`] gave. None when they do not rise, or are too many.
    pub(super) fn from_parts(began: Vec<Began>) -> Option<Epochs> {
        let rise = began.is_sorted_by(|before, after| before.0 < after.0 && before.1 <= after.1);
        let fits = began.len() <= LEADER_EPOCHS_PER_PARTITION;
        let are_epochs = began.iter().all(|(epoch, _)| *epoch >= 0);
        (rise && fits && are_epochs).then_some(Epochs { began })
    }

    pub(super) fn began(&self) -> &[Began] {
        &self.began
    }

    /// A batch of this epoch is committed.
    pub(super) fn note(&mut self, epoch: i32, base_offset: Offset) {
        let newest = self.began.last().map_or(-1, |(epoch, _)| *epoch);
        if epoch <= newest {
            return;
        }
        if self.began.len() == LEADER_EPOCHS_PER_PARTITION {
            self.began.remove(0);
        }
        self.began.push((epoch, base_offset));
    }

    /// Records below this offset are gone: of the epochs that began before it the newest is kept,
    /// as if it began there.
    pub(super) fn cut(&mut self, start: Offset) {
        let before = self.began.partition_point(|(_, began)| *began < start);
        if before > 0 {
            self.began.drain(..before - 1);
            self.began[0].1 = start;
        }
    }

    /// The newest epoch up to `asked` and where it ended, while `current` is led and `end` is the
    /// end of what is committed. None for an epoch that is still to come.
    pub(super) fn end_of(&self, asked: i32, current: i32, end: Offset) -> Option<(i32, Offset)> {
        if asked < 0 || asked > current {
            return None;
        }
        if asked == current {
            return Some((current, end));
        }
        let behind = self.began.partition_point(|(epoch, _)| *epoch <= asked);
        let ended = self.began.get(behind).map_or(end, |(_, began)| *began);
        let epoch = behind.checked_sub(1).map_or(asked, |at| self.began[at].0);
        Some((epoch, ended))
    }

    /// The epoch in which an offset was written, if it is known.
    pub(super) fn at(&self, offset: Offset) -> Option<i32> {
        let behind = self.began.partition_point(|(_, began)| *began <= offset);
        behind.checked_sub(1).map(|at| self.began[at].0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epochs(began: &[(i32, u64)]) -> Epochs {
        let began = began.iter().map(|(epoch, at)| (*epoch, Offset(*at)));
        Epochs::from_parts(began.collect()).unwrap()
    }

    #[test]
    fn an_epoch_ended_where_the_next_that_wrote_began() {
        let epochs = epochs(&[(2, 0), (5, 10), (6, 30)]);
        let end_of = |asked, current| epochs.end_of(asked, current, Offset(40));
        assert_eq!(end_of(2, 6), Some((2, Offset(10))));
        assert_eq!(
            end_of(4, 6),
            Some((2, Offset(10))),
            "nothing was written in 3 and 4"
        );
        assert_eq!(end_of(5, 6), Some((5, Offset(30))));
        assert_eq!(end_of(6, 6), Some((6, Offset(40))));
        assert_eq!(end_of(6, 8), Some((6, Offset(40))), "nor in 7 and 8");
        assert_eq!(end_of(7, 8), Some((6, Offset(40))));
        assert_eq!(end_of(8, 8), Some((8, Offset(40))));
        assert_eq!(
            end_of(1, 6),
            Some((1, Offset(0))),
            "it is not known any more"
        );
        assert_eq!(end_of(7, 6), None);
        assert_eq!(end_of(-1, 6), None);
        assert_eq!(
            [0, 9, 10, 99].map(|at| epochs.at(Offset(at))),
            [2, 2, 5, 6].map(Some)
        );
    }

    #[test]
    fn of_a_partition_without_records_every_epoch_ended_where_it_begins() {
        let epochs = Epochs::default();
        assert_eq!(epochs.end_of(3, 9, Offset(0)), Some((3, Offset(0))));
        assert_eq!(epochs.end_of(9, 9, Offset(0)), Some((9, Offset(0))));
        assert_eq!(epochs.at(Offset(0)), None);
    }

    #[test]
    fn what_is_deleted_takes_its_epochs_along_but_for_the_last() {
        let mut cut = epochs(&[(2, 0), (5, 10), (6, 30)]);
        cut.cut(Offset(10));
        assert_eq!(cut, epochs(&[(2, 10), (5, 10), (6, 30)]));
        cut.cut(Offset(15));
        assert_eq!(cut, epochs(&[(5, 15), (6, 30)]));
        cut.cut(Offset(99));
        assert_eq!(cut, epochs(&[(6, 99)]));
    }

    proptest! {
        /// The model keeps the epoch of every offset.
        #[test]
        fn it_says_what_a_list_of_all_offsets_says(
            steps in proptest::collection::vec((0i32..3, 1u64..5, 0u64..4), 1..40),
        ) {
            let (mut epochs, mut model, mut start) = (Epochs::default(), Vec::new(), 0u64);
            let mut current = 0;
            for (up, count, trimmed) in steps {
                current += up;
                epochs.note(current, Offset(model.len() as u64));
                model.extend((0..count).map(|_| current));
                if trimmed == 0 {
                    start = (start + model.len() as u64) / 2;
                    epochs.cut(Offset(start));
                }
                // Of epochs before the oldest that is kept nothing is known.
                let oldest = epochs.began()[0].0;
                for asked in oldest..=current {
                    let end = model.iter().filter(|epoch| **epoch <= asked).count() as u64;
                    let end = end.max(start);
                    let epoch = model.iter().copied().filter(|epoch| *epoch <= asked).max();
                    let expected = epoch.map(|epoch| (epoch, Offset(end)));
                    let found = epochs.end_of(asked, current, Offset(model.len() as u64));
                    prop_assert_eq!(found, expected, "epoch {} of {:?}", asked, epochs);
                }
                prop_assert!(epochs.began().len() <= LEADER_EPOCHS_PER_PARTITION);
                prop_assert!(Epochs::from_parts(epochs.began().to_vec()).is_some());
            }
        }
    }
}
