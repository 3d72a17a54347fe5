//! Goes through a history once, by time, and says what cannot be.

use std::fmt;

use super::commits::Commits;
use super::delivery::Deliveries;
use super::event::Event;
use super::fault::Fault;
use super::files::History;
use super::log::Log;

/// What a history holds, so that nobody takes an empty one for a good one, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were sent.
    pub sent: usize,
    /// Events that were acknowledged.
    pub acknowledged: usize,
    /// Events that were read, by whomever.
    pub read: usize,
    /// Times that a member got a partition.
    pub assigned: usize,
    /// Commits that were acknowledged.
    pub committed: usize,
    /// Partitions that a group read to the end.
    pub ended: usize,
    /// What is wrong, sorted.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST_SHOWN: usize = 20;
        write!(
            formatter,
            "{} sent, {} acknowledged, {} read, {} assignments, {} commits, {} partitions to the end: ",
            self.sent, self.acknowledged, self.read, self.assigned, self.committed, self.ended
        )?;
        if self.faults.is_empty() {
            return write!(formatter, "nothing wrong");
        }
        write!(formatter, "{} faults", self.faults.len())?;
        for fault in self.faults.iter().take(MOST_SHOWN) {
            write!(formatter, "\n  {fault}")?;
        }
        if self.faults.len() > MOST_SHOWN {
            write!(formatter, "\n  …")?;
        }
        Ok(())
    }
}

/// Checks a history. Takes memory for each event and time for sorting them.
#[must_use]
pub fn check(history: &History) -> Report {
    let mut report = Report::default();
    let mut log = Log::default();
    let mut deliveries = Deliveries::default();
    let mut commits = Commits::default();
    // First, so that what was sent is known whoever wrote in the same microsecond.
    for entry in history.entries() {
        if let Event::Sent {
            id,
            topic,
            partition,
            may_repeat,
            content,
        } = &entry.event
        {
            report.sent += 1;
            log.sent(id, topic, *partition, *may_repeat, content);
        }
    }
    for entry in history.entries() {
        let at = entry.at;
        match &entry.event {
            Event::Sent { .. } => {}
            Event::Acknowledged {
                id,
                partition,
                offset,
            } => {
                report.acknowledged += 1;
                log.acknowledged(id, partition, *offset, at);
            }
            Event::Assigned {
                group,
                member,
                partition,
            } => {
                report.assigned += 1;
                deliveries.assigned(group, member, partition);
                commits.assigned(group, member, partition, at);
            }
            Event::Read {
                group,
                member,
                partition,
                offset,
                id,
                content,
            } => {
                report.read += 1;
                log.read(id, partition, *offset, content);
                deliveries.read(group, member, partition, *offset);
                commits.read(group, member, partition, *offset);
            }
            Event::Committing {
                group,
                partition,
                offset,
                ..
            } => commits.committing(group, partition, *offset),
            Event::Committed {
                group,
                partition,
                offset,
                ..
            } => {
                report.committed += 1;
                commits.committed(group, partition, *offset, at);
            }
            Event::Told {
                group,
                partition,
                offset,
                since,
            } => commits.told(group, partition, *offset, (*since, at)),
            Event::Ended {
                group,
                partition,
                from,
                offset,
                since,
            } => {
                report.ended += 1;
                deliveries.ended(group, partition, *from..*offset, *since);
            }
        }
    }
    report.faults = deliveries.faults(&log);
    report.faults.extend(commits.faults());
    report.faults.extend(log.faults());
    report.faults.sort();
    report
}
