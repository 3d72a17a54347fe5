//! kill -9 of the node again and again while a group of three different clients consumes and commits,
//! an idempotent producer sends, and now and then a member is killed too. The history checker finds
//! nothing lost, doubled or reordered, and no committed offset that went back.
//!
//! `RINGLOG_KILL_GROUP_ROUNDS` sets how often, `RINGLOG_KILL_SEED` repeats a run as far as a run
//! with clients can be repeated. Every so many rounds what was written down is checked, and the rest
//! goes on with another topic and group; at the end all are looked at once more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until_within;
use ringlog_tests::foreign::{announce, missing};
use ringlog_tests::fsck::fsck;
use ringlog_tests::history::{Event, Follower, check, record};
use ringlog_tests::matrix::driver::Driver;
use ringlog_tests::matrix::node_view::NodeView;
use ringlog_tests::matrix::{Client, client::Absent};
use ringlog_tests::node::{Node, NodeOptions, free_ports};
use ringlog_tests::random::Random;

const DEFAULT_ROUNDS: u64 = 4;
/// Rounds with one topic: bounds what a check takes.
const ROUNDS_OF_A_LIFE: u64 = 25;
const PARTITIONS: i32 = 6;
/// Events that a producer sends before another one takes over.
const EVENTS: u64 = 200;
/// Who is in the group: all know the range assignor, so they agree.
const MEMBERS: [Client; 3] = [Client::Confluent, Client::KafkaPython, Client::Aiokafka];
/// Sends, and asks what is committed.
const PRODUCER: Client = Client::Confluent;
/// For what needs clients to notice that their node was away, and to find together again.
const PATIENCE: Duration = Duration::from_secs(180);

/// A group with its topic and the producer of it.
struct Life<'a> {
    node: &'a mut Node,
    topic: String,
    directory: PathBuf,
    follower: Follower,
    counted: Counted,
    /// How many members there have been; the newest one of each client is the one that lives.
    made: usize,
    /// Whether the producer has given up.
    sending_failed: Arc<AtomicBool>,
}

/// What has been seen in the histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    acknowledged: u64,
    commits: u64,
    committed: BTreeMap<i32, i64>,
}

/// What a producer that is refused tells of itself: which request it waited for.
const DEBUG: (&str, &str) = ("DRIVER_DEBUG", "broker,metadata,eos,protocol");

/// The driver, or why there is none, which is told once.
fn driver(client: Client, node: &Node, directory: &Path, name: &str) -> Result<Driver> {
    let started = Driver::start_with(client, &node.bootstrap(), directory, name, &[DEBUG])?;
    started.map_err(|absent| anyhow::anyhow!("{}: {}", client.name(), absent.what))
}

fn group_of(topic: &str) -> String {
    format!("{topic}-group")
}

impl Life<'_> {
    fn view(&self) -> Result<NodeView> {
        NodeView::open(&[self.node.kafka(0), self.node.kafka(1)])
    }

    fn driver(&self, client: Client, name: &str) -> Result<Driver> {
        driver(client, self.node, &self.directory, name)
    }

    /// A member that has just been started, under a name of its own.
    fn member(&mut self, client: Client) -> Result<Driver> {
        let name = format!("member-{}", self.made);
        self.made += 1;
        let mut driver = self.driver(client, &name)?;
        let (topic, group) = (&self.topic, group_of(&self.topic));
        driver.must(&format!("join group={group} member={name} topic={topic}"))?;
        Ok(driver)
    }

    /// Takes in what has been written since.
    fn look(&mut self) -> Result<()> {
        let counted = &mut self.counted;
        self.follower.look(|entry| match &entry.event {
            Event::Acknowledged { .. } => counted.acknowledged += 1,
            Event::Committed {
                partition, offset, ..
            } => {
                counted.commits += 1;
                let highest = counted.committed.entry(partition.partition).or_default();
                *highest = (*highest).max(*offset);
            }
            _ => {}
        })
    }

    /// Waits until events were acknowledged, and each partition was read on and committed, since the
    /// last time: so each member is back.
    fn wait_for_progress(&mut self) -> Result<()> {
        let before = self.counted.clone();
        until_within(PATIENCE, "acknowledgements, and commits everywhere", || {
            std::thread::sleep(Duration::from_millis(20));
            self.look()?;
            ensure!(
                !self.sending_failed.load(Ordering::Relaxed),
                "nobody sends any more"
            );
            let now = &self.counted;
            let committed = (0..PARTITIONS)
                .all(|partition| now.committed.get(&partition) > before.committed.get(&partition));
            Ok((now.acknowledged > before.acknowledged && committed).then_some(()))
        })
        .with_context(|| format!("{:?} after {before:?}", self.counted))
    }

    /// One kill, or more, and what a node is like behind it.
    fn round(&mut self, operator: &mut Driver, random: &mut Random) -> Result<()> {
        self.wait_for_progress()?;
        // Not a wait for something to happen: the moment of the kill is drawn by chance.
        std::thread::sleep(Duration::from_micros(random.below(300_000)));
        self.node.kill9()?;
        // Now and then the next start is killed as well, somewhere in its recovery.
        while random.below(3) == 0 {
            self.node
                .start_and_kill9(Duration::from_micros(random.below(100_000)))?;
        }
        let checked = fsck(&self.node.data_dir(), &[])?;
        ensure!(checked.code == 0, "{:#}", checked.report);
        self.node.restart()?;
        self.ask_what_is_committed(operator)
    }

    fn ask_what_is_committed(&self, operator: &mut Driver) -> Result<()> {
        let (topic, group) = (&self.topic, group_of(&self.topic));
        let ask = format!("committed group={group} topic={topic} partitions={PARTITIONS}");
        let told = operator.must(&ask)?;
        println!("  {topic}: committed {told}, {:?}", self.counted);
        Ok(())
    }

    /// Waits until the group has committed everything, and notes that it was at the end.
    fn drain(&mut self) -> Result<()> {
        let since = record::now();
        let ends = self.view()?.ends(&self.topic, PARTITIONS)?;
        until_within(PATIENCE, "everything to be committed", || {
            std::thread::sleep(Duration::from_millis(20));
            self.look()?;
            Ok((self.counted.committed == ends).then_some(()))
        })
        .with_context(|| format!("{ends:?}, committed {:?}", self.counted.committed))?;
        let mut recorder = record::Recorder::open(&self.directory.join("test.jsonl"))?;
        recorder.write_ended(&group_of(&self.topic), &self.topic, &ends, since)
    }

    /// Reads everything once more, under a name, and checks what is written down.
    fn check(&mut self, operator: &mut Driver, reader: &str) -> Result<()> {
        self.ask_what_is_committed(operator)?;
        let topic = self.topic.clone();
        operator.must(&format!(
            "consume topic={topic} partitions={PARTITIONS} group={reader}"
        ))?;
        self.look()?;
        let report = check(&self.follower.history());
        println!("  {topic}, read by {reader}: {report}");
        ensure!(report.faults.is_empty(), "{topic}: {report}");
        // Otherwise the checker had nothing to go by.
        let partitions = usize::try_from(PARTITIONS)?;
        ensure!(report.acknowledged > 0 && report.committed > 0, "{report}");
        ensure!(report.ended >= 2 * partitions, "{report}");
        Ok(())
    }

    /// So many rounds, and a check.
    fn live(&mut self, rounds: u64, random: &mut Random) -> Result<()> {
        self.view()?.create(&self.topic, PARTITIONS)?;
        let mut producer = self.driver(PRODUCER, "producer")?;
        let mut operator = self.driver(PRODUCER, "operator")?;
        let mut members = Vec::new();
        for client in MEMBERS {
            members.push(self.member(client)?);
        }
        let enough = AtomicBool::new(false);
        let failed = Arc::clone(&self.sending_failed);
        let topic = self.topic.clone();
        std::thread::scope(|scope| -> Result<()> {
            let sending = scope.spawn(|| {
                let sent = send(&mut producer, &topic, &enough);
                failed.store(sent.is_err(), Ordering::Relaxed);
                sent
            });
            let lived = self.rounds(rounds, random, &mut operator, &mut members);
            enough.store(true, Ordering::Relaxed);
            // Its own failure explains that of the rounds, which then waited for it in vain.
            let sent = sending.join().ok().context("sending panicked")?;
            let sent = sent.with_context(|| format!("sending to {topic}"))?;
            lived?;
            println!("  {topic}: {sent} events sent");
            Ok(())
        })?;
        self.drain()?;
        for member in &mut members {
            member.must("leave")?;
        }
        self.check(&mut operator, "scan")
    }

    fn rounds(
        &mut self,
        rounds: u64,
        random: &mut Random,
        operator: &mut Driver,
        members: &mut [Driver],
    ) -> Result<()> {
        for number in 0..rounds {
            self.round(operator, random)
                .with_context(|| format!("{}, round {number}", self.topic))?;
            if random.below(4) == 0 {
                let at = usize::try_from(random.below(3))?;
                let next = self.member(MEMBERS[at])?;
                println!("  {}: a member is killed", self.topic);
                std::mem::replace(&mut members[at], next).kill9()?;
            }
        }
        Ok(())
    }
}

/// Producers, one after the other, each of which goes on where the one before it stopped. None may time
/// out: a node that is back takes events at once.
fn send(producer: &mut Driver, topic: &str, enough: &AtomicBool) -> Result<u64> {
    let mut first = 0;
    while !enough.load(Ordering::Relaxed) {
        let sent = producer.must(&format!(
            "produce topic={topic} partitions={PARTITIONS} producer={topic} first={first} count={EVENTS} idempotent=yes"
        ));
        if sent.is_err() {
            println!(
                "  {topic}: the producer told:\n{}",
                producer.all_complaints()
            );
        }
        sent?;
        first += EVENTS;
    }
    Ok(first)
}

/// Whether all clients are here; if not, says so.
fn clients_are_here() -> Result<bool> {
    for client in MEMBERS.into_iter().chain([PRODUCER]) {
        if let Err(Absent { what, installable }) = client.command() {
            let said = format!("{}: {what}", client.name());
            if installable {
                missing(&said)?;
            } else {
                announce(&format!("NOT RUN: {said}"));
            }
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn nothing_is_lost_to_a_group_and_no_commit_goes_back_by_kills() -> Result<()> {
    if !clients_are_here()? {
        return Ok(());
    }
    let rounds = match std::env::var("RINGLOG_KILL_GROUP_ROUNDS") {
        Ok(text) => text.parse().context("RINGLOG_KILL_GROUP_ROUNDS")?,
        Err(_) => DEFAULT_ROUNDS,
    };
    let mut random = Random::from_environment("RINGLOG_KILL_SEED");
    // Clients that live on have to find the node where it was.
    let options = NodeOptions::new(2)
        .port(free_ports(2)?)
        .environment("RINGLOG_GROUP_INITIAL_REBALANCE_DELAY_MS", "500");
    let mut node = Node::with(options)?;
    let mut lives: Vec<(String, PathBuf)> = Vec::new();
    let mut left = rounds;
    while left > 0 {
        let topic = format!("life-{}", lives.len());
        let directory = node.scratch(&topic);
        std::fs::create_dir(&directory)?;
        let mut life = Life {
            node: &mut node,
            topic: topic.clone(),
            follower: Follower::new(&directory),
            directory: directory.clone(),
            counted: Counted::default(),
            made: 0,
            sending_failed: Arc::default(),
        };
        let now = left.min(ROUNDS_OF_A_LIFE);
        life.live(now, &mut random)?;
        left -= now;
        println!("{} of {rounds} rounds", rounds - left);
        lives.push((topic, directory));
    }
    // What earlier groups were promised has survived the kills behind them.
    node.kill9()?;
    node.restart()?;
    for (topic, directory) in lives {
        let mut operator = driver(PRODUCER, &node, &directory, "again")?;
        let mut life = Life {
            node: &mut node,
            topic,
            follower: Follower::new(&directory),
            directory,
            counted: Counted::default(),
            made: 0,
            sending_failed: Arc::default(),
        };
        life.check(&mut operator, "scan-again")?;
    }
    node.check_running()
}
