//! Starting, stopping and refusing: what an operator meets.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::announce;
use ringlog_tests::http::get;
use ringlog_tests::node::{Node, NodeOptions, free_ports, serve_command};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, Produced, error};
use ringlog_tests::workdir::WorkDir;

/// Runs `ringlog serve` where it is expected to end by itself, and returns what it printed.
fn serve(data_dir: &Path, arguments: &[&str]) -> Result<Output> {
    let out = WorkDir::new()?;
    let path = out.join("printed");
    let mut command = serve_command(data_dir, std::fs::File::create(&path)?)?;
    // By the environment, so that arguments go before them.
    command
        .env("RINGLOG_KAFKA_ADDR", "127.0.0.1:0")
        .env("RINGLOG_HTTP_ADDR", "127.0.0.1:0")
        .args(arguments);
    let mut child = command.spawn()?;
    let ended = until("`ringlog serve` to end", || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let printed = std::fs::read(&path)?;
    let status = ended.with_context(|| String::from_utf8_lossy(&printed).into_owned())?;
    Ok(Output {
        status,
        stdout: printed,
        stderr: Vec::new(),
    })
}

/// That it refuses to start, in words that hold these.
fn check_refused(data_dir: &Path, arguments: &[&str], words: &[&str]) -> Result<()> {
    let output = serve(data_dir, arguments)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{}: {printed}", output.status);
    ensure!(!output.status.success(), "it ended well:\n{printed}");
    ensure!(
        output.status.code().is_some(),
        "it was ended by a signal:\n{printed}"
    );
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !printed.contains(**word))
        .collect();
    ensure!(missing.is_empty(), "{missing:?} not in:\n{printed}");
    Ok(())
}

fn produce_one(node: &Node, topic: &str, value: &str) -> Result<Produced> {
    let mut client = Connection::open(node.kafka(0))?;
    client.produce(topic, 0, &Batch::of_values([value]).encode())
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() -> Result<()> {
    let mut node = Node::start(1)?;
    let pid = node.pid()?.to_string();
    check_refused(&node.data_dir(), &[], &["in use", &pid, "--data-dir"])?;
    node.check_running()?;
    node.kill9()?;
    node.restart()
        .context("a killed node's directory can be taken at once")
}

#[test]
fn an_address_beyond_loopback_needs_insecure() -> Result<()> {
    let dir = WorkDir::new()?;
    for flag in ["--kafka-addr", "--http-addr"] {
        let refused = [flag, "0.0.0.0:0"];
        check_refused(
            &dir.join("data"),
            &refused,
            &["authentication", "--insecure"],
        )?;
    }
    ensure!(
        !dir.join("data").exists(),
        "a refused start leaves nothing behind"
    );
    let open = NodeOptions::new(1).arguments(["--insecure", "--advertised-host", "localhost"]);
    Node::with(open)?.check_running()
}

#[test]
fn nonsense_on_the_command_line_is_refused_by_name() -> Result<()> {
    let dir = WorkDir::new()?;
    let data = dir.join("data");
    check_refused(
        &data,
        &["--segment-bytes", "lots"],
        &["segment_bytes", "lots"],
    )?;
    check_refused(&data, &["--no-such-flag"], &["--no-such-flag"])?;
    check_refused(&data, &["--kafka-addr", "nowhere"], &["kafka_addr"])
}

#[test]
fn a_port_in_use_is_refused_by_name() -> Result<()> {
    let dir = WorkDir::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    check_refused(&dir.join("data"), &["--kafka-addr", &address], &[&address])?;
    check_refused(&dir.join("data"), &["--http-addr", &address], &[&address])
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused_by_name() -> Result<()> {
    let dir = WorkDir::new()?;
    let file = dir.join("file");
    std::fs::write(&file, "x")?;
    check_refused(&file, &[], &["making the data directory", "file"])
}

#[test]
fn sigterm_ends_well_and_the_same_ports_can_be_taken_at_once() -> Result<()> {
    let mut node = Node::with(NodeOptions::new(2).port(free_ports(2)?))?;
    Connection::open(node.kafka(0))?.create_topic("kept", 1, &[])?;
    for round in 0..5 {
        // Connections that stay open over the stop leave the port in TIME_WAIT.
        let open: Vec<_> = (0..8)
            .map(|n| Connection::open(node.kafka(n % 2)))
            .collect::<Result<_>>()?;
        let answer = produce_one(&node, "kept", "x")?;
        assert_eq!(
            answer,
            Produced {
                error: error::NONE,
                base_offset: round
            }
        );
        let status = node.terminate()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        drop(open);
        node.restart()
            .with_context(|| format!("restart {round} on the same ports"))?;
    }
    Ok(())
}

#[test]
fn after_a_kill_the_same_ports_can_be_taken_at_once() -> Result<()> {
    let mut node = Node::with(NodeOptions::new(2).port(free_ports(2)?))?;
    for round in 0..5 {
        let open = Connection::open(node.kafka(round % 2))?;
        node.kill9()?;
        node.restart()
            .with_context(|| format!("restart {round} on the same ports"))?;
        drop(open);
    }
    Ok(())
}

#[test]
fn a_stop_answers_what_it_has_taken() -> Result<()> {
    let mut node = Node::start(1)?;
    Connection::open(node.kafka(0))?.create_topic("drained", 1, &[])?;
    let batch = Batch::of_values([vec![b'x'; 100]]).encode();
    let mut clients: Vec<_> = (0..4)
        .map(|_| Connection::open(node.kafka(0)))
        .collect::<Result<_>>()?;
    // Every client keeps producing until its connection ends, and counts what was acknowledged.
    let acknowledged = std::thread::scope(|scope| -> Result<usize> {
        let producing: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let batch = &batch;
                scope.spawn(move || {
                    let answers = std::iter::from_fn(|| client.produce("drained", 0, batch).ok());
                    answers
                        .take_while(|answer| answer.error == error::NONE)
                        .count()
                })
            })
            .collect();
        let mut reader = Connection::open(node.kafka(0))?;
        until("some records", || {
            Ok((reader.fetch("drained", 0, 0)?.1 > 100).then_some(()))
        })?;
        let status = node.terminate()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        let counts = producing
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        Ok(counts.sum())
    })?;
    node.restart()?;
    let stored = Connection::open(node.kafka(0))?
        .read_all("drained", 0)?
        .len();
    println!("{acknowledged} acknowledged, {stored} stored");
    ensure!(
        stored >= acknowledged,
        "{acknowledged} acknowledged, {stored} stored"
    );
    // Each client may have had one request on its way that was stored and not answered.
    ensure!(
        stored <= acknowledged + 4,
        "{acknowledged} acknowledged, {stored} stored"
    );
    Ok(())
}

#[test]
fn topics_and_their_settings_survive_a_kill_and_a_stop() -> Result<()> {
    let mut node = Node::start(2)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("kept", 4, &[("max.message.bytes", "1000")])?;
    client.create_topic("other", 2, &[])?;
    let before = client.topics()?;
    assert_eq!(
        before
            .iter()
            .map(|topic| topic.partitions)
            .collect::<Vec<_>>(),
        [4, 2]
    );
    for round in 0..2 {
        if round == 0 {
            node.kill9()?;
        } else {
            node.terminate()?;
        }
        node.restart()?;
        let mut client = Connection::open(node.kafka(1))?;
        assert_eq!(client.topics()?, before, "names and partition counts");
        let large = Batch::of_values([vec![b'x'; 2000]]).encode();
        // Every core knows the setting: one of them leads each partition.
        let mut refused = 0;
        for core in 0..2 {
            let mut client = Connection::open(node.kafka(core))?;
            for partition in 0..4 {
                let answer = client.produce("kept", partition, &large)?;
                refused += usize::from(answer.error == error::MESSAGE_TOO_LARGE);
            }
        }
        assert_eq!(refused, 4, "max.message.bytes holds in every partition");
    }
    Ok(())
}

#[test]
fn the_effective_configuration_is_printed_with_its_origins() -> Result<()> {
    let dir = WorkDir::new()?;
    std::fs::write(
        dir.join("ringlog.toml"),
        "num_partitions = 3\nspin_us = 7\n",
    )?;
    let path = dir.join("printed");
    let mut command = serve_command(&dir.join("data"), std::fs::File::create(&path)?)?;
    command
        .env("RINGLOG_SPIN_US", "9")
        .args(["--cores", "1", "--print-config"]);
    let status = command.status()?;
    let printed = std::fs::read_to_string(&path)?;
    ensure!(status.success(), "{status}\n{printed}");
    let has = |start: &str, origin: &str| {
        let found = printed
            .lines()
            .any(|line| line.starts_with(start) && line.contains(origin));
        ensure!(found, "no line {start:?} from {origin:?} in:\n{printed}");
        Ok(())
    };
    has("num_partitions = 3", "ringlog.toml")?;
    has("spin_us = 9", "RINGLOG_SPIN_US")?;
    has("cores = 1", "command line")?;
    has("kafka_addr = \"127.0.0.1:9092\"", "default")?;
    ensure!(
        !dir.join("data").exists(),
        "printing makes no data directory"
    );
    Ok(())
}

#[test]
fn a_filesystem_in_memory_is_refused_unless_buffered_io_is_allowed() -> Result<()> {
    let Ok(dir) = tempfile::Builder::new()
        .prefix("ringlog-test-")
        .tempdir_in("/dev/shm")
    else {
        announce("SKIPPED: /dev/shm cannot be written");
        return Ok(());
    };
    let data = dir.path().join("data");
    let cores = [
        "--cores",
        "1",
        "--segment-bytes",
        "4MiB",
        "--pool-segments",
        "1",
    ];
    check_refused(&data, &cores, &["tmpfs", "--allow-buffered-io"])?;
    let allowed = NodeOptions::new(1).arguments(["--allow-buffered-io", "--segment-bytes=4MiB"]);
    let mut node = Node::on(&data, allowed)?;
    Connection::open(node.kafka(0))?.create_topic("memory", 1, &[])?;
    assert_eq!(produce_one(&node, "memory", "x")?.error, error::NONE);
    node.kill9()?;
    node.restart()?;
    assert_eq!(
        Connection::open(node.kafka(0))?
            .read_all("memory", 0)?
            .len(),
        1
    );
    Ok(())
}

#[test]
fn health_readiness_and_metrics_are_served() -> Result<()> {
    let node = Node::start(2)?;
    Connection::open(node.kafka(0))?.create_topic("measured", 1, &[])?;
    assert_eq!(get(node.http(), "/healthz")?.0, 200);
    assert_eq!(get(node.http(), "/readyz")?.0, 200);
    assert_eq!(get(node.http(), "/nowhere")?.0, 404);
    let (status, metrics) = get(node.http(), "/metrics")?;
    assert_eq!(status, 200);
    let samples = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    for sample in samples {
        let value = sample
            .rsplit_once(' ')
            .map(|(_, value)| value.parse::<f64>());
        ensure!(matches!(value, Some(Ok(_))), "not a sample: {sample:?}");
    }
    for core in ["core=\"0\"", "core=\"1\""] {
        ensure!(
            metrics.contains(core),
            "nothing about {core} in:\n{metrics}"
        );
    }
    Ok(())
}

#[test]
fn the_start_up_report_says_what_was_found() -> Result<()> {
    let node = Node::start(2)?;
    for words in [
        vec!["2 cores"],
        vec!["data", "directory"],
        vec!["io_uring:", "blocks of", "O_DIRECT"],
        vec!["recovered"],
    ] {
        println!("{}", node.log_line(0, &words)?);
    }
    for core in 0..2 {
        node.log_line(0, &[&node.kafka(core).port().to_string()])?;
    }
    Ok(())
}
