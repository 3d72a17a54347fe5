//! The commands that talk to a running node: `ringlog topic`, `group`, `produce`, `consume`, with
//! kcat on the other side where it is installed.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use ringlog_tests::node::Node;
use ringlog_tests::{binaries, foreign};
use serde_json::Value;

/// `ringlog` with these arguments, talking to the node.
fn ringlog(node: &Node, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binaries::ringlog()?);
    command
        .args(arguments)
        .args(["--url", &format!("http://{}", node.http())]);
    Ok(command)
}

fn run(node: &Node, arguments: &[&str], input: &str) -> Result<String> {
    let printed = foreign::run(&mut ringlog(node, arguments)?, input.as_bytes())?;
    Ok(String::from_utf8(printed)?)
}

fn json(node: &Node, arguments: &[&str]) -> Result<Value> {
    let printed = run(node, arguments, "")?;
    serde_json::from_str(&printed).with_context(|| format!("{arguments:?} printed {printed}"))
}

/// What it prints on standard error when it ends with this status.
fn refused(node: &Node, arguments: &[&str], status: i32) -> Result<String> {
    let output = foreign::output(&mut ringlog(node, arguments)?, b"")?;
    said(arguments, &output, status)
}

fn said(arguments: &[&str], output: &Output, status: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(status),
        "{arguments:?} ended with {}, not {status}: {said}",
        output.status
    );
    Ok(said)
}

#[test]
fn topics_are_made_described_altered_and_deleted() -> Result<()> {
    let node = Node::start(2)?;
    let made = run(
        &node,
        &[
            "topic",
            "create",
            "t",
            "--partitions",
            "3",
            "--config",
            "retention.ms=3600000",
        ],
        "",
    )?;
    assert_eq!(made, "made topic t with 3 partitions\n");
    let again = refused(&node, &["topic", "create", "t"], 1)?;
    assert!(
        again.contains("exists already (TOPIC_ALREADY_EXISTS)"),
        "{again}"
    );
    run(&node, &["topic", "create", "t", "--if-not-exists"], "")?;
    let described = json(&node, &["topic", "describe", "t", "--json"])?;
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(described["configs"]["retention.ms"], "3600000");
    let changed = [
        "topic",
        "alter",
        "t",
        "--partitions",
        "5",
        "--config",
        "cleanup.policy=compact",
        "--delete-config",
        "retention.ms",
        "--json",
    ];
    let described = json(&node, &changed)?;
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(5));
    assert_eq!(
        described["configs"],
        serde_json::json!({"cleanup.policy": "compact"})
    );
    // What cannot be is found before a part of it is done.
    let wrong = [
        "topic",
        "alter",
        "t",
        "--partitions",
        "6",
        "--config",
        "retention.ms=soon",
    ];
    assert!(refused(&node, &wrong, 1)?.contains("INVALID_CONFIG"));
    let shown = run(&node, &["topic", "describe", "t", "--all-configs"], "")?;
    assert!(
        shown.starts_with("topic t, 5 partitions") && shown.contains("max.message.bytes ="),
        "{shown}"
    );
    let listed = json(&node, &["topic", "list", "--json"])?;
    assert_eq!(listed[0]["name"], "t");
    assert!(run(&node, &["topic", "list"], "")?.starts_with("NAME  PARTITIONS"));
    assert_eq!(
        run(&node, &["topic", "delete", "t"], "")?,
        "deleted topic t\n"
    );
    let gone = refused(&node, &["topic", "delete", "t"], 1)?;
    assert!(gone.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{gone}");
    assert_eq!(
        json(&node, &["topic", "delete", "t", "--if-exists", "--json"])?,
        serde_json::json!([])
    );
    Ok(())
}

#[test]
fn lines_go_in_and_come_out_with_their_keys() -> Result<()> {
    let node = Node::start(2)?;
    run(&node, &["topic", "create", "t", "--partitions", "2"], "")?;
    let lines: String = (0..2500).map(|n| format!("key-{n}:value {n}\n")).collect();
    run(&node, &["produce", "t", "--key-separator", ":"], &lines)?;
    let read = run(
        &node,
        &["consume", "t", "--exit", "--key-separator", ":"],
        "",
    )?;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&read), sorted(&lines));
    if let Some(kcat) = foreign::kcat()? {
        let mut command = Command::new(&kcat);
        command.args([
            "-C",
            "-q",
            "-e",
            "-b",
            &node.bootstrap(),
            "-t",
            "t",
            "-K",
            ":",
        ]);
        let read = String::from_utf8(foreign::run(&mut command, b"")?)?;
        assert_eq!(sorted(&read), sorted(&lines), "kcat reads what was written");
        let mut command = Command::new(&kcat);
        command.args([
            "-P",
            "-b",
            &node.bootstrap(),
            "-t",
            "from-kcat",
            "-K",
            ":",
            "-H",
            "h=1",
        ]);
        foreign::run(&mut command, b"k:v\n")?;
        let read = run(
            &node,
            &["consume", "from-kcat", "--count", "1", "--json"],
            "",
        )?;
        let record: Value = serde_json::from_str(&read)?;
        assert_eq!(
            (&record["key"], &record["value"]),
            (&"k".into(), &"v".into())
        );
        assert_eq!(record["headers"][0]["name"], "h");
    }
    Ok(())
}

#[test]
fn what_is_read_as_json_can_be_written_as_json() -> Result<()> {
    let node = Node::start(2)?;
    let records = "{\"key\":\"a\",\"value\":{\"n\": 1.50},\"headers\":{\"h\":\"x\"},\"timestamp\":1700000000000}\n\
                   {\"value_base64\":\"/wA=\"}\n{\"key\":\"gone\",\"value\":null}\n";
    let places = run(
        &node,
        &["produce", "first", "--input", "json", "--json"],
        records,
    )?;
    assert_eq!(places.lines().count(), 3);
    assert_eq!(
        places.lines().next(),
        Some("{\"offset\":0,\"partition\":0}")
    );
    let read = run(&node, &["consume", "first", "--exit", "--json"], "")?;
    run(&node, &["produce", "second", "--input", "json"], &read)?;
    assert_eq!(
        run(&node, &["consume", "second", "--exit", "--json"], "")?,
        read
    );
    let from = |place: &[&str]| {
        let arguments = [&["consume", "first", "--exit"], place].concat();
        run(&node, &arguments, "")
    };
    assert_eq!(from(&["--from", "2"])?, "\n");
    assert_eq!(from(&["--from", "latest"])?, "");
    assert_eq!(
        from(&["--from-time", "2023-11-14T22:13:20Z", "--count", "1"])?,
        "{\"n\": 1.50}\n"
    );
    Ok(())
}

#[test]
fn a_group_goes_on_where_it_is_set() -> Result<()> {
    let node = Node::start(2)?;
    run(&node, &["topic", "create", "t", "--partitions", "2"], "")?;
    for partition in ["0", "1"] {
        let lines: String = (0..10).map(|n| format!("{partition}.{n}\n")).collect();
        run(&node, &["produce", "t", "--partition", partition], &lines)?;
    }
    let consume = ["consume", "t", "--group", "g", "--exit", "--partition", "1"];
    let some = run(&node, &[&consume[..], &["--count", "4"]].concat(), "")?;
    assert_eq!(some, "1.0\n1.1\n1.2\n1.3\n");
    let rest = run(&node, &consume, "")?;
    assert_eq!(
        rest.lines().next(),
        Some("1.4"),
        "it goes on behind what it printed"
    );
    assert_eq!(rest.lines().count(), 6);
    let described = json(&node, &["group", "describe", "g", "--json"])?;
    assert_eq!(
        (&described["state"], &described["lag"]),
        (&"Empty".into(), &0.into())
    );
    assert_eq!(json(&node, &["group", "list", "--json"])?[0]["group"], "g");
    let reset = ["group", "reset-offsets", "g", "--topic", "t"];
    let shown = json(
        &node,
        &[&reset[..], &["--to-offset", "7", "--json"]].concat(),
    )?;
    assert_eq!(shown["executed"], false);
    assert_eq!(
        json(&node, &["group", "describe", "g", "--json"])?["lag"],
        0,
        "shown, not done"
    );
    let done = json(
        &node,
        &[&reset[..], &["--to-offset", "7", "--execute", "--json"]].concat(),
    )?;
    assert_eq!(done["offsets"][1]["committed_offset"], 10);
    assert_eq!(done["offsets"][1]["new_offset"], 7);
    assert_eq!(
        json(&node, &["group", "describe", "g", "--json"])?["lag"],
        6
    );
    run(
        &node,
        &[
            "group",
            "reset-offsets",
            "g",
            "--all-topics",
            "--shift-by",
            "-2",
            "--execute",
        ],
        "",
    )?;
    run(
        &node,
        &[
            "group",
            "reset-offsets",
            "g",
            "--topic",
            "t:0",
            "--to-earliest",
            "--execute",
        ],
        "",
    )?;
    let described = json(&node, &["group", "describe", "g", "--json"])?;
    let offsets = described["partitions"].as_array().context("partitions")?;
    let offsets: Vec<&Value> = offsets
        .iter()
        .map(|place| &place["committed_offset"])
        .collect();
    assert_eq!(offsets, [0, 5]);
    run(&node, &["group", "delete", "g"], "")?;
    let gone = refused(&node, &["group", "describe", "g"], 1)?;
    assert!(gone.contains("GROUP_ID_NOT_FOUND"), "{gone}");
    Ok(())
}

#[test]
fn the_exit_status_and_the_words_say_what_to_do() -> Result<()> {
    let mut node = Node::start(1)?;
    let unknown = refused(&node, &["consume", "nothing", "--exit"], 1)?;
    assert!(
        unknown.contains("there is no topic \"nothing\""),
        "{unknown}"
    );
    refused(&node, &["group", "reset-offsets", "g", "--topic", "t"], 2)?;
    let wrong = refused(&node, &["consume", "t", "--from", "somewhere"], 2)?;
    assert!(wrong.contains("earliest, latest or an offset"), "{wrong}");
    node.terminate()?;
    let nobody = refused(&node, &["topic", "list"], 3)?;
    assert!(
        nobody.contains("start one with `ringlog serve`"),
        "{nobody}"
    );
    Ok(())
}
