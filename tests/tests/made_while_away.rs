//! Idempotent producers of librdkafka that are made while the node is killed, away or on its way back: each
//! has its first events acknowledged soon after the node is ready, and nothing is lost or doubled.
//!
//! `RINGLOG_AWAY_ROUNDS` sets how often, `RINGLOG_AWAY_SEED` repeats a run as far as one with clients can
//! be repeated. Where a producer waits too long, librdkafka's own log says for what.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringlog_tests::foreign::missing;
use ringlog_tests::fsck::fsck;
use ringlog_tests::history::{Follower, check};
use ringlog_tests::matrix::Client;
use ringlog_tests::matrix::driver::Driver;
use ringlog_tests::matrix::node_view::NodeView;
use ringlog_tests::node::{Node, NodeOptions, free_ports};
use ringlog_tests::random::Random;

const DEFAULT_ROUNDS: u64 = 3;
const PRODUCERS: usize = 3;
const PARTITIONS: i32 = 6;
const EVENTS: u64 = 60;
const TOPIC: &str = "away";
/// A producer is made within so long of the beginning of a round, in which the node is killed.
const MADE_WITHIN_US: u64 = 1_500_000;
const KILLED_WITHIN_US: u64 = 500_000;
const AWAY_WITHIN_US: u64 = 2_000_000;
/// Many times what it takes: librdkafka looks for the node once in a second, and asks it for metadata in
/// the next one.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// What of librdkafka's log is told when its events are refused.
const DEBUG: (&str, &str) = ("DRIVER_DEBUG", "broker,metadata,eos,protocol");

/// Makes a producer in a while, and says when all its events were acknowledged.
fn produce(driver: &mut Driver, name: &str, first: u64, pause: Duration) -> Result<Instant> {
    std::thread::sleep(pause);
    let sent = driver.must(&format!(
        "produce topic={TOPIC} partitions={PARTITIONS} producer={name} first={first} count={EVENTS} idempotent=yes"
    ));
    let done = Instant::now();
    if sent.is_err() {
        println!("{name} told:\n{}", driver.all_complaints());
    }
    sent.map(|_| done).with_context(|| name.to_owned())
}

/// Kills the node, at times the next start of it as well, and brings it back; says when it was ready.
fn be_away(node: &mut Node, random: &mut Random) -> Result<Instant> {
    let mut pause = |within_us| Duration::from_micros(random.below(within_us));
    let (alive, away, recovering) = (
        pause(KILLED_WITHIN_US),
        pause(AWAY_WITHIN_US),
        pause(300_000),
    );
    std::thread::sleep(alive);
    node.kill9()?;
    std::thread::sleep(away);
    if random.below(3) == 0 {
        node.start_and_kill9(recovering)?;
    }
    let checked = fsck(&node.data_dir(), &[])?;
    ensure!(checked.code == 0, "{:#}", checked.report);
    node.restart()?;
    Ok(Instant::now())
}

#[test]
fn a_producer_that_is_made_while_the_node_is_away_sends_when_it_is_back() -> Result<()> {
    if let Err(absent) = Client::Confluent.command() {
        return missing(&format!("confluent-kafka: {}", absent.what));
    }
    let rounds = match std::env::var("RINGLOG_AWAY_ROUNDS") {
        Ok(text) => text.parse().context("RINGLOG_AWAY_ROUNDS")?,
        Err(_) => DEFAULT_ROUNDS,
    };
    let mut random = Random::from_environment("RINGLOG_AWAY_SEED");
    let mut node = Node::with(NodeOptions::new(2).port(free_ports(2)?))?;
    let directory = node.scratch("away");
    std::fs::create_dir(&directory)?;
    NodeView::open(&[node.kafka(0), node.kafka(1)])?.create(TOPIC, PARTITIONS)?;
    let mut drivers = Vec::new();
    for number in 0..PRODUCERS {
        let name = format!("producer-{number}");
        let bootstrap = node.bootstrap();
        let started =
            Driver::start_with(Client::Confluent, &bootstrap, &directory, &name, &[DEBUG])?;
        let driver = match started {
            Ok(driver) => driver,
            Err(absent) => return missing(&format!("confluent-kafka: {}", absent.what)),
        };
        drivers.push((name, driver));
    }
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let pauses: Vec<_> = (0..PRODUCERS)
            .map(|_| Duration::from_micros(random.below(MADE_WITHIN_US)))
            .collect();
        let (ready, done) = std::thread::scope(|scope| {
            let producing: Vec<_> = drivers
                .iter_mut()
                .zip(pauses)
                .map(|((name, driver), pause)| {
                    scope.spawn(move || produce(driver, name, round * EVENTS, pause))
                })
                .collect();
            let ready = be_away(&mut node, &mut random);
            let done: Vec<_> = producing
                .into_iter()
                .map(|one| one.join().ok().context("producing panicked")?)
                .collect();
            (ready, done)
        });
        let ready = ready?;
        for (number, done) in done.into_iter().enumerate() {
            // One that was through before the kill has waited for nothing.
            let waited = done?.saturating_duration_since(ready);
            ensure!(
                waited <= BACK_WITHIN,
                "round {round}, producer {number}: {waited:?} after the node was ready"
            );
            longest = longest.max(waited);
        }
    }
    println!("{rounds} rounds, the longest wait {longest:?}");
    let (_, reader) = &mut drivers[0];
    reader.must(&format!(
        "consume topic={TOPIC} partitions={PARTITIONS} group=scan"
    ))?;
    let mut follower = Follower::new(&directory);
    follower.look(|_| {})?;
    let report = check(&follower.history());
    println!("{report}");
    ensure!(report.faults.is_empty(), "{report}");
    let sent = rounds * EVENTS * u64::try_from(PRODUCERS)?;
    ensure!(report.acknowledged == usize::try_from(sent)?, "{report}");
    node.check_running()
}
