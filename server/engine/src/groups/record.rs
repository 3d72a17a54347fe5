//! What a log remembers of its groups.
//!
//! ```text
//! record = version u16 = 1, kind u8, body
//! 1  group      as in `stored`
//! 2  offsets    group text, count u32, { partition u64, offset as in `offset` }*
//! 3  forgotten  group text, count u32, { partition u64, newest i64 }*
//! 4  removed    group text, if unused u8
//! ```
//!
//! What takes something away says up to which state it was decided for: a commit that went into
//! the log before it and was not applied yet when it was decided must not be lost by it.

use std::sync::Arc;

use ringlog_types::PartitionId;

use super::offset::CommittedOffset;
use super::stored::StoredGroup;
use crate::little_endian::{DecodeError, Reader, Writer};

const VERSION: u16 = 1;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// A group came to a generation.
    Group(StoredGroup),
    /// A group committed offsets.
    Offsets {
        /// The group.
        group: Arc<str>,
        /// For each partition, the offset.
        offsets: Vec<(PartitionId, CommittedOffset)>,
    },
    /// Offsets of a group are forgotten.
    OffsetsForgotten {
        /// The group.
        group: Arc<str>,
        /// Each partition, if its offset was committed at this time or before.
        offsets: Vec<(PartitionId, i64)>,
    },
    /// A group is gone, with its offsets.
    Removed {
        /// The group.
        group: Arc<str>,
        /// Only if it has neither members nor offsets.
        if_unused: bool,
    },
}

impl GroupRecord {
    /// Its bytes in the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        match self {
            GroupRecord::Group(group) => {
                out.u8(1);
                group.encode(&mut out);
            }
            GroupRecord::Offsets { group, offsets } => {
                out.u8(2);
                out.text(group);
                out.count(offsets.len());
                for (partition, offset) in offsets {
                    out.u64(partition.0);
                    offset.encode(&mut out);
                }
            }
            GroupRecord::OffsetsForgotten { group, offsets } => {
                out.u8(3);
                out.text(group);
                out.count(offsets.len());
                for (partition, newest_ms) in offsets {
                    out.u64(partition.0);
                    out.i64(*newest_ms);
                }
            }
            GroupRecord::Removed { group, if_unused } => {
                out.u8(4);
                out.text(group);
                out.u8(u8::from(*if_unused));
            }
        }
        out.into_bytes()
    }

    /// Reads what [`GroupRecord::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<GroupRecord, DecodeError> {
        let mut reader = Reader::new("a record of a group", bytes, VERSION)?;
        let record = match reader.u8("its kind")? {
            1 => GroupRecord::Group(StoredGroup::decode(&mut reader)?),
            2 => {
                let group = reader.text("the group")?.into();
                let count = reader.count("the offsets", 40)?;
                let mut offsets = Vec::with_capacity(count);
                for _ in 0..count {
                    let partition = PartitionId(reader.u64("a partition")?);
                    offsets.push((partition, CommittedOffset::decode(&mut reader)?));
                }
                GroupRecord::Offsets { group, offsets }
            }
            3 => {
                let group = reader.text("the group")?.into();
                let count = reader.count("the offsets", 16)?;
                let mut offsets = Vec::with_capacity(count);
                for _ in 0..count {
                    let partition = PartitionId(reader.u64("a partition")?);
                    offsets.push((partition, reader.i64("a time")?));
                }
                GroupRecord::OffsetsForgotten { group, offsets }
            }
            4 => {
                let group = reader.text("the group")?.into();
                let if_unused = match reader.u8("whether it must be unused")? {
                    0 => false,
                    1 => true,
                    other => return Err(reader.invalid(format!("a condition is {other}"))),
                };
                GroupRecord::Removed { group, if_unused }
            }
            other => return Err(reader.invalid(format!("no record has the kind {other}"))),
        };
        reader.finish()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stored::StoredMember;
    use super::*;

    fn text() -> impl Strategy<Value = Arc<str>> {
        "[a-zä.]{0,8}".prop_map(Arc::from)
    }

    fn bytes() -> impl Strategy<Value = Arc<[u8]>> {
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Arc::from)
    }

    fn offset() -> impl Strategy<Value = CommittedOffset> {
        let numbers = (
            any::<i64>(),
            any::<i32>(),
            any::<i64>(),
            any::<i64>(),
            text(),
        );
        numbers.prop_map(
            |(offset, leader_epoch, committed_ms, expires_ms, metadata)| CommittedOffset {
                offset,
                leader_epoch,
                committed_ms,
                expires_ms,
                metadata,
            },
        )
    }

    fn member() -> impl Strategy<Value = StoredMember> {
        let texts = (text(), proptest::option::of(text()), text(), text());
        (texts, any::<(u32, u32)>(), bytes(), bytes()).prop_map(
            |((id, instance_id, client_id, client_host), timeouts, subscription, assignment)| {
                StoredMember {
                    id,
                    instance_id,
                    client_id,
                    client_host,
                    session_timeout_ms: timeouts.0,
                    rebalance_timeout_ms: timeouts.1,
                    subscription,
                    assignment,
                }
            },
        )
    }

    fn group() -> impl Strategy<Value = StoredGroup> {
        let members = proptest::collection::vec(member(), 0..4);
        (text(), text(), text(), any::<(i32, i64)>(), text(), members).prop_map(
            |(id, protocol_type, protocol, (generation, since_ms), leader, mut members)| {
                members.sort_by(|a, b| a.id.cmp(&b.id));
                members.dedup_by(|a, b| a.id == b.id);
                StoredGroup {
                    id,
                    protocol_type,
                    protocol,
                    generation,
                    leader,
                    since_ms,
                    members,
                }
            },
        )
    }

    fn record() -> impl Strategy<Value = GroupRecord> {
        let partition = || any::<u64>().prop_map(PartitionId);
        let offsets = proptest::collection::vec((partition(), offset()), 0..4);
        let forgotten = proptest::collection::vec((partition(), any::<i64>()), 0..4);
        prop_oneof![
            group().prop_map(GroupRecord::Group),
            (text(), offsets).prop_map(|(group, offsets)| GroupRecord::Offsets { group, offsets }),
            (text(), forgotten)
                .prop_map(|(group, offsets)| GroupRecord::OffsetsForgotten { group, offsets }),
            (text(), any::<bool>())
                .prop_map(|(group, if_unused)| GroupRecord::Removed { group, if_unused }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_what_is_cut_off_is_refused(record in record()) {
            let bytes = record.encode();
            let decoded = GroupRecord::decode(&bytes);
            prop_assert_eq!(decoded.as_ref(), Ok(&record));
            for end in 0..bytes.len() {
                prop_assert!(GroupRecord::decode(&bytes[..end]).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn damaged_and_random_bytes_are_a_record_or_an_error(
            record in record(),
            at: prop::sample::Index,
            by: u8,
            random: Vec<u8>,
        ) {
            let mut bytes = record.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            if let Ok(other) = GroupRecord::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
            }
            let _ = GroupRecord::decode(&random);
        }
    }
}
