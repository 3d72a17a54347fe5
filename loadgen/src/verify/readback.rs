//! The fetch loop of a verification: every partition from where the run began to its end, one
//! thread per leader. While one response is examined, the next is on its way.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kafka_protocol::error::ResponseError;
use serde::Serialize;

use crate::batch::template::BatchTemplate;
use crate::kafka::cluster::{BrokerId, Cluster, Edge, TopicLayout};
use crate::kafka::fetch::{FetchLimits, Fetched, Fetcher, batches};
use crate::verify::checker::{Fault, Findings, PartitionChecker};
use crate::verify::content::examine;
use crate::verify::expectation::Expectation;

/// A partition that gives nothing for this long although it is not at its end is an error.
const NO_PROGRESS: Duration = Duration::from_secs(30);

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Events that were acknowledged.
    pub acknowledged_events: u64,
    /// Of those, found where and as they should be.
    pub confirmed_events: u64,
    /// Events of the run that are there without having been acknowledged: accepted.
    pub unacknowledged_events: u64,
    /// Batches between them that are not the run's.
    pub foreign_batches: u64,
    /// Number of faults.
    pub fault_count: u64,
    /// The first faults, in words.
    pub faults: Vec<String>,
    /// Bytes read back.
    pub read_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// Whether everything acknowledged is there, once, in order, unaltered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0 && self.confirmed_events == self.acknowledged_events
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{}: {} of {} acknowledged events confirmed, {} unacknowledged ones present, \
             {} faults ({:.1} GB read back in {:.1} s)",
            if self.is_clean() {
                "verified"
            } else {
                "VERIFICATION FAILED"
            },
            self.confirmed_events,
            self.acknowledged_events,
            self.unacknowledged_events,
            self.fault_count,
            self.read_bytes as f64 / 1e9,
            self.seconds,
        )
    }
}

/// Reads the run's partitions back and checks them. An error means that the verification could
/// not be carried out; faults are in the report.
pub fn verify(bootstrap: &str, expectation: &Expectation) -> anyhow::Result<VerifyReport> {
    let started = Instant::now();
    let template = BatchTemplate::new(&expectation.shape)?;
    let mut cluster = Cluster::connect_patiently(bootstrap)?;
    let layout = cluster.layout(&expectation.topic)?;
    ensure!(
        layout.leaders.len() >= expectation.partitions.len(),
        "topic {} has {} partitions, the run wrote {}",
        expectation.topic,
        layout.leaders.len(),
        expectation.partitions.len()
    );
    let ends = cluster.offsets(&expectation.topic, &layout, Edge::Latest)?;
    let parts = std::thread::scope(|scope| {
        let readers: Vec<_> = layout
            .leading_brokers()
            .into_iter()
            .map(|broker| {
                let (template, layout, ends) = (&template, &layout, &ends);
                scope.spawn(move || read_broker(expectation, template, layout, broker, ends))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| bail!("a verifying thread panicked"))
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let records = u64::from(template.records());
    let mut report = VerifyReport {
        acknowledged_events: expectation.acknowledged_events(),
        ..VerifyReport::default()
    };
    for (findings, read_bytes) in parts {
        report.read_bytes += read_bytes;
        for (partition, findings) in findings {
            report.confirmed_events += findings.confirmed_batches * records;
            report.unacknowledged_events += findings.unacknowledged_batches * records;
            report.foreign_batches += findings.foreign_batches;
            report.fault_count += findings.fault_count;
            let words = |fault: &Fault| format!("partition {partition}: {fault}");
            report.faults.extend(findings.faults.iter().map(words));
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

type BrokerFindings = (Vec<(u32, Findings)>, u64);

struct Position<'a> {
    partition: u32,
    next: i64,
    end: i64,
    checker: PartitionChecker<'a>,
}

fn read_broker(
    expectation: &Expectation,
    template: &BatchTemplate,
    layout: &TopicLayout,
    broker: BrokerId,
    ends: &[i64],
) -> anyhow::Result<BrokerFindings> {
    let mut positions: Vec<Position<'_>> = (0_u32..)
        .zip(&expectation.partitions)
        .filter(|(partition, _)| layout.leaders[*partition as usize] == broker)
        .map(|(partition, expected)| Position {
            partition,
            next: expected.start_offset,
            end: ends[partition as usize],
            checker: PartitionChecker::new(expectation.run, partition, expected),
        })
        .collect();
    let mut fetcher = Fetcher::connect(
        layout.address(broker)?,
        &expectation.topic,
        FetchLimits::BULK,
    )?;
    let mut read_bytes = 0;
    let mut buffer = Vec::new();
    let mut last_progress = Instant::now();
    let mut turn = 0;
    let mut asked = submit(&mut fetcher, &positions, &mut turn)?;
    while asked {
        let fetched = fetcher.receive()?;
        let before: i64 = positions.iter().map(|position| position.next).sum();
        let mut ranges = Vec::with_capacity(fetched.len());
        for part in fetched {
            let at = advance(&mut positions, &part, fetcher.bytes())?;
            read_bytes += part.records.len() as u64;
            ranges.push((at, part.records));
        }
        fetcher.swap_buffer(&mut buffer);
        asked = submit(&mut fetcher, &positions, &mut turn)?;
        for (at, range) in ranges {
            for batch in batches(&buffer[range]) {
                let (header, bytes) = batch?;
                let base_offset =
                    u64::try_from(header.base_offset).context("a negative base offset")?;
                let content = examine(template, &header, bytes);
                let checker = &mut positions[at].checker;
                checker.batch(base_offset, u64::from(header.offsets()), content);
            }
        }
        let after: i64 = positions.iter().map(|position| position.next).sum();
        if after > before {
            last_progress = Instant::now();
        }
        ensure!(
            last_progress.elapsed() < NO_PROGRESS,
            "nothing was served for {NO_PROGRESS:?} although partitions are not at their ends"
        );
    }
    let findings = positions
        .into_iter()
        .map(|position| (position.partition, position.checker.finish()))
        .collect();
    Ok((findings, read_bytes))
}

/// Asks for every partition that is not at its end, starting with another one each time so that
/// none is starved. False: all are.
fn submit(
    fetcher: &mut Fetcher,
    positions: &[Position<'_>],
    turn: &mut usize,
) -> anyhow::Result<bool> {
    let mut wanted: Vec<_> = positions
        .iter()
        .filter(|position| position.next < position.end)
        .map(|position| (position.partition, position.next))
        .collect();
    if wanted.is_empty() {
        return Ok(false);
    }
    *turn += 1;
    let count = wanted.len();
    wanted.rotate_left(*turn % count);
    fetcher.submit(&wanted)?;
    Ok(true)
}

/// Moves a partition's position behind what was fetched, and says which position it was.
fn advance(
    positions: &mut [Position<'_>],
    part: &Fetched,
    response: &[u8],
) -> anyhow::Result<usize> {
    let found = positions
        .iter()
        .position(|position| position.partition == part.partition);
    let at = found.with_context(|| format!("partition {} was not asked for", part.partition))?;
    let position = &mut positions[at];
    match ResponseError::try_from_code(part.error_code) {
        None => {}
        // The beginning is gone: read on from what is there, the checker reports the rest lost.
        Some(ResponseError::OffsetOutOfRange) if part.log_start_offset > position.next => {
            position.next = part.log_start_offset;
        }
        Some(error) if error.is_retriable() => std::thread::sleep(Duration::from_millis(20)),
        Some(error) => {
            return Err(error).with_context(|| {
                format!(
                    "fetching partition {} from offset {}",
                    position.partition, position.next
                )
            });
        }
    }
    for batch in batches(&response[part.records.clone()]) {
        let (header, _) = batch?;
        position.next = header.base_offset + i64::from(header.offsets());
    }
    Ok(at)
}
