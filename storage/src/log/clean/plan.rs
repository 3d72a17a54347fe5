//! What the log knows of its sealed segments, for the policy; and the start of a run.

use ringlog_types::{Offset, PartitionId, Sequence};

use super::look_state::{Held, Look, Looked};
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
        let rules = Rules {
            live_share: self.config.clean_live_share,
            amplification: self.config.clean_amplification,
            most_segments: 16,
            most_partitions: 64 << 10,
            segment_bytes: self.config.segment_bytes,
        };
        let look = match self.cleaner.look.take() {
            Some(look) => look,
            None => {
                let candidates = self.look_at_segments(lasting);
                let Some((run, _)) = choose(&candidates, &rules) else {
                    return false;
                };
                Look::new(candidates[run].iter().map(|c| c.segment).collect())
            }
        };
        let mut look = match self.look_closer(look) {
            Looked::Whole(look) => look,
            Looked::Goes(look) => {
                self.cleaner.look = Some(look);
                return false;
            }
            Looked::Over => return false,
        };
        let candidates: Vec<Candidate> = look
            .sources
            .iter()
            .filter_map(|id| Some(self.candidate(*id, look.held.get(id)?, lasting)))
            .collect();
        let chosen = choose(&candidates, &rules).and_then(|(run, reason)| {
            let sources: Vec<u64> = candidates[run].iter().map(|c| c.segment).collect();
            Some((look.in_order(&sources)?, reason))
        });
        let Some((sources, reason)) = chosen else {
            let found = candidates.iter();
            let found = found.map(|c| (c.segment, c.lasting_bytes, c.partitions));
            self.leave_after_look(&look, &found.collect::<Vec<_>>());
            return false;
        };
        tracing::debug!(log = %self.id, ?sources, ?reason, "cleaning");
        look.rows.retain(|id, _| sources.contains(id));
        self.begin_run(Run {
            rows: look.rows,
            ..Run::new(sources, Moved::All)
        });
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
            candidates.push(self.estimate(*id, segment, lasting));
        }
        // The next stretch begins within this one: a run may lie across its end.
        let next = order.get(from + candidates.len().div_ceil(2).max(1));
        self.cleaner.looked_to = next.copied().unwrap_or_default();
        candidates
    }

    /// What the log knows without reading anything.
    fn estimate(
        &self,
        id: u64,
        segment: &Segment,
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) -> Candidate {
        let mut candidate = self.candidate(id, &self.held_in(id, None), lasting);
        let Some(covered) = segment.index.covered else {
            return candidate;
        };
        let live = covered.live;
        let known = self.cleaner.known.get(&id);
        let known = known.filter(|known| !known.is_old(live.bytes));
        candidate.live_bytes += live.bytes;
        candidate.lasting_bytes += known.map_or(live.bytes, |known| known.lasting_bytes);
        let rows = usize::try_from(live.rows).unwrap_or(usize::MAX);
        candidate.partitions += known.map_or(rows, |known| known.partitions);
        #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
        let most = live.rows as f64;
        candidate.amplification = segment.amplification.unwrap_or(most);
        candidate.is_cleanable &= segment.footer.is_some() && known.is_none_or(|k| !k.stays);
        candidate
    }

    /// What there is to know of a segment that holds this.
    fn candidate(
        &self,
        id: u64,
        held: &[Held],
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) -> Candidate {
        let segment = &self.segments.live[&id];
        let (mut live_bytes, mut lasting_bytes, mut is_damaged) = (0, 0, false);
        for held in held {
            live_bytes += held.bytes;
            if held.bytes > 0 && lasting(held.partition) == Lasting::Long {
                lasting_bytes += held.bytes;
            }
            let state = self.partitions.get(&held.partition);
            let damage = state.and_then(|state| state.damage_from(held.first));
            is_damaged |= damage.is_some_and(|(at, _)| at < held.end);
        }
        #[expect(clippy::cast_precision_loss, reason = "partitions are far below 2^52")]
        let unknown = held.len() as f64;
        Candidate {
            segment: id,
            order: segment.first_sequence,
            file_bytes: segment.file_bytes,
            used_bytes: segment.position - self.unit as u64,
            live_bytes,
            lasting_bytes,
            partitions: held.len(),
            amplification: segment.amplification.unwrap_or(unknown),
            // What another log wrote goes with its partitions' retention.
            is_cleanable: segment.origin.is_none()
                && !self.runs.takes(id)
                && !is_damaged
                && !self.cleaner.unclean.contains(&id),
        }
    }

    /// What a source still has of its partitions: each with the first offset and the end.
    pub(super) fn live_in(&self, source: u64) -> Vec<(PartitionId, Offset, Offset)> {
        let run = self.cleaner.run.as_ref();
        let rows = run.and_then(|run| run.rows.get(&source));
        let held = self.held_in(source, rows.map(|rows| &**rows));
        let held = held
            .iter()
            .map(|held| (held.partition, held.first, held.end));
        held.collect()
    }
}
