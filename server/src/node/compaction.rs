//! Which partition of this core is compacted next, by its topic's limits, and the rewriter that the
//! log is given for it.
//!
//! Invariant: what stays of a batch is decided in `ringlog_types::batch::compact`; the log knows no
//! more of a batch than its header.

use ringlog_engine::topics::TopicConfig;
use ringlog_storage::log::clean::{Compactable, Fate, Rewriter};
use ringlog_types::PartitionId;
use ringlog_types::batch::compact::{Compaction, CompactionRules, Rewritten};

use super::core::Core;
use super::step_watch::Allowance;

/// Keys remembered in a pass: at most about 100 MiB.
const MOST_KEYS: usize = 1 << 21;
/// A batch whose records are larger than this stays as it is.
const OPENED_BYTES: usize = 64 << 20;
const MILLION: u128 = 1_000_000;

/// The part of compaction that opens batches.
#[derive(Debug)]
struct Batches(Compaction);

impl Rewriter for Batches {
    fn note(&mut self, batch: &[u8]) -> bool {
        self.0.note(batch)
    }

    fn rewrite(&self, batch: &[u8]) -> Fate {
        match self.0.rewrite(batch) {
            Rewritten::Same => Fate::Same,
            Rewritten::Nothing => Fate::Nothing,
            Rewritten::Batch(bytes) => Fate::Batch(bytes),
        }
    }
}

/// Of these partitions, as many as a step may look at, the one that needs it most, with the share of
/// it that is not compacted. Of one whose index is still being read nothing is said: the next look
/// knows. Returns how many were looked at.
pub fn dirtiest(
    core: &mut Core,
    partitions: &[PartitionId],
    now_ms: i64,
) -> (usize, Option<(u128, PartitionId, Compactable)>) {
    let allowance = Allowance::begin();
    let mut best: Option<(u128, PartitionId, Compactable)> = None;
    for (done, partition) in partitions.iter().enumerate() {
        if done > 0 && allowance.is_used_up() {
            return (done, best);
        }
        let next = look(core, *partition, now_ms);
        let is_more = |next: &(u128, PartitionId, Compactable)| {
            best.as_ref()
                .is_none_or(|best| (next.0, next.1) > (best.0, best.1))
        };
        best = next.filter(is_more).or(best);
    }
    (partitions.len(), best)
}

/// What of a partition is to be compacted, if it is due.
fn look(
    core: &mut Core,
    partition: PartitionId,
    now_ms: i64,
) -> Option<(u128, PartitionId, Compactable)> {
    let topic = core.topics.by_number(partition.topic())?;
    if !topic.config.cleanup_policy().compacts() {
        return None;
    }
    let newest_ms = now_ms.saturating_sub(topic.config.min_compaction_lag_ms());
    let found = core.log.compactable(partition, newest_ms).ok()?;
    let dirty = dirty_millionths(&found);
    is_due(&topic.config, &found, dirty, now_ms).then_some((dirty, partition, found))
}

fn dirty_millionths(found: &Compactable) -> u128 {
    u128::from(found.dirty_bytes) * MILLION / u128::from(found.total_bytes.max(1))
}

fn is_due(config: &TopicConfig, found: &Compactable, dirty: u128, now_ms: i64) -> bool {
    let is_old = found
        .oldest_ms
        .is_some_and(|oldest| now_ms.saturating_sub(oldest) > config.max_compaction_lag_ms());
    let is_dirty = dirty >= u128::from(config.min_cleanable_dirty_millionths());
    found.dirty_bytes > 0 && (is_dirty || is_old)
}

/// Starts to compact a partition. Whether it did.
pub fn begin(core: &mut Core, partition: PartitionId, found: &Compactable, now_ms: i64) -> bool {
    let Some(topic) = core.topics.by_number(partition.topic()) else {
        return false;
    };
    let compaction = Compaction::new(CompactionRules {
        now_ms,
        delete_retention_ms: topic.config.delete_retention_ms(),
        most_keys: MOST_KEYS,
        opened_bytes: OPENED_BYTES,
        seed: rand_seed(),
    });
    core.log
        .compact(partition, found, Box::new(Batches(compaction)))
}

/// Nobody outside can know it: the standard library's own hash keys are random.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
