//! The Python clients (confluent-kafka, which is librdkafka; kafka-python; aiokafka) against a node
//! of two cores: each feature of the client scripts is a test here, so that what breaks has a name.

use anyhow::Result;
use ringlog_tests::foreign;
use ringlog_tests::node::Node;

fn run(script: &str, feature: &str) -> Result<()> {
    let mut node = Node::start(2)?;
    foreign::python_feature(script, &node.bootstrap(), feature)?;
    node.check_running()
}

/// A feature that is in the script but not here would never run.
fn check_all_run(script: &str, tested: &[&str]) -> Result<()> {
    if let Some(features) = foreign::python_features(script)? {
        assert_eq!(features, tested, "features of {script}");
    }
    Ok(())
}

macro_rules! features {
    ($module:ident, $script:literal: $($feature:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $feature() -> Result<()> {
                    run($script, stringify!($feature))
                }
            )*

            #[test]
            fn every_feature_of_the_script_is_a_test() -> Result<()> {
                check_all_run($script, &[$(stringify!($feature)),*])
            }
        }
    };
}

features! {
    records, "confluent_records.py":
    round_trip
    by_key_partitioning
    headers
    nulls_and_empties
    binary_values
    create_time
    log_append_time
    codec_none
    codec_gzip
    codec_snappy
    codec_lz4
    codec_zstd
    idempotence
    several_idempotent_producers
    acknowledgement_levels
    automatic_creation
    watermarks_and_seeking
    offsets_by_timestamp
    large_messages
    oversize_messages_are_refused
    unknown_partition_is_refused
    long_poll
    many_partitions
    many_topics
    read_while_written
}

features! {
    groups, "confluent_groups.py":
    three_members_and_one_is_killed
    a_group_resumes_where_it_committed
    cooperative_members_keep_what_they_have
    a_static_member_returns_without_a_rebalance
    operators_see_and_delete_groups
}

#[test]
fn a_group_resumes_where_it_committed_before_the_node_was_killed() -> Result<()> {
    let script = "confluent_kept_groups.py";
    let mut node = Node::start(2)?;
    foreign::python_feature(script, &node.bootstrap(), "before_a_kill")?;
    node.kill9()?;
    node.restart()?;
    foreign::python_feature(script, &node.bootstrap(), "after_a_kill")?;
    node.check_running()
}

#[test]
fn a_position_of_an_older_leader_epoch_is_validated() -> Result<()> {
    let script = "confluent_leader_epochs.py";
    let mut node = Node::start(2)?;
    foreign::python_feature(script, &node.bootstrap(), "before_a_kill")?;
    node.kill9()?;
    node.restart()?;
    foreign::python_feature(script, &node.bootstrap(), "after_a_kill")?;
    node.check_running()
}

features! {
    admin, "confluent_admin.py":
    create_and_delete
    refused_topics
    validate_only
    default_partition_count
    replication_factor_three
    add_partitions
    describe_topic_configs
    alter_topic_configs
    replace_topic_configs
    broker_configs
    elections
    listed_offsets
    delete_records
    durability_levels
    cluster
    leaders_spread_over_brokers
    topic_ids
}

features! {
    kafka_python, "kafka_python_client.py":
    round_trip
    codecs
    idempotence
    offsets
    groups
}

features! {
    kafka_python_admin, "kafka_python_admin.py":
    configurations
    log_directories
    producers
    elections_and_reassignments
    pages_of_partitions
    listed_offsets
}

features! {
    aiokafka, "aiokafka_client.py":
    round_trip
    codecs
    idempotence
    offsets
    groups
    configurations
}
