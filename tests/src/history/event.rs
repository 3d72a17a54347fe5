//! The lines of a history. In each: `at`, when it was written, in microseconds of the machine's
//! monotonic clock (`CLOCK_MONOTONIC`, which is one for all processes), and `op`, what happened.
//!
//! ```text
//! {"at":1,"op":"sent","id":"p/0","topic":"t","partition":0,"key":"k"}       before it is sent
//! {"at":2,"op":"acknowledged","id":"p/0","topic":"t","partition":0,"offset":0}
//! {"at":3,"op":"assigned","group":"g","member":"m","topic":"t","partition":0}
//! {"at":4,"op":"read","group":"g","member":"m","topic":"t","partition":0,"offset":0,"id":"p/0","key":"k"}
//! {"at":5,"op":"committing","group":"g","member":"m","topic":"t","partition":0,"offset":1}
//! {"at":6,"op":"committed","group":"g","member":"m","topic":"t","partition":0,"offset":1}
//! {"at":8,"op":"told","group":"g","topic":"t","partition":0,"offset":1,"since":7}
//! {"at":9,"op":"ended","group":"g","topic":"t","partition":0,"offset":1,"since":7}
//! ```
//!
//! An event's id is `producer/number`. A producer that may not repeat itself sends its numbers in
//! rising order. The value of the record is the id, alone or with a space and anything behind it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written, in microseconds of the monotonic clock.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Which event: `producer/number`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub String);

impl Id {
    /// The number-th event of a producer.
    #[must_use]
    pub fn new(producer: &str, number: u64) -> Id {
        Id(format!("{producer}/{number}"))
    }

    /// The producer and its number, of an id that somebody made as he should.
    #[must_use]
    pub fn parts(&self) -> Option<(&str, u64)> {
        let (producer, number) = self.0.rsplit_once('/')?;
        Some((producer, number.parse().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// Of which topic.
    pub topic: String,
    /// Which.
    pub partition: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}[{}]", self.topic, self.partition)
    }
}

/// What a record carries beside its value, where the client has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The timestamp, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// The headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Event {
    /// An event is about to be sent.
    Sent {
        /// Which.
        id: Id,
        /// To which topic.
        topic: String,
        /// To which partition, unless the client's partitioner chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partition: Option<i32>,
        /// Its client may send it again on its own without an idempotent producer, so that it may
        /// stand in the log twice, and behind a later one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_repeat: bool,
        /// What it carries.
        #[serde(flatten)]
        content: Content,
    },
    /// An event was acknowledged. One that was sent and is not named by such a line may be in the
    /// log, or not.
    Acknowledged {
        /// Which.
        id: Id,
        /// Where.
        #[serde(flatten)]
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// A member begins to read a partition: written when the group gives it to the member, and before
    /// the member asks where to begin. A member reads on from there without a gap.
    Assigned {
        /// The group.
        group: String,
        /// Which of its members.
        member: String,
        /// Which partition.
        #[serde(flatten)]
        partition: Partition,
    },
    /// A member was given an event. A reader without a group is a group of its own.
    Read {
        /// The group.
        group: String,
        /// Which of its members.
        member: String,
        /// From which partition.
        #[serde(flatten)]
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// What the value says.
        id: Id,
        /// What it carries.
        #[serde(flatten)]
        content: Content,
    },
    /// A member is about to commit an offset: the next one to be read.
    Committing {
        /// The group.
        group: String,
        /// Which of its members.
        member: String,
        /// Of which partition.
        #[serde(flatten)]
        partition: Partition,
        /// Which offset.
        offset: i64,
    },
    /// The commit was acknowledged.
    Committed {
        /// The group.
        group: String,
        /// Which of its members.
        member: String,
        /// Of which partition.
        #[serde(flatten)]
        partition: Partition,
        /// Which offset.
        offset: i64,
    },
    /// Somebody asked what is committed, and was told.
    Told {
        /// Of which group.
        group: String,
        /// Of which partition.
        #[serde(flatten)]
        partition: Partition,
        /// The offset, -1 for none.
        offset: i64,
        /// When he began to ask.
        since: u64,
    },
    /// A group has read a partition up to its end.
    Ended {
        /// The group.
        group: String,
        /// Which partition.
        #[serde(flatten)]
        partition: Partition,
        /// The first offset that the group was to read.
        #[serde(default)]
        from: i64,
        /// The end: the offset behind the last event.
        offset: i64,
        /// When somebody began to ask for the end.
        since: u64,
    },
}

impl Event {
    /// Which topic it concerns.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Event::Sent { topic, .. } => topic,
            Event::Acknowledged { partition, .. }
            | Event::Assigned { partition, .. }
            | Event::Read { partition, .. }
            | Event::Committing { partition, .. }
            | Event::Committed { partition, .. }
            | Event::Told { partition, .. }
            | Event::Ended { partition, .. } => &partition.topic,
        }
    }
}
