//! A machine whose state shows exactly which entries it saw and in which order.

use std::collections::BTreeMap;

use ringlog_storage::log::{Entry, EntryKind, EntryMeta, Machine};

/// Counts and chains everything applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Groups seen (each group carries one machine entry with its number).
    pub groups: u64,
    /// The number of the last group; the next must be one more.
    pub last_group: u64,
    /// A group that came out of order: what was expected and what came.
    pub out_of_order: Option<(u64, u64)>,
    /// Per partition: end offset, and a hash chained over all payloads.
    pub partitions: BTreeMap<u64, (u64, u64)>,
}

/// Chains `bytes` onto `hash`: a word at a time, because it sees every byte of a run twice.
pub fn chain(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = hash ^ 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes"));
        hash = (hash ^ word).wrapping_mul(PRIME).rotate_left(29);
    }
    for byte in words.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    hash ^ (hash >> 32)
}

impl Machine for Witness {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let mut words = checkpoint
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes")));
        let mut next = || words.next().ok_or_else(|| "checkpoint is short".to_owned());
        let mut state = Witness {
            groups: next()?,
            last_group: next()?,
            ..Witness::default()
        };
        for _ in 0..next()? {
            state.partitions.insert(next()?, (next()?, next()?));
        }
        *self = state;
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        match entry.meta.kind {
            EntryKind::Records => {
                let state = self.partitions.entry(entry.meta.partition.0).or_default();
                state.0 = entry.meta.end_offset().0;
                state.1 = chain(state.1, &entry.payload);
            }
            EntryKind::Machine => {
                let number = entry.meta.base_offset.0;
                if number != self.last_group + 1 && self.out_of_order.is_none() {
                    self.out_of_order = Some((self.last_group + 1, number));
                }
                self.last_group = number;
                self.groups += 1;
            }
            EntryKind::PartitionDropped => {
                self.partitions.remove(&entry.meta.partition.0);
            }
            _ => {}
        }
    }

    fn apply_damaged(&mut self, meta: &EntryMeta) {
        if meta.kind == EntryKind::Records {
            self.partitions.entry(meta.partition.0).or_default().0 = meta.end_offset().0;
        }
    }

    fn checkpoint(&self) -> Vec<u8> {
        let mut words = vec![self.groups, self.last_group, self.partitions.len() as u64];
        for (partition, (end, hash)) in &self.partitions {
            words.extend([*partition, *end, *hash]);
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}
