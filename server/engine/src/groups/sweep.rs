//! What nobody needs any more: offsets of partitions that are gone, offsets that expired, groups
//! without anything. Decided in steps; each decision is a record.
//!
//! An offset expires (KIP-211; `ClassicGroup.offsetExpirationCondition` in Kafka):
//!
//! | a group | its offsets expire `retention_ms` after |
//! |---|---|
//! | without members | it became so, or the offset was committed later |
//! | stable, of consumers whose subscriptions can be read | the commit, where no member reads the topic |
//! | any other with members, or on its way from or to that | never |
//!
//! What a client gave a time of its own (OffsetCommit up to version 4) expires then instead, under
//! the same conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use ringlog_types::PartitionId;

use super::group::{Group, Phase};
use super::offset::CommittedOffset;
use super::record::GroupRecord;
use super::state::Groups;
use super::subscription::{Place as ReadTo, next_topic};
use super::table::{GroupNumber, GroupRow};
use crate::limits::ROWS_PER_SWEEP_STEP;

/// A group that has nothing any more is kept so long, so that operators see it empty.
const UNUSED_MS: i64 = 10 * 60 * 1000;

/// The type of protocols whose subscriptions say which topics are read.
const CONSUMER: &str = "consumer";

/// How far a sweep has come.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    place: Place,
    /// Of the group at that place, once an offset of it depends on it.
    subscribed: Option<Subscribed>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Offsets(Option<(GroupNumber, PartitionId)>),
    Groups(Option<GroupNumber>),
    End,
}

impl Default for Place {
    fn default() -> Place {
        Place::Offsets(None)
    }
}

impl Sweep {
    /// Whether everything was looked at.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        matches!(self.place, Place::End)
    }
}

/// When offsets expire.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall_ms: i64,
    /// What is as old as this has been kept long enough.
    before_ms: i64,
}

/// What becomes of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// More of its group has to be looked at first, in the next step.
    Later,
}

impl Groups {
    /// Looks at a bounded number of rows, and says what is to be logged. `topic` knows the
    /// partitions that are there, and the names of their topics.
    pub fn sweep<'a>(
        &self,
        sweep: &mut Sweep,
        wall_ms: i64,
        retention_ms: i64,
        topic: impl Fn(PartitionId) -> Option<&'a str>,
    ) -> Vec<GroupRecord> {
        let Sweep { place, subscribed } = sweep;
        match place {
            Place::Offsets(behind) => {
                let clock = Clock {
                    wall_ms,
                    before_ms: wall_ms.saturating_sub(retention_ms),
                };
                let mut forgotten: BTreeMap<Arc<str>, Vec<(PartitionId, i64)>> = BTreeMap::new();
                let mut left = ROWS_PER_SWEEP_STEP;
                let mut rows = self.table.offsets_behind(*behind);
                let is_over = loop {
                    if left == 0 {
                        break false;
                    }
                    let Some((key, row, offset)) = rows.next() else {
                        break true;
                    };
                    left -= 1;
                    let fate = match (topic(key.1), self.live.get(&row.id)) {
                        (None, _) => Fate::Goes,
                        (Some(_), None) if clock.has_passed(offset, since_ms(row)) => Fate::Goes,
                        (Some(topic), Some(group)) if clock.has_passed(offset, i64::MIN) => {
                            fate(group, (key.0, topic), subscribed, &mut left)
                        }
                        _ => Fate::Stays,
                    };
                    match fate {
                        Fate::Stays => {}
                        Fate::Goes => {
                            let of_group = forgotten.entry(Arc::clone(&row.id)).or_default();
                            of_group.push((key.1, offset.committed_ms));
                        }
                        Fate::Later => break false,
                    }
                    *behind = Some(key);
                };
                if is_over {
                    *subscribed = None;
                    *place = Place::Groups(None);
                }
                let records = forgotten.into_iter();
                records
                    .map(|(group, offsets)| GroupRecord::OffsetsForgotten { group, offsets })
                    .collect()
            }
            Place::Groups(behind) => {
                let mut records = Vec::new();
                let mut looked = 0;
                let rows = self.table.groups_behind(*behind);
                for (number, row) in rows.take(ROWS_PER_SWEEP_STEP) {
                    *behind = Some(number);
                    looked += 1;
                    if self.is_unused(row, wall_ms) && !self.table.has_offsets(number) {
                        records.push(GroupRecord::Removed {
                            group: Arc::clone(&row.id),
                            if_unused: true,
                        });
                    }
                }
                if looked < ROWS_PER_SWEEP_STEP {
                    *place = Place::End;
                }
                records
            }
            Place::End => Vec::new(),
        }
    }

    fn is_unused(&self, row: &GroupRow, wall_ms: i64) -> bool {
        // A group that lives and is without members has an entry on its way into the log.
        let is_at_rest = !self.live.contains_key(&row.id);
        is_at_rest && since_ms(row) <= wall_ms.saturating_sub(UNUSED_MS)
    }
}

/// What becomes of an offset of a group that lives, when its time has passed.
fn fate(
    group: &Group,
    (number, topic): (GroupNumber, &str),
    subscribed: &mut Option<Subscribed>,
    left: &mut usize,
) -> Fate {
    if group.phase != Phase::Stable || &*group.protocol_type != CONSUMER {
        return Fate::Stays;
    }
    let known = subscribed.take_if(|known| known.group == number);
    let known = known.unwrap_or_else(|| Subscribed::begin(number, group));
    let known = subscribed.insert(known);
    known.gather(group, left);
    known.fate(group, topic)
}

impl Clock {
    /// Whether an offset was kept for as long as it has to be, in a group that is as it is since
    /// then.
    fn has_passed(&self, offset: &CommittedOffset, since_ms: i64) -> bool {
        match offset.expires_ms {
            0.. => offset.expires_ms <= self.wall_ms,
            _ => since_ms.max(offset.committed_ms) <= self.before_ms,
        }
    }
}

/// Since when a group is as it is stored.
fn since_ms(row: &GroupRow) -> i64 {
    let stored = row.stored.as_ref();
    stored.map_or(i64::MIN, |stored| stored.since_ms)
}

/// The topics that the members of a stable group read, gathered in steps.
#[derive(Clone, Debug)]
struct Subscribed {
    group: GroupNumber,
    /// As the group was when it began: where it is otherwise, it may read other topics.
    generation: i32,
    logged: u64,
    /// Members up to this one are gathered, and some of the next.
    behind: Option<Arc<str>>,
    read_to: Option<ReadTo>,
    topics: BTreeSet<Box<[u8]>>,
    is_whole: bool,
    is_readable: bool,
}

impl Subscribed {
    fn begin(number: GroupNumber, group: &Group) -> Subscribed {
        Subscribed {
            group: number,
            generation: group.generation,
            logged: group.logged,
            behind: None,
            read_to: None,
            topics: BTreeSet::new(),
            is_whole: false,
            is_readable: true,
        }
    }

    fn is_as_it_was(&self, group: &Group) -> bool {
        (self.generation, self.logged) == (group.generation, group.logged)
    }

    /// Gathers so many more topics at most.
    fn gather(&mut self, group: &Group, left: &mut usize) {
        if self.is_whole || !self.is_as_it_was(group) {
            return;
        }
        let from = self.behind.clone();
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (id, member) in group.members.range::<str, _>((from, Bound::Unbounded)) {
            let subscription = member.metadata(&group.protocol);
            loop {
                let Some(less) = left.checked_sub(1) else {
                    return;
                };
                *left = less;
                match next_topic(&subscription, &mut self.read_to) {
                    Ok(Some(topic)) => {
                        self.topics.insert(topic.into());
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.is_readable = false;
                        self.is_whole = true;
                        return;
                    }
                }
            }
            self.behind = Some(Arc::clone(id));
            self.read_to = None;
        }
        self.is_whole = true;
    }

    fn fate(&self, group: &Group, topic: &str) -> Fate {
        if !self.is_as_it_was(group) || !self.is_readable {
            return Fate::Stays;
        }
        match self.is_whole {
            false => Fate::Later,
            true if self.topics.contains(topic.as_bytes()) => Fate::Stays,
            true => Fate::Goes,
        }
    }
}
