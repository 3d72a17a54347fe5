//! A closer look at segments that may be worth cleaning, before anything of them is read: what each
//! partition has in them, and whether their records follow each other. Of a segment that a run covers
//! that stands in its footer alone.
//!
//! What was found of a covered segment is remembered, so that one that is not worth it is not read
//! again and again. Between two steps anything may change: what matters is looked at again before a
//! run begins.

use std::rc::Rc;

use ringlog_types::PartitionId;

use super::held::{Step, Walk};
use super::look_state::{Begun, Closer, Closeup, Count, Found, Known, Look, Looked, Order, Tally};
use super::order::{Ordered, Ordering};
use super::plan::Lasting;
use super::policy::{Candidate, choose};
use super::state::Run;
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::{Log, Read};

impl<I: Io> Log<I> {
    /// Goes on with a look at what segments hold.
    pub(super) fn look_closer(
        &mut self,
        mut closer: Closer,
        rows: &mut usize,
        lasting: &dyn Fn(PartitionId) -> Lasting,
    ) -> Looked {
        loop {
            if *rows == 0 {
                return Looked::Later(Look::Closer(closer));
            }
            *rows -= 1;
            let Some(at) = &mut closer.at else {
                let Some(id) = closer.left.pop_front() else {
                    break;
                };
                match self.begin_closeup(id, &mut closer.found) {
                    Begun::Yes(closeup) => closer.at = Some(closeup),
                    Begun::Later => {
                        closer.left.push_front(id);
                        return Looked::Later(Look::Closer(closer));
                    }
                    Begun::No => return Looked::Over,
                }
                continue;
            };
            if let Some(count) = &mut at.count {
                if self.count_row(at.walk.segment, count) {
                    continue;
                }
                if !self.end_count(at.walk.segment, count) {
                    return Looked::Over;
                }
                at.count = None;
                continue;
            }
            match self.walk(&mut at.walk) {
                Step::Held(held) => {
                    self.weigh(&mut at.tally, &held, lasting);
                    at.held.push(held);
                }
                Step::Passed => {}
                Step::End => {
                    let id = at.walk.segment;
                    closer.found.tallies.insert(id, at.tally);
                    closer.found.held.insert(id, std::mem::take(&mut at.held));
                    closer.at = None;
                }
            }
        }
        self.choose_again(closer.found)
    }

    /// Begins with one of the segments.
    fn begin_closeup(&mut self, id: u64, found: &mut Found) -> Begun {
        if self.runs.takes(id) || !self.segments.live.contains_key(&id) {
            return Begun::No;
        }
        if self.is_covered(id) {
            match self.footer(id) {
                Ok(footer) if footer.is_rebuilt() => {
                    self.cleaner.unclean.insert(id);
                    return Begun::No;
                }
                Ok(footer) => found.rows.insert(id, footer),
                Err(Read::Pending(_)) => return Begun::Later,
                Err(_) => return Begun::No,
            };
        }
        let footer = found.rows.get(&id);
        let live = self.segments.live.get(&id);
        let count = footer.map(|footer| Count {
            footer: Rc::clone(footer),
            covered: live.and_then(|live| live.index.covered),
            at: 0,
            rows: 0,
            read: 0.0,
            wanted: 0.0,
        });
        Begun::Yes(Box::new(Closeup {
            count,
            walk: Walk::new(id, footer.map(Rc::clone)),
            held: Vec::new(),
            tally: Tally::default(),
        }))
    }

    /// Counts the next row of a footer. `false`: there is none.
    fn count_row(&self, segment: u64, count: &mut Count) -> bool {
        let Some((partition, row)) = count.footer.rows().get(count.at) else {
            return false;
        };
        count.at += 1;
        let unit = f64::from(u32::try_from(self.unit).unwrap_or(0));
        count.read += f64::from(row.block_units) * unit;
        count.wanted += f64::from(row.payload_bytes);
        let live = self.segments.live.get(&segment);
        let is_here = live.is_some_and(|live| !live.index.moved.contains(partition));
        let counts = self.counted(*partition).is_some_and(|at| row.end > at);
        count.rows += u64::from(is_here && counts);
        true
    }

    /// Whether a covered segment's footer has the rows that are counted, no more and no fewer: it
    /// may speak of records that were lost when it was written. Notes how scattered its
    /// partitions are, if that is not known since it was sealed.
    fn end_count(&mut self, segment: u64, count: &Count) -> bool {
        let Some(live) = self.segments.live.get_mut(&segment) else {
            return false;
        };
        let (read, wanted) = (count.read, count.wanted);
        let scattered = if wanted > 0.0 { read / wanted } else { 1.0 };
        live.amplification.get_or_insert(scattered);
        let Some(covered) = live.index.covered else {
            return false;
        };
        if Some(covered) != count.covered {
            return false; // Some of it died meanwhile: the next look counts again.
        }
        if covered.live.rows != count.rows {
            self.cleaner.unclean.insert(segment);
            return false;
        }
        true
    }

    /// Whether all of them are as they were seen: a run may have taken one, or given it back.
    fn are_as_seen(&self, found: &Found) -> bool {
        found.sources.iter().all(|id| {
            let is_there = self.segments.live.contains_key(id) && !self.runs.takes(*id);
            is_there && self.is_covered(*id) == found.rows.contains_key(id)
        })
    }

    fn candidates(&self, found: &Found) -> Vec<Candidate> {
        let tallied = |id: &u64| self.candidate(*id, found.tallies.get(id)?);
        found.sources.iter().filter_map(tallied).collect()
    }

    /// Decides by what the segments hold.
    fn choose_again(&mut self, found: Found) -> Looked {
        if !self.are_as_seen(&found) {
            return Looked::Over;
        }
        let candidates = self.candidates(&found);
        let chosen = choose(&candidates, &self.cleaning_rules());
        let (sources, reason) = match chosen {
            Some((run, reason)) => {
                let sources = candidates[run].iter().map(|c| c.segment);
                (sources.collect(), Some(reason))
            }
            None => (found.sources.clone(), None),
        };
        Looked::On(Look::Order(Order {
            ordering: Ordering::new(&sources),
            found,
            reason,
        }))
    }

    /// Goes on with an order of the segments.
    pub(super) fn put_in_order(&mut self, mut order: Order, rows: &mut usize) -> Looked {
        let ordered = order.ordering.step(&order.found.held, rows);
        let Order {
            found,
            ordering,
            reason,
        } = order;
        match (ordered, reason) {
            (Ordered::Goes, _) => Looked::Later(Look::Order(Order {
                found,
                ordering,
                reason,
            })),
            (Ordered::Yes(sources), Some(reason)) => {
                if !self.are_as_seen(&found) {
                    return Looked::Over;
                }
                tracing::debug!(log = %self.id, ?sources, ?reason, "cleaning");
                let mut rows = found.rows;
                rows.retain(|id, _| sources.contains(id));
                Looked::Run(Run {
                    rows,
                    ..Run::new(sources, Moved::All)
                })
            }
            (Ordered::No, Some(_)) if ordering.count() < found.sources.len() => {
                // Whether that is for what lies around those that were chosen.
                Looked::On(Look::Order(Order {
                    ordering: Ordering::new(&found.sources),
                    found,
                    reason: None,
                }))
            }
            (ordered, _) => {
                self.leave_after_look(&found, ordered == Ordered::No);
                Looked::Over
            }
        }
    }

    /// Remembers what was found of covered segments that are not cleaned after all.
    fn leave_after_look(&mut self, found: &Found, stays: bool) {
        for candidate in self.candidates(found) {
            let segment = candidate.segment;
            let index = self.segments.live.get(&segment).map(|live| &live.index);
            let Some(covered) = index.and_then(|index| index.covered) else {
                continue;
            };
            let known = Known {
                live_bytes: covered.live.bytes,
                lasting_bytes: candidate.lasting_bytes,
                partitions: candidate.partitions,
                stays,
            };
            self.cleaner.known.insert(segment, known);
        }
        let live = &self.segments.live;
        self.cleaner.known.retain(|id, _| live.contains_key(id));
    }
}
