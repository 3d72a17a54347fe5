//! A closer look at segments that may be worth cleaning, before anything of them is read: what each
//! partition has in them, and whether their records follow each other. Of a segment that a run covers
//! that stands in its footer alone.
//!
//! ```text
//! policy, from sums ─► footers of covered segments ─► what they hold, some rows a call ─► policy again ─► a run
//! ```
//! What was found of a covered segment is remembered, so that one that is not worth it is not read
//! again and again.

use std::rc::Rc;

use ringlog_types::Offset;

use super::look_state::{Held, Known, Look, Looked};
use crate::io::Io;
use crate::log::index::Footer;
use crate::log::{Log, Read};

/// Rows looked at in one call.
const ROWS_PER_CALL: usize = 8 << 10;

impl<I: Io> Log<I> {
    /// Whether a look at segments is under way: [`Log::plan_cleaning`] goes on with it.
    #[must_use]
    pub fn looks_at_segments(&self) -> bool {
        self.cleaner.look.is_some()
    }

    /// Goes on with a look.
    pub(super) fn look_closer(&mut self, mut look: Look) -> Looked {
        let mut rows = 0;
        while let Some(id) = look.left.front().copied() {
            if self.runs.takes(id) || !self.segments.live.contains_key(&id) {
                return Looked::Over;
            }
            if self.is_covered(id) && !look.rows.contains_key(&id) {
                match self.footer(id) {
                    Ok(footer) if footer.is_rebuilt() || !self.is_what_counts(id, &footer) => {
                        self.cleaner.unclean.insert(id);
                        return Looked::Over;
                    }
                    Ok(footer) => {
                        look.rows.insert(id, footer);
                    }
                    Err(Read::Pending(_)) => return Looked::Goes(look),
                    Err(_) => return Looked::Over,
                }
            }
            let footer = look.rows.get(&id).map(Rc::clone);
            rows += footer.as_ref().map_or(0, |footer| footer.rows().len());
            if let Some(footer) = &footer {
                self.note_amplification(id, footer);
            }
            let held = self.held_in(id, footer.as_deref());
            rows += held.len();
            look.held.insert(id, held);
            look.left.pop_front();
            if rows >= ROWS_PER_CALL && !look.left.is_empty() {
                return Looked::Goes(look);
            }
        }
        // What a run took or gave back meanwhile is not as it was seen.
        let is_same = |id: &u64| {
            let is_there = self.segments.live.contains_key(id) && !self.runs.takes(*id);
            is_there && self.is_covered(*id) == look.rows.contains_key(id)
        };
        if look.sources.iter().all(is_same) {
            Looked::Whole(look)
        } else {
            Looked::Over
        }
    }

    /// Whether a covered segment's footer has the rows that are counted, no more and no fewer: it
    /// may speak of records that were lost when it was written.
    fn is_what_counts(&self, segment: u64, footer: &Footer) -> bool {
        let Some(live) = self.segments.live.get(&segment) else {
            return false;
        };
        let counted = footer.rows().iter().filter(|(partition, row)| {
            let is_here = !live.index.moved.contains(partition);
            is_here && self.counted(*partition).is_some_and(|at| row.end > at)
        });
        let rows = counted.count() as u64;
        live.index
            .covered
            .is_some_and(|covered| covered.live.rows == rows)
    }

    /// What a segment has that readers may ask for. `rows` are those of its footer, if a run covers it.
    pub(super) fn held_in(&self, segment: u64, rows: Option<&Footer>) -> Vec<Held> {
        let Some(live) = self.segments.live.get(&segment) else {
            return Vec::new();
        };
        let index = &live.index;
        let ranges = index.partitions.iter().filter_map(|(partition, range)| {
            let state = self.partitions.get(partition)?;
            let first = range.first.max(state.start);
            (first < range.end).then(|| Held {
                partition: *partition,
                first,
                end: range.end,
                bytes: part_of(range.bytes, (first, range.end), (range.first, range.end)),
            })
        });
        let Some(rows) = rows.filter(|_| index.covered.is_some()) else {
            return ranges.collect();
        };
        let own = rows.rows().chunk_by(|a, b| a.0 == b.0);
        let own = own.filter_map(|rows| {
            let (partition, _) = rows[0];
            let state = self.partitions.get(&partition)?;
            let live = rows.iter().map(|(_, row)| row);
            let live = live.filter(|row| row.end > state.start && row.end > state.counted);
            let held = live.map(|row| Held {
                partition,
                first: row.first.max(state.start),
                end: row.end,
                bytes: u64::from(row.payload_bytes),
            });
            let held = held.filter(|_| !index.moved.contains(&partition));
            held.reduce(|all, next| Held {
                first: all.first.min(next.first),
                end: all.end.max(next.end),
                bytes: all.bytes + next.bytes,
                ..all
            })
        });
        own.collect()
    }

    /// How scattered a segment's partitions are, if that is not known since it was sealed.
    fn note_amplification(&mut self, segment: u64, footer: &Footer) {
        let unit = f64::from(u32::try_from(self.unit).unwrap_or(0));
        if let Some(live) = self.segments.live.get_mut(&segment) {
            let rows = footer.rows().iter().map(|(_, row)| row);
            let (read, wanted) = rows.fold((0.0, 0.0), |(read, wanted), row| {
                let block = f64::from(row.block_units) * unit;
                (read + block, wanted + f64::from(row.payload_bytes))
            });
            let known = if wanted > 0.0 { read / wanted } else { 1.0 };
            live.amplification.get_or_insert(known);
        }
    }

    /// Remembers what was found of covered segments that are not cleaned after all.
    pub(super) fn leave_after_look(&mut self, look: &Look, lasting: &[(u64, u64, usize)]) {
        for (segment, lasting_bytes, partitions) in lasting {
            let index = self.segments.live.get(segment).map(|live| &live.index);
            let Some(covered) = index.and_then(|index| index.covered) else {
                continue;
            };
            let known = Known {
                live_bytes: covered.live.bytes,
                lasting_bytes: *lasting_bytes,
                partitions: *partitions,
                stays: look.in_order(&look.sources).is_none(),
            };
            self.cleaner.known.insert(*segment, known);
        }
        let live = &self.segments.live;
        self.cleaner.known.retain(|id, _| live.contains_key(id));
    }
}

/// The bytes of a part of a range of offsets, by proportion.
fn part_of(bytes: u64, part: (Offset, Offset), whole: (Offset, Offset)) -> u64 {
    let length = |range: (Offset, Offset)| u128::from(range.1.0.saturating_sub(range.0.0));
    let share = u128::from(bytes) * length(part) / length(whole).max(1);
    u64::try_from(share).unwrap_or(bytes)
}
