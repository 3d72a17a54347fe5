//! What the log holds, as acknowledgements and reads say it: which event is at which offset.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::event::{Content, Id, Partition};
use super::fault::Fault;

/// An event as it was sent.
struct Sent<'a> {
    topic: &'a str,
    partition: Option<i32>,
    may_repeat: bool,
    content: &'a Content,
}

/// One partition: what was acknowledged where, and what is there.
#[derive(Default)]
struct Held<'a> {
    acknowledged: BTreeMap<i64, (&'a Id, u64)>,
    /// By acknowledgement or by reading; a place has more than one event only by a fault.
    events: BTreeMap<i64, BTreeSet<&'a Id>>,
}

/// What all clients together know of the log.
#[derive(Default)]
pub struct Log<'a> {
    sent: HashMap<&'a Id, Sent<'a>>,
    partitions: BTreeMap<&'a Partition, Held<'a>>,
    faults: BTreeSet<Fault>,
}

impl<'a> Log<'a> {
    /// An event goes out.
    pub fn sent(
        &mut self,
        id: &'a Id,
        topic: &'a str,
        partition: Option<i32>,
        may_repeat: bool,
        content: &'a Content,
    ) {
        let sent = Sent {
            topic,
            partition,
            may_repeat,
            content,
        };
        self.sent.insert(id, sent);
    }

    /// An event is acknowledged.
    pub fn acknowledged(&mut self, id: &'a Id, partition: &'a Partition, offset: i64, at: u64) {
        let held = self.partitions.entry(partition).or_default();
        held.acknowledged.entry(offset).or_insert((id, at));
        self.found(id, partition, offset);
    }

    /// Somebody reads an event.
    pub fn read(&mut self, id: &'a Id, partition: &'a Partition, offset: i64, content: &Content) {
        self.found(id, partition, offset);
        let Some(sent) = self.sent.get(id) else {
            return;
        };
        for (sent, read) in differences(sent.content, content) {
            self.faults.insert(Fault::Altered {
                id: id.clone(),
                partition: partition.clone(),
                offset,
                sent,
                read,
            });
        }
    }

    /// An event is somewhere: where it was sent to, one hopes.
    fn found(&mut self, id: &'a Id, partition: &'a Partition, offset: i64) {
        let held = self.partitions.entry(partition).or_default();
        held.events.entry(offset).or_default().insert(id);
        let belongs = self.sent.get(id).is_some_and(|sent| {
            sent.topic == partition.topic
                && sent
                    .partition
                    .is_none_or(|wanted| wanted == partition.partition)
        });
        if !belongs {
            self.faults.insert(Fault::Phantom {
                id: id.clone(),
                partition: partition.clone(),
                offset,
            });
        }
    }

    /// Acknowledged events of a partition in a range of offsets, with when they were acknowledged.
    pub fn acknowledged_in(
        &self,
        partition: &Partition,
        range: std::ops::Range<i64>,
    ) -> impl Iterator<Item = (i64, &'a Id, u64)> {
        let held = self.partitions.get(partition);
        held.into_iter().flat_map(move |held| {
            let range = held.acknowledged.range(range.clone());
            range.map(|(offset, (id, at))| (*offset, *id, *at))
        })
    }

    /// What is wrong with the log itself.
    pub fn faults(self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.faults.into_iter().collect();
        for (partition, held) in &self.partitions {
            let may_repeat = |id: &Id| self.sent.get(id).is_none_or(|sent| sent.may_repeat);
            contradictions(partition, held, &mut faults);
            order(partition, held, may_repeat, &mut faults);
        }
        faults
    }
}

/// Where a record differs in what was sent with it.
fn differences(sent: &Content, read: &Content) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if sent.key.is_some() && sent.key != read.key {
        found.push((format!("key {:?}", sent.key), format!("{:?}", read.key)));
    }
    if sent.timestamp.is_some() && sent.timestamp != read.timestamp {
        let sent = format!("timestamp {:?}", sent.timestamp);
        found.push((sent, format!("{:?}", read.timestamp)));
    }
    if sent.headers.is_some() && sent.headers != read.headers {
        let sent = format!("headers {:?}", sent.headers);
        found.push((sent, format!("{:?}", read.headers)));
    }
    found
}

fn contradictions(partition: &Partition, held: &Held<'_>, faults: &mut Vec<Fault>) {
    for (offset, events) in &held.events {
        let mut events = events.iter();
        if let (Some(first), Some(second)) = (events.next(), events.next()) {
            faults.push(Fault::Contradiction {
                partition: partition.clone(),
                offset: *offset,
                first: (*first).clone(),
                second: (*second).clone(),
            });
        }
    }
}

/// Events at two places, and producers' numbers that fall.
fn order(
    partition: &Partition,
    held: &Held<'_>,
    may_repeat: impl Fn(&Id) -> bool,
    faults: &mut Vec<Fault>,
) {
    let mut first_at: HashMap<&Id, i64> = HashMap::new();
    let mut highest: HashMap<&str, (u64, &Id)> = HashMap::new();
    for (offset, events) in &held.events {
        for &id in events {
            let Some((producer, number)) = id.parts().filter(|_| !may_repeat(id)) else {
                continue;
            };
            if let Some(first) = first_at.get(id) {
                faults.push(Fault::Duplicated {
                    id: id.clone(),
                    partition: partition.clone(),
                    first: *first,
                    second: *offset,
                });
                continue;
            }
            first_at.insert(id, *offset);
            let (highest, later) = highest.entry(producer).or_insert((number, id));
            if number < *highest {
                faults.push(Fault::Reordered {
                    partition: partition.clone(),
                    earlier: id.clone(),
                    later: (*later).clone(),
                });
            } else {
                (*highest, *later) = (number, id);
            }
        }
    }
}
