//! What can be wrong with a history.

use thiserror::Error;

use super::event::{Id, Partition};

/// A contradiction between what clients were promised and what they met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Fault {
    /// An acknowledged event that a group did not get, though it read on behind it.
    #[error("lost: {id}, acknowledged at {partition} offset {offset}, never came to group {group}")]
    Lost {
        /// Which event.
        id: Id,
        /// Where it was acknowledged.
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// Who did not get it.
        group: String,
    },
    /// One event at two offsets, from a producer that does not repeat itself.
    #[error("duplicated: {id} is at {partition} offsets {first} and {second}")]
    Duplicated {
        /// Which event.
        id: Id,
        /// Where.
        partition: Partition,
        /// The lower offset.
        first: i64,
        /// The higher one.
        second: i64,
    },
    /// An event twice to the same member, which had not lost the partition in between.
    #[error("duplicated: member {member} of {group} got {partition} offset {offset} twice")]
    Redelivered {
        /// The group.
        group: String,
        /// Which member.
        member: String,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// Two events of a producer the other way round than it sent them.
    #[error("reordered: in {partition}, {earlier} is behind {later}, which was sent after it")]
    Reordered {
        /// Where.
        partition: Partition,
        /// Sent first.
        earlier: Id,
        /// Sent later.
        later: Id,
    },
    /// A member got an offset behind a higher one.
    #[error("reordered: member {member} of {group} got {partition} offset {offset} behind {after}")]
    DeliveredLate {
        /// The group.
        group: String,
        /// Which member.
        member: String,
        /// Where.
        partition: Partition,
        /// The lower offset, which came second.
        offset: i64,
        /// The highest offset that had come before.
        after: i64,
    },
    /// An event that nobody sent there.
    #[error("phantom: nobody sent {id:?}, which is at {partition} offset {offset}")]
    Phantom {
        /// What the record says.
        id: Id,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// A record that carries something else than what was sent.
    #[error(
        "altered: {id} was sent with {sent}, and is at {partition} offset {offset} with {read}"
    )]
    Altered {
        /// Which event.
        id: Id,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// What was sent.
        sent: String,
        /// What was read in its place.
        read: String,
    },
    /// Two events at one place.
    #[error(
        "contradiction: {partition} offset {offset} is {first} to one, and {second} to another"
    )]
    Contradiction {
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// One event.
        first: Id,
        /// The other.
        second: Id,
    },
    /// Offsets that a group did not get, though it read on behind them, and of which nobody was told
    /// that an event is there.
    #[error("gap: offsets {from}..{to} of {partition} never came to group {group}")]
    Gap {
        /// Who did not get them.
        group: String,
        /// Where.
        partition: Partition,
        /// The first of them.
        from: i64,
        /// The first behind them.
        to: i64,
    },
    /// A group is told, or begins at, less than what it had been told is committed.
    #[error("commit went back: {partition} of {group} from {committed} to {found}")]
    CommitWentBack {
        /// The group.
        group: String,
        /// Where.
        partition: Partition,
        /// What had been acknowledged or told.
        committed: i64,
        /// What was met later; -1 for nothing.
        found: i64,
    },
    /// A committed offset that nobody tried to commit.
    #[error(
        "phantom commit: {partition} of {group} is said to be at {found}, which nobody committed"
    )]
    PhantomCommit {
        /// The group.
        group: String,
        /// Where.
        partition: Partition,
        /// What was told.
        found: i64,
    },
}
