//! What happens at the limits of a node (`docs/limits.md`): who asks for more waits, is told so, or is
//! let go; the others go on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::process::resident_bytes;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::sound::{check_goes_on, with_topic};
use ringlog_tests::wire::{Connection, Fields, api, error};
use ringlog_tests::{binaries, foreign, http};

/// A figure of a core.
fn figure(node: &Node, name: &str, core: usize) -> Result<f64> {
    http::metric(node.http(), &format!("{name}{{core=\"{core}\"}}"))
}

/// A topic with so many records of 500 kB in each partition.
fn fill(client: &mut Connection, topic: &str, partitions: i32, records: usize) -> Result<()> {
    client.create_topic(topic, partitions, &[])?;
    let batch = Batch::of_values([vec![0; 500_000]]).encode();
    for partition in 0..partitions {
        for _ in 0..records {
            assert_eq!(client.produce(topic, partition, &batch)?.error, error::NONE);
        }
    }
    Ok(())
}

/// Clients that ask for ten megabytes several times and take nothing of it: more than the sockets between
/// the two hold, and so much more that together they want all there is.
fn slow_readers(node: &Node, topic: &str, count: usize) -> Result<Vec<Connection>> {
    const REQUESTS: usize = 5;
    let mut readers = Vec::new();
    for _ in 0..count {
        let mut reader = Connection::open(node.kafka(0))?;
        for _ in 0..REQUESTS {
            reader.send(api::FETCH, 4, &Connection::fetch_body(topic, 0, 0))?;
        }
        readers.push(reader);
    }
    Ok(readers)
}

#[test]
fn those_who_do_not_take_their_answers_make_room_for_those_who_do() -> Result<()> {
    const SMALLEST_BYTES: f64 = (16 << 20) as f64;
    let mut node = with_topic(NodeOptions::new(1).arguments(["--answer-memory", "16MiB"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    fill(&mut client, "large", 1, 20)?;
    let from = node.log_position()?;
    let readers = slow_readers(&node, "large", 12)?;
    until("answers that are not taken", || {
        let used = figure(&node, "ringlog_answer_memory_used_bytes", 0)?;
        // Of an answer at a time a batch may be more than there was room for.
        ensure!(used <= SMALLEST_BYTES + 16e6, "{used} bytes are used");
        Ok((used > 6e6).then_some(()))
    })?;
    // Many times what there is for all of them: each waits for its turn, and gets it.
    for _ in 0..5 {
        assert_eq!(client.read_all("large", 0)?.len(), 20);
    }
    println!("{}", node.log_line(from, &["answer_memory", "slowly"])?);
    assert!(figure(&node, "ringlog_answer_memory_waits_total", 0)? >= 1.0);
    assert!(figure(&node, "ringlog_answer_memory_given_up_total", 0)? >= 1.0);
    drop(readers);
    until("the memory of clients that are gone", || {
        let used = figure(&node, "ringlog_answer_memory_used_bytes", 0)?;
        Ok((used == 0.0).then_some(()))
    })?;
    check_goes_on(&mut node)
}

#[test]
fn answers_that_came_from_another_core_count_there_until_they_are_taken() -> Result<()> {
    let node = Node::with(NodeOptions::new(2).arguments(["--single-port"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    fill(&mut client, "large", 2, 20)?;
    // Whichever core a connection belongs to: of two partitions one is of the other.
    let mut readers = Vec::new();
    for partition in [0, 1] {
        let mut reader = Connection::open(node.kafka(0))?;
        for _ in 0..3 {
            let body = Connection::fetch_body("large", partition, 0);
            reader.send(api::FETCH, 4, &body)?;
        }
        readers.push(reader);
    }
    for core in 0..2 {
        until("an answer that is not taken", || {
            let used = figure(&node, "ringlog_answer_memory_used_bytes", core)?;
            Ok((used > 3e6).then_some(()))
        })?;
    }
    drop(readers);
    for core in 0..2 {
        until("the memory of clients that are gone", || {
            let used = figure(&node, "ringlog_answer_memory_used_bytes", core)?;
            Ok((used == 0.0).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn what_several_cores_find_counts_together_for_a_fetch_behind_one_port() -> Result<()> {
    let node = Node::with(NodeOptions::new(2).arguments(["--single-port"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("both", 2, &[])?;
    let batch = Batch::of_values([vec![7; 600]]).encode();
    // Either batch alone is too little, both together are enough. Nothing comes later, so a client that
    // is not answered at once waits for longer than this one.
    let least = i32::try_from(batch.len() + 1)?;
    let body = Fields::new().i32(-1).i32(280_000).i32(least);
    let body = body.i32(1 << 20).i8(0).i32(1).string(Some("both")).i32(2);
    let body = (0..2).fold(body, |body, partition| {
        body.i32(partition).i64(0).i32(1 << 20)
    });
    let body = body.finish();
    let waiting = client.send(api::FETCH, 4, &body)?;
    let mut producer = Connection::open(node.kafka(0))?;
    for partition in 0..2 {
        let answer = producer.produce("both", partition, &batch)?;
        assert_eq!(answer.error, error::NONE);
    }
    let answer = client.answer(waiting)?;
    assert!(answer.rest().len() > 2 * batch.len(), "both are in it");
    Ok(())
}

#[test]
fn requests_that_wait_are_not_read_beyond_their_memory_and_short_ones_are() -> Result<()> {
    const LIMIT_BYTES: f64 = (8 << 20) as f64;
    const GROUPS: usize = 12;
    let options = NodeOptions::new(1).arguments(["--request-memory", "8MiB"]);
    let mut node = with_topic(options.arguments(["--group-initial-rebalance-delay-ms", "2000"]))?;
    // Members whose joins wait for others, with as much metadata as a group may have almost.
    let join = |group: &str| {
        let body = Fields::new()
            .string(Some(group))
            .i32(30_000)
            .string(Some(""));
        let body = body.string(Some("consumer")).i32(1);
        body.string(Some("range"))
            .bytes(&vec![0; 1_500_000])
            .finish()
    };
    let mut waiting = Vec::new();
    for n in 0..GROUPS {
        let mut client = Connection::open(node.kafka(0))?;
        let join = join(&format!("group-{n}"));
        // The node reads no more than it has memory for: all of it is sent only when it does.
        waiting.push(std::thread::spawn(move || -> Result<i16> {
            let correlation = client.send(JOIN_GROUP, 0, &join)?;
            client.answer(correlation)?.i16()
        }));
    }
    until("a request that has to wait", || {
        let used = figure(&node, "ringlog_request_memory_used_bytes", 0)?;
        ensure!(used <= LIMIT_BYTES, "{used} bytes are used");
        let waits = figure(&node, "ringlog_request_memory_waits_total", 0)?;
        Ok((waits >= 1.0).then_some(()))
    })?;
    Connection::open(node.kafka(0))?.request(api::API_VERSIONS, 0, &[])?;
    for joined in waiting {
        let code = joined.join().ok().context("a client panicked")??;
        assert_eq!(code, error::NONE);
    }
    until("the memory of requests that are answered", || {
        let used = figure(&node, "ringlog_request_memory_used_bytes", 0)?;
        Ok((used == 0.0).then_some(()))
    })?;
    check_goes_on(&mut node)
}

/// JoinGroup, used in version 0.
const JOIN_GROUP: i16 = 11;

#[test]
fn producers_beyond_the_limit_displace_the_longest_idle() -> Result<()> {
    let node = Node::with(NodeOptions::new(1).arguments(["--max-producers", "3"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("many", 1, &[])?;
    let mut producers = Vec::new();
    for n in 0..5 {
        let (id, epoch) = client.producer_id()?;
        let first = Batch::of_values([n.to_string()]).from_producer(id, epoch, 0);
        assert_eq!(client.produce("many", 0, &first.encode())?.base_offset, n);
        producers.push((id, epoch, first));
    }
    assert_eq!(figure(&node, "ringlog_producers", 0)? as u64, 3);
    assert_eq!(figure(&node, "ringlog_producers_limit", 0)? as u64, 3);
    assert_eq!(
        figure(&node, "ringlog_producers_displaced_total", 0)? as u64,
        2
    );
    // One that is remembered is answered as before; one that is not may go on with any sequence.
    let (_, _, repeated) = &producers[4];
    assert_eq!(
        client.produce("many", 0, &repeated.encode())?.base_offset,
        4
    );
    let (id, epoch, _) = &producers[0];
    let next = Batch::of_values(["next"]).from_producer(*id, *epoch, 1);
    assert_eq!(client.produce("many", 0, &next.encode())?.base_offset, 5);
    Ok(())
}

#[test]
fn a_fetch_session_for_which_there_is_no_room_is_none() -> Result<()> {
    let node = Node::with(NodeOptions::new(1).arguments(["--max-fetch-session-partitions", "1"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("two", 2, &[])?;
    let mut session_of = |partitions: i32| {
        // Version 7, which begins a session: id 0, epoch 0.
        let body = Fields::new()
            .i32(-1)
            .i32(0)
            .i32(0)
            .i32(1 << 20)
            .i8(0)
            .i32(0)
            .i32(0);
        let body = body.i32(1).string(Some("two")).i32(partitions);
        let body = (0..partitions).fold(body, |body, partition| {
            body.i32(partition).i64(0).i64(-1).i32(1 << 20)
        });
        let mut answer = client.request(api::FETCH, 7, &body.i32(0).finish())?;
        let (_throttle, code) = (answer.i32()?, answer.i16()?);
        assert_eq!(code, error::NONE);
        answer.i32()
    };
    assert_eq!(
        session_of(2)?,
        0,
        "as many partitions as there is no room for"
    );
    assert_ne!(session_of(1)?, 0, "as many as there is");
    assert_eq!(
        figure(&node, "ringlog_fetch_session_partitions", 0)? as u64,
        1
    );
    assert_eq!(
        figure(&node, "ringlog_fetch_sessions_refused_total", 0)? as u64,
        1
    );
    Ok(())
}

#[test]
fn a_longer_text_with_an_offset_than_is_taken_is_refused() -> Result<()> {
    const OFFSET_COMMIT: i16 = 8;
    const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    let node = Node::with(NodeOptions::new(1).arguments(["--offset-metadata-max-bytes", "10"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("noted", 1, &[])?;
    for (length, expected) in [(10, error::NONE), (11, OFFSET_METADATA_TOO_LARGE)] {
        // Version 2, of a client that assigns itself.
        let body = Fields::new().string(Some("group")).i32(-1).string(Some(""));
        let body = body.i64(-1).i32(1).string(Some("noted")).i32(1).i32(0);
        let body = body.i64(7).string(Some(&"x".repeat(length))).finish();
        let mut answer = client.request(OFFSET_COMMIT, 2, &body)?;
        let (_topics, _name, _partitions) = (answer.i32()?, answer.string()?, answer.i32()?);
        let (_partition, code) = (answer.i32()?, answer.i16()?);
        assert_eq!(code, expected, "{length} characters");
    }
    Ok(())
}

#[test]
fn batches_that_grow_beyond_what_is_opened_cost_little_memory() -> Result<()> {
    // Less than one of them has: freed memory is kept, so what was gathered would show.
    const MOST_BYTES: u64 = 100 << 20;
    let mut node = Node::start(2)?;
    let before = resident_bytes(node.pid()?)?;
    let from = node.log_position()?;
    for feature in ["bombs", "a_time_within_a_bomb"] {
        foreign::python_feature("limits.py", &node.bootstrap(), feature)?;
    }
    println!(
        "{}",
        node.log_line(from, &["could not be opened for a timestamp"])?
    );
    let grown = resident_bytes(node.pid()?)?.saturating_sub(before);
    println!("{grown} bytes more are resident");
    assert!(grown < MOST_BYTES, "{grown} bytes more");
    node.check_running()
}

#[test]
fn consumers_share_what_there_is_for_answers() -> Result<()> {
    for more in [
        &["--answer-memory", "16MiB"][..],
        &["--answer-memory", "16MiB", "--single-port"],
    ] {
        let mut node = Node::with(NodeOptions::new(2).arguments(more.iter().copied()))?;
        foreign::python_feature("limits.py", &node.bootstrap(), "many_consumers")?;
        node.check_running()?;
    }
    Ok(())
}

/// What stands between backticks in each column of the rows of `docs/limits.md`.
fn table() -> Result<Vec<Vec<Vec<String>>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("a workspace")?;
    let text = std::fs::read_to_string(root.join("docs/limits.md"))?;
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let columns = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        let quoted = |cell: &str| {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        cells.map(quoted).collect::<Vec<Vec<String>>>()
    };
    let rows: Vec<_> = rows
        .map(columns)
        .filter(|row| row.len() == COLUMNS)
        .collect();
    ensure!(rows.len() > 30, "{} rows", rows.len());
    Ok(rows)
}

/// Resource, bound, setting, metrics, at the limit, test.
const COLUMNS: usize = 6;

/// All Rust and Python sources.
fn sources() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("a workspace")?;
    let mut folders = ["server", "storage", "tests/tests", "tests/clients"]
        .map(|one| root.join(one))
        .to_vec();
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_source = name.ends_with(".rs") || name.ends_with(".py");
            if path.is_dir() && !name.starts_with('.') && name != "node_modules" {
                folders.push(path);
            } else if is_source {
                all.push_str(&std::fs::read_to_string(&path)?);
            }
        }
    }
    Ok(all)
}

#[test]
fn every_setting_metric_and_test_in_the_table_of_limits_is_there() -> Result<()> {
    let help = Command::new(binaries::ringlog()?)
        .args(["serve", "--help"])
        .output()?;
    let help = String::from_utf8(help.stdout)?;
    let node = Node::start(1)?;
    // What is counted by route is shown once something was.
    http::get(node.http(), "/healthz")?;
    let (_, metrics) = http::get(node.http(), "/metrics")?;
    let (sources, mut missing) = (sources()?, BTreeSet::new());
    for row in table()? {
        let [_, bounds, settings, figures, _, tests] = &row[..] else {
            continue;
        };
        for name in bounds.iter().chain(settings) {
            let is_there = match name {
                // A topic's, which has a table of its own.
                topic if topic.contains('.') => sources.contains(&format!("\"{topic}\"")),
                constant if constant.to_uppercase() == *constant => {
                    sources.contains(&format!("const {constant}: "))
                }
                setting => help.contains(&format!("--{} ", setting.replace('_', "-"))),
            };
            if !is_there {
                missing.insert(format!("setting or constant {name}"));
            }
        }
        for name in figures {
            let (name, label) = name.split_once('{').unwrap_or((name, ""));
            let label = label.trim_end_matches('}');
            let mut lines = metrics.lines();
            let is_of = |line: &str| {
                // The type says that it is there even where nothing was counted yet.
                let kind = format!("# TYPE {} ", name.trim_end_matches("_total"));
                (label.is_empty() && line.starts_with(&kind))
                    || (!label.is_empty() && line.starts_with(name) && line.contains(label))
            };
            if !lines.any(is_of) {
                missing.insert(format!("metric {name} {label}"));
            }
        }
        for name in tests {
            let is_there = sources.contains(&format!("fn {name}("))
                || sources.contains(&format!("def {name}("));
            if !is_there {
                missing.insert(format!("test {name}"));
            }
        }
    }
    ensure!(
        missing.is_empty(),
        "in docs/limits.md and not there: {missing:#?}"
    );
    Ok(())
}
