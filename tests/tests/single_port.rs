//! A node of two cores behind one port: clients see one broker, whichever core they reach, and the
//! client scripts find no difference.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::{foreign, http};
use serde_json::Value;

fn node() -> Result<Node> {
    Node::with(NodeOptions::new(2).arguments(["--single-port"]))
}

/// Runs features of a client script, one after the other on one node.
fn run(script: &str, features: &[&str]) -> Result<()> {
    let mut node = node()?;
    for feature in features {
        foreign::python_feature(script, &node.bootstrap(), feature)?;
        node.check_running()?;
    }
    Ok(())
}

/// Runs the two halves of a client script, before and after a kill -9 of their node.
fn run_over_a_kill(script: &str) -> Result<()> {
    let mut node = node()?;
    foreign::python_feature(script, &node.bootstrap(), "before_a_kill")?;
    let port = node.kafka(0).port();
    node.kill9()?;
    node.restart_with(NodeOptions::new(2).arguments(["--single-port"]).port(port))?;
    foreign::python_feature(script, &node.bootstrap(), "after_a_kill")?;
    node.check_running()
}

#[test]
fn clients_see_one_broker_that_leads_partitions_of_both_cores() -> Result<()> {
    let node = node()?;
    let Some(kcat) = foreign::kcat()? else {
        return Ok(());
    };
    let bootstrap = node.bootstrap();
    let mut records = Command::new(&kcat);
    records.args(["-P", "-b", &bootstrap, "-t", "one", "-K", ":"]);
    foreign::run(&mut records, b"a:1\n")?;
    let mut list = Command::new(&kcat);
    list.args(["-L", "-J", "-b", &bootstrap]);
    let listed: Value = serde_json::from_slice(&foreign::run(&mut list, b"")?)?;
    let brokers = listed["brokers"].as_array().context("brokers")?;
    assert_eq!(brokers.len(), 1, "{listed}");
    assert_eq!(brokers[0]["name"], bootstrap.as_str());
    Ok(())
}

#[test]
fn records_go_to_both_cores_and_come_back() -> Result<()> {
    let node = Node::with(NodeOptions::new(2).arguments(["--single-port", "--num-partitions=4"]))?;
    let Some(kcat) = foreign::kcat()? else {
        return Ok(());
    };
    let lines: String = (0..2_000).map(|n| format!("key-{n}:value {n}\n")).collect();
    let bootstrap = node.bootstrap();
    // Several connections: the kernel gives each to one core or the other.
    for _ in 0..4 {
        let mut produce = Command::new(&kcat);
        produce.args(["-P", "-b", &bootstrap, "-t", "spread", "-K", ":"]);
        foreign::run(&mut produce, lines.as_bytes())?;
        let mut consume = Command::new(&kcat);
        consume.args([
            "-C", "-q", "-e", "-b", &bootstrap, "-t", "spread", "-K", ":",
        ]);
        let read = String::from_utf8(foreign::run(&mut consume, b"")?)?;
        let read: BTreeSet<&str> = read.lines().collect();
        assert_eq!(read, lines.lines().collect::<BTreeSet<_>>());
    }
    let (_, described) = http::get(node.http(), "/topics/spread")?;
    let described: Value = serde_json::from_str(&described)?;
    let partitions = described["partitions"].as_array().context("partitions")?;
    let cores: BTreeSet<_> = partitions.iter().map(|one| one["core"].as_u64()).collect();
    assert_eq!(cores, [Some(0), Some(1)].into(), "{described}");
    let ends = partitions
        .iter()
        .filter_map(|one| one["end_offset"].as_u64());
    assert_eq!(ends.sum::<u64>(), 8_000, "each record once");
    let forwarded: f64 = (0..2)
        .map(|core| {
            http::metric(
                node.http(),
                &format!("ringlog_errands_total{{core=\"{core}\"}}"),
            )
        })
        .sum::<Result<f64>>()?;
    assert!(forwarded > 0.0, "something was forwarded");
    Ok(())
}

#[test]
fn records_by_confluent_kafka() -> Result<()> {
    run(
        "confluent_records.py",
        &[
            "round_trip",
            "headers",
            "codec_zstd",
            "idempotence",
            "several_idempotent_producers",
            "acknowledgement_levels",
            "watermarks_and_seeking",
            "offsets_by_timestamp",
            "large_messages",
            "oversize_messages_are_refused",
            "unknown_partition_is_refused",
            "long_poll",
            "many_partitions",
            "read_while_written",
        ],
    )
}

#[test]
fn groups_by_confluent_kafka() -> Result<()> {
    run(
        "confluent_groups.py",
        &[
            "three_members_and_one_is_killed",
            "a_group_resumes_where_it_committed",
            "operators_see_and_delete_groups",
        ],
    )
}

#[test]
fn administration_by_confluent_kafka() -> Result<()> {
    let features = [
        "create_and_delete",
        "add_partitions",
        "alter_topic_configs",
        "broker_configs",
        "elections",
        "listed_offsets",
        "delete_records",
    ];
    run("confluent_admin.py", &features)
}

#[test]
fn administration_by_kafka_python() -> Result<()> {
    let features = [
        "configurations",
        "log_directories",
        "producers",
        "elections_and_reassignments",
        "pages_of_partitions",
        "listed_offsets",
    ];
    run("kafka_python_admin.py", &features)
}

#[test]
fn a_position_is_checked_against_the_epochs_of_its_partitions_core() -> Result<()> {
    run_over_a_kill("confluent_leader_epochs.py")
}

#[test]
fn records_and_groups_by_the_other_python_clients() -> Result<()> {
    let features = ["round_trip", "idempotence", "offsets", "groups"];
    run("kafka_python_client.py", &features)?;
    run("aiokafka_client.py", &features)
}

#[test]
fn what_was_acknowledged_through_another_core_survives_a_kill() -> Result<()> {
    run_over_a_kill("confluent_kept_groups.py")
}
