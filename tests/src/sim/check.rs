//! What a start and a read must show, given what was acknowledged and what the disk corrupted.
//!
//! Whatever is missing, damaged or refused must be explained by corrupted bytes that it depends
//! on, and must be named: by the report of the start, or to the reader. What is named is bounded:
//! by the batch, where offsets are. One loss may be silent: of what lies from a corrupted block on
//! that no intact acknowledged one states to have been durable.

use std::collections::BTreeMap;
use std::time::Duration;

use ringlog_storage::buffer::Buf;
use ringlog_storage::io::Io;
use ringlog_storage::log::{Log, Read, RecoveryReport};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::machine::Witness;
use super::model::{Batch, Effect, numbers};
use super::watch::Seen;
use super::workload::Workload;

/// What a start lost, each loss explained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Groups that were acknowledged and are gone, and reported.
    pub reported_groups: u64,
    /// Batches that were acknowledged, and are damaged and reported.
    pub reported_batches: u64,
    /// Groups that were acknowledged and are gone with the end of the log.
    pub silent_groups: u64,
}

impl Workload {
    /// After a start: nothing acknowledged is lost but what corruption explains, groups are
    /// whole, order is kept.
    pub fn check_start<I: Io>(
        &mut self,
        log: &mut Log<I>,
        witness: &mut Witness,
        report: &RecoveryReport,
    ) -> Result<Losses, String> {
        if let Some(what) = &witness.out_of_order {
            return Err(format!("replay: {what}"));
        }
        let appended = self.model.groups.len() as u64;
        if witness.last_group > appended {
            let found = witness.last_group;
            return Err(format!("group {found} was found, {appended} were appended"));
        }
        self.check_report(witness, report)?;
        let mut losses = Losses::default();
        self.check_missed(witness, report, &mut losses)?;
        self.check_end(witness, report, &mut losses)?;
        let start = |partition| log.bounds(PartitionId(partition)).0.0;
        self.check_damaged(witness, report, start, &mut losses)?;
        for batch in self.model.settle(witness) {
            self.check_skipped(&batch, report)?;
            losses.reported_batches += 1;
        }
        for (partition, state) in &self.model.partitions {
            let bounds = log.bounds(PartitionId(*partition));
            let (start, end) = (state.start, state.end());
            if bounds != (Offset(start), Offset(end)) {
                return Err(format!(
                    "partition {partition}: {bounds:?}, expected {start}..{end}"
                ));
            }
            let seen = witness
                .partitions
                .get(partition)
                .cloned()
                .unwrap_or_default();
            if seen != state.seen {
                return Err(format!(
                    "partition {partition}: the machine saw {seen:?}, expected {:?}",
                    state.seen
                ));
            }
        }
        let mut partitions = witness.partitions.keys();
        if let Some(partition) = partitions.find(|p| !self.model.partitions.contains_key(p)) {
            return Err(format!("partition {partition} is there and was dropped"));
        }
        for partition in self.model.partitions.keys().copied().collect::<Vec<_>>() {
            let from = self.model.partitions[&partition].start;
            self.check_read(log, witness, partition, from, usize::MAX)?;
        }
        self.seen.borrow_mut().start_checked();
        Ok(losses)
    }

    /// What is reported is corrupted, or was let go after a record that is lost. The offsets that
    /// are named are bounded by the batch: each batch in them is lost. The blocks that are named begin
    /// and end with one that is.
    fn check_report(&self, witness: &Witness, report: &RecoveryReport) -> Result<(), String> {
        let seen = self.seen.borrow();
        let revived = self.model.revived(witness);
        for damage in &report.damage {
            for (partition, first, end) in &damage.offsets {
                let told = witness.partitions.get(&partition.0);
                let why = |batch: &Batch| {
                    let is_told = told.is_some_and(|told| told.is_damaged(batch.base, batch.end()));
                    let (commit, base) = (batch.commit.0, batch.base);
                    is_told && seen.explains_group(commit)
                        || excuses(&seen, &revived, batch)
                        || seen.explains_bytes(commit, partition.0, base)
                };
                let batches = self.model.appended(partition.0);
                only_lost(batches.into_iter(), *first, *end, why)
                    .map_err(|what| format!("partition {partition}: {what}: {damage:?}"))?;
            }
            let is_whole_segment = damage.position == 0;
            for at in [damage.first.0, damage.end.0 - 1] {
                let mut blocks = seen.within(at..at + 1);
                if !blocks.any(|(_, block)| {
                    block.is_hit()
                        || seen.is_of_broken_group(at)
                        || is_whole_segment
                            && (block.is_let_go() || seen.is_hit_copy(damage.segment))
                }) {
                    return Err(format!(
                        "damage is reported to block {at}, where nothing was corrupted: \
                         {damage:?}, {:?}",
                        seen.places(at)
                    ));
                }
            }
        }
        let mut headers = report.damaged_headers.iter();
        match headers.find(|name| !seen.corrupted_headers.contains(*name)) {
            Some(name) => Err(format!("the header of {name} was not corrupted: {report}")),
            None => Ok(()),
        }
    }

    /// Groups that the machine never saw, while later ones came.
    fn check_missed(
        &self,
        witness: &Witness,
        report: &RecoveryReport,
        losses: &mut Losses,
    ) -> Result<(), String> {
        let seen = self.seen.borrow();
        for number in numbers(&witness.missed) {
            if self.model.missed.contains(&number) {
                continue;
            }
            let group = &self.model.groups[number as usize - 1];
            let commit = group.sequence.0;
            let first = seen.group_first(commit);
            let named = |d: &ringlog_storage::log::Damage| d.first.0 <= commit && first < d.end.0;
            if !seen.explains_group(commit) {
                return Err(format!(
                    "group {number} is missing, nothing of its blocks {first}..={commit} was \
                     corrupted"
                ));
            }
            if !report.damage.iter().any(named) {
                return Err(format!(
                    "group {number} (blocks {first}..={commit}) is missing and not reported"
                ));
            }
            losses.reported_groups += u64::from(number <= self.model.acknowledged as u64);
        }
        Ok(())
    }

    /// A batch that never came, though its group did: of a block that is lost.
    fn check_skipped(&self, batch: &Batch, report: &RecoveryReport) -> Result<(), String> {
        let seen = self.seen.borrow();
        let commit = batch.commit.0;
        let first = seen.group_first(commit);
        let mut damage = report.damage.iter();
        let named = damage.any(|damage| damage.first.0 <= commit && first < damage.end.0);
        let explained = seen.explains_bytes(commit, batch.partition, batch.base);
        if named && explained {
            return Ok(());
        }
        Err(format!(
            "partition {}: {}..{} (blocks {first}..={commit}) never came, reported: {named}, \
             corrupted: {explained}",
            batch.partition,
            batch.base,
            batch.end()
        ))
    }

    /// Groups behind the last that the machine saw.
    fn check_end(
        &self,
        witness: &Witness,
        report: &RecoveryReport,
        losses: &mut Losses,
    ) -> Result<(), String> {
        let seen = self.seen.borrow();
        let acknowledged = self.model.acknowledged as u64;
        let end = seen.kept();
        for number in witness.last_group + 1..=acknowledged {
            let group = &self.model.groups[number as usize - 1];
            let commit = group.sequence.0;
            let first = seen.group_first(commit);
            let named = report
                .damage
                .iter()
                .any(|damage| damage.first.0 <= commit && first < damage.end.0);
            if named && seen.explains_group(commit) {
                losses.reported_groups += 1;
                continue;
            }
            if commit <= end {
                return Err(format!(
                    "group {number} (block {commit}) was acknowledged and is gone, block {end} is \
                     the last kept: {report}"
                ));
            }
            // The one silent loss: the block behind the end is corrupted, and no intact
            // acknowledged block states that it was durable.
            if !seen
                .within(end + 1..end + 2)
                .any(|(_, block)| block.is_hit())
            {
                return Err(format!(
                    "group {number} (block {commit}) was acknowledged and is gone, {} is the last \
                     found, block {} behind the end was not corrupted: {report}",
                    witness.last_group,
                    end + 1
                ));
            }
            let mut later = seen.within(end + 2..self.model.durable.0 + 1);
            if let Some((at, _)) = later.find(|(_, b)| b.is_evidence() && b.states > end) {
                return Err(format!(
                    "group {number} (block {commit}) was acknowledged and is gone without a word, \
                     though block {at} states that block {} was durable",
                    end + 1
                ));
            }
            losses.silent_groups += 1;
        }
        Ok(())
    }

    /// Batches that the machine was told to be damaged.
    fn check_damaged(
        &self,
        witness: &Witness,
        report: &RecoveryReport,
        start: impl Fn(u64) -> u64,
        losses: &mut Losses,
    ) -> Result<(), String> {
        let seen = self.seen.borrow();
        let told = |batch: &Batch| {
            let state = witness.partitions.get(&batch.partition);
            state.is_some_and(|state| state.is_damaged(batch.base, batch.end()))
        };
        let known = |batch: &Batch| {
            let state = self.model.partitions.get(&batch.partition);
            state.is_some_and(|state| state.seen.is_damaged(batch.base, batch.end()))
        };
        let effects = self.model.groups.iter().flat_map(|group| &group.effects);
        for effect in effects {
            let Effect::Batch(batch) = effect else {
                continue;
            };
            let (partition, base) = (batch.partition, batch.base);
            if !told(batch) || known(batch) {
                continue;
            }
            if !seen.explains_batch(batch.commit.0, partition, base) {
                return Err(format!(
                    "partition {partition}: {base}..{} came as damaged and is not",
                    batch.end()
                ));
            }
            let start = start(partition);
            if batch.end() <= start {
                continue; // Dead since.
            }
            if !names(report, partition, base.max(start), batch.end()) {
                return Err(format!(
                    "partition {partition}: {base}..{} is damaged and not named: {report}",
                    batch.end()
                ));
            }
            losses.reported_batches += 1;
        }
        Ok(())
    }

    /// Reads from `from` to the end of what is durable (or `max_bytes`, once) and compares.
    pub fn check_read<I: Io>(
        &mut self,
        log: &mut Log<I>,
        witness: &mut Witness,
        partition: u64,
        from: u64,
        max_bytes: usize,
    ) -> Result<(), String> {
        let (mut at, mut patience, mut failures) = (from, 10_000, 0);
        loop {
            // A trim or drop may have been applied since the last round.
            let (start, end) = log.bounds(PartitionId(partition));
            at = at.max(start.0);
            if at >= end.0 {
                return Ok(());
            }
            match log.read(PartitionId(partition), Offset(at), max_bytes.min(200_000)) {
                Read::Batches(found) => {
                    self.reads += 1;
                    // And the block of which some is applied already.
                    let durable = Sequence(log.durable().0 + u64::from(log.is_applying()));
                    at = self.compare(partition, at, &found, durable)?;
                    if max_bytes != usize::MAX {
                        return Ok(());
                    }
                }
                Read::Pending(ticket) => {
                    while log.reads_done() <= ticket {
                        log.submit();
                        self.wait(log, Duration::from_millis(10));
                        self.poll(log, witness);
                        patience -= 1;
                        if patience == 0 {
                            return Err(format!(
                                "a read of partition {partition} at {at} never ends"
                            ));
                        }
                    }
                }
                Read::Damaged { end, .. } => {
                    self.damaged_reads += 1;
                    self.note_corruption();
                    at = self.explain(partition, at, end.0)?;
                }
                // A disk that fails now and then does not fail for long, unless it is gone.
                Read::Failed(_) if self.reads_may_fail && failures < READ_ATTEMPTS => {
                    failures += 1;
                    log.io_mut().wait(Duration::from_millis(1));
                }
                Read::Failed(_) if self.reads_may_fail && self.disk_may_be_gone => return Ok(()),
                // A log that closed makes no damaged run anew: what it covers is read after a restart.
                Read::Failed(cause)
                    if log.failure().is_some() && cause.starts_with("index run") =>
                {
                    return Ok(());
                }
                other => return Err(format!("reading partition {partition} at {at}: {other:?}")),
            }
        }
    }

    /// Every batch in the range must be damaged.
    fn explain(&self, partition: u64, at: u64, end: u64) -> Result<u64, String> {
        let seen = self.seen.borrow();
        if end <= at {
            return Err(format!(
                "partition {partition} at {at}: damage before it, to {end}"
            ));
        }
        let why = |batch: &Batch| {
            batch.lost
                || excuses(&seen, &self.model.revived, batch)
                || seen.explains_bytes(batch.commit.0, partition, batch.base)
        };
        only_lost(self.batches(partition), at, end, why).map_err(|what| {
            format!("partition {partition} at {at}: damage is named to {end}: {what}")
        })?;
        Ok(end)
    }

    /// The batches must be the appended ones, whole, from the one that holds `at`.
    fn compare(
        &self,
        partition: u64,
        at: u64,
        found: &[Buf],
        durable: Sequence,
    ) -> Result<u64, String> {
        let mut expected = self.batches(partition).filter(|batch| batch.end() > at);
        let mut next = at;
        if found.is_empty() {
            return Err(format!(
                "partition {partition} at {at}: nothing read before the end"
            ));
        }
        for bytes in found {
            let Some(batch) = expected.next() else {
                return Err(format!(
                    "partition {partition} at {next}: a batch nobody appended"
                ));
            };
            let base = batch.base;
            if **bytes != *batch.payload {
                let groups = self.model.groups.iter().flat_map(|group| &group.effects);
                let mut batches = groups.filter_map(|effect| match effect {
                    Effect::Batch(batch) => Some(batch),
                    _ => None,
                });
                let served = batches.find(|other| **bytes == *other.payload);
                let served = served.map(|other| (other.partition, other.base, other.commit));
                return Err(format!(
                    "partition {partition} at {base} (block {}): other bytes than appended, those \
                     of {served:?}",
                    batch.commit
                ));
            }
            if batch.commit > durable {
                return Err(format!(
                    "partition {partition} at {base}: block {} was read, {durable} is the last \
                     durable one",
                    batch.commit
                ));
            }
            next = batch.end();
        }
        Ok(next)
    }

    /// All batches of a partition, in offset order.
    fn batches(&self, partition: u64) -> impl Iterator<Item = &Batch> {
        let settled = self.model.partitions.get(&partition);
        let settled = settled.into_iter().flat_map(|state| state.batches.iter());
        let waiting = self.model.waiting().iter().flat_map(|group| &group.effects);
        let waiting = waiting.filter_map(move |effect| match effect {
            Effect::Batch(batch) if batch.partition == partition => Some(batch),
            _ => None,
        });
        settled.chain(waiting)
    }
}

/// Whether a batch is gone because what had ended it is lost, or what says where its copy stands.
fn excuses(seen: &Seen, revived: &BTreeMap<u64, u64>, batch: &Batch) -> bool {
    let (partition, base, commit) = (batch.partition, batch.base, batch.commit.0);
    let lives_again = revived.get(&partition).is_some_and(|to| batch.end() <= *to);
    lives_again && seen.is_let_go(commit, partition, base)
        || seen.is_lost_copy(commit, partition, base)
}

/// Offsets that are named as damaged: all are of batches, and each of those is damaged.
fn only_lost<'a>(
    batches: impl Iterator<Item = &'a Batch>,
    first: u64,
    end: u64,
    why: impl Fn(&Batch) -> bool,
) -> Result<(), String> {
    let mut at = first;
    for batch in batches.filter(|batch| batch.end() > first && batch.base < end) {
        if batch.base > at {
            return Err(format!("nobody appended {at}..{}", batch.base));
        }
        if !why(batch) {
            return Err(format!(
                "nothing of {}..{} of block {} was corrupted",
                batch.base,
                batch.end(),
                batch.commit
            ));
        }
        at = batch.end();
    }
    if at < end {
        return Err(format!("nobody appended {at}..{end}"));
    }
    Ok(())
}

/// Whether a report names these offsets, all of them.
fn names(report: &RecoveryReport, partition: u64, first: u64, end: u64) -> bool {
    let named = report.damage.iter().flat_map(|damage| &damage.offsets);
    let named = named.filter(|(p, ..)| p.0 == partition);
    let mut named: Vec<(u64, u64)> = named.map(|(_, first, end)| (*first, *end)).collect();
    named.sort_unstable();
    let covered = named.into_iter().fold(
        first,
        |at, (from, to)| {
            if from <= at { at.max(to) } else { at }
        },
    );
    covered >= end
}

/// Reads that may fail one after the other before it counts.
const READ_ATTEMPTS: u32 = 20;
