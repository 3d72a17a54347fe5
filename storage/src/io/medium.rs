//! What a disk with a volatile write cache holds, and what of it a power cut may leave: the one
//! model of durability that the simulated disk and the power-cut rig share.
//!
//! ```text
//!   current   what a read sees:            all completed changes
//!   durable   what surely survives:        covered by a DSYNC or a later flush
//!   changes   completed, not yet durable:  after a cut any subset of their sectors is there
//! ```
//! Rules: a durable write settles its own range and the file's length; a flush settles what
//! completed before it was submitted; a name is settled by a directory sync submitted after the
//! change completed. Lengths and names come back in any state between settled and current.
//!
//! Invariant: a settled byte never changes but by a later write to it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::random::Random;

/// Files by name.
pub type Image = BTreeMap<String, Vec<u8>>;

/// What a power cut leaves. Most files of it are as they were, and are not copied.
pub(super) type Left = BTreeMap<String, Rc<Vec<u8>>>;

/// A file, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(u64);

/// A moment: everything that completed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// A change that may or may not have reached the disk when the power goes.
#[derive(Clone, Debug)]
pub(super) enum Started {
    Write {
        inode: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    Length {
        inode: Inode,
        bytes: u64,
    },
    Create {
        name: String,
    },
    Remove {
        name: String,
    },
}

/// The disk.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    sector_bytes: u64,
    next_order: u64,
    next_inode: u64,
    files: BTreeMap<Inode, File>,
    names: BTreeMap<String, Inode>,
    durable_names: BTreeMap<String, Inode>,
    name_changes: Vec<NameChange>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// One memory with `durable` until the first write.
    current: Rc<Vec<u8>>,
    durable: Rc<Vec<u8>>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    order: u64,
    what: What,
    /// Cleared when a flush of it failed: a later one that succeeds says nothing about it.
    flushable: bool,
}

#[derive(Clone, Debug)]
enum What {
    Write { offset: u64, bytes: Vec<u8> },
    Length { bytes: u64 },
}

#[derive(Clone, Debug)]
struct NameChange {
    order: u64,
    name: String,
    inode: Option<Inode>,
}

impl Medium {
    /// A disk that durably holds `image`.
    pub(super) fn new(sector_bytes: u64, image: Image) -> Medium {
        let shared = image
            .into_iter()
            .map(|(name, bytes)| (name, Rc::new(bytes)));
        Medium::after(sector_bytes, shared.collect())
    }

    /// The disk that a power cut left.
    pub(super) fn after(sector_bytes: u64, left: Left) -> Medium {
        let mut medium = Medium {
            sector_bytes,
            next_order: 0,
            next_inode: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
        };
        for (name, bytes) in left {
            let inode = medium.add_file();
            medium.files.insert(
                inode,
                File {
                    current: Rc::clone(&bytes),
                    durable: bytes,
                    changes: Vec::new(),
                },
            );
            medium.names.insert(name.clone(), inode);
            medium.durable_names.insert(name, inode);
        }
        medium
    }

    /// Now: what completed so far.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.next_order)
    }

    /// The file with this name.
    pub(super) fn find(&self, name: &str) -> Option<Inode> {
        self.names.get(name).copied()
    }

    /// Makes a file; `None` when there is one.
    pub(super) fn create(&mut self, name: &str) -> Option<Inode> {
        if self.names.contains_key(name) {
            return None;
        }
        let inode = self.add_file();
        self.names.insert(name.to_owned(), inode);
        let order = self.order();
        self.name_changes.push(NameChange {
            order,
            name: name.to_owned(),
            inode: Some(inode),
        });
        Some(inode)
    }

    /// Removes a name; whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = self.names.remove(name).is_some();
        if removed {
            let order = self.order();
            self.name_changes.push(NameChange {
                order,
                name: name.to_owned(),
                inode: None,
            });
        }
        removed
    }

    /// Settles the names as they were at `moment`.
    pub(super) fn names_synced(&mut self, moment: Moment) {
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes {
            if change.order < moment.0 {
                rename(&mut self.durable_names, &change.name, change.inode);
            } else {
                self.name_changes.push(change);
            }
        }
    }

    /// Forgets files that no name leads to, now or after a cut, but for those in `open`.
    pub(super) fn forget_unnamed(&mut self, open: impl Fn(Inode) -> bool) {
        let named = |inode: Inode| {
            self.names.values().any(|named| *named == inode)
                || self.durable_names.values().any(|named| *named == inode)
                || self
                    .name_changes
                    .iter()
                    .any(|change| change.inode == Some(inode))
        };
        let unnamed: Vec<_> = self
            .files
            .keys()
            .copied()
            .filter(|inode| !named(*inode) && !open(*inode))
            .collect();
        for inode in unnamed {
            self.files.remove(&inode);
        }
    }

    /// Completes a write. It settles at once when `durable`.
    pub(super) fn write(&mut self, inode: Inode, offset: u64, bytes: Vec<u8>, durable: bool) {
        let end = offset + bytes.len() as u64;
        let order = self.order();
        let Some(file) = self.files.get_mut(&inode) else {
            return;
        };
        if end > file.current.len() as u64 {
            let what = What::Length { bytes: end };
            Rc::make_mut(&mut file.current).resize(end as usize, 0);
            file.changes.push(Change {
                order,
                what,
                flushable: true,
            });
        }
        let current = Rc::make_mut(&mut file.current);
        current[offset as usize..end as usize].copy_from_slice(&bytes);
        let change = Change {
            order,
            what: What::Write { offset, bytes },
            flushable: true,
        };
        if durable {
            file.settle_where(|other| matches!(other.what, What::Length { .. }));
            file.settle(change);
        } else {
            file.changes.push(change);
        }
    }

    /// Completes a write, or the part of one, that failed: after a cut any subset of its sectors
    /// is there, and no flush ever vouches for them.
    pub(super) fn write_unvouched(&mut self, inode: Inode, offset: u64, bytes: Vec<u8>) {
        let file_bytes = self.content(inode).len() as u64;
        let within = usize::try_from(file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = bytes;
        bytes.truncate(within);
        if bytes.is_empty() {
            return;
        }
        self.write(inode, offset, bytes, false);
        let file = self.files.get_mut(&inode);
        if let Some(change) = file.and_then(|file| file.changes.last_mut()) {
            change.flushable = false;
        }
    }

    /// Completes a change of length: cut, or grown by zeroes.
    pub(super) fn set_length(&mut self, inode: Inode, bytes: u64) {
        let order = self.order();
        if let Some(file) = self.files.get_mut(&inode)
            && file.current.len() as u64 != bytes
        {
            resize(Rc::make_mut(&mut file.current), bytes);
            let what = What::Length { bytes };
            file.changes.push(Change {
                order,
                what,
                flushable: true,
            });
        }
    }

    /// Completes a flush that was submitted at `moment`.
    pub(super) fn flushed(&mut self, inode: Inode, moment: Moment) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.settle_where(|change| change.order < moment.0 && change.flushable);
        }
    }

    /// Completes a flush, submitted at `moment`, that failed: what it covered is never vouched
    /// for again.
    pub(super) fn flush_failed(&mut self, inode: Inode, moment: Moment) {
        if let Some(file) = self.files.get_mut(&inode) {
            for change in file
                .changes
                .iter_mut()
                .filter(|change| change.order < moment.0)
            {
                change.flushable = false;
            }
        }
    }

    /// What a read sees.
    pub(super) fn content(&self, inode: Inode) -> &[u8] {
        self.files
            .get(&inode)
            .map_or(&[], |file| file.current.as_slice())
    }

    /// Names and lengths.
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        let length = |inode: &Inode| self.content(*inode).len() as u64;
        self.names
            .iter()
            .map(|(name, inode)| (name.clone(), length(inode)))
            .collect()
    }

    /// Bytes of all files a name leads to.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.content(*inode).len() as u64)
            .sum()
    }

    /// What reads see, by name.
    pub(super) fn current_image(&self) -> Image {
        let content = |inode: &Inode| self.content(*inode).to_vec();
        self.names
            .iter()
            .map(|(name, inode)| (name.clone(), content(inode)))
            .collect()
    }

    /// What surely survives, by name.
    pub(super) fn durable_image(&self) -> Image {
        let content = |inode| {
            self.files
                .get(inode)
                .map_or(Vec::new(), |file| file.durable.to_vec())
        };
        self.durable_names
            .iter()
            .map(|(name, inode)| (name.clone(), content(inode)))
            .collect()
    }

    /// Changes bytes behind everyone's back, on the medium itself.
    pub(super) fn corrupt(&mut self, name: &str, change: &mut dyn FnMut(&mut Vec<u8>)) -> bool {
        let Some(file) = self.find(name).and_then(|inode| self.files.get_mut(&inode)) else {
            return false;
        };
        change(Rc::make_mut(&mut file.current));
        change(Rc::make_mut(&mut file.durable));
        true
    }

    /// What the power cut leaves, with `started` under way: all that is settled, and of the rest
    /// a random subset, sector by sector.
    pub(super) fn after_power_cut(&self, started: &[Started], random: &mut Random) -> Left {
        // Between nothing, some and all of the cache: each tears in its own way.
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.within(0..5) as usize];
        let mut names = self.durable_names.clone();
        for change in &self.name_changes {
            if random.chance(kept) {
                rename(&mut names, &change.name, change.inode);
            }
        }
        let mut empty_names = Vec::new();
        for change in started {
            match change {
                Started::Create { name } if random.chance(kept) && !names.contains_key(name) => {
                    empty_names.push(name.clone());
                }
                Started::Remove { name } if random.chance(kept) => {
                    names.remove(name);
                }
                _ => {}
            }
        }
        let mut image = Left::new();
        for (name, inode) in names {
            let Some(file) = self.files.get(&inode) else {
                continue;
            };
            let under_way = started.iter().filter_map(|change| change.to_file(inode));
            let bytes = file.after_power_cut(under_way, self.sector_bytes, kept, random);
            image.insert(name, bytes);
        }
        image.extend(empty_names.into_iter().map(|name| (name, Rc::default())));
        image
    }

    fn add_file(&mut self) -> Inode {
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        self.files.insert(inode, File::default());
        inode
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order - 1
    }
}

impl Started {
    fn to_file(&self, file: Inode) -> Option<What> {
        match self {
            Started::Write {
                inode,
                offset,
                bytes,
            } if *inode == file => Some(What::Write {
                offset: *offset,
                bytes: bytes.clone(),
            }),
            Started::Length { inode, bytes } if *inode == file => {
                Some(What::Length { bytes: *bytes })
            }
            _ => None,
        }
    }
}

impl File {
    fn settle_where(&mut self, settles: impl Fn(&Change) -> bool) {
        // Oldest first: a settled change strips what is older and stays.
        let mut position = 0;
        while position < self.changes.len() {
            if settles(&self.changes[position]) {
                let change = self.changes.remove(position);
                let before = self.changes.len();
                self.settle(change);
                // Stripping takes pieces out or splits them, but only before this position.
                position = (position + self.changes.len()).saturating_sub(before);
            } else {
                position += 1;
            }
        }
    }

    /// Makes a change durable, and takes what it covers away from older ones, which could
    /// otherwise come back over it.
    fn settle(&mut self, change: Change) {
        let covered = match &change.what {
            What::Write { offset, bytes } => *offset..*offset + bytes.len() as u64,
            What::Length { bytes } => *bytes..u64::MAX,
        };
        apply(Rc::make_mut(&mut self.durable), change.what);
        let changes = std::mem::take(&mut self.changes);
        for other in changes {
            if other.order > change.order {
                self.changes.push(other);
            } else {
                self.changes.extend(other.outside(&covered));
            }
        }
    }

    fn after_power_cut(
        &self,
        under_way: impl Iterator<Item = What>,
        sector_bytes: u64,
        kept: f64,
        random: &mut Random,
    ) -> Rc<Vec<u8>> {
        let mut bytes = Rc::clone(&self.durable);
        let changes = self
            .changes
            .iter()
            .map(|change| change.what.clone())
            .chain(under_way);
        // The journal keeps changes of length in order: a later one implies the earlier ones.
        let mut lengths_kept = true;
        for change in changes {
            match change {
                What::Length { .. } => {
                    lengths_kept = lengths_kept && random.chance(kept);
                    if lengths_kept {
                        apply(Rc::make_mut(&mut bytes), change);
                    }
                }
                What::Write {
                    offset,
                    bytes: written,
                } => {
                    for (from, sector) in sectors(offset, &written, sector_bytes) {
                        let end = from as usize + sector.len();
                        if random.chance(kept) && end <= bytes.len() {
                            Rc::make_mut(&mut bytes)[from as usize..end].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        bytes
    }
}

impl Change {
    /// What is left of it outside of `covered`.
    fn outside(self, covered: &Range<u64>) -> Vec<Change> {
        let What::Write { offset, bytes } = &self.what else {
            return vec![self];
        };
        let end = offset + bytes.len() as u64;
        if end <= covered.start || covered.end <= *offset {
            return vec![self];
        }
        let piece = |range: Range<u64>| {
            let part = &bytes[(range.start - offset) as usize..(range.end - offset) as usize];
            Change {
                order: self.order,
                what: What::Write {
                    offset: range.start,
                    bytes: part.to_vec(),
                },
                flushable: self.flushable,
            }
        };
        [
            *offset..covered.start.max(*offset),
            covered.end.min(end)..end,
        ]
        .into_iter()
        .filter(|range| !range.is_empty())
        .map(piece)
        .collect()
    }
}

fn apply(content: &mut Vec<u8>, what: What) {
    match what {
        What::Length { bytes } => resize(content, bytes),
        What::Write { offset, bytes } => {
            let end = offset as usize + bytes.len();
            if end > content.len() {
                content.resize(end, 0);
            }
            content[offset as usize..end].copy_from_slice(&bytes);
        }
    }
}

fn resize(content: &mut Vec<u8>, bytes: u64) {
    if content.is_empty() {
        // Zero pages straight from the system: a segment costs no memory until it is written.
        *content = vec![0; bytes as usize];
    } else {
        content.resize(bytes as usize, 0);
    }
}

fn rename(names: &mut BTreeMap<String, Inode>, name: &str, inode: Option<Inode>) {
    match inode {
        Some(inode) => names.insert(name.to_owned(), inode),
        None => names.remove(name),
    };
}

/// The parts of a write that the disk writes as a whole or not at all.
pub(super) fn sectors(
    offset: u64,
    bytes: &[u8],
    sector_bytes: u64,
) -> impl Iterator<Item = (u64, &[u8])> {
    bytes
        .chunks(sector_bytes as usize)
        .enumerate()
        .map(move |(number, sector)| (offset + number as u64 * sector_bytes, sector))
}

#[cfg(test)]
mod tests;
