//! What the log knows of its sealed segments, for the policy; and the start of a run.

use std::collections::VecDeque;

use ringlog_types::{PartitionId, Sequence};

use super::held::{Held, Step, Walk};
use super::look_state::{Closer, Look, Looked, Survey, Tally};
use super::policy::{Candidate, Rules, choose};
use crate::io::Io;
use crate::log::Log;
use crate::log::segments::Stage;

/// Whether copying a partition's records pays before its retention takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// They stay.
    Long,
    /// They go by themselves soon.
    Soon,
}

/// Segments of one look.
const MOST_SEGMENTS: usize = 256;

impl<I: Io> Log<I> {
    /// Looks at some of the sealed segments and starts to clean those that are worth it, unless
    /// a run is under way. Call it now and then; each call takes a step of bounded length
    /// (`clean_step_rows`) and goes on where the last one ended. `lasting` says what is known of a
    /// partition's retention.
    ///
    /// Whether a run was started.
    pub fn plan_cleaning(&mut self, lasting: &dyn Fn(PartitionId) -> Lasting) -> bool {
        if !self.can_clean() {
            return false;
        }
        let mut rows = self.config.clean_step_rows.max(1);
        let look = self.cleaner.look.take();
        let mut look = look.unwrap_or_else(|| Look::Survey(self.begin_survey()));
        loop {
            let looked = match look {
                Look::Survey(survey) => self.survey(survey, &mut rows, lasting),
                Look::Closer(closer) => self.look_closer(closer, &mut rows, lasting),
                Look::Order(order) => self.put_in_order(order, &mut rows),
            };
            match looked {
                Looked::On(next) => look = next,
                Looked::Later(same) => {
                    self.cleaner.look = Some(same);
                    return false;
                }
                Looked::Over => return false,
                Looked::Run(run) => {
                    self.begin_run(run);
                    return true;
                }
            }
        }
    }

    /// Whether a look at segments is under way: [`Log::plan_cleaning`] goes on with it.
    #[must_use]
    pub fn looks_at_segments(&self) -> bool {
        self.cleaner.look.is_some() && self.can_clean()
    }

    /// Whether something can be begun now.
    pub(super) fn can_clean(&self) -> bool {
        let cleaner = &self.cleaner;
        let rests = self.submitter.io.monotonic() < cleaner.rests_until;
        let works = cleaner.run.is_some() || cleaner.pass.is_some();
        !cleaner.budget.is_off() && !rests && !works && self.failure.is_none() && !self.is_closing
    }

    pub(super) fn cleaning_rules(&self) -> Rules {
        Rules {
            live_share: self.config.clean_live_share,
            amplification: self.config.clean_amplification,
            most_segments: 16,
            most_partitions: 64 << 10,
            segment_bytes: self.config.segment_bytes,
        }
    }

    /// The next stretch of sealed segments, in their order.
    fn begin_survey(&mut self) -> Survey {
        let sealed = self.segments.live.iter().filter(|(id, segment)| {
            segment.stage == Stage::Sealed
                && (segment.is_cold || **id < self.checkpoint_anchor_segment)
        });
        let mut order: Vec<(Sequence, u64)> = sealed
            .map(|(id, segment)| (segment.first_sequence, *id))
            .collect();
        order.sort_unstable();
        let from = order.partition_point(|at| *at < self.cleaner.looked_to);
        let stretch = order[from..].iter().take(MOST_SEGMENTS);
        let left: VecDeque<u64> = stretch.map(|(_, id)| *id).collect();
        // The next stretch begins within this one: a run may lie across its end.
        let next = order.get(from + left.len().div_ceil(2).max(1));
        self.cleaner.looked_to = next.copied().unwrap_or_default();
        Survey {
            left,
            at: None,
            candidates: Vec::new(),
        }
    }

    fn survey(
        &mut self,
        mut survey: Survey,
        rows: &mut usize,
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) -> Looked {
        loop {
            if *rows == 0 {
                return Looked::Later(Look::Survey(survey));
            }
            *rows -= 1;
            let Some((walk, tally)) = &mut survey.at else {
                let Some(id) = survey.left.pop_front() else {
                    break;
                };
                survey.at = Some((Walk::new(id, None), Tally::default()));
                continue;
            };
            match self.walk(walk) {
                Step::Held(held) => self.weigh(tally, &held, lasting),
                Step::Passed => {}
                Step::End => {
                    survey.candidates.extend(self.estimate(walk.segment, tally));
                    survey.at = None;
                }
            }
        }
        let candidates = &survey.candidates;
        match choose(candidates, &self.cleaning_rules()) {
            Some((run, _)) => {
                let sources = candidates[run].iter().map(|c| c.segment);
                Looked::On(Look::Closer(Closer::new(sources.collect())))
            }
            None => Looked::Over,
        }
    }

    /// What the log knows without reading anything of a segment in which it has this in memory.
    fn estimate(&self, id: u64, tally: &Tally) -> Option<Candidate> {
        let segment = self.segments.live.get(&id)?;
        let mut candidate = self.candidate(id, tally)?;
        let Some(covered) = segment.index.covered else {
            return Some(candidate);
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
        Some(candidate)
    }

    /// Adds what a segment holds of a partition.
    pub(super) fn weigh(
        &self,
        tally: &mut Tally,
        held: &Held,
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) {
        tally.partitions += 1;
        tally.live_bytes += held.bytes;
        if held.bytes > 0 && lasting(held.partition) == Lasting::Long {
            tally.lasting_bytes += held.bytes;
        }
        let state = self.partitions.get(&held.partition);
        let damage = state.and_then(|state| state.damage_from(held.first));
        tally.is_damaged |= damage.is_some_and(|(at, _)| at < held.end);
    }

    /// What there is to know of a segment that holds this, if it is there.
    pub(super) fn candidate(&self, id: u64, tally: &Tally) -> Option<Candidate> {
        let segment = self.segments.live.get(&id)?;
        #[expect(clippy::cast_precision_loss, reason = "partitions are far below 2^52")]
        let unknown = tally.partitions as f64;
        Some(Candidate {
            segment: id,
            order: segment.first_sequence,
            file_bytes: segment.file_bytes,
            used_bytes: segment.position - self.unit as u64,
            live_bytes: tally.live_bytes,
            lasting_bytes: tally.lasting_bytes,
            partitions: tally.partitions,
            amplification: segment.amplification.unwrap_or(unknown),
            // What another log wrote goes with its partitions' retention.
            is_cleanable: segment.origin.is_none()
                && !self.runs.takes(id)
                && !tally.is_damaged
                && !self.cleaner.unclean.contains(&id),
        })
    }
}
