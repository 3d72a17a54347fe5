//! kill -9 at any moment under load: whatever was acknowledged is there afterwards, once, and in
//! order. `RINGLOG_KILL_ROUNDS` sets how often, `RINGLOG_KILL_SEED` repeats a run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringlog_tests::binaries;
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::run;
use ringlog_tests::fsck::fsck;
use ringlog_tests::node::Node;
use ringlog_tests::random::Random;

const DEFAULT_ROUNDS: u64 = 20;

/// A generator that writes down what it is promised, until its connections break.
fn start_load(node: &Node, topic: &str, journal: &Path, random: &mut Random) -> Result<Child> {
    let partitions = (1 + random.below(16)).to_string();
    let batch_bytes = (1 << (9 + random.below(9))).to_string();
    let log = std::fs::File::create(journal.with_extension("log"))?;
    let mut command = Command::new(binaries::loadgen()?);
    command
        .args([
            "produce",
            "--bootstrap",
            &node.kafka(0).to_string(),
            "--topic",
            topic,
        ])
        .args(["--partitions", &partitions, "--batch-bytes", &batch_bytes])
        .args([
            "--record-size",
            "100",
            "--connections",
            "4",
            "--in-flight",
            "5",
            "--acks",
            "all",
        ])
        .args([
            "--max",
            "--duration",
            "60",
            "--idempotent",
            "--until-disconnect",
            "--journal",
        ])
        .arg(journal)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    println!("  {topic}: {partitions} partitions, batches of {batch_bytes} bytes");
    command
        .spawn()
        .with_context(|| format!("starting {command:?}"))
}

/// Lines of a journal: its head and one for each acknowledged batch.
fn journal_lines(journal: &Path) -> Result<usize> {
    let bytes = if journal.exists() {
        std::fs::read(journal)?
    } else {
        Vec::new()
    };
    Ok(bytes.iter().filter(|byte| **byte == b'\n').count())
}

fn verify(node: &Node, journal: &Path) -> Result<()> {
    let mut command = Command::new(binaries::loadgen()?);
    command
        .args([
            "verify",
            "--bootstrap",
            &node.kafka(0).to_string(),
            "--from",
        ])
        .arg(journal);
    let printed = run(&mut command, b"")?;
    println!(
        "  {}",
        String::from_utf8_lossy(&printed)
            .trim()
            .replace('\n', "\n  ")
    );
    Ok(())
}

fn round(node: &mut Node, number: u64, random: &mut Random) -> Result<PathBuf> {
    let topic = format!("round-{number}");
    let journal = node.scratch(&format!("{topic}.journal"));
    let mut load = start_load(node, &topic, &journal, random)?;
    let begun = until("the first acknowledgements", || {
        if let Some(status) = load.try_wait()? {
            let log = std::fs::read_to_string(journal.with_extension("log"))?;
            anyhow::bail!("the generator ended with {status} before anything broke:\n{log}");
        }
        Ok((journal_lines(&journal)? > 1).then_some(()))
    });
    if begun.is_ok() {
        // Not a wait for something to happen: the moment of the kill is drawn by chance.
        std::thread::sleep(Duration::from_micros(random.below(300_000)));
        node.kill9()?;
    } else {
        load.kill()?;
    }
    let ended = until("the generator to notice", || Ok(load.try_wait()?));
    begun?;
    let log = std::fs::read_to_string(journal.with_extension("log"))?;
    let ended = ended?;
    ensure!(ended.success(), "the generator ended with {ended}:\n{log}");
    // Now and then the next start is killed as well, somewhere in its recovery.
    while random.below(3) == 0 {
        let after = Duration::from_micros(random.below(100_000));
        println!("  killed again {after:?} into the restart");
        node.start_and_kill9(after)?;
    }
    // What a kill leaves is no damage, wherever it fell.
    let checked = fsck(&node.data_dir(), &[])?;
    ensure!(checked.code == 0, "{:#}", checked.report);
    node.restart()?;
    verify(node, &journal)?;
    Ok(journal)
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_by_kills() -> Result<()> {
    let rounds = match std::env::var("RINGLOG_KILL_ROUNDS") {
        Ok(text) => text.parse().context("RINGLOG_KILL_ROUNDS")?,
        Err(_) => DEFAULT_ROUNDS,
    };
    let mut random = Random::from_environment("RINGLOG_KILL_SEED");
    let mut node = Node::start(2)?;
    let mut journals: Vec<PathBuf> = Vec::new();
    for number in 0..rounds {
        println!("round {number}");
        journals.push(round(&mut node, number, &mut random)?);
        // What earlier rounds were promised has to survive this kill too.
        let earlier = &journals[usize::try_from(random.below(number + 1))?];
        verify(&node, earlier)?;
    }
    for journal in &journals {
        verify(&node, journal)?;
    }
    Ok(())
}
