//! What the log knows of its sealed segments, for the policy; and the start of a run.

use std::collections::BTreeSet;

use ringlog_types::{Offset, PartitionId, Sequence};

use super::policy::{Candidate, Rules, choose};
use super::state::Run;
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::Log;
use crate::log::segments::{Segment, Stage};

/// Whether copying a partition's records pays before its retention takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// They stay.
    Long,
    /// They go by themselves soon.
    Soon,
}

/// Segments looked at in one call.
const MOST_SEGMENTS: usize = 256;
/// Partitions looked at in one call, summed over the segments.
const MOST_RANGES: usize = 8 << 10;

impl<I: Io> Log<I> {
    /// Looks at some of the sealed segments and starts to clean those that are worth it, unless
    /// a run is under way. Call it now and then; each call takes a step of bounded length and
    /// goes on where the last one ended. `lasting` says what is known of a partition's retention.
    ///
    /// Whether a run was started.
    pub fn plan_cleaning(&mut self, lasting: &dyn Fn(PartitionId) -> Lasting) -> bool {
        if !self.can_clean() {
            return false;
        }
        let candidates = self.look_at_segments(lasting);
        let rules = Rules {
            live_share: self.config.clean_live_share,
            amplification: self.config.clean_amplification,
            most_segments: 16,
            most_partitions: 64 << 10,
            segment_bytes: self.config.segment_bytes,
        };
        let Some((run, reason)) = choose(&candidates, &rules) else {
            return false;
        };
        let sources: Vec<u64> = candidates[run].iter().map(|c| c.segment).collect();
        if !self.are_neighbours(&sources) {
            return false;
        }
        let Some(sources) = self.in_order(&sources) else {
            return false;
        };
        tracing::debug!(log = %self.id, ?sources, ?reason, "cleaning");
        self.begin_run(Run::new(sources, Moved::All));
        true
    }

    /// Whether something can be begun now.
    pub(super) fn can_clean(&self) -> bool {
        let cleaner = &self.cleaner;
        let rests = self.submitter.io.monotonic() < cleaner.rests_until;
        let works = cleaner.run.is_some() || cleaner.pass.is_some();
        !cleaner.budget.is_off() && !rests && !works && self.failure.is_none() && !self.is_closing
    }

    /// The next stretch of sealed segments, in their order.
    fn look_at_segments(&mut self, lasting: &dyn Fn(PartitionId) -> Lasting) -> Vec<Candidate> {
        let sealed = self.segments.live.iter().filter(|(id, segment)| {
            segment.stage == Stage::Sealed
                && (segment.is_cold || **id < self.checkpoint_anchor_segment)
        });
        let mut order: Vec<(Sequence, u64)> = sealed
            .map(|(id, segment)| (segment.first_sequence, *id))
            .collect();
        order.sort_unstable();
        let from = order.partition_point(|at| *at < self.cleaner.looked_to);
        let (mut candidates, mut ranges) = (Vec::new(), 0);
        for (_, id) in order[from..].iter().take(MOST_SEGMENTS) {
            let segment = &self.segments.live[id];
            ranges += segment.index.partitions.len();
            if ranges > MOST_RANGES && !candidates.is_empty() {
                break;
            }
            candidates.push(self.candidate(*id, segment, lasting));
        }
        // The next stretch begins within this one: a run may lie across its end.
        let next = order.get(from + candidates.len().div_ceil(2).max(1));
        self.cleaner.looked_to = next.copied().unwrap_or_default();
        candidates
    }

    fn candidate(
        &self,
        id: u64,
        segment: &Segment,
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) -> Candidate {
        let (mut live_bytes, mut lasting_bytes, mut is_damaged) = (0, 0, false);
        for (partition, range) in &segment.index.partitions {
            let Some(state) = self.partitions.get(partition) else {
                continue;
            };
            let first = range.first.max(state.start);
            let bytes = part_of(range.bytes, (first, range.end), (range.first, range.end));
            live_bytes += bytes;
            if bytes > 0 && lasting(*partition) == Lasting::Long {
                lasting_bytes += bytes;
            }
            let damage = state.damage_from(first);
            is_damaged |= damage.is_some_and(|(at, _)| at < range.end);
        }
        let partitions = segment.index.partitions.len();
        #[expect(clippy::cast_precision_loss, reason = "partitions are far below 2^52")]
        let unknown = partitions as f64;
        Candidate {
            segment: id,
            order: segment.first_sequence,
            file_bytes: segment.file_bytes,
            used_bytes: segment.position - self.unit as u64,
            live_bytes,
            lasting_bytes,
            partitions,
            amplification: segment.amplification.unwrap_or(unknown),
            // What another log wrote goes with its partitions' retention.
            // What a run covers is not in memory by partition.
            is_cleanable: segment.origin.is_none()
                && !self.is_going_into_a_run(id)
                && !is_damaged
                && !self.cleaner.unclean.contains(&id),
        }
    }

    /// Whether no partition has records between those of the sources that are in another
    /// segment: then what replaces them stands where they stood.
    fn are_neighbours(&self, sources: &[u64]) -> bool {
        let mut partitions: Vec<PartitionId> = sources
            .iter()
            .flat_map(|id| self.segments.live[id].index.partitions.keys().copied())
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.iter().all(|partition| {
            let Some(state) = self.partitions.get(partition) else {
                return true;
            };
            let mine = state.segments.iter().map(|(_, id)| sources.contains(id));
            let mut runs: Vec<bool> = mine.collect();
            runs.dedup();
            runs.iter().filter(|is_source| **is_source).count() <= 1
        })
    }

    /// The sources in an order in which the records of each partition follow each other, if there is
    /// one. Their first blocks do not say it of two that cover the same stretch of the log.
    fn in_order(&self, sources: &[u64]) -> Option<Vec<u64>> {
        let mut behind: BTreeSet<(u64, u64)> = BTreeSet::new();
        let partitions = sources
            .iter()
            .flat_map(|id| self.segments.live[id].index.partitions.keys());
        let partitions: BTreeSet<&PartitionId> = partitions.collect();
        for partition in partitions {
            let Some(state) = self.partitions.get(partition) else {
                continue;
            };
            let mine = state.segments.iter().map(|(_, id)| *id);
            let mine: Vec<u64> = mine.filter(|id| sources.contains(id)).collect();
            behind.extend(mine.windows(2).map(|pair| (pair[1], pair[0])));
        }
        let mut left = sources.to_vec();
        let mut ordered = Vec::with_capacity(sources.len());
        while !left.is_empty() {
            let waits = |id: u64| left.iter().any(|before| behind.contains(&(id, *before)));
            let next = left.iter().position(|id| !waits(*id))?;
            ordered.push(left.remove(next));
        }
        Some(ordered)
    }

    /// What a source still has of its partitions: each with the first offset and the end.
    pub(super) fn live_in(&self, source: u64) -> Vec<(PartitionId, Offset, Offset)> {
        let Some(segment) = self.segments.live.get(&source) else {
            return Vec::new();
        };
        let ranges = segment.index.partitions.iter();
        let live = ranges.filter_map(|(partition, range)| {
            let state = self.partitions.get(partition)?;
            let first = range.first.max(state.start);
            (first < range.end).then_some((*partition, first, range.end))
        });
        live.collect()
    }
}

/// The bytes of a part of a range of offsets, by proportion.
fn part_of(bytes: u64, part: (Offset, Offset), whole: (Offset, Offset)) -> u64 {
    let length = |range: (Offset, Offset)| u128::from(range.1.0.saturating_sub(range.0.0));
    let share = u128::from(bytes) * length(part) / length(whole).max(1);
    u64::try_from(share).unwrap_or(bytes)
}
