//! A whole node on a real disk, with a face of one line per command: topics through the control
//! plane, records into every core's log, restart, deletion.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Command;
use ringlog_engine::topics::{ConfigChange, MetadataRecord, TopicCommand};
use ringlog_storage::io::uring::UringOptions;
use ringlog_storage::log::{LogConfig, Read};
use ringlog_types::batch::{self, BatchHeader, HEADER_BYTES};
use ringlog_types::{Offset, PartitionId, Sequence, TopicNumber};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::append::{Appended, BatchRange, FrameOrCopy};
use super::core::CoreHandle;
use super::directory::DataDirectory;
use super::supervisor::{Node, NodeError, Storage};
use crate::config::options::add_flags;
use crate::config::{Layers, Settings};
use crate::security::Security;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn face(
    stream: TcpStream,
    _peer: SocketAddr,
    core: CoreHandle,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = String::new();
            let more = tokio::select! {
                read = stream.read_line(&mut line) => read.is_ok_and(|bytes| bytes > 0),
                () = core.drained() => false,
            };
            if !more {
                return;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = answer(&core, &words)
                .await
                .unwrap_or_else(|error| format!("error {error}"));
            if stream
                .get_mut()
                .write_all(format!("{answer}\n").as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    })
}

async fn answer(core: &CoreHandle, words: &[&str]) -> Result<String, String> {
    match words {
        ["create", name, partitions] => {
            let command = TopicCommand::Create {
                name: (*name).to_owned(),
                partitions: partitions.parse().unwrap(),
                configs: Vec::new(),
            };
            core.control(command)
                .await
                .map_err(|error| error.to_string())?;
            Ok("ok".to_owned())
        }
        ["configure", name, key, value] => {
            let number = number(core, name)?;
            let changes = vec![((*key).to_owned(), ConfigChange::Set((*value).to_owned()))];
            let command = TopicCommand::AlterConfigs { number, changes };
            core.control(command)
                .await
                .map_err(|error| error.to_string())?;
            Ok("ok".to_owned())
        }
        ["fill", name, index, batches] => {
            let partition = partition(core, name, index)?;
            let value = "x".repeat(64 << 10);
            for _ in 0..batches.parse().unwrap() {
                append(core, partition, &value).await?;
            }
            Ok("ok".to_owned())
        }
        ["bounds", name, index] => {
            let partition = partition(core, name, index)?;
            let (start, end) = core.with(|core| core.log.bounds(partition));
            assert_eq!(
                core.with(|core| core.partitions.start_offset(partition)),
                start
            );
            Ok(format!("{start}..{end}"))
        }
        ["delete", name] => {
            let number = number(core, name)?;
            let record = core.control(TopicCommand::Delete { number }).await;
            match record.map_err(|error| error.to_string())? {
                MetadataRecord::TopicDeleted { .. } => Ok("ok".to_owned()),
                other => Err(format!("{other:?}")),
            }
        }
        ["append", name, index, value] => append(core, partition(core, name, index)?, value).await,
        ["shares", name, index] => shares(core, partition(core, name, index)?).await,
        ["read", name, index] => read(core, partition(core, name, index)?).await,
        ["wait", name, index] => {
            core.progress(&[partition(core, name, index)?]).await;
            Ok("moved".to_owned())
        }
        ["producer-id"] => {
            let id = core
                .new_producer_id()
                .await
                .map_err(|error| error.to_string())?;
            Ok(id.to_string())
        }
        ["cluster-id"] => Ok(core.with(|core| format!("{:?}", core.topics.cluster_id()))),
        other => Err(format!("what is {other:?}?")),
    }
}

fn number(core: &CoreHandle, name: &str) -> Result<TopicNumber, String> {
    core.with(|core| core.topics.by_name(name).map(|topic| topic.number))
        .ok_or("no topic".to_owned())
}

fn partition(core: &CoreHandle, name: &str, index: &str) -> Result<PartitionId, String> {
    let partition = PartitionId::new(number(core, name)?, index.parse().unwrap());
    if core.with(|core| core.owns(partition)) {
        Ok(partition)
    } else {
        Err("elsewhere".to_owned())
    }
}

fn one_batch(core: &CoreHandle, partition: PartitionId, value: &str) -> (BatchRange, Vec<u8>) {
    let now_ms = core.with(|core| core.now_ms());
    let bytes = batch::Builder::new()
        .push(now_ms, None, Some(value.as_bytes()), &[])
        .build();
    let range = BatchRange {
        partition,
        range: 0..bytes.len(),
        header: batch::validate(&bytes).unwrap(),
    };
    (range, bytes)
}

fn append_now(core: &CoreHandle, range: BatchRange, bytes: &mut [u8]) -> Result<Appended, String> {
    let mut results = core.with(|core| core.append_records(&[range], FrameOrCopy::Copy(bytes)));
    let appended = results.remove(0).map_err(|error| error.to_string())?;
    assert!(appended.sequence > Sequence::NONE);
    Ok(appended)
}

/// Fills the log's queue, and lets three wait for it: one that gives up, one that has brought much, and
/// one that has not. Who came to its turn, in that order.
async fn shares(core: &CoreHandle, partition: PartitionId) -> Result<String, String> {
    const BYTES: usize = 128 << 10;
    let peer = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    core.room(peer(1), BYTES).await;
    let value = "x".repeat(BYTES);
    // Nobody else runs meanwhile, so nothing is written.
    while core.with(|core| core.has_room(BYTES)) {
        let (range, mut bytes) = one_batch(core, partition, &value);
        append_now(core, range, &mut bytes)?;
    }
    let order = RefCell::new(Vec::new());
    let wait = async |port, who| {
        core.room(peer(port), BYTES).await;
        order.borrow_mut().push(who);
    };
    tokio::select! {
        biased;
        () = wait(2, "gave up") => {}
        () = std::future::ready(()) => {}
    }
    tokio::join!(wait(1, "much"), wait(3, "little"));
    Ok(order.take().join(","))
}

async fn append(core: &CoreHandle, partition: PartitionId, value: &str) -> Result<String, String> {
    let (range, mut bytes) = one_batch(core, partition, value);
    core.room(None, bytes.len()).await;
    let appended = append_now(core, range, &mut bytes)?;
    core.durable(appended.sequence)
        .await
        .map_err(|error| error.to_string())?;
    Ok(appended.base_offset.to_string())
}

/// Every value of the partition, in order.
async fn read(core: &CoreHandle, partition: PartitionId) -> Result<String, String> {
    let mut values = Vec::new();
    let mut offset = core.with(|core| core.log.bounds(partition).0);
    loop {
        match core.with(|core| core.log.read(partition, offset, 1 << 20)) {
            Read::Pending(ticket) => core.reads_done(ticket).await,
            Read::Batches(batches) if batches.is_empty() => return Ok(values.join(",")),
            Read::Batches(batches) => {
                for bytes in batches {
                    let header = BatchHeader::parse(&bytes).unwrap();
                    assert_eq!(header.base_offset, offset.as_i64());
                    assert!(
                        header.partition_leader_epoch > 0,
                        "the log was opened once at least"
                    );
                    for record in batch::records(&bytes[HEADER_BYTES..]) {
                        let value = record.unwrap().value.unwrap();
                        values.push(String::from_utf8_lossy(value).into_owned());
                    }
                    offset =
                        Offset(header.base_offset.unsigned_abs()).plus(header.offsets().into());
                }
            }
            other => return Err(format!("{other:?}")),
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        Client(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn ask(&mut self, line: &str) -> String {
        self.0
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        let read = self.0.read_line(&mut answer);
        tokio::time::timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("no answer to {line:?} in time"))
            .unwrap();
        answer.trim_end().to_owned()
    }
}

fn settings(dir: &Path, more: &[&str]) -> Arc<Settings> {
    let dir = dir.to_str().unwrap();
    let arguments = [
        "serve",
        "--data-dir",
        dir,
        "--kafka-addr",
        "127.0.0.1:0",
        "--allow-buffered-io",
    ];
    let all = arguments.iter().chain(more).copied();
    let flags = add_flags(Command::new("serve"))
        .try_get_matches_from(all)
        .unwrap();
    Arc::new(Settings::from_layers(&Layers::read(&flags, |_| None, None).unwrap()).unwrap())
}

async fn launch(dir: &Path, more: &[&str]) -> Result<Node, NodeError> {
    let settings = settings(dir, more);
    let directory = DataDirectory::take(&[dir.to_owned()], Some(2), 2).unwrap();
    let storage = Storage {
        logs: vec![LogConfig {
            segment_bytes: 4 << 20,
            ..LogConfig::default()
        }],
        uring: UringOptions {
            arena_bytes: 4 << 20,
            memory_limit_bytes: settings.memory_per_core_bytes,
            allow_buffered: true,
            ..UringOptions::default()
        },
    };
    let address = settings.kafka_addr;
    let security = Arc::new(Security::open(&settings).unwrap());
    let mut node = Node::launch(settings, security, directory, address, &storage, face)?;
    tokio::time::timeout(PATIENCE, node.start())
        .await
        .expect("a start in time")?;
    Ok(node)
}

fn on_runtime<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Asks each core in turn until one owns the partition.
async fn ask_owner(cores: &mut [Client], line: &str) -> String {
    for core in cores {
        let answer = core.ask(line).await;
        if answer != "error elsewhere" {
            return answer;
        }
    }
    panic!("no core owns the partition of {line:?}");
}

async fn connect(node: &Node) -> Vec<Client> {
    let mut clients = Vec::new();
    for address in node.addresses() {
        clients.push(Client::connect(*address).await);
    }
    clients
}

#[test]
fn who_brought_little_is_served_before_who_brought_much_and_came_first() {
    let dir = tempfile::tempdir().unwrap();
    on_runtime(async {
        let node = launch(dir.path(), &[]).await.unwrap();
        let mut cores = connect(&node).await;
        assert_eq!(cores[0].ask("create shared 1").await, "ok");
        for _ in 0..3 {
            let order = ask_owner(&mut cores, "shares shared 0").await;
            assert_eq!(order, "little,much");
        }
        node.stop().await.unwrap();
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_a_deleted_topic_is_not() {
    let dir = tempfile::tempdir().unwrap();
    on_runtime(async {
        let node = launch(dir.path(), &[]).await.unwrap();
        let mut cores = connect(&node).await;
        // Through the core that does not decide.
        assert_eq!(cores[1].ask("create kept 4").await, "ok");
        assert_eq!(cores[0].ask("create gone 2").await, "ok");
        assert!(cores[0].ask("create kept 1").await.starts_with("error"));
        for index in 0..4 {
            for number in 0..3 {
                let line = format!("append kept {index} v{index}.{number}");
                assert_eq!(ask_owner(&mut cores, &line).await, number.to_string());
            }
        }
        for index in 0..2 {
            assert_eq!(
                ask_owner(&mut cores, &format!("append gone {index} x")).await,
                "0"
            );
        }
        let mut owners = 0;
        for core in &mut cores {
            owners += u32::from(core.ask("read kept 0").await != "error elsewhere");
            assert!(core.ask("cluster-id").await.contains("Some"));
        }
        assert_eq!(owners, 1, "a partition has one owner");
        let first = cores[0].ask("producer-id").await;
        assert_ne!(first, cores[0].ask("producer-id").await);
        assert_ne!(first, cores[1].ask("producer-id").await);
        node.stop().await.unwrap();

        let node = launch(dir.path(), &[]).await.unwrap();
        let mut cores = connect(&node).await;
        for index in 0..4 {
            let values = format!("v{index}.0,v{index}.1,v{index}.2");
            assert_eq!(
                ask_owner(&mut cores, &format!("read kept {index}")).await,
                values
            );
        }
        assert_ne!(
            first,
            cores[0].ask("producer-id").await,
            "ids are never given twice"
        );
        assert_eq!(cores[1].ask("delete gone").await, "ok");
        for core in &mut cores {
            assert_eq!(core.ask("read gone 0").await, "error no topic");
        }
        assert_eq!(cores[1].ask("create gone 2").await, "ok");
        for index in 0..2 {
            assert_eq!(
                ask_owner(&mut cores, &format!("read gone {index}")).await,
                ""
            );
            assert_eq!(
                ask_owner(&mut cores, &format!("append gone {index} y")).await,
                "0"
            );
        }
        node.stop().await.unwrap();
    });
}

#[test]
fn one_who_waits_for_a_partition_is_woken_by_records_and_by_its_deletion() {
    let dir = tempfile::tempdir().unwrap();
    on_runtime(async {
        let node = launch(dir.path(), &[]).await.unwrap();
        let mut cores = connect(&node).await;
        assert_eq!(cores[0].ask("create t 1").await, "ok");
        let owner = usize::from(cores[0].ask("read t 0").await == "error elsewhere");
        let address = node.addresses()[owner];
        for wake in ["append t 0 x", "delete t"] {
            let mut waiting = Client::connect(address).await;
            waiting.0.get_mut().write_all(b"wait t 0\n").await.unwrap();
            // The waiter is there when a command sent behind it on its core was answered.
            let mut moved = String::new();
            let early = waiting.0.read_line(&mut moved);
            assert!(
                tokio::time::timeout(Duration::from_millis(100), early)
                    .await
                    .is_err()
            );
            assert!(!cores[owner].ask(wake).await.starts_with("error"));
            let late = waiting.0.read_line(&mut moved);
            tokio::time::timeout(PATIENCE, late)
                .await
                .expect("woken in time")
                .unwrap();
            assert_eq!(moved, "moved\n");
        }
        node.stop().await.unwrap();
    });
}

#[test]
fn many_cores_asking_at_once_all_see_every_topic() {
    let dir = tempfile::tempdir().unwrap();
    on_runtime(async {
        let node = launch(dir.path(), &[]).await.unwrap();
        let mut askers = Vec::new();
        for asker in 0..8usize {
            let address = node.addresses()[asker % 2];
            askers.push(tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for number in 0..25 {
                    let line = format!("create t{asker}-{number} 2");
                    assert_eq!(client.ask(&line).await, "ok");
                    // What was answered is known where it was asked.
                    let read = client.ask(&format!("read t{asker}-{number} 0")).await;
                    assert!(read.is_empty() || read == "error elsewhere", "{read}");
                }
            }));
        }
        for asker in askers {
            asker.await.unwrap();
        }
        let mut cores = connect(&node).await;
        for core in &mut cores {
            for asker in 0..8 {
                let read = core.ask(&format!("read t{asker}-24 1")).await;
                assert!(read.is_empty() || read == "error elsewhere", "{read}");
            }
        }
        node.stop().await.unwrap();
    });
}

#[test]
fn retention_moves_the_start_of_a_partition_by_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    on_runtime(async {
        let node = launch(dir.path(), &["--retention-check-ms=20"])
            .await
            .unwrap();
        let mut cores = connect(&node).await;
        assert_eq!(cores[0].ask("create t 1").await, "ok");
        // Three segments of 4 MiB.
        assert_eq!(ask_owner(&mut cores, "fill t 0 200").await, "ok");
        assert_eq!(ask_owner(&mut cores, "bounds t 0").await, "0..200");
        assert_eq!(cores[0].ask("configure t retention.bytes 1000").await, "ok");
        let deadline = std::time::Instant::now() + PATIENCE;
        let bounds = loop {
            let bounds = ask_owner(&mut cores, "bounds t 0").await;
            if !bounds.starts_with("0..") {
                break bounds;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the start has not moved: {bounds}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(bounds.ends_with("..200"), "{bounds}");
        node.stop().await.unwrap();
        let node = launch(dir.path(), &[]).await.unwrap();
        let mut cores = connect(&node).await;
        let again = ask_owner(&mut cores, "bounds t 0").await;
        assert!(
            !again.starts_with("0..") && again.ends_with("..200"),
            "{again}"
        );
        node.stop().await.unwrap();
    });
}
