//! The acknowledgement journal: what a producing run was promised, written down as the promises
//! arrive, for a verifier that starts after the node (or the generator) was killed.
//!
//! Text, append-only, one line each:
//!
//! ```text
//! {"ringlog_journal":1,"run":"…","topic":"…","shape":{…},"start_offsets":[…],"records_per_batch":N}
//! PARTITION NUMBER BASE_OFFSET          an acknowledged batch; −1: the broker did not say where
//! end SENT SENT …                       the run ended; batches sent, by partition
//! ```
//!
//! Invariant: a line is in the file before the next request of its connection is sent, in one
//! write; a last line without its newline was cut short by a kill and does not count.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::batch::stamp::RunId;
use crate::batch::template::BatchShape;
use crate::verify::expectation::{Expectation, PartitionExpectation};
use crate::verify::ledger::Ledger;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    ringlog_journal: u32,
    run: String,
    topic: String,
    shape: BatchShape,
    start_offsets: Vec<i64>,
    records_per_batch: u32,
}

/// A journal being written, shared by the generator's threads.
pub struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Creates the file (an existing one is an error: it would be another run's evidence) and
    /// writes the head.
    pub fn create(
        path: &Path,
        run: RunId,
        topic: &str,
        shape: &BatchShape,
        start_offsets: &[i64],
        records_per_batch: u32,
    ) -> anyhow::Result<Journal> {
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("creating the journal {}", path.display()))?;
        let head = Head {
            ringlog_journal: VERSION,
            run: run.to_string(),
            topic: topic.to_owned(),
            shape: shape.clone(),
            start_offsets: start_offsets.to_vec(),
            records_per_batch,
        };
        let journal = Journal {
            file: Mutex::new(file),
        };
        journal.append(&format!("{}\n", serde_json::to_string(&head)?))?;
        Ok(journal)
    }

    /// Appends whole lines in one write.
    pub fn append(&self, lines: &str) -> anyhow::Result<()> {
        // A thread that panicked while it held the lock left at most a cut line, which readers
        // expect.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines.as_bytes())
            .context("writing the journal")
    }

    /// Appends the last line.
    pub fn end(&self, sent: &[u64]) -> anyhow::Result<()> {
        let mut line = "end".to_owned();
        for sent in sent {
            write!(line, " {sent}").expect("writing to a string");
        }
        line.push('\n');
        self.append(&line)
    }
}

/// Adds one acknowledgement's line to `lines`.
pub fn acknowledgement_line(
    lines: &mut String,
    partition: u32,
    number: u64,
    base_offset: Option<u64>,
) {
    match base_offset {
        Some(offset) => writeln!(lines, "{partition} {number} {offset}"),
        None => writeln!(lines, "{partition} {number} -1"),
    }
    .expect("writing to a string");
}

/// Reads a journal, complete or cut short.
pub fn read(path: &Path) -> anyhow::Result<Expectation> {
    let file = File::open(path).with_context(|| format!("opening journal {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = String::new();
    read_line(&mut reader, &mut line)?;
    let head: Head = serde_json::from_str(&line)
        .with_context(|| format!("{} does not begin with a journal's head", path.display()))?;
    ensure!(
        head.ringlog_journal == VERSION,
        "journal version {}",
        head.ringlog_journal
    );
    let run = u64::from_str_radix(&head.run, 16).context("reading the journal's run id")?;
    let mut expectation = Expectation {
        run: RunId(run),
        topic: head.topic,
        shape: head.shape,
        partitions: head
            .start_offsets
            .iter()
            .map(|start_offset| PartitionExpectation {
                start_offset: *start_offset,
                ledger: Ledger::new(head.records_per_batch),
                sent: None,
            })
            .collect(),
    };
    let mut number = 1_u64;
    loop {
        number += 1;
        read_line(&mut reader, &mut line)?;
        if !line.ends_with('\n') {
            return Ok(expectation);
        }
        read_entry(&mut expectation, line.trim_end())
            .with_context(|| format!("line {number} of {}: {line:?}", path.display()))?;
    }
}

fn read_line(reader: &mut impl BufRead, line: &mut String) -> anyhow::Result<()> {
    line.clear();
    reader.read_line(line).context("reading the journal")?;
    Ok(())
}

fn read_entry(expectation: &mut Expectation, line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    if let Some(sent) = line.strip_prefix("end ") {
        let sent: Vec<u64> = sent.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(
            sent.len() == expectation.partitions.len(),
            "one count for each partition"
        );
        for (partition, sent) in expectation.partitions.iter_mut().zip(sent) {
            partition.sent = Some(sent);
        }
        return Ok(());
    }
    let (Some(partition), Some(number), Some(offset), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("three numbers were expected");
    };
    let partition: usize = partition.parse()?;
    let offset: i64 = offset.parse()?;
    let Some(partition) = expectation.partitions.get_mut(partition) else {
        bail!("partition {partition} is not in the head");
    };
    partition
        .ledger
        .acknowledge(number.parse()?, u64::try_from(offset).ok());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::codec::Compression;
    use crate::verify::ledger::Entry;

    fn shape() -> BatchShape {
        BatchShape {
            record_bytes: 100,
            batch_bytes: 4096,
            max_records: u32::MAX,
            keys: 3,
            compression: Compression::Zstd,
        }
    }

    fn written(dir: &Path, end: bool) -> std::path::PathBuf {
        let path = dir.join("acks");
        let journal =
            Journal::create(&path, RunId(0xfeed), "orders", &shape(), &[0, 40], 10).unwrap();
        let mut lines = String::new();
        acknowledgement_line(&mut lines, 0, 0, Some(0));
        acknowledgement_line(&mut lines, 1, 0, Some(40));
        acknowledgement_line(&mut lines, 0, 1, None);
        journal.append(&lines).unwrap();
        if end {
            journal.end(&[3, 1]).unwrap();
        }
        path
    }

    #[test]
    fn a_journal_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let expectation = read(&written(dir.path(), true)).unwrap();
        assert_eq!(expectation.run, RunId(0xfeed));
        assert_eq!(expectation.topic, "orders");
        assert_eq!(expectation.shape, shape());
        assert_eq!(expectation.partitions[1].start_offset, 40);
        assert_eq!(expectation.partitions[0].sent, Some(3));
        assert_eq!(
            expectation.partitions[0].ledger.entry(0),
            Entry::Acknowledged(Some(0))
        );
        assert_eq!(
            expectation.partitions[0].ledger.entry(1),
            Entry::Acknowledged(None)
        );
        assert_eq!(
            expectation.partitions[0].ledger.entry(2),
            Entry::Unacknowledged
        );
        assert_eq!(
            expectation.partitions[1].ledger.entry(0),
            Entry::Acknowledged(Some(40))
        );
        assert_eq!(expectation.acknowledged_events(), 30);
    }

    #[test]
    fn a_journal_cut_at_any_byte_behind_its_head_gives_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), true);
        let whole = std::fs::read(&path).unwrap();
        let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut most = 0;
        for cut in head..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let events = read(&path).unwrap().acknowledged_events();
            assert!(events >= most && events <= 30);
            most = events;
        }
        assert_eq!(most, 30);
    }

    #[test]
    fn another_runs_journal_is_not_overwritten_and_nonsense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), false);
        assert!(Journal::create(&path, RunId(1), "orders", &shape(), &[0], 10).is_err());
        let journal = Journal {
            file: Mutex::new(File::options().append(true).open(&path).unwrap()),
        };
        journal.append("0 nonsense 3\n").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("line 5"));
    }
}
