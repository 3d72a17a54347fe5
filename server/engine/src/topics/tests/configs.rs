//! What configurations of topics are taken, what they mean, and how they are changed.

use super::*;

fn config(configs: &[(&str, &str)]) -> Result<TopicConfig, TopicError> {
    TopicConfig::default().with(&entries(configs))
}

fn reason(configs: &[(&str, &str)]) -> String {
    config(configs).unwrap_err().to_string()
}

#[test]
fn the_table_of_configurations_is_sorted_and_its_defaults_are_valid() {
    assert!(DEFINITIONS.is_sorted_by(|a, b| a.name < b.name));
    for definition in DEFINITIONS {
        assert_eq!(
            definition.parse(definition.default).as_deref(),
            Ok(definition.default)
        );
        assert_eq!(definition.refusal(definition.default), None);
        assert!(!definition.documentation.is_empty());
    }
}

#[test]
fn every_configuration_that_kafka_documents_is_known() {
    // Kafka 3.9 and 4.x, "Topic Configs".
    let documented = "cleanup.policy compression.gzip.level compression.lz4.level compression.type \
        compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms \
        follower.replication.throttled.replicas index.interval.bytes \
        leader.replication.throttled.replicas local.retention.bytes local.retention.ms \
        max.compaction.lag.ms max.message.bytes message.downconversion.enable \
        message.format.version message.timestamp.after.max.ms message.timestamp.before.max.ms \
        message.timestamp.difference.max.ms message.timestamp.type min.cleanable.dirty.ratio \
        min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
        remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms \
        segment.bytes segment.index.bytes segment.jitter.ms segment.ms \
        unclean.leader.election.enable";
    for name in documented.split_whitespace() {
        assert!(TopicConfig::default().entry(name).is_some(), "{name}");
    }
    assert_eq!(
        TopicConfig::default().entries().count(),
        documented.split_whitespace().count() + 1
    );
}

#[test]
fn what_is_honoured_is_parsed() {
    let config = config(&[
        ("max.message.bytes", "2048"),
        ("retention.ms", " 60000 "),
        ("retention.bytes", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.after.max.ms", "7"),
        ("message.timestamp.before.max.ms", "8"),
        ("ringlog.durability", "written"),
        ("cleanup.policy", "compact, delete"),
        ("delete.retention.ms", "9"),
        ("min.compaction.lag.ms", "10"),
        ("max.compaction.lag.ms", "11"),
        ("min.cleanable.dirty.ratio", "0.25"),
    ])
    .unwrap();
    let policy = config.cleanup_policy();
    assert_eq!(policy, CleanupPolicy::CompactDelete);
    assert!(policy.deletes() && policy.compacts());
    assert_eq!(config.delete_retention_ms(), 9);
    assert_eq!(config.min_compaction_lag_ms(), 10);
    assert_eq!(config.max_compaction_lag_ms(), 11);
    assert_eq!(config.min_cleanable_dirty_millionths(), 250_000);
    assert_eq!(config.max_message_bytes(), 2048);
    assert_eq!(config.retention_ms(), Some(60_000));
    assert_eq!(config.retention_bytes(), None);
    assert_eq!(config.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(config.message_timestamp_after_max_ms(), 7);
    assert_eq!(config.message_timestamp_before_max_ms(), 8);
    assert_eq!(config.durability(), Durability::Written);
    let default = TopicConfig::default();
    assert_eq!(default.max_message_bytes(), 1_048_588);
    assert_eq!(default.retention_ms(), Some(7 * 24 * 60 * 60 * 1000));
    assert_eq!(default.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(default.message_timestamp_after_max_ms(), i64::MAX);
    assert_eq!(
        (default.durability(), default.cleanup_policy()),
        (Durability::Flushed, CleanupPolicy::Delete)
    );
}

#[test]
fn every_durability_is_spelled_as_it_is_parsed_and_has_its_place() {
    for (place, durability) in Durability::ALL.into_iter().enumerate() {
        let set = config(&[("ringlog.durability", durability.name())]).unwrap();
        assert_eq!(set.durability(), durability);
        assert_eq!(durability as usize, place);
    }
    assert!(Durability::ALL.is_sorted());
}

#[test]
fn entries_say_what_is_set_and_what_is_default() {
    let config = config(&[("retention.ms", "5")]).unwrap();
    let entry = config.entry("retention.ms").unwrap();
    assert_eq!(
        (entry.value, entry.default, entry.is_default),
        ("5", "604800000", false)
    );
    assert_eq!(entry.config_type, ConfigType::Long);
    let entry = config.entry("cleanup.policy").unwrap();
    assert_eq!(
        (entry.value, entry.is_default, entry.read_only),
        ("delete", true, false)
    );
    assert_eq!(
        config.overrides().collect::<Vec<_>>(),
        [("retention.ms", "5")]
    );
}

#[test]
fn wrong_values_are_refused_with_name_value_and_range() {
    for (name, value) in [
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "16777216"),
        ("max.message.bytes", "1e3"),
        ("retention.ms", "-2"),
        ("retention.ms", "9223372036854775808"),
        ("retention.bytes", ""),
        ("message.timestamp.type", "createtime"),
        ("preallocate", "yes"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.insync.replicas", "0"),
        ("compression.type", "brotli"),
        ("cleanup.policy", "delete,shred"),
        ("ringlog.durability", "none"),
    ] {
        let reason = reason(&[(name, value)]);
        assert!(
            reason.contains(name) && reason.contains(&format!("'{value}'")),
            "{reason}"
        );
    }
    assert!(reason(&[("max.message.bytes", "-1")]).contains("from 0 to 16711680"));
    assert!(reason(&[("segment.bites", "1")]).contains("no topic configuration"));
    let long = "x".repeat(2_000);
    assert!(reason(&[("message.format.version", &long)]).contains("1024 are allowed"));
    let lags = reason(&[
        ("min.compaction.lag.ms", "10"),
        ("max.compaction.lag.ms", "5"),
    ]);
    assert!(lags.contains("above max.compaction.lag.ms"), "{lags}");
}

#[test]
fn what_would_be_an_empty_promise_is_refused_with_the_reason() {
    for (name, value, because) in [
        ("compression.type", "gzip", "byte for byte"),
        ("unclean.leader.election.enable", "true", "one replica"),
        ("remote.storage.enable", "TRUE", "no remote storage"),
        ("local.retention.ms", "1000", "no remote storage"),
        (
            "message.timestamp.difference.max.ms",
            "1000",
            "message.timestamp.before.max.ms",
        ),
    ] {
        let refused = config(&[(name, value)]).unwrap_err();
        assert!(
            matches!(refused, TopicError::UnsupportedConfig { .. }),
            "{refused}"
        );
        let reason = refused.to_string();
        assert!(
            reason.contains(because) && reason.contains("is not supported"),
            "{reason}"
        );
    }
}

#[test]
fn harmless_configurations_are_taken_and_shown() {
    for (name, value) in [
        ("min.insync.replicas", "2"),
        ("segment.bytes", "104857600"),
        ("segment.ms", "1"),
        ("flush.messages", "1"),
        ("compression.type", "producer"),
        ("remote.storage.enable", "false"),
        ("preallocate", "TRUE"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ] {
        let config = config(&[(name, value)]).unwrap();
        assert!(
            config
                .entry(name)
                .unwrap()
                .value
                .eq_ignore_ascii_case(value)
        );
    }
}

#[test]
fn configurations_are_changed_one_by_one_and_go_back_to_the_default() {
    let mut topics = topics();
    let configs = entries(&[("retention.ms", "5"), ("retention.bytes", "6")]);
    let command = TopicCommand::Create {
        name: "a".to_owned(),
        partitions: 1,
        configs,
    };
    carry_out(&mut topics, &command, 2);
    let number = TopicNumber(0);
    let changes = vec![("retention.ms".to_owned(), ConfigChange::Reset)];
    let command = TopicCommand::AlterConfigs { number, changes };
    carry_out(&mut topics, &command, 0);
    let config = &topics.by_number(number).unwrap().config;
    assert_eq!(
        config.overrides().collect::<Vec<_>>(),
        [("retention.bytes", "6")]
    );
    assert_eq!(config.retention_ms(), Some(604_800_000));
}

#[test]
fn a_configuration_is_replaced_as_a_whole() {
    let mut topics = topics();
    let number = TopicNumber(0);
    let command = TopicCommand::Create {
        name: "a".to_owned(),
        partitions: 1,
        configs: entries(&[("retention.ms", "5"), ("retention.bytes", "6")]),
    };
    carry_out(&mut topics, &command, 2);
    let configs = entries(&[("retention.bytes", "7")]);
    let command = TopicCommand::ReplaceConfigs { number, configs };
    carry_out(&mut topics, &command, 0);
    let config = &topics.by_number(number).unwrap().config;
    let overrides: Vec<_> = config.overrides().collect();
    assert_eq!(overrides, [("retention.bytes", "7")]);
    let configs = vec![("retention.ms".to_owned(), None)];
    let refused = topics.validate(&TopicCommand::ReplaceConfigs { number, configs });
    assert!(matches!(refused, Err(TopicError::InvalidConfig { .. })));
    let number = TopicNumber(9);
    let configs = Vec::new();
    let refused = topics.validate(&TopicCommand::ReplaceConfigs { number, configs });
    assert_eq!(refused, Err(TopicError::UnknownTopic { number }));
}

#[test]
fn items_are_appended_to_lists_and_subtracted_from_them() {
    let policy = |config: &TopicConfig| {
        let entry = config.entry("cleanup.policy").unwrap();
        (entry.value.to_owned(), entry.is_default)
    };
    let alter = |config: &TopicConfig, change: ConfigChange| {
        config.altered(&[("cleanup.policy".to_owned(), change)])
    };
    let append = |items: &str| ConfigChange::Append(items.to_owned());
    let subtract = |items: &str| ConfigChange::Subtract(items.to_owned());
    let both = alter(&TopicConfig::default(), append("compact,delete")).unwrap();
    assert_eq!(policy(&both), ("delete,compact".to_owned(), false));
    assert_eq!(both.cleanup_policy(), CleanupPolicy::CompactDelete);
    let compact = alter(&both, subtract(" delete , shred")).unwrap();
    assert_eq!(policy(&compact), ("compact".to_owned(), false));
    let refused = alter(&both, append("shred")).unwrap_err();
    assert!(matches!(refused, TopicError::InvalidConfig { .. }));
    let refused = alter(&compact, subtract("compact")).unwrap_err();
    assert!(refused.to_string().contains("a list of delete, compact"));
    // Changes of one command follow each other.
    let changes = [
        ("cleanup.policy".to_owned(), append("compact")),
        ("cleanup.policy".to_owned(), subtract("delete")),
    ];
    let changed = TopicConfig::default().altered(&changes).unwrap();
    assert_eq!(changed, compact);
    let changes = [("retention.ms".to_owned(), append("5"))];
    let refused = both.altered(&changes).unwrap_err();
    assert!(refused.to_string().contains("it is no list"), "{refused}");
    let changes = [("no.such".to_owned(), ConfigChange::Reset)];
    assert_eq!(both.altered(&changes).as_ref(), Ok(&both));
    let changes = [("no.such".to_owned(), append("5"))];
    let refused = both.altered(&changes).unwrap_err();
    assert!(refused.to_string().contains("no topic configuration"));
    let many = vec![("retention.ms".to_owned(), ConfigChange::Reset); 257];
    let refused = both.altered(&many).unwrap_err();
    assert!(refused.to_string().contains("256 entries"), "{refused}");
}

#[test]
fn a_configuration_without_a_value_is_refused_for_a_new_topic() {
    let configs = vec![("retention.ms".to_owned(), None)];
    let command = TopicCommand::Create {
        name: "a".to_owned(),
        partitions: 1,
        configs,
    };
    let refused = topics().validate(&command).unwrap_err();
    assert!(
        matches!(refused, TopicError::InvalidConfig { .. }),
        "{refused}"
    );
}
