//! Log compaction as a consumer sees it, on the binary that users run: after it was cleaned, after a
//! kill, and after a clean stop, a compacted topic gives the last value of each key at its own
//! offset, whatever codec its producer used.

use anyhow::Result;
use ringlog_tests::foreign::{self, Outcome};
use ringlog_tests::fsck::fsck;
use ringlog_tests::http::metric;
use ringlog_tests::node::{Node, NodeOptions};

const SCRIPT: &str = "compaction.py";

fn options() -> NodeOptions {
    NodeOptions::new(1).arguments(["--segment-bytes=4MiB", "--clean-bytes-per-second=268435456"])
}

fn assert_sound(node: &Node) -> Result<()> {
    let checked = fsck(&node.data_dir(), &[])?;
    assert_eq!(checked.damage(), Vec::<&serde_json::Value>::new());
    Ok(())
}

fn feature(node: &Node, name: &str) -> Result<Outcome> {
    foreign::python_feature(SCRIPT, &node.bootstrap(), name)
}

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key_at_its_offset() -> Result<()> {
    let mut node = Node::with(options())?;
    if feature(&node, "fill")? == Outcome::Skipped {
        return Ok(());
    }
    // Only segments that a checkpoint lies behind are cleaned.
    feature(&node, "other_traffic")?;
    feature(&node, "wait_until_compacted")?;
    for name in [
        "compacted_batches",
        "compaction_passes",
        "clean_read_bytes",
        "clean_written_bytes",
    ] {
        let name = format!("ringlog_{name}_total{{core=\"0\"}}");
        assert!(metric(node.http(), &name)? > 0.0, "{name}");
    }
    let names = ["last_values", "last_values_by_kafka_python", "keyless"];
    for name in names {
        feature(&node, name)?;
    }
    node.kill9()?;
    assert_sound(&node)?;
    node.restart()?;
    for name in names {
        feature(&node, name)?;
    }
    node.terminate()?;
    assert_sound(&node)?;
    node.restart()?;
    for name in names {
        feature(&node, name)?;
    }
    node.check_running()
}

#[test]
fn every_feature_of_the_script_is_used() -> Result<()> {
    if let Some(features) = foreign::python_features(SCRIPT)? {
        assert_eq!(
            features,
            [
                "fill",
                "other_traffic",
                "wait_until_compacted",
                "last_values",
                "last_values_by_kafka_python",
                "keyless"
            ]
        );
    }
    Ok(())
}
