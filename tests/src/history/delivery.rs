//! What each group got: that it missed nothing, and each of its members got offsets in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::event::Partition;
use super::fault::Fault;
use super::log::Log;

/// A member reading a partition, from when it got it until it gets it again.
#[derive(Default)]
struct Session {
    first: i64,
    highest: Option<i64>,
    /// Passed over, and not come since.
    passed: Vec<Range<i64>>,
}

/// A group reading a partition.
#[derive(Default)]
struct Reading {
    read: BTreeSet<i64>,
    passed: Vec<Range<i64>>,
    ended: Option<Ended>,
}

/// Where a group was at the end of a partition.
#[derive(Clone, Copy)]
struct Ended {
    from: i64,
    offset: i64,
    since: u64,
}

/// What all groups got.
#[derive(Default)]
pub struct Deliveries<'a> {
    sessions: HashMap<(&'a str, &'a str, &'a Partition), Session>,
    readings: BTreeMap<(&'a str, &'a Partition), Reading>,
    faults: Vec<Fault>,
}

impl<'a> Deliveries<'a> {
    /// A member gets a partition.
    pub fn assigned(&mut self, group: &'a str, member: &'a str, partition: &'a Partition) {
        if let Some(before) = self.sessions.remove(&(group, member, partition)) {
            let reading = self.readings.entry((group, partition)).or_default();
            reading.passed.extend(before.passed);
        }
    }

    /// A member gets an event.
    pub fn read(&mut self, group: &'a str, member: &'a str, partition: &'a Partition, offset: i64) {
        let reading = self.readings.entry((group, partition)).or_default();
        reading.read.insert(offset);
        let session = self.sessions.entry((group, member, partition));
        let session = session.or_default();
        let Some(highest) = session.highest else {
            (session.first, session.highest) = (offset, Some(offset));
            return;
        };
        if offset > highest {
            if offset > highest + 1 {
                session.passed.push(highest + 1..offset);
            }
            session.highest = Some(offset);
            return;
        }
        let late = offset < session.first || take_out(&mut session.passed, offset);
        let (group, member) = (group.to_owned(), member.to_owned());
        let partition = partition.clone();
        self.faults.push(if late {
            Fault::DeliveredLate {
                group,
                member,
                partition,
                offset,
                after: highest,
            }
        } else {
            Fault::Redelivered {
                group,
                member,
                partition,
                offset,
            }
        });
    }

    /// A group is at the end of a partition.
    pub fn ended(
        &mut self,
        group: &'a str,
        partition: &'a Partition,
        offsets: Range<i64>,
        since: u64,
    ) {
        let reading = self.readings.entry((group, partition)).or_default();
        reading.ended = Some(Ended {
            from: offsets.start,
            offset: offsets.end,
            since,
        });
    }

    /// What is wrong with what groups got, beside what the log is known to hold.
    pub fn faults(mut self, log: &Log<'_>) -> Vec<Fault> {
        for ((group, _, partition), session) in self.sessions {
            let reading = self.readings.entry((group, partition)).or_default();
            reading.passed.extend(session.passed);
        }
        for ((group, partition), reading) in self.readings {
            for missing in merged(missing(&reading)) {
                missed(group, partition, &reading, missing, log, &mut self.faults);
            }
            if let Some(ended) = reading.ended {
                let behind = log.acknowledged_in(partition, ended.offset..i64::MAX);
                let lost = behind
                    .filter(|(offset, _, at)| *at < ended.since && !reading.read.contains(offset));
                self.faults.extend(lost.map(|(offset, id, _)| Fault::Lost {
                    id: id.clone(),
                    partition: partition.clone(),
                    offset,
                    group: group.to_owned(),
                }));
            }
        }
        self.faults
    }
}

/// Takes one offset out of ranges; whether it was in one.
fn take_out(ranges: &mut Vec<Range<i64>>, offset: i64) -> bool {
    let Some(at) = ranges.iter().position(|range| range.contains(&offset)) else {
        return false;
    };
    let range = ranges.remove(at);
    let parts = [range.start..offset, offset + 1..range.end];
    ranges.extend(parts.into_iter().filter(|part| !part.is_empty()));
    true
}

/// Offsets that a group should have got from one of its members, or from any.
fn missing(reading: &Reading) -> Vec<Range<i64>> {
    let mut missing = reading.passed.clone();
    if let Some(ended) = reading.ended {
        let mut next = ended.from;
        let read = reading.read.range(ended.from..ended.offset.max(ended.from));
        for offset in read.copied().chain([ended.offset]) {
            if next < offset {
                missing.push(next..offset);
            }
            next = offset + 1;
        }
    }
    missing
}

fn merged(mut ranges: Vec<Range<i64>>) -> Vec<Range<i64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<i64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Names what a group missed: each acknowledged event that no member got, and what is between them.
fn missed(
    group: &str,
    partition: &Partition,
    reading: &Reading,
    missing: Range<i64>,
    log: &Log<'_>,
    faults: &mut Vec<Fault>,
) {
    let mut gap = |from: i64, to: i64| {
        if from < to {
            faults.push(Fault::Gap {
                group: group.to_owned(),
                partition: partition.clone(),
                from,
                to,
            });
        }
    };
    let lost: Vec<_> = log
        .acknowledged_in(partition, missing.clone())
        .filter(|(offset, _, _)| !reading.read.contains(offset))
        .collect();
    let mut next = missing.start;
    for (offset, _, _) in &lost {
        gap(next, *offset);
        next = offset + 1;
    }
    gap(next, missing.end);
    faults.extend(lost.into_iter().map(|(offset, id, _)| Fault::Lost {
        id: id.clone(),
        partition: partition.clone(),
        offset,
        group: group.to_owned(),
    }));
}
