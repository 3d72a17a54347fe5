//! Sharing out what old logs hold: every live partition, with all of its segments' ranges, comes to
//! exactly one new log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;
use ringlog_engine::groups::{CommittedOffset, GroupRecord, GroupSettings, Groups, coordinator};
use ringlog_engine::partitions::{Partitions, Prepared, ProducerIds};
use ringlog_engine::topics::{MetadataRecord, TopicConfig, TopicId, Topics};
use ringlog_engine::users::{Credential, Mechanism, UserRecord, Users};
use ringlog_storage::format::manifest::{Counts, PartitionRow, RangeRow, SegmentRow};
use ringlog_storage::format::origin::Origin;
use ringlog_storage::log::{Retired, SegmentFile};
use ringlog_types::batch::{BatchHeader, Builder};
use ringlog_types::{LogId, Offset, PartitionId, Sequence, TopicNumber};

use super::machines::{Machines, split};
use super::shares::share_out;
use ringlog_machines::{CoreMachine, Effects};
use ringlog_storage::log::Machine;

fn topics(counts: &[u32], logs: &[LogId]) -> Topics {
    let mut topics = Topics::new(logs.to_vec());
    for (number, count) in (0u32..).zip(counts) {
        let place = |index: u32| logs[(number + index) as usize % logs.len()];
        topics.apply(&MetadataRecord::TopicCreated {
            number: TopicNumber(number),
            id: TopicId(u128::from(number + 2).to_be_bytes()),
            name: format!("t{number}"),
            partitions: (0..*count).map(place).collect(),
            config: TopicConfig::default(),
        });
    }
    topics
}

fn users() -> Users {
    let mut users = Users::new();
    let credential = Credential {
        iterations: 4096,
        salt: b"salt".to_vec(),
        stored_key: vec![1; 32],
        server_key: vec![2; 32],
    };
    users.apply(&UserRecord::Set {
        user: "a".to_owned(),
        credentials: vec![(Mechanism::ScramSha256, credential)],
    });
    users
}

fn logs(from: u32, count: u32) -> Vec<LogId> {
    (from..from + count).map(LogId).collect()
}

fn partitions_of(topics: &Topics) -> Vec<(PartitionId, LogId)> {
    let of_topic = topics.iter().flat_map(|topic| {
        let partitions = (0u32..).zip(&topic.partitions);
        partitions.map(|(index, log)| (PartitionId::new(topic.number, index), *log))
    });
    of_topic.collect()
}

/// A log with `segments` segments, each of which holds ten offsets of each of the partitions.
fn retired(log: LogId, partitions: &[PartitionId], segments: u64) -> Retired {
    let end = Offset(10 * segments);
    let rows = partitions.iter().map(|partition| PartitionRow {
        partition: *partition,
        start: Offset(3),
        end,
        counted: Offset(3),
        covered: Counts::default(),
        damage: vec![(Offset(4), Offset(5))],
    });
    let files = (0..segments).map(|segment| {
        let ranges = partitions.iter().map(|partition| RangeRow {
            partition: *partition,
            first: Offset(10 * segment),
            end: Offset(10 * segment + 10),
            bytes: 100,
            max_timestamp: 1,
        });
        SegmentFile {
            name: format!("{segment:010}.segment"),
            row: SegmentRow {
                segment,
                origin: Some(Origin { log, segment }),
                data_end: 4096,
                first_sequence: Sequence(1),
                last_sequence: Sequence(2),
                run: 0,
                live: Counts::default(),
                ranges: ranges.collect(),
                moved: Vec::new(),
            },
        }
    });
    Retired {
        epoch: 5 + log.0,
        partitions: rows.collect(),
        segments: files.collect(),
    }
}

proptest! {
    #[test]
    fn every_partition_is_in_exactly_one_new_log_with_all_of_its_ranges(
        counts in proptest::collection::vec(1u32..8, 1..6),
        from in 1u32..5,
        to in 1u32..5,
        segments in 1u64..4,
    ) {
        let (before, after) = (logs(0, from), logs(10, to));
        let topics = topics(&counts, &before);
        let owners = ringlog_engine::topics::spread(&topics, &before, &after);
        let all = partitions_of(&topics);
        // A partition whose topic is gone lies in the first log, too.
        let gone = PartitionId::new(TopicNumber(99), 0);
        let retired: Vec<Retired> = before
            .iter()
            .map(|log| {
                let own = all.iter().filter(|(_, owner)| owner == log);
                let mut own: Vec<PartitionId> = own.map(|(partition, _)| *partition).collect();
                if *log == LogId(0) {
                    own.push(gone);
                }
                retired(*log, &own, segments)
            })
            .collect();
        let old: Vec<(LogId, PathBuf, &Retired)> = before
            .iter()
            .zip(&retired)
            .map(|(log, retired)| (*log, PathBuf::from(format!("log-{log}")), retired))
            .collect();
        let shares = share_out(&old, &topics, &owners, &after);
        prop_assert_eq!(shares.len(), after.len());
        let mut seen = BTreeMap::new();
        for (share, log) in shares.iter().zip(&after) {
            prop_assert_eq!(share.import.epoch, 5 + from - 1, "the largest of the old ones");
            let own: BTreeSet<PartitionId> = share.import.partitions.iter().map(|row| {
                assert_eq!(owners.of(row.partition), Some(*log));
                assert_eq!((row.start, row.damage.len()), (Offset(3), 1));
                assert!(seen.insert(row.partition, 0u64).is_none(), "it is in one log only");
                row.partition
            }).collect();
            let mut named = BTreeSet::new();
            for row in &share.import.segments {
                prop_assert!(!row.ranges.is_empty());
                let origin = row.origin.unwrap();
                prop_assert!(named.insert(origin));
                let path = format!("log-{}/{:010}.segment", origin.log, origin.segment);
                prop_assert_eq!(share.files.get(&origin), Some(&PathBuf::from(path)));
                for range in &row.ranges {
                    prop_assert!(own.contains(&range.partition));
                    *seen.get_mut(&range.partition).unwrap() += range.end.0 - range.first.0;
                }
            }
            prop_assert_eq!(named.len(), share.files.len());
        }
        let expected: BTreeMap<PartitionId, u64> =
            all.iter().map(|(partition, _)| (*partition, 10 * segments)).collect();
        prop_assert_eq!(seen, expected);
    }
}

const GROUPS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The groups of a log, each with an offset.
fn with_offsets(logs: &[LogId], log: LogId) -> Groups {
    let mut groups = Groups::new(GroupSettings::default());
    for group in GROUPS {
        if logs[coordinator(group, logs.len())] == log {
            let offset = CommittedOffset {
                offset: 7,
                leader_epoch: 1,
                committed_ms: 5,
                expires_ms: -1,
                metadata: "".into(),
            };
            let record = GroupRecord::Offsets {
                group: group.into(),
                offsets: vec![(PartitionId::new(TopicNumber(0), 0), offset)],
            };
            groups.apply(&record.encode()).unwrap();
        }
    }
    groups
}

#[test]
fn machines_of_new_logs_restore_what_the_old_ones_remembered() {
    let (before, after) = (logs(0, 2), logs(7, 3));
    let topics = topics(&[4], &before);
    let header = |sequence: i32| {
        let batch = Builder::new().producer(77, 0, sequence);
        let batch = batch.push(1, None, Some(b"v"), &[]).build();
        BatchHeader::parse(&batch).unwrap()
    };
    let machines = before.iter().map(|log| {
        let mut partitions = Partitions::new();
        for (partition, _) in partitions_of(&topics).iter().filter(|(_, of)| of == log) {
            for sequence in 0..3 {
                let base = partitions.prepare(*partition, &header(sequence), 0);
                let Ok(Prepared::Append { base_offset }) = base else {
                    panic!("{base:?}");
                };
                partitions.apply_records(*partition, base_offset, &header(sequence));
            }
        }
        Machines {
            partitions,
            groups: with_offsets(&before, *log),
            metadata: (*log == LogId(0)).then(|| (topics.clone(), users())),
        }
    });
    let split = split(machines.collect(), &before, &after);
    let mut found = 0;
    for (core, (log, state)) in after.iter().zip(&split.states).enumerate() {
        let mut topics = Topics::new(after.clone());
        let mut kept_users = Users::new();
        let mut partitions = Partitions::new();
        let mut producer_ids = ProducerIds::new(*log);
        let mut groups = Groups::new(GroupSettings::default());
        let mut effects = Effects::default();
        let mut machine = CoreMachine {
            topics: &mut topics,
            users: &mut kept_users,
            owns_metadata: core == 0,
            log_id: *log,
            partitions: &mut partitions,
            producer_ids: &mut producer_ids,
            groups: &mut groups,
            effects: &mut effects,
        };
        machine.restore(state).unwrap();
        assert_eq!(topics.iter().len(), usize::from(core == 0));
        assert_eq!(kept_users.has("a"), core == 0);
        for group in GROUPS {
            let found = groups.offset(group, PartitionId::new(TopicNumber(0), 0));
            assert_eq!(found.is_some(), coordinator(group, after.len()) == core);
        }
        let id = producer_ids.prepare().id;
        assert_eq!(id >> 40, i64::from(log.0), "ids no old log gave");
        for index in 0..4 {
            let partition = PartitionId::new(TopicNumber(0), index);
            if split.owners.of(partition) != Some(*log) {
                assert_eq!(partitions.end_offset(partition), Offset::ZERO);
                continue;
            }
            found += 1;
            assert_eq!(partitions.end_offset(partition), Offset(3));
            let repeat = partitions.prepare(partition, &header(2), 0);
            let base_offset = Offset(2);
            let pending = false;
            assert_eq!(
                repeat,
                Ok(Prepared::Duplicate {
                    base_offset,
                    pending
                })
            );
        }
        if core == 0 {
            let moved = &topics.by_number(TopicNumber(0)).unwrap().partitions;
            assert_eq!(moved, split.owners.of_topic(TopicNumber(0)));
        }
    }
    assert_eq!(found, 4);
}
