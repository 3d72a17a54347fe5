//! Identifiers. Each is a type of its own, so that an offset cannot stand where a sequence is
//! meant. All are plain integers on disk, little-endian.

use std::fmt;

/// Position of a record within its partition. Dense from 0, assigned in commit order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `records` places further on.
    ///
    /// # Panics
    /// When the sum passes `i64::MAX`, the largest offset Kafka's protocol can carry: a
    /// partition cannot get there in any real time, so arriving there means corruption.
    #[must_use]
    pub fn plus(self, records: u64) -> Offset {
        let sum = self
            .0
            .checked_add(records)
            .filter(|sum| *sum <= i64::MAX as u64);
        Offset(sum.expect("an offset stays within i64, as Kafka's protocol requires"))
    }

    /// The offset as the protocol's signed integer.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).expect("an offset stays within i64, as Kafka's protocol requires")
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of a commit block within its log: 1 for the first block a log ever wrote, one more
/// for each that follows, across segments and restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first block.
    pub const NONE: Sequence = Sequence(0);

    /// The sequence of the following block.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A log. Independent of the core that happens to own it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A data-plane core, which is also a Kafka broker: its node id is the core's index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's number inside this node: given at creation, never given twice, so that records of
/// a deleted topic can never be taken for those of a later one with the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNumber(pub u32);

/// A partition, unique within the node and never reused: topic number and partition index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u64);

impl PartitionId {
    /// No partition: entries of state machines that belong to none.
    pub const NONE: PartitionId = PartitionId(u64::MAX);

    /// The partition with index `index` of topic `topic`.
    #[must_use]
    pub fn new(topic: TopicNumber, index: u32) -> PartitionId {
        PartitionId(u64::from(topic.0) << 32 | u64::from(index))
    }

    /// The topic's number.
    #[must_use]
    pub fn topic(self) -> TopicNumber {
        TopicNumber((self.0 >> 32) as u32)
    }

    /// The index within the topic.
    #[must_use]
    pub fn index(self) -> u32 {
        // Truncation is meant: the lower half is the index.
        self.0 as u32
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic().0, self.index())
    }
}
