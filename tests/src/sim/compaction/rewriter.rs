//! The part of compaction that opens batches, composed as a node composes it.

use ringlog_storage::log::clean::{Fate, Rewriter};
use ringlog_types::Offset;
use ringlog_types::batch::compact::{Compaction, CompactionRules, Rewritten};
use ringlog_types::batch::{BatchHeader, set_base_offset};

/// How long a tombstone stays once a pass met it.
pub const DELETE_RETENTION_MS: i64 = 15_000;

/// A mistake that compaction can be told to make. See where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionMistake {
    /// A value is taken for an older one of itself.
    DropLatest,
    /// A tombstone goes with the second pass that meets it, however soon that is.
    DropTombstonesEarly,
}

impl CompactionMistake {
    /// All of them, by name.
    pub const ALL: [(&'static str, CompactionMistake); 2] = [
        ("drop-latest", CompactionMistake::DropLatest),
        (
            "drop-tombstones-early",
            CompactionMistake::DropTombstonesEarly,
        ),
    ];
}

/// Decides what stays of batches.
#[derive(Debug)]
pub struct Batches {
    compaction: Compaction,
    mistake: Option<CompactionMistake>,
}

impl Batches {
    pub fn new(now_ms: i64, most_keys: usize, mistake: Option<CompactionMistake>) -> Batches {
        let is_early = mistake == Some(CompactionMistake::DropTombstonesEarly);
        let rules = CompactionRules {
            now_ms,
            delete_retention_ms: if is_early { 0 } else { DELETE_RETENTION_MS },
            most_keys,
            opened_bytes: 1 << 20,
            seed: 3,
        };
        Batches {
            compaction: Compaction::new(rules),
            mistake,
        }
    }
}

impl Rewriter for Batches {
    fn note(&mut self, batch: &[u8]) -> bool {
        if self.mistake == Some(CompactionMistake::DropLatest)
            && let Ok(header) = BatchHeader::parse(batch)
        {
            let mut moved = batch.to_vec();
            set_base_offset(&mut moved, Offset(header.base_offset.unsigned_abs() + 1));
            return self.compaction.note(&moved);
        }
        self.compaction.note(batch)
    }

    fn rewrite(&self, batch: &[u8]) -> Fate {
        match self.compaction.rewrite(batch) {
            Rewritten::Same => Fate::Same,
            Rewritten::Nothing => Fate::Nothing,
            Rewritten::Batch(bytes) => Fate::Batch(bytes),
        }
    }
}
