//! A log that does everything right, its clients, and what they write down; and ways to make it do
//! one thing wrong.

use std::collections::BTreeMap;
use std::path::Path;

use ringlog_tests::history::History;
use ringlog_tests::history::event::{Content, Entry, Event, Id, Partition};

pub const TOPIC: &str = "t";
pub const GROUP: &str = "g";
/// Reads everything once, at the end.
pub const SCAN: &str = "scan";

/// A member of the group, and where it is in the partition it owns.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    position: i64,
}

/// A partition of the log, and its owner in the group.
struct Held {
    name: Partition,
    events: Vec<Id>,
    acknowledged: BTreeMap<i64, Id>,
    owner: Option<Member>,
    /// `None` until something is.
    committed: Option<i64>,
}

pub struct World {
    partitions: Vec<Held>,
    members: usize,
    next_number: BTreeMap<String, u64>,
    lines: BTreeMap<String, Vec<Entry>>,
    clock: u64,
}

impl World {
    pub fn new(partitions: i32, members: usize) -> World {
        let held = |partition| Held {
            name: Partition {
                topic: TOPIC.to_owned(),
                partition,
            },
            events: Vec::new(),
            acknowledged: BTreeMap::new(),
            owner: None,
            committed: None,
        };
        World {
            partitions: (0..partitions).map(held).collect(),
            members,
            next_number: BTreeMap::new(),
            lines: BTreeMap::new(),
            clock: 0,
        }
    }

    /// What every record of an id carries.
    pub fn content(id: &Id) -> Content {
        Content {
            key: Some(format!("key of {id}")),
            timestamp: Some(1_700_000_000_000),
            headers: Some(BTreeMap::from([("id".to_owned(), id.to_string())])),
        }
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn write_line(&mut self, client: &str, event: Event) {
        let at = self.now();
        let lines = self.lines.entry(client.to_owned()).or_default();
        lines.push(Entry { at, event });
    }

    pub fn send(
        &mut self,
        producer: &str,
        partition: usize,
        stored: bool,
        acknowledged: bool,
    ) -> Id {
        let id = self.write_sent(producer, partition);
        if stored {
            let offset = self.store(partition, id.clone());
            if acknowledged {
                self.write_acknowledged(producer, partition, id.clone(), offset);
            }
        }
        id
    }

    fn write_sent(&mut self, producer: &str, partition: usize) -> Id {
        let number = self.next_number.entry(producer.to_owned()).or_default();
        let id = Id::new(producer, *number);
        *number += 1;
        let sent = Event::Sent {
            id: id.clone(),
            topic: TOPIC.to_owned(),
            partition: Some(self.partitions[partition].name.partition),
            may_repeat: false,
            content: World::content(&id),
        };
        self.write_line(producer, sent);
        id
    }

    fn write_acknowledged(&mut self, producer: &str, partition: usize, id: Id, offset: i64) {
        let held = &mut self.partitions[partition];
        held.acknowledged.insert(offset, id.clone());
        let partition = held.name.clone();
        let acknowledged = Event::Acknowledged {
            id,
            partition,
            offset,
        };
        self.write_line(producer, acknowledged);
    }

    /// Puts an event into the log, whoever sent it.
    pub fn store(&mut self, partition: usize, id: Id) -> i64 {
        let events = &mut self.partitions[partition].events;
        events.push(id);
        offset_of(events.len() - 1)
    }

    /// Two events of one producer that the log takes the other way round.
    pub fn send_two_that_cross(&mut self, producer: &str, partition: usize) -> (Id, Id) {
        let earlier = self.write_sent(producer, partition);
        let later = self.write_sent(producer, partition);
        for id in [&later, &earlier] {
            let offset = self.store(partition, id.clone());
            self.write_acknowledged(producer, partition, id.clone(), offset);
        }
        (earlier, later)
    }

    /// Takes the last event out of the log.
    pub fn forget_last(&mut self, partition: usize) -> i64 {
        let events = &mut self.partitions[partition].events;
        events.pop().expect("something is in the log");
        offset_of(events.len())
    }

    pub fn end(&self, partition: usize) -> i64 {
        offset_of(self.partitions[partition].events.len())
    }

    pub fn acknowledged(&self, partition: usize) -> Vec<(i64, Id)> {
        let acknowledged = &self.partitions[partition].acknowledged;
        acknowledged
            .iter()
            .map(|(offset, id)| (*offset, id.clone()))
            .collect()
    }

    pub fn committed(&self, partition: usize) -> i64 {
        self.partitions[partition]
            .committed
            .expect("something is committed")
    }

    /// A member gets a partition, and begins where the group is.
    pub fn assign(&mut self, partition: usize, member: usize) {
        let begin = self.partitions[partition].committed.unwrap_or(0);
        self.assign_at(partition, member % self.members, begin);
    }

    /// The same from elsewhere, and it reads on from there.
    pub fn assign_wrongly(&mut self, partition: usize, begin: i64) {
        self.assign_at(partition, 0, begin);
        self.read(partition, usize::MAX);
    }

    fn assign_at(&mut self, partition: usize, member: usize, position: i64) {
        let name = format!("m{member}");
        let held = &mut self.partitions[partition];
        held.owner = Some(Member {
            name: name.clone(),
            position,
        });
        let assigned = Event::Assigned {
            group: GROUP.to_owned(),
            member: name.clone(),
            partition: held.name.clone(),
        };
        self.write_line(&name, assigned);
    }

    fn owner(&mut self, partition: usize) -> Member {
        if self.partitions[partition].owner.is_none() {
            self.assign(partition, partition);
        }
        self.partitions[partition]
            .owner
            .clone()
            .expect("assigned above")
    }

    /// The owner reads so many events, or what there is.
    pub fn read(&mut self, partition: usize, count: usize) {
        let mut owner = self.owner(partition);
        let end = self.end(partition);
        for _ in 0..count {
            if owner.position == end {
                break;
            }
            self.write_read(GROUP, &owner.name, partition, owner.position);
            owner.position += 1;
        }
        self.partitions[partition].owner = Some(owner);
    }

    fn write_read(&mut self, group: &str, member: &str, partition: usize, offset: i64) {
        let held = &self.partitions[partition];
        let id = held.events[usize::try_from(offset).expect("not negative")].clone();
        let read = Event::Read {
            group: group.to_owned(),
            member: member.to_owned(),
            partition: held.name.clone(),
            offset,
            content: World::content(&id),
            id,
        };
        self.write_line(member, read);
    }

    pub fn read_last_again(&mut self, partition: usize) -> (Member, i64) {
        let owner = self.owner(partition);
        let offset = owner.position - 1;
        self.write_read(GROUP, &owner.name, partition, offset);
        (owner, offset)
    }

    /// Two more events are sent, and the owner reads the second one first.
    pub fn read_two_that_cross(&mut self, partition: usize) -> (Member, i64) {
        self.send("p", partition, true, true);
        self.send("p", partition, true, true);
        let mut owner = self.owner(partition);
        let offset = owner.position;
        self.write_read(GROUP, &owner.name, partition, offset + 1);
        self.write_read(GROUP, &owner.name, partition, offset);
        owner.position += 2;
        self.partitions[partition].owner = Some(owner.clone());
        (owner, offset)
    }

    pub fn commit(&mut self, partition: usize, heard: bool) {
        let Member { name, position } = self.owner(partition);
        let held = &mut self.partitions[partition];
        held.committed = Some(position);
        let place = held.name.clone();
        let committing = Event::Committing {
            group: GROUP.to_owned(),
            member: name.clone(),
            partition: place.clone(),
            offset: position,
        };
        self.write_line(&name, committing);
        if heard {
            let committed = Event::Committed {
                group: GROUP.to_owned(),
                member: name.clone(),
                partition: place,
                offset: position,
            };
            self.write_line(&name, committed);
        }
    }

    pub fn tell(&mut self, partition: usize) {
        let offset = self.partitions[partition].committed.unwrap_or(-1);
        self.tell_wrongly(partition, offset);
    }

    pub fn tell_wrongly(&mut self, partition: usize, offset: i64) {
        let since = self.now();
        let told = Event::Told {
            group: GROUP.to_owned(),
            partition: self.partitions[partition].name.clone(),
            offset,
            since,
        };
        self.write_line("operator", told);
    }

    /// Everybody reads to the end.
    pub fn finish(&mut self) {
        for partition in 0..self.partitions.len() {
            let since = self.now();
            let end = self.end(partition);
            self.read(partition, usize::MAX);
            for offset in 0..end {
                self.write_read(SCAN, SCAN, partition, offset);
            }
            for group in [GROUP, SCAN] {
                let ended = Event::Ended {
                    group: group.to_owned(),
                    partition: self.partitions[partition].name.clone(),
                    from: 0,
                    offset: end,
                    since,
                };
                self.write_line("operator", ended);
            }
        }
    }

    /// Nobody of a group got what is at an offset.
    pub fn forget_reads(&mut self, of: &str, partition: usize, at: i64) {
        let place = self.partitions[partition].name.clone();
        for lines in self.lines.values_mut() {
            lines.retain(|entry| !is_read(&entry.event, of, &place, at));
        }
    }

    /// A group got something else at an offset.
    pub fn change_reads(
        &mut self,
        of: &str,
        partition: usize,
        at: i64,
        other: &Id,
        carrying: Option<Content>,
    ) {
        let place = self.partitions[partition].name.clone();
        for entry in self.lines.values_mut().flatten() {
            if !is_read(&entry.event, of, &place, at) {
                continue;
            }
            if let Event::Read { id, content, .. } = &mut entry.event {
                *id = other.clone();
                *content = carrying.clone().unwrap_or_else(|| World::content(other));
            }
        }
    }

    pub fn into_history(self) -> History {
        History::of(self.lines.into_values().collect())
    }

    /// Everybody reads to the end, and that is all.
    pub fn ended(mut self) -> History {
        self.finish();
        self.into_history()
    }

    /// As the clients would: a file each.
    pub fn write(&self, directory: &Path) {
        for (client, lines) in &self.lines {
            let line = |entry| serde_json::to_string(entry).expect("plain data") + "\n";
            let text: String = lines.iter().map(line).collect();
            std::fs::write(directory.join(format!("{client}.jsonl")), text)
                .expect("a temporary directory");
        }
    }
}

fn is_read(event: &Event, of: &str, place: &Partition, at: i64) -> bool {
    matches!(event, Event::Read { group, partition, offset, .. }
        if group == of && partition == place && *offset == at)
}

fn offset_of(index: usize) -> i64 {
    i64::try_from(index).expect("few events")
}
