//! A seam that looks on: what the log wrote where, in its own words, so that a checker knows
//! which bytes on the disk an acknowledged batch depends on.
//!
//! Invariant: this believes nothing the log says of itself; it reads the bytes on their way to
//! the disk, and changes nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use ringlog_storage::buffer::{Buf, Pool};
use ringlog_storage::format::block_header::BlockHeader;
use ringlog_storage::format::entry_header::EntryHeader;
use ringlog_storage::format::replaced::Replaced;
use ringlog_storage::io::sim::{Corrupted, SimDisk};
use ringlog_storage::io::{Completion, FileId, Geometry, Io, Op, Token};
use ringlog_storage::log::{EntryKind, EntryMeta};

/// Bytes of a segment's header that are in use.
const SEGMENT_HEADER_BYTES: u64 = 104;
/// Blocks of cold segments have sequences from here on.
const FIRST_COLD: u64 = 1 << 63;
/// What a header is read with.
const UNIT_BYTES: u64 = 4096;

/// A block as it went to the disk.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The file.
    pub file: String,
    /// Its header's checksum.
    checksum: u64,
    /// The segment it says it is in.
    segment: u64,
    /// First block of its group.
    pub group_first: u64,
    /// Last block it states to be durable.
    pub states: u64,
    /// Its header.
    header: Range<u64>,
    /// Its entry table.
    table: Range<u64>,
    /// Its entries, and where their bytes lie.
    entries: Vec<(EntryMeta, Range<u64>)>,
    /// Header or table, or its segment's header, were once found corrupted.
    unreadable: bool,
    /// Entries whose bytes were once found corrupted.
    spoilt: Vec<bool>,
    /// The start that is looked at, or what came after it, wrote it.
    is_new: bool,
    /// Its file has become another segment, or is removed.
    let_go: bool,
    /// This start found it behind the end of the log, and took it out.
    is_being_erased: bool,
    /// An earlier one did.
    erased: bool,
}

impl Placed {
    /// Whether it still says what it said to the start that is being looked at: not if an earlier
    /// one has erased it, nor if that start wrote it.
    pub fn is_evidence(&self) -> bool {
        !self.unreadable && !self.erased && !self.is_new
    }

    /// Whether its file has become another segment, or is removed.
    pub fn is_let_go(&self) -> bool {
        self.let_go
    }

    /// Whether any of it is corrupted.
    pub fn is_hit(&self) -> bool {
        self.unreadable || self.spoilt.contains(&true)
    }

    /// Whether it holds a part of a checkpoint.
    pub fn holds_checkpoint(&self) -> bool {
        let mut kinds = self.entries.iter().map(|(meta, _)| meta.kind);
        kinds.any(|kind| kind == EntryKind::Checkpoint)
    }

    fn holds(&self, partition: u64, base: u64) -> bool {
        self.entries.iter().any(|(meta, _)| {
            meta.kind == EntryKind::Records
                && (meta.partition.0, meta.base_offset.0) == (partition, base)
        })
    }

    fn is_again(&self, other: &Placed) -> bool {
        self.is_same(other) && self.header == other.header
    }

    /// Whether it is the same block, wherever it stands.
    fn is_same(&self, other: &Placed) -> bool {
        (&self.file, self.checksum) == (&other.file, other.checksum)
    }

    fn is_spoilt(&self, partition: u64, base: u64) -> bool {
        let mut entries = self.entries.iter().zip(&self.spoilt);
        entries.any(|((meta, _), spoilt)| {
            *spoilt
                && meta.kind == EntryKind::Records
                && (meta.partition.0, meta.base_offset.0) == (partition, base)
        })
    }
}

/// Everything seen, over all lives.
#[derive(Debug, Default)]
pub struct Seen {
    /// The disk, to ask whether a header is there; none when the engine is the real one.
    pub disk: Option<SimDisk>,
    /// Blocks by their sequence. A life that begins gives sequences again whose blocks the check
    /// of its start still asks for.
    blocks: BTreeMap<u64, Vec<Placed>>,
    /// Files whose segment header was once found corrupted.
    pub corrupted_headers: BTreeSet<String>,
    /// Files whose trailer, or the footer before it, was once found corrupted.
    pub corrupted_seals: BTreeSet<String>,
    seals: BTreeMap<String, Range<u64>>,
    /// Segments that the cleaner replaced, and the block with the entry that says so.
    replaced: BTreeMap<u64, u64>,
    /// A start is under way, or not checked yet.
    is_starting: bool,
    /// The first block that the start which is looked at wrote.
    first_new: Option<u64>,
    /// The first block that starts wrote which came before it and did not come to serve.
    first_unserved: Option<u64>,
    /// What must not happen at the seam and did.
    pub violation: Option<String>,
    nonces: BTreeMap<[u8; 16], String>,
    /// Files that are cold segments, as far as they were written.
    cold: HashMap<String, Vec<u8>>,
}

/// Where a segment header has its flags, and the flag of one that the cleaner writes.
const FLAGS: usize = 18;
const COLD: u8 = 1;

impl Seen {
    /// Notes which blocks meet corrupted bytes. What was hit once stays so: it may be overwritten
    /// before anybody looks again.
    pub fn note(&mut self, corrupted: &Corrupted) {
        if corrupted.is_empty() {
            return;
        }
        for (name, ranges) in corrupted {
            // Where there is none yet, corruption makes one that fails its check.
            if ranges.iter().any(|range| range.start < UNIT_BYTES) {
                self.corrupted_headers.insert(name.clone());
            }
        }
        for (name, seal) in &self.seals {
            let mut ranges = corrupted.get(name).into_iter().flatten();
            if ranges.any(|range| range.start < seal.end && seal.start < range.end) {
                self.corrupted_seals.insert(name.clone());
            }
        }
        for block in self.blocks.values_mut().flatten() {
            let Some(ranges) = corrupted.get(&block.file) else {
                continue;
            };
            let meets = |bytes: &Range<u64>| {
                let mut ranges = ranges.iter();
                ranges.any(|range| range.start < bytes.end && bytes.start < range.end)
            };
            block.unreadable |= meets(&(0..SEGMENT_HEADER_BYTES));
            block.unreadable |= meets(&block.header) || meets(&block.table);
            for ((_, bytes), spoilt) in block.entries.iter().zip(&mut block.spoilt) {
                *spoilt |= meets(bytes);
            }
        }
    }

    /// Whether corruption explains that a batch, committed by block `commit`, came as damaged: its
    /// own bytes, its block's structure, or a block of its group that cannot be read.
    pub fn explains_batch(&self, commit: u64, partition: u64, base: u64) -> bool {
        self.explains_group(commit) || self.explains_bytes(commit, partition, base)
    }

    /// Whether what a batch itself depends on is corrupted: its bytes, or the structure of the
    /// block they are in.
    pub fn explains_bytes(&self, commit: u64, partition: u64, base: u64) -> bool {
        let mut holders = self.holders(commit, partition, base);
        holders.any(|block| block.unreadable || block.is_spoilt(partition, base))
    }

    /// Whether the block that a batch came in was let go.
    pub fn is_let_go(&self, commit: u64, partition: u64, base: u64) -> bool {
        let mut holders = self.holders(commit, partition, base);
        holders.any(|block| block.let_go)
    }

    /// Whether the segment of a batch was let go because the cleaner had copied it, and the entry
    /// that says where to is corrupted.
    pub fn is_lost_copy(&self, commit: u64, partition: u64, base: u64) -> bool {
        let mut holders = self.holders(commit, partition, base);
        holders.any(|block| {
            let by = self.replaced.get(&block.segment);
            let mut by = by.into_iter().flat_map(|at| self.within(*at..*at + 1));
            block.let_go && by.any(|(_, block)| block.is_hit())
        })
    }

    /// Whether a segment that the cleaner wrote is corrupted. Damage of all of it names the blocks it
    /// was made of.
    pub fn is_hit_copy(&self, segment: u64) -> bool {
        let mut copies = self.within(FIRST_COLD..u64::MAX);
        copies.any(|(_, block)| block.segment == segment && block.is_hit())
    }

    /// The blocks with a batch: the one it came in, and those that the cleaner copied it to.
    fn holders(&self, commit: u64, partition: u64, base: u64) -> impl Iterator<Item = &Placed> {
        let copies = self.within(FIRST_COLD..u64::MAX).map(|(_, block)| block);
        let all = self.group(commit).chain(copies);
        all.filter(move |block| block.holds(partition, base))
    }

    /// Whether a block of the group that `commit` commits cannot be read.
    pub fn explains_group(&self, commit: u64) -> bool {
        self.group(commit).any(|block| block.unreadable)
    }

    /// The blocks with a sequence in the range.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Placed)> {
        let blocks = self.blocks.range(range.start..range.end.max(range.start));
        blocks.flat_map(|(sequence, placed)| placed.iter().map(|block| (*sequence, block)))
    }

    /// A start begins.
    pub fn opening(&mut self) {
        self.is_starting = true;
        let unserved = [self.first_unserved, self.first_new.take()];
        self.first_unserved = unserved.into_iter().flatten().min();
        for block in self.blocks.values_mut().flatten() {
            block.erased |= std::mem::take(&mut block.is_being_erased);
            block.is_new = false;
        }
    }

    /// The last block of earlier lives that the start kept: behind it stands the mark that it wrote, or
    /// that of a start which did not come to serve, whose end is the end for the next one too.
    pub fn kept(&self) -> u64 {
        let new = [self.first_unserved, self.first_new];
        let new = new.into_iter().flatten().min();
        new.map_or(u64::MAX, |first| first - 1)
    }

    /// A start was checked: of blocks with the same sequence only the last is in the log.
    pub fn start_checked(&mut self) {
        self.is_starting = false;
        (self.first_unserved, self.first_new) = (None, None);
        for placed in self.blocks.values_mut() {
            placed.drain(..placed.len() - 1);
        }
    }

    /// Whether a block is of a group of which another cannot be read.
    pub fn is_of_broken_group(&self, sequence: u64) -> bool {
        let first = self.group_first(sequence);
        let group = self.within(first..u64::MAX);
        let mut group = group.take_while(|(at, _)| self.group_first(*at) <= sequence);
        group.any(|(_, block)| block.group_first == first && block.unreadable)
    }

    /// First block of the group that `commit` commits.
    pub fn group_first(&self, commit: u64) -> u64 {
        let placed = self.within(commit..commit + 1);
        placed.fold(commit, |first, (_, block)| first.min(block.group_first))
    }

    /// Where the blocks of the group that `commit` commits stand: block, file and position.
    pub fn places(&self, commit: u64) -> Vec<(u64, &str, u64)> {
        let blocks = self.within(self.group_first(commit)..commit + 1);
        let places = blocks.map(|(at, block)| (at, &*block.file, block.header.start));
        places.collect()
    }

    fn group(&self, commit: u64) -> impl Iterator<Item = &Placed> {
        let blocks = self.within(self.group_first(commit)..commit + 1);
        blocks.map(|(_, block)| block)
    }

    fn write(&mut self, file: &str, offset: u64, bufs: &[Buf]) {
        let Some(head) = bufs.first() else { return };
        if offset == 0 && head.starts_with(b"RINGLSEG") {
            let nonce: [u8; 16] = head[32..48].try_into().expect("16 bytes");
            self.let_go(file);
            if let Some(other) = self.nonces.insert(nonce, file.to_owned()) {
                self.violation = Some(format!("{file} was given a nonce that {other} had"));
            }
            self.cold.remove(file);
            if head[FLAGS] & COLD != 0 {
                self.cold.insert(file.to_owned(), Vec::new());
            }
            return;
        }
        // Written ahead: no block begins where a header stands.
        if offset == 0 && bufs.iter().all(|buf| buf.iter().all(|byte| *byte == 0)) {
            self.let_go(file);
            return;
        }
        if let Some(bytes) = self.cold.get_mut(file) {
            let mut at = offset as usize;
            for buf in bufs {
                if bytes.len() < at + buf.len() {
                    bytes.resize(at + buf.len(), 0);
                }
                bytes[at..at + buf.len()].copy_from_slice(buf);
                at += buf.len();
            }
            return;
        }
        self.place(file, offset, bufs);
    }

    /// Whether the header of a segment that takes its first block was lost on its way to the disk. Bits
    /// rot between lives only.
    fn lacks_header(&self, file: &str) -> bool {
        let corrupted = self.disk.as_ref().map(SimDisk::corrupted);
        let ranges = corrupted.as_ref().and_then(|all| all.get(file));
        let mut ranges = ranges.into_iter().flatten();
        ranges.any(|range| range.start < SEGMENT_HEADER_BYTES)
    }

    /// A file becomes another segment, or is removed: what it held is gone.
    fn let_go(&mut self, file: &str) {
        self.seals.remove(file);
        self.corrupted_seals.remove(file);
        self.corrupted_headers.remove(file);
        for block in self.blocks.values_mut().flatten() {
            block.let_go |= block.file == file;
        }
    }

    /// A cold segment is whole: its blocks are copies of entries that readers depend on from here
    /// on.
    fn flush(&mut self, file: &str) {
        let Some(bytes) = self.cold.remove(file) else {
            return;
        };
        let mut at = UNIT_BYTES as usize;
        while bytes.len() >= at + BlockHeader::BYTES && BlockHeader::maybe(&bytes[at..]) {
            let length = u32::from_le_bytes(bytes[at + 64..at + 68].try_into().expect("4 bytes"));
            let block = Buf::from_vec(bytes[at..at + length as usize].to_vec());
            self.place(file, at as u64, &[block]);
            at += length as usize;
        }
    }

    fn place(&mut self, file: &str, offset: u64, bufs: &[Buf]) {
        let Some(head) = bufs.first() else { return };
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if head.get(8..16) == Some(b"RINGLEND") {
            let footer = u64::from_le_bytes(head[32..40].try_into().expect("8 bytes"));
            let seal = footer..offset + length as u64;
            self.seals.insert(file.to_owned(), seal);
            return;
        }
        if length as u64 == UNIT_BYTES && head.iter().all(|byte| *byte == 0) {
            for block in self.blocks.values_mut().flatten() {
                let here = block.file == file && block.header.start == offset;
                block.is_being_erased |= here;
            }
        }
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if !BlockHeader::maybe(head) || half(64) as usize != length {
            return;
        }
        let table = half(72) as usize;
        let table = table..table + half(68) as usize * EntryHeader::BYTES;
        let rows = EntryHeader::decode_table(&head[table.clone()], length);
        let rows = rows.expect("the log wrote a table it can read");
        let within = |range: Range<usize>| offset + range.start as u64..offset + range.end as u64;
        let entries: Vec<_> = rows
            .iter()
            .map(|row| (row.meta, within(row.range())))
            .collect();
        for row in rows
            .iter()
            .filter(|row| row.meta.kind == EntryKind::Replaced)
        {
            let replaced = head.get(row.range()).map(Replaced::decode);
            let sources = replaced
                .and_then(Result::ok)
                .map(|replaced| replaced.sources);
            let sources = sources.into_iter().flatten();
            self.replaced
                .extend(sources.map(|source| (source, word(16))));
        }
        let placed = Placed {
            file: file.to_owned(),
            checksum: word(0),
            segment: word(48),
            group_first: word(56),
            states: word(24),
            header: within(0..BlockHeader::BYTES),
            table: within(table),
            spoilt: vec![false; entries.len()],
            entries,
            unreadable: false,
            is_new: true,
            let_go: false,
            is_being_erased: false,
            erased: false,
        };
        let blocks = self.blocks.entry(word(16)).or_default();
        // A start writes again what it kept.
        if !blocks.iter().any(|block| block.is_again(&placed)) {
            // Also where one stands that went astray.
            let is_new = !blocks.iter().any(|block| block.is_same(&placed));
            blocks.push(Placed { is_new, ..placed });
            if is_new && offset == UNIT_BYTES && self.lacks_header(file) {
                let at = word(16);
                self.violation = Some(format!(
                    "block {at} was written to {file}, whose header is not there"
                ));
            }
            if self.is_starting && is_new {
                let first = self.first_new.get_or_insert(word(16));
                *first = word(16).min(*first);
            }
        }
    }
}

/// The seam of a log that is looked at.
#[derive(Debug)]
pub struct Watch<I> {
    io: I,
    seen: Rc<RefCell<Seen>>,
    opening: HashMap<u64, String>,
    names: HashMap<FileId, String>,
}

impl<I: Io> Watch<I> {
    /// Looks at what goes through `io`.
    pub fn new(io: I, seen: Rc<RefCell<Seen>>) -> Watch<I> {
        Watch {
            io,
            seen,
            opening: HashMap::new(),
            names: HashMap::new(),
        }
    }
}

impl<I: Io> Io for Watch<I> {
    fn geometry(&self) -> Geometry {
        self.io.geometry()
    }

    fn pool(&self) -> &Pool {
        self.io.pool()
    }

    fn list(&mut self) -> std::io::Result<Vec<(String, u64)>> {
        self.io.list()
    }

    fn submit(&mut self, op: Op, token: Token) {
        match &op {
            Op::Open { name, .. } => {
                self.opening.insert(token.0, name.clone());
            }
            Op::Write {
                file, offset, bufs, ..
            } => {
                if let Some(name) = self.names.get(file) {
                    self.seen.borrow_mut().write(name, *offset, bufs);
                }
            }
            Op::Remove { name } => self.seen.borrow_mut().let_go(name),
            Op::Flush { file } => {
                if let Some(name) = self.names.get(file) {
                    self.seen.borrow_mut().flush(name);
                }
            }
            _ => {}
        }
        self.io.submit(op, token);
    }

    fn kick(&mut self) {
        self.io.kick();
    }

    fn completions(&mut self, out: &mut Vec<Completion>) {
        let before = out.len();
        self.io.completions(out);
        for completion in &out[before..] {
            if let Some(file) = completion.file
                && let Some(name) = self.opening.remove(&completion.token.0)
            {
                self.names.insert(file, name);
            }
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.io.wait(timeout);
    }

    fn in_flight(&self) -> usize {
        self.io.in_flight()
    }

    fn wall_ms(&self) -> i64 {
        self.io.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.io.monotonic()
    }

    fn entropy(&mut self) -> u128 {
        self.io.entropy()
    }
}
