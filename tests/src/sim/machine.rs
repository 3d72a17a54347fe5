//! A machine whose state shows exactly which entries it saw, in which order, and what it was
//! told to be damaged or never saw.

use std::collections::BTreeMap;

use ringlog_storage::log::{Entry, EntryKind, EntryMeta, Machine};

/// Counts and chains everything applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The number of the last group; the next must be one more (each group carries one machine
    /// entry with its number).
    pub last_group: u64,
    /// Groups that never came: first number, and the one behind the last.
    pub missed: Vec<(u64, u64)>,
    /// An entry that came out of order.
    pub out_of_order: Option<String>,
    /// By partition.
    pub partitions: BTreeMap<u64, Seen>,
}

/// What a machine saw of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Behind the last offset.
    pub end: u64,
    /// Chained over the digests of all batches that came whole.
    pub hash: u64,
    /// Offsets that came as damaged: first, and the one behind the last. What touches is one
    /// range: a block that is lost whole is told of at once, whatever batches were in it.
    pub damaged: Vec<(u64, u64)>,
    /// Offsets that never came while later ones did.
    pub skipped: Vec<(u64, u64)>,
}

/// How a batch came to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Whole.
    Whole,
    /// As damaged.
    Damaged,
    /// Not at all.
    Skipped,
}

impl Seen {
    /// How these offsets came, if they were committed.
    pub fn fate(&self, first: u64, end: u64) -> Fate {
        let covers = |(from, to): &(u64, u64)| *from <= first && end <= *to;
        if self.damaged.iter().any(covers) {
            Fate::Damaged
        } else if first >= self.end || self.skipped.iter().any(covers) {
            Fate::Skipped
        } else {
            Fate::Whole
        }
    }

    /// Whether these offsets came as damaged.
    pub fn is_damaged(&self, first: u64, end: u64) -> bool {
        self.fate(first, end) == Fate::Damaged
    }

    /// These offsets came as damaged.
    pub fn add_damaged(&mut self, first: u64, end: u64) {
        match self.damaged.last_mut() {
            Some(last) if last.1 == first => last.1 = end,
            _ => self.damaged.push((first, end)),
        }
    }
}

/// A digest of bytes: a word at a time, because it sees every byte of a run twice.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut hash = bytes.len() as u64;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes"));
        hash = chain(hash, word);
    }
    let last = words.remainder().iter();
    last.fold(hash, |hash, byte| chain(hash, u64::from(*byte)))
}

/// Chains a word onto a hash.
pub fn chain(hash: u64, word: u64) -> u64 {
    (hash ^ word ^ 0xcbf2_9ce4_8422_2325)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

impl Witness {
    /// A group came, whole or damaged.
    fn group(&mut self, number: u64) {
        if number <= self.last_group {
            let last = self.last_group;
            self.complain(|| format!("group {number} came after group {last}"));
        } else if number > self.last_group + 1 {
            self.missed.push((self.last_group + 1, number));
        }
        self.last_group = number;
    }

    fn records(&mut self, meta: &EntryMeta) -> &mut Seen {
        let (partition, base) = (meta.partition.0, meta.base_offset.0);
        let end = self.partitions.entry(partition).or_default().end;
        if base < end {
            self.complain(|| format!("partition {partition}: offset {base} came after {end}"));
        }
        let state = self.partitions.entry(partition).or_default();
        if base > end {
            state.skipped.push((end, base));
        }
        state.end = meta.end_offset().0;
        state
    }

    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.out_of_order.is_none() {
            self.out_of_order = Some(what());
        }
    }
}

impl Machine for Witness {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let mut words = checkpoint
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes")));
        let mut next = || words.next().ok_or_else(|| "checkpoint is short".to_owned());
        let mut state = Witness {
            last_group: next()?,
            ..Witness::default()
        };
        for _ in 0..next()? {
            state.missed.push((next()?, next()?));
        }
        for _ in 0..next()? {
            let partition = next()?;
            let (end, hash) = (next()?, next()?);
            let mut seen = Seen {
                end,
                hash,
                ..Seen::default()
            };
            for ranges in [&mut seen.damaged, &mut seen.skipped] {
                for _ in 0..next()? {
                    ranges.push((next()?, next()?));
                }
            }
            state.partitions.insert(partition, seen);
        }
        *self = state;
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        match entry.meta.kind {
            EntryKind::Records => {
                let state = self.records(&entry.meta);
                state.hash = chain(state.hash, digest(&entry.payload));
            }
            EntryKind::Machine => self.group(entry.meta.base_offset.0),
            EntryKind::PartitionDropped => {
                self.partitions.remove(&entry.meta.partition.0);
            }
            _ => {}
        }
    }

    fn apply_damaged(&mut self, meta: &EntryMeta) {
        match meta.kind {
            EntryKind::Records => {
                let (first, end) = (meta.base_offset.0, meta.end_offset().0);
                self.records(meta).add_damaged(first, end);
            }
            EntryKind::Machine => self.group(meta.base_offset.0),
            _ => {}
        }
    }

    fn checkpoint(&self) -> Vec<u8> {
        let mut words = vec![self.last_group, self.missed.len() as u64];
        words.extend(self.missed.iter().flat_map(|(first, end)| [*first, *end]));
        words.push(self.partitions.len() as u64);
        for (partition, seen) in &self.partitions {
            words.extend([*partition, seen.end, seen.hash]);
            for ranges in [&seen.damaged, &seen.skipped] {
                words.push(ranges.len() as u64);
                words.extend(ranges.iter().flat_map(|(first, end)| [*first, *end]));
            }
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}
