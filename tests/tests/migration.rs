//! Another number of cores, or another directory, over data that is there: every record comes
//! along, whatever moment the move is cut off at.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::announce;
use ringlog_tests::fsck::fsck;
use ringlog_tests::http::metric;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, Produced, error};
use ringlog_tests::workdir::WorkDir;

const TOPICS: [(&str, i32); 4] = [("wide", 7), ("three", 3), ("one", 1), ("single", 1)];

/// Where a migration can be cut off, and whether the new logs are the node's by then.
const STEPS: [(&str, bool); 9] = [
    ("planned", false),
    ("first-retired", false),
    ("retired", false),
    ("first-linked", false),
    ("first-imported", false),
    ("imported", false),
    ("switched", true),
    ("first-removed", true),
    ("removed", true),
];

type Partition = (&'static str, i32);

/// What was acknowledged.
struct Written {
    values: BTreeMap<Partition, Vec<Vec<u8>>>,
    producer: (i64, i16),
}

fn options(cores: u16) -> NodeOptions {
    NodeOptions::new(cores).environment("RINGLOG_SEGMENT_BYTES", "4MiB")
}

fn partitions() -> impl Iterator<Item = Partition> {
    let of_topic = |(topic, count): &(&'static str, i32)| {
        let topic = *topic;
        (0..*count).map(move |index| (topic, index))
    };
    TOPICS.iter().flat_map(of_topic)
}

fn connect(node: &Node, cores: u16) -> Result<Vec<Connection>> {
    (0..usize::from(cores))
        .map(|core| Connection::open(node.kafka(core)))
        .collect()
}

/// The core that leads each partition: exactly one, and each topic's evenly spread.
fn leaders(clients: &mut [Connection]) -> Result<BTreeMap<Partition, usize>> {
    let mut leaders = BTreeMap::new();
    for (topic, index) in partitions() {
        for (core, client) in clients.iter_mut().enumerate() {
            let (code, _) = client.list_offset(topic, index, -1)?;
            if code == error::NONE {
                let other = leaders.insert((topic, index), core);
                ensure!(other.is_none(), "{topic}/{index} has two leaders");
            } else {
                ensure!(code == error::NOT_LEADER_OR_FOLLOWER, "error {code}");
            }
        }
    }
    for (topic, count) in TOPICS {
        let mut shares = vec![0; clients.len()];
        for index in 0..count {
            let leader = leaders.get(&(topic, index));
            shares[*leader.with_context(|| format!("{topic}/{index} has no leader"))?] += 1;
        }
        let (least, most) = (shares.iter().min(), shares.iter().max());
        let (least, most) = (least.context("cores")?, most.context("cores")?);
        ensure!(most - least <= 1, "{topic} is spread as {shares:?}");
    }
    Ok(leaders)
}

impl Written {
    fn begin(node: &Node) -> Result<Written> {
        let mut client = Connection::open(node.kafka(0))?;
        for (topic, count) in TOPICS {
            client.create_topic(topic, count, &[])?;
        }
        Ok(Written {
            values: partitions().map(|of| (of, Vec::new())).collect(),
            producer: client.producer_id()?,
        })
    }

    /// The idempotent batch that begins with this record of a partition.
    fn batch(&self, of: Partition, first: usize, bytes: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (topic, index) = of;
        let values = (first..first + 2).map(|offset| {
            let word = format!("{topic}/{index}@{offset} ");
            let word = word.bytes().cycle().take(bytes);
            word.collect::<Vec<u8>>()
        });
        let values: Vec<Vec<u8>> = values.collect();
        let sequence = i32::try_from(first).expect("a test writes little");
        let (id, epoch) = self.producer;
        let batch = Batch::of_values(values.clone()).from_producer(id, epoch, sequence);
        (values, batch.encode())
    }

    /// Some more batches for each partition, by its leader; offsets go on densely.
    fn write(&mut self, node: &Node, cores: u16, batches: usize, bytes: usize) -> Result<()> {
        let mut clients = connect(node, cores)?;
        for (of, leader) in leaders(&mut clients)? {
            for _ in 0..batches {
                let first = self.values[&of].len();
                let (values, batch) = self.batch(of, first, bytes);
                let answer = clients[leader].produce(of.0, of.1, &batch)?;
                let base_offset = i64::try_from(first)?;
                let expected = Produced {
                    error: error::NONE,
                    base_offset,
                };
                ensure!(answer == expected, "{of:?}: {answer:?} for {expected:?}");
                // A repeat is known for one.
                let again = clients[leader].produce(of.0, of.1, &batch)?;
                ensure!(again == expected, "{of:?}: a repeat got {again:?}");
                self.values.entry(of).or_default().extend(values);
            }
        }
        Ok(())
    }

    /// Every record is there, whole and in order, and the producer's last batch is remembered.
    fn check(&self, node: &Node, cores: u16) -> Result<()> {
        let mut clients = connect(node, cores)?;
        for (of, leader) in leaders(&mut clients)? {
            let (topic, index) = of;
            let found = clients[leader].read_all(topic, index)?;
            let expected = &self.values[&of];
            ensure!(
                found.len() == expected.len(),
                "{of:?}: {} records of {}",
                found.len(),
                expected.len()
            );
            for (offset, ((at, value), expected)) in (0..).zip(found.iter().zip(expected)) {
                ensure!(*at == offset, "{of:?}: offset {at} in place of {offset}");
                ensure!(value == expected, "{of:?}: another value at {at}");
            }
            let Some(first) = expected.len().checked_sub(2) else {
                continue;
            };
            let bytes = expected[first].len();
            let (_, batch) = self.batch(of, first, bytes);
            let again = clients[leader].produce(topic, index, &batch)?;
            ensure!(
                again.error == error::NONE && again.base_offset == i64::try_from(first)?,
                "{of:?}: the last batch again got {again:?}"
            );
        }
        Ok(())
    }
}

/// Directories of logs, with how many files of other logs each has.
fn logs(data_dir: &Path) -> Result<BTreeMap<String, usize>> {
    let mut logs = BTreeMap::new();
    for entry in data_dir.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("log-") {
            continue;
        }
        let files = entry.path().read_dir()?.filter_map(Result::ok);
        let foreign =
            files.filter(|file| file.file_name().to_string_lossy().starts_with("foreign-"));
        logs.insert(name, foreign.count());
    }
    Ok(logs)
}

/// Nothing is left of a migration but its result.
fn check_tidy(node: &Node, cores: u16) -> Result<()> {
    let logs = logs(&node.data_dir())?;
    ensure!(logs.len() == usize::from(cores), "{cores} cores, {logs:?}");
    ensure!(
        !node.data_dir().join("migration.toml").exists(),
        "a plan is left"
    );
    Ok(())
}

fn check_whole(data_dir: &Path) -> Result<()> {
    let checked = fsck(data_dir, &[])?;
    ensure!(checked.code == 0, "{:#}", checked.report);
    Ok(())
}

#[test]
fn cores_come_and_go_and_every_record_comes_along() -> Result<()> {
    let mut node = Node::with(options(1))?;
    let mut written = Written::begin(&node)?;
    // Some segments for each partition, so that most of them lie in sealed ones.
    written.write(&node, 1, 6, 200 << 10)?;
    let mut ids = BTreeSet::from([written.producer.0]);
    for (round, cores) in [3, 2, 1, 4, 4, 2].into_iter().enumerate() {
        if round % 2 == 0 {
            node.kill9()?;
        } else {
            node.terminate()?;
        }
        let position = node.log_position()?;
        node.restart_with(options(cores))?;
        if round != 4 {
            println!(
                "{}",
                node.log_line(position, &["migrated in", "segments linked"])?
            );
        }
        check_tidy(&node, cores)?;
        written.check(&node, cores)?;
        for core in 0..usize::from(cores) {
            let id = Connection::open(node.kafka(core))?.producer_id()?.0;
            ensure!(ids.insert(id), "producer id {id} was given before");
        }
        written.write(&node, cores, 2, 20 << 10)?;
        written.check(&node, cores)?;
        node.kill9()?;
        check_whole(&node.data_dir())?;
        node.restart()?;
        written.check(&node, cores)?;
    }
    // What comes later spreads over the cores there are.
    Connection::open(node.kafka(1))?.create_topic("later", 2, &[])?;
    let mut clients = connect(&node, 2)?;
    let mut led = 0;
    for client in &mut clients {
        for index in 0..2 {
            led += usize::from(client.list_offset("later", index, -1)?.0 == error::NONE);
        }
    }
    ensure!(led == 2, "{led} of two partitions have a leader");
    Ok(())
}

#[test]
fn a_move_that_is_cut_off_at_any_step_leaves_the_node_before_it_or_behind_it() -> Result<()> {
    let mut node = Node::with(options(1))?;
    let mut written = Written::begin(&node)?;
    written.write(&node, 1, 2, 100 << 10)?;
    let mut cores = 1;
    for (number, (step, is_behind)) in STEPS.into_iter().enumerate() {
        let wanted = [3, 1, 2][number % 3];
        println!("{step}: {cores} cores become {wanted}");
        node.kill9()?;
        let cut = options(wanted).environment("RINGLOG_TEST_END_AT", step);
        let ended = node.start_to_its_end(cut)?;
        ensure!(ended.signal() == Some(9), "{step}: it ended with {ended}");
        check_whole(&node.data_dir()).context(step)?;
        // Before the switch the old number is as good as the new one.
        if !is_behind && number % 2 == 0 {
            node.restart_with(options(cores)).context(step)?;
            written.check(&node, cores).context(step)?;
            check_tidy(&node, cores).context(step)?;
            written.write(&node, cores, 1, 1000)?;
            node.kill9()?;
        }
        node.restart_with(options(wanted)).context(step)?;
        cores = wanted;
        check_tidy(&node, cores).context(step)?;
        written.check(&node, cores).context(step)?;
        written.write(&node, cores, 1, 1000)?;
    }
    node.terminate()?;
    check_whole(&node.data_dir())
}

#[test]
fn segments_that_came_along_go_when_their_records_do() -> Result<()> {
    let mut node = Node::with(options(1))?;
    let mut written = Written::begin(&node)?;
    written.write(&node, 1, 4, 200 << 10)?;
    node.terminate()?;
    node.restart_with(options(2))?;
    let foreign = |core: u16| {
        metric(
            node.http(),
            &format!("ringlog_segments_foreign{{core=\"{core}\"}}"),
        )
    };
    let before = logs(&node.data_dir())?;
    println!("{before:?}");
    for core in 0..2 {
        until("the segments to be counted", || {
            Ok((foreign(core)? >= 2.0).then_some(()))
        })?;
    }
    ensure!(before.values().all(|count| *count >= 2), "{before:?}");
    let mut client = Connection::open(node.kafka(0))?;
    for (topic, _) in TOPICS {
        client.delete_topic(topic)?;
    }
    until("the files to go", || {
        let left: usize = logs(&node.data_dir())?.values().sum();
        Ok((left == 0).then_some(()))
    })?;
    for core in 0..2 {
        until("none to be counted", || {
            Ok((foreign(core)? == 0.0).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn thousands_of_partitions_move_at_a_start() -> Result<()> {
    const PARTITIONS: i32 = 1_500;
    let mut node = Node::with(options(1))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("many", PARTITIONS, &[])?;
    let value = |index: i32| format!("of {index}").into_bytes();
    for index in 0..PARTITIONS {
        let batch = Batch::of_values([value(index)]).encode();
        ensure!(client.produce("many", index, &batch)?.error == error::NONE);
    }
    node.kill9()?;
    let position = node.log_position()?;
    node.restart_with(options(3))?;
    println!("{}", node.log_line(position, &["migrated in"])?);
    let mut clients = connect(&node, 3)?;
    let mut shares = [0; 3];
    for index in 0..PARTITIONS {
        for (core, client) in clients.iter_mut().enumerate() {
            if client.list_offset("many", index, -1)? == (error::NONE, 1) {
                shares[core] += 1;
                let found = client.read_all("many", index)?;
                ensure!(found == [(0, value(index))], "{index}: {found:?}");
            }
        }
    }
    ensure!(shares.iter().sum::<i32>() == PARTITIONS, "{shares:?}");
    ensure!(
        shares.iter().all(|share| *share >= PARTITIONS / 3),
        "{shares:?}"
    );
    Ok(())
}

/// `ringlog serve` arguments for more directories.
fn with_directories(cores: u16, more: &[&Path]) -> NodeOptions {
    let paths = more.iter().map(|path| path.to_string_lossy().into_owned());
    let paths: Vec<String> = paths.collect();
    let arguments = paths.iter().flat_map(|path| ["--data-dir", path]);
    options(cores).arguments(arguments)
}

#[test]
fn logs_lie_on_several_disks_and_move_when_one_is_added() -> Result<()> {
    let beside = WorkDir::new()?;
    let (second, third) = (beside.join("second"), beside.join("third"));
    let mut node = Node::with(with_directories(3, &[&second]))?;
    let mut written = Written::begin(&node)?;
    written.write(&node, 3, 2, 50 << 10)?;
    ensure!(logs(&node.data_dir())?.len() == 2 && logs(&second)?.len() == 1);
    node.kill9()?;
    check_whole(&node.data_dir())?;

    // Without it, or with another in its place, the node does not start, and says which.
    let ended = node.start_to_its_end(options(3))?;
    ensure!(!ended.success(), "it started without a directory");
    let name = second.canonicalize()?.display().to_string();
    node.log_line(0, &["missing", &name])?;
    let ended = node.start_to_its_end(with_directories(3, &[&third]))?;
    ensure!(!ended.success(), "it started with another directory");

    // One more: a third of the logs each.
    let position = node.log_position()?;
    node.restart_with(with_directories(3, &[&third, &second]))?;
    println!("{}", node.log_line(position, &["migrated in"])?);
    written.check(&node, 3)?;
    let directories: [PathBuf; 3] = [node.data_dir(), second.clone(), third.clone()];
    for directory in &directories {
        ensure!(logs(directory)?.len() == 1, "{}", directory.display());
    }
    written.write(&node, 3, 1, 1000)?;
    node.kill9()?;

    // Fewer cores than disks, cut off on the way, and the directories in another order.
    for step in ["imported", "switched"] {
        let cut = with_directories(2, &[&second, &third]);
        node.start_to_its_end(cut.environment("RINGLOG_TEST_END_AT", step))?;
        check_whole(&node.data_dir()).context(step)?;
    }
    node.restart_with(with_directories(2, &[&third, &second]))?;
    written.check(&node, 2)?;
    let count: usize = directories
        .iter()
        .map(|directory| logs(directory).map(|logs| logs.len()))
        .sum::<Result<usize>>()?;
    ensure!(count == 2, "{count} logs");
    Ok(())
}

#[test]
fn segments_are_copied_to_another_filesystem() -> Result<()> {
    let Ok(memory) = tempfile::Builder::new()
        .prefix("ringlog-test-")
        .tempdir_in("/dev/shm")
    else {
        announce("SKIPPED: /dev/shm cannot be written");
        return Ok(());
    };
    let mut node = Node::with(options(2))?;
    let mut written = Written::begin(&node)?;
    written.write(&node, 2, 2, 50 << 10)?;
    node.terminate()?;
    let other = memory.path().join("data");

    // Copied, and then refused, because it is memory: nothing is left of it, and the node is as
    // it was.
    let ended = node.start_to_its_end(with_directories(2, &[&other]))?;
    ensure!(!ended.success(), "it started on memory");
    node.log_line(0, &["could not be made", "--allow-buffered-io", "old logs"])?;
    ensure!(logs(&other)?.is_empty(), "{:?}", logs(&other)?);
    node.restart_with(options(2))?;
    check_tidy(&node, 2)?;
    written.check(&node, 2)?;
    node.kill9()?;

    let with = with_directories(2, &[&other]).arguments(["--allow-buffered-io"]);
    let position = node.log_position()?;
    node.restart_with(with)?;
    let line = node.log_line(position, &["migrated in", "bytes copied"])?;
    ensure!(!line.contains(" 0 bytes copied"), "{line}");
    written.check(&node, 2)?;
    written.write(&node, 2, 1, 1000)?;
    node.kill9()?;
    node.restart()?;
    written.check(&node, 2)
}
