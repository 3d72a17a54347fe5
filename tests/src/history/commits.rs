//! What each group committed: it stays until more is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::event::Partition;
use super::fault::Fault;

/// The committed offsets of one partition of a group.
#[derive(Default)]
struct Committed {
    attempts: BTreeSet<i64>,
    /// The highest offset known to be committed, by when that was known.
    known: Vec<(u64, i64)>,
}

impl Committed {
    fn learn(&mut self, at: u64, offset: i64) {
        let highest = self
            .known
            .last()
            .map_or(offset, |(_, known)| offset.max(*known));
        self.known.push((at, highest));
    }

    /// What was known before a time.
    fn before(&self, since: u64) -> Option<i64> {
        let known = self.known.partition_point(|(at, _)| *at < since);
        Some(self.known.get(known.checked_sub(1)?)?.1)
    }
}

/// What all groups committed.
#[derive(Default)]
pub struct Commits<'a> {
    groups: BTreeMap<(&'a str, &'a Partition), Committed>,
    /// Since when a member has a partition of which it did not read anything yet.
    begins: HashMap<(&'a str, &'a str, &'a Partition), u64>,
    faults: BTreeSet<Fault>,
}

impl<'a> Commits<'a> {
    /// A member is about to commit.
    pub fn committing(&mut self, group: &'a str, partition: &'a Partition, offset: i64) {
        let committed = self.groups.entry((group, partition)).or_default();
        committed.attempts.insert(offset);
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, group: &'a str, partition: &'a Partition, offset: i64, at: u64) {
        let committed = self.groups.entry((group, partition)).or_default();
        committed.learn(at, offset);
    }

    /// Somebody was told what is committed.
    pub fn told(
        &mut self,
        group: &'a str,
        partition: &'a Partition,
        offset: i64,
        (since, at): (u64, u64),
    ) {
        let committed = self.groups.entry((group, partition)).or_default();
        if let Some(before) = committed.before(since).filter(|before| offset < *before) {
            self.faults.insert(Fault::CommitWentBack {
                group: group.to_owned(),
                partition: partition.clone(),
                committed: before,
                found: offset,
            });
        } else if offset >= 0 && !committed.attempts.contains(&offset) {
            self.faults.insert(Fault::PhantomCommit {
                group: group.to_owned(),
                partition: partition.clone(),
                found: offset,
            });
        } else if offset >= 0 {
            committed.learn(at, offset);
        }
    }

    /// A member gets a partition, and will ask where to begin.
    pub fn assigned(&mut self, group: &'a str, member: &'a str, partition: &'a Partition, at: u64) {
        self.begins.insert((group, member, partition), at);
    }

    /// A member reads: the first time since it got the partition, it is where it was told to begin.
    pub fn read(&mut self, group: &'a str, member: &'a str, partition: &'a Partition, offset: i64) {
        let Some(since) = self.begins.remove(&(group, member, partition)) else {
            return;
        };
        let committed = self.groups.get(&(group, partition));
        let before = committed.and_then(|committed| committed.before(since));
        if let Some(before) = before.filter(|before| offset < *before) {
            self.faults.insert(Fault::CommitWentBack {
                group: group.to_owned(),
                partition: partition.clone(),
                committed: before,
                found: offset,
            });
        }
    }

    /// What is wrong with the commits.
    pub fn faults(self) -> impl Iterator<Item = Fault> {
        self.faults.into_iter()
    }
}
