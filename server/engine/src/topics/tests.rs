use proptest::prelude::*;
use ringlog_types::snapshot::Pieces;
use ringlog_types::{LogId, TopicNumber};

use super::config_definitions::DEFINITIONS;
use super::*;
use crate::limits;

mod configs;

fn topics() -> Topics {
    Topics::new(vec![LogId(0), LogId(1)])
}

fn create(name: &str, partitions: u32) -> TopicCommand {
    TopicCommand::Create {
        name: name.to_owned(),
        partitions,
        configs: Vec::new(),
    }
}

fn entries(configs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    configs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

/// Decided and durable at once.
fn carry_out(topics: &mut Topics, command: &TopicCommand, entropy: u128) -> MetadataRecord {
    let record = topics.prepare(command, entropy).unwrap();
    topics.apply(&record);
    record
}

#[test]
fn names_follow_kafkas_rules() {
    let topics = topics();
    let longest = "n".repeat(249);
    for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &longest] {
        assert_eq!(topics.validate(&create(name, 1)), Ok(()), "{name}");
    }
    let too_long = "n".repeat(250);
    for name in ["", ".", "..", "a b", "ä", "a/b", "a\0", &too_long] {
        let refused = topics.validate(&create(name, 1)).unwrap_err();
        assert!(
            matches!(refused, TopicError::InvalidName { .. }),
            "{name:?}: {refused}"
        );
    }
    let shown = topics
        .validate(&create(&"ü".repeat(9_999), 1))
        .unwrap_err()
        .to_string();
    assert!(
        shown.len() < 300,
        "a hostile name is not echoed whole: {shown}"
    );
}

#[test]
fn names_that_differ_in_dot_and_underscore_collide_until_the_other_goes() {
    let mut topics = topics();
    carry_out(&mut topics, &create("orders.eu", 1), 2);
    let refused = topics.prepare(&create("orders_eu", 1), 3).unwrap_err();
    let with = "orders.eu".to_owned();
    assert_eq!(
        refused,
        TopicError::Collides {
            name: "orders_eu".to_owned(),
            with
        }
    );
    let exists = topics.prepare(&create("orders.eu", 1), 3).unwrap_err();
    assert_eq!(
        exists,
        TopicError::Exists {
            name: "orders.eu".to_owned()
        }
    );
    topics
        .prepare(
            &TopicCommand::Delete {
                number: TopicNumber(0),
            },
            4,
        )
        .unwrap();
    topics.prepare(&create("orders_eu", 1), 5).unwrap();
}

#[test]
fn a_name_is_taken_as_soon_as_its_topic_is_decided() {
    let mut topics = topics();
    let record = topics.prepare(&create("a", 1), 2).unwrap();
    assert!(matches!(
        topics.prepare(&create("a", 1), 3),
        Err(TopicError::Exists { .. })
    ));
    assert!(
        topics.by_name("a").is_none(),
        "it is not there before it is durable"
    );
    topics.abandon(&record);
    topics.prepare(&create("a", 1), 3).unwrap();
}

#[test]
fn numbers_are_never_given_twice_also_over_restarts() {
    let mut topics = topics();
    for round in 0..5u32 {
        let record = carry_out(&mut topics, &create("a", 1), u128::from(round) + 9);
        let MetadataRecord::TopicCreated { number, .. } = record else {
            panic!("{record:?}")
        };
        assert_eq!(number, TopicNumber(round));
        carry_out(&mut topics, &TopicCommand::Delete { number }, 0);
        let checkpoint = topics.checkpoint();
        topics = Topics::new(vec![LogId(0)]);
        topics.restore(&checkpoint).unwrap();
    }
}

#[test]
fn partitions_are_spread_over_the_logs_also_those_of_small_topics() {
    let mut topics = topics();
    for name in ["a", "b"] {
        carry_out(&mut topics, &create(name, 3), name.as_bytes()[0].into());
    }
    let owners = |name| {
        topics
            .by_name(name)
            .unwrap()
            .partitions
            .iter()
            .map(|l| l.0)
            .collect::<Vec<u32>>()
    };
    assert_eq!([owners("a"), owners("b")], [vec![0, 1, 0], vec![1, 0, 1]]);
}

#[test]
fn ids_are_unique_and_never_those_that_kafka_reserves() {
    let mut topics = topics();
    for (name, expected) in [("a", 2u128), ("b", 3), ("c", 4)] {
        let record = topics.prepare(&create(name, 1), 0).unwrap();
        let MetadataRecord::TopicCreated { id, .. } = record else {
            panic!("{record:?}")
        };
        assert_eq!(id.0, expected.to_be_bytes());
    }
    assert_eq!(
        TopicId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes()).to_string(),
        "01234567-89ab-cdef-0123-456789abcdef"
    );
}

#[test]
fn partition_counts_have_limits() {
    let mut topics = topics();
    for (count, fits) in [
        (0, false),
        (1, true),
        (10_000, true),
        (10_001, false),
        (u32::MAX, false),
    ] {
        assert_eq!(
            topics.validate(&create("a", count)).is_ok(),
            fits,
            "{count}"
        );
    }
    let all = limits::PARTITIONS / u64::from(limits::PARTITIONS_PER_TOPIC);
    for index in 0..all {
        let command = create(&format!("t{index}"), limits::PARTITIONS_PER_TOPIC);
        let record = topics.prepare(&command, u128::from(index) + 2).unwrap();
        if index % 2 == 0 {
            topics.apply(&record);
        }
    }
    let full = topics.validate(&create("one-more", 1)).unwrap_err();
    let (limit, existing) = (limits::PARTITIONS, limits::PARTITIONS);
    assert_eq!(
        full,
        TopicError::TooManyPartitions {
            limit,
            existing,
            wanted: 1
        }
    );
    topics
        .prepare(
            &TopicCommand::Delete {
                number: TopicNumber(1),
            },
            0,
        )
        .unwrap();
    assert_eq!(topics.validate(&create("one-more", 1)), Ok(()));
}

#[test]
fn no_more_topics_are_made_than_the_node_holds_and_those_that_are_there_stay() {
    let mut topics = topics();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let record = topics.prepare(&create(name, 1), index as u128 + 2).unwrap();
        topics.apply(&record);
    }
    let two = TopicLimits {
        topics: 2,
        partitions: 2,
    };
    topics.limit(two);
    let checkpoint = topics.checkpoint();
    topics.restore(&checkpoint).unwrap();
    assert_eq!(topics.iter().count(), 3);
    let full = topics.validate(&create("d", 1)).unwrap_err();
    let too_many = TopicError::TooManyPartitions {
        limit: 2,
        existing: 3,
        wanted: 1,
    };
    assert_eq!(full, too_many);
    topics.limit(TopicLimits {
        partitions: 100,
        ..two
    });
    let full = topics.validate(&create("d", 1)).unwrap_err();
    assert_eq!(full, TopicError::TooManyTopics { limit: 2 });
    topics.limit(TopicLimits::default());
    assert_eq!(topics.validate(&create("d", 1)), Ok(()));
}

#[test]
fn one_command_has_so_many_entries_of_a_configuration_and_a_value_so_many_characters() {
    let mut topics = topics();
    let record = topics.prepare(&create("a", 1), 2).unwrap();
    topics.apply(&record);
    let number = TopicNumber(0);
    let alter = |changes| topics.validate(&TopicCommand::AlterConfigs { number, changes });
    let reset = |count: usize| {
        (0..count)
            .map(|n| (format!("c{n}"), ConfigChange::Reset))
            .collect()
    };
    let refused = |result: Result<(), TopicError>, words: &str| {
        let error = result.unwrap_err();
        let is_config = matches!(error, TopicError::InvalidConfig { .. });
        assert!(is_config && error.to_string().contains(words), "{error}");
    };
    refused(
        alter(reset(limits::CONFIGS_PER_COMMAND + 1)),
        "one command takes",
    );
    let long = "x".repeat(limits::CONFIG_VALUE_CHARS + 1);
    let long = vec![("cleanup.policy".to_owned(), ConfigChange::Set(long))];
    refused(alter(long), "characters");
}

#[test]
fn undecided_commands_are_bounded() {
    let mut topics = topics();
    for index in 0..limits::PENDING_COMMANDS {
        topics
            .prepare(&create(&format!("t{index}"), 1), index as u128 + 2)
            .unwrap();
    }
    let refused = topics.prepare(&create("one-more", 1), 1).unwrap_err();
    assert!(matches!(refused, TopicError::TooManyPending { .. }));
}

fn records() -> Vec<MetadataRecord> {
    let mut topics = topics();
    let configs = entries(&[("retention.ms", "5")]);
    let number = TopicNumber(0);
    vec![
        MetadataRecord::ClusterCreated {
            cluster_id: "c1".to_owned(),
        },
        topics
            .prepare(
                &TopicCommand::Create {
                    name: "a".to_owned(),
                    partitions: 2,
                    configs: configs.clone(),
                },
                77,
            )
            .unwrap(),
        topics
            .prepare(&TopicCommand::AddPartitions { number, total: 5 }, 0)
            .unwrap(),
        topics
            .prepare(&TopicCommand::ReplaceConfigs { number, configs }, 0)
            .unwrap(),
        topics.prepare(&TopicCommand::Delete { number }, 0).unwrap(),
    ]
}

#[test]
fn records_survive_their_bytes_and_are_refused_when_cut_or_longer() {
    for record in records() {
        let bytes = record.encode();
        assert_eq!(MetadataRecord::decode(&bytes).as_ref(), Ok(&record));
        for cut in 0..bytes.len() {
            assert!(
                MetadataRecord::decode(&bytes[..cut]).is_err(),
                "{record:?} cut at {cut}"
            );
        }
        assert!(MetadataRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn records_keep_their_bytes() {
    let bytes = |index: usize| records()[index].encode();
    assert_eq!(bytes(0), *b"\x01\0\x01\x02\0\0\0c1");
    assert_eq!(
        bytes(1),
        *b"\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x4d\x01\0\0\0a\
           \x02\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x0c\0\0\0retention.ms\x01\0\0\x005"
    );
    assert_eq!(bytes(4), *b"\x01\0\x03\0\0\0\0");
}

#[test]
fn records_and_checkpoints_of_other_versions_are_refused_by_name() {
    let mut bytes = records()[0].encode();
    bytes[0] = 7;
    let refused = MetadataRecord::decode(&bytes).unwrap_err().to_string();
    assert!(
        refused.contains("a metadata record has version 7, this build reads 1"),
        "{refused}"
    );
    bytes[0] = 1;
    bytes[2] = 99;
    assert!(
        MetadataRecord::decode(&bytes)
            .unwrap_err()
            .to_string()
            .contains("kind 99")
    );
    let mut checkpoint = topics().checkpoint();
    checkpoint[1] = 1;
    assert!(
        topics()
            .restore(&checkpoint)
            .unwrap_err()
            .contains("version 257")
    );
}

fn filled() -> Topics {
    let mut topics = topics();
    for record in &records()[..4] {
        topics.apply(record);
    }
    carry_out(&mut topics, &create("b", 3), 78);
    topics
}

#[test]
fn a_checkpoint_restores_everything_or_nothing() {
    let full = filled();
    let checkpoint = full.checkpoint();
    let mut restored = topics();
    restored.restore(&checkpoint).unwrap();
    assert_eq!(restored.checkpoint(), checkpoint);
    assert_eq!((restored.version(), restored.cluster_id()), (5, Some("c1")));
    assert_eq!(
        restored.iter().collect::<Vec<_>>(),
        full.iter().collect::<Vec<_>>()
    );
    for cut in 0..checkpoint.len() {
        assert!(
            restored.restore(&checkpoint[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    assert_eq!(restored.checkpoint(), checkpoint);
}

proptest! {
    #[test]
    fn altered_records_and_checkpoints_never_panic(
        which in 0usize..5,
        place in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..30),
    ) {
        let mut record = records()[which].encode();
        let at = place.index(record.len());
        for (byte, noise) in record[at..].iter_mut().zip(&noise) {
            *byte = *noise;
        }
        let mut full = filled();
        if let Ok(record) = MetadataRecord::decode(&record) {
            full.apply(&record);
        }
        let mut checkpoint = full.checkpoint();
        let at = place.index(checkpoint.len());
        for (byte, noise) in checkpoint[at..].iter_mut().zip(&noise) {
            *byte = *noise;
        }
        let mut restored = topics();
        if restored.restore(&checkpoint).is_ok() {
            let _ = restored.validate(&create("another", 1));
            let _ = restored.checkpoint();
        }
    }
}

proptest! {
    #[test]
    fn a_checkpoint_taken_in_steps_is_the_one_of_its_begin(
        steps in proptest::collection::vec((0u32..7, 0u32..8), 0..80),
    ) {
        let mut topics = topics();
        let (mut wanted, mut taken) = (None, Pieces::default());
        for (number, (kind, topic)) in (0u128..).zip(steps) {
            let command = match kind {
                0 | 1 => create(&format!("topic-{topic}"), topic + 1),
                2 => TopicCommand::Delete { number: TopicNumber(topic) },
                3 => TopicCommand::AddPartitions { number: TopicNumber(topic), total: 80 + topic },
                4 => TopicCommand::ReplaceConfigs {
                    number: TopicNumber(topic),
                    configs: entries(&[("retention.ms", "77")]),
                },
                5 => {
                    wanted = Some(topics.checkpoint());
                    taken = Pieces::default();
                    topics.begin_checkpoint();
                    continue;
                }
                _ => {
                    topics.checkpoint_step(topic as usize, &mut taken);
                    continue;
                }
            };
            if let Ok(record) = topics.prepare(&command, number + 1) {
                topics.apply(&record);
            }
        }
        while topics.checkpoint_step(1, &mut taken) {}
        if let Some(wanted) = wanted {
            prop_assert_eq!(taken.into_pieces().concat(), wanted);
        }
    }
}
