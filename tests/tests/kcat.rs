//! kcat, as people use it at a prompt, against a node of two cores.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::{self, run};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::wire::Connection;

/// A node and the program that talks to it.
struct Rig {
    node: Node,
    kcat: PathBuf,
}

impl Rig {
    /// `None` where kcat is not installed.
    fn new() -> Result<Option<Rig>> {
        let Some(kcat) = foreign::kcat()? else {
            return Ok(None);
        };
        Ok(Some(Rig {
            node: Node::start(2)?,
            kcat,
        }))
    }

    fn kcat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kcat);
        command.args(["-b", &self.node.bootstrap()]).args(arguments);
        command
    }

    fn produce(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut all = vec!["-P"];
        all.extend(arguments);
        run(&mut self.kcat(&all), input.as_bytes()).map(drop)
    }

    /// What `kcat -C -e` prints, as text.
    fn consume(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-C", "-e", "-q"];
        all.extend(arguments);
        Ok(String::from_utf8(run(&mut self.kcat(&all), b"")?)?)
    }
}

#[test]
fn lines_go_in_and_come_out_in_order() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    let lines: String = (0..5000).map(|n| format!("line {n} żółć\n")).collect();
    rig.produce(&["-t", "lines", "-p", "0"], &lines)?;
    assert_eq!(rig.consume(&["-t", "lines", "-o", "beginning"])?, lines);
    Ok(())
}

#[test]
fn keys_headers_and_tombstones_are_kept() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    let input = "k1:v1\nk2:\n:v3\n";
    rig.produce(
        &[
            "-t", "fields", "-p", "0", "-K:", "-Z", "-H", "a=1", "-H", "b=two",
        ],
        input,
    )?;
    let found = rig.consume(&["-t", "fields", "-f", "%o|%K|%k|%S|%s|%h\n"])?;
    let expected = "0|2|k1|2|v1|a=1,b=two\n1|2|k2|-1||a=1,b=two\n2|-1||2|v3|a=1,b=two\n";
    assert_eq!(
        found, expected,
        "-1 is the length of a null: a tombstone, no key"
    );
    Ok(())
}

#[test]
fn every_codec_round_trips() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    let lines: String = (0..2000)
        .map(|n| format!("{n} {}\n", "compressible ".repeat(8)))
        .collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        rig.produce(&["-t", codec, "-p", "0", "-z", codec], &lines)?;
        assert_eq!(rig.consume(&["-t", codec])?, lines, "{codec}");
        let tail = rig.consume(&["-t", codec, "-p", "0", "-o", "1998"])?;
        assert_eq!(
            tail.lines().count(),
            2,
            "{codec}: from the middle of a batch"
        );
    }
    Ok(())
}

#[test]
fn an_idempotent_producer_gets_every_line_in_once() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    let lines: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let once = [
        "-X",
        "enable.idempotence=true",
        "-X",
        "acks=all",
        "-X",
        "linger.ms=0",
    ];
    rig.produce(&[&["-t", "once", "-p", "0"], &once[..]].concat(), &lines)?;
    assert_eq!(rig.consume(&["-t", "once"])?, lines);
    Ok(())
}

#[test]
fn offsets_can_be_asked_for_by_position_and_by_time() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    rig.produce(&["-t", "offsets", "-p", "0"], &"x\n".repeat(100))?;
    let query = |at: &str| -> Result<String> {
        let where_to_look = format!("offsets:0:{at}");
        Ok(String::from_utf8(run(
            &mut rig.kcat(&["-Q", "-t", &where_to_look]),
            b"",
        )?)?)
    };
    assert_eq!(query("-2")?.trim(), "offsets [0] offset 0", "the beginning");
    assert_eq!(query("-1")?.trim(), "offsets [0] offset 100", "the end");
    let stamps = rig.consume(&["-t", "offsets", "-f", "%T\n"])?;
    let first = stamps.lines().next().context("a timestamp")?;
    assert_eq!(
        query(first)?.trim(),
        "offsets [0] offset 0",
        "the first record's own time"
    );
    let tail = rig.consume(&["-t", "offsets", "-p", "0", "-o", "-3", "-f", "%o\n"])?;
    assert_eq!(tail, "97\n98\n99\n", "the last three");
    Ok(())
}

#[test]
fn the_metadata_listing_shows_a_broker_per_core_and_a_leader_per_partition() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    Connection::open(rig.node.kafka(0))?.create_topic("listed", 6, &[])?;
    let listing: serde_json::Value =
        serde_json::from_slice(&run(&mut rig.kcat(&["-L", "-J"]), b"")?)?;
    let brokers = listing["brokers"].as_array().context("brokers")?;
    let names: Vec<_> = brokers
        .iter()
        .filter_map(|broker| broker["name"].as_str())
        .collect();
    for core in 0..2 {
        assert!(
            names.contains(&rig.node.kafka(core).to_string().as_str()),
            "{names:?}"
        );
    }
    let topics = listing["topics"].as_array().context("topics")?;
    let topic = topics
        .iter()
        .find(|topic| topic["topic"] == "listed")
        .context("the topic")?;
    let partitions = topic["partitions"].as_array().context("partitions")?;
    assert_eq!(partitions.len(), 6);
    let led_by = |core: u64| {
        partitions
            .iter()
            .filter(|part| part["leader"] == core)
            .count()
    };
    assert_eq!((led_by(0), led_by(1)), (3, 3), "{partitions:?}");
    Ok(())
}

#[test]
fn an_unknown_topic_is_made_by_producing_unless_that_is_turned_off() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    rig.produce(&["-t", "made-by-use"], "x\n")?;
    assert_eq!(rig.consume(&["-t", "made-by-use"])?, "x\n");
    let off = NodeOptions::new(2).arguments(["--auto-create-topics=false"]);
    let rig = Rig {
        node: Node::with(off)?,
        kcat: rig.kcat,
    };
    // How long librdkafka hopes that the topic will be made, 30 s by default.
    let hope = ["-X", "topic.metadata.propagation.max.ms=100"];
    let refused = rig.produce(&[&["-t", "not-made"], &hope[..]].concat(), "x\n");
    let refused = format!("{:#}", refused.expect_err("the topic is not there"));
    assert!(refused.contains("Unknown topic"), "{refused}");
    Ok(())
}

#[test]
fn a_consumer_that_waits_is_given_what_comes_later() -> Result<()> {
    let Some(rig) = Rig::new()? else {
        return Ok(());
    };
    rig.produce(&["-t", "later", "-p", "0"], "first\n")?;
    let out = rig.node.scratch("consumed");
    let mut waiting = rig.kcat(&["-C", "-u", "-t", "later", "-p", "0", "-o", "beginning"]);
    let mut waiting = waiting.stdout(std::fs::File::create(&out)?).spawn()?;
    let has = |text: &str| {
        let found = until(&format!("{text:?} at the consumer"), || {
            Ok((std::fs::read_to_string(&out)? == text).then_some(()))
        });
        found.map(drop)
    };
    let seen = has("first\n").and_then(|()| {
        rig.produce(&["-t", "later", "-p", "0"], "second\n")?;
        has("first\nsecond\n")
    });
    waiting.kill()?;
    waiting.wait()?;
    seen
}
