//! Records what passes the seam, so that a rig can rebuild the disk as a power cut at any
//! recorded point may leave it.
//!
//! An operation that was submitted and whose completion the owner has not seen counts as under
//! way: any part of it may have happened, which includes that all of it has. So a rebuilt disk
//! never knows more than the owner could rely on. The rules are those of `medium`, the same as on
//! the simulated disk.
//!
//! Invariant: the recording is in the order in which the owner submitted and learned. Called by
//! rigs and tests, never in production: every written byte is kept.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use super::medium::{Image, Inode, Medium, Moment, Started};
use super::random::Random;
use super::{Completion, FileId, Geometry, Io, Op, Token};
use crate::buffer::Pool;

/// What a power cut tears is finer than a block: the smallest sector that disks have.
const SECTOR_BYTES: u64 = 512;

/// Any seam, with a record of what passes it.
#[derive(Debug)]
pub struct Recorder<I: Io> {
    inner: I,
    shared: SharedRecording,
    /// Which event submitted the operation in flight with this token; tokens may be used again.
    submitted: HashMap<Token, Vec<usize>>,
}

/// A recording that goes on while it is looked at. Clones are the same recording.
#[derive(Clone, Debug, Default)]
pub struct SharedRecording {
    recording: Rc<RefCell<Recording>>,
}

impl SharedRecording {
    /// Events so far: the cut that leaves everything until now behind it.
    #[must_use]
    pub fn position(&self) -> usize {
        self.recording.borrow().events.len()
    }

    /// The recording as it is.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, Recording> {
        self.recording.borrow()
    }
}

impl<I: Io> Recorder<I> {
    /// Records a seam on an empty directory.
    #[must_use]
    pub fn new(inner: I) -> Recorder<I> {
        Recorder::with_base(inner, Image::new())
    }

    /// Records a seam on a directory that durably holds `base`.
    #[must_use]
    pub fn with_base(inner: I, base: Image) -> Recorder<I> {
        let recording = Recording {
            base,
            events: Vec::new(),
            recorded_bytes: 0,
        };
        let shared = SharedRecording {
            recording: Rc::new(RefCell::new(recording)),
        };
        Recorder {
            inner,
            shared,
            submitted: HashMap::new(),
        }
    }

    /// The recording, to be kept beside the log that owns this.
    #[must_use]
    pub fn recording(&self) -> SharedRecording {
        self.shared.clone()
    }

    /// The recorded seam.
    #[must_use]
    pub fn inner(&self) -> &I {
        &self.inner
    }
}

impl<I: Io> Io for Recorder<I> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn pool(&self) -> &Pool {
        self.inner.pool()
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.inner.list()
    }

    fn submit(&mut self, op: Op, token: Token) {
        let number = self.shared.recording.borrow_mut().submitted(&op);
        self.submitted.entry(token).or_default().push(number);
        self.inner.submit(op, token);
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn completions(&mut self, out: &mut Vec<Completion>) {
        let seen = out.len();
        self.inner.completions(out);
        let mut recording = self.shared.recording.borrow_mut();
        for completion in &out[seen..] {
            let Some(numbers) = self.submitted.get_mut(&completion.token) else {
                continue;
            };
            // Which of several with the same token it is cannot be told; the oldest, then.
            let number = numbers.remove(0);
            if numbers.is_empty() {
                self.submitted.remove(&completion.token);
            }
            let result = completion.result.as_ref().ok().copied();
            recording.events.push(Event::Completed {
                number,
                result,
                file: completion.file,
            });
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.inner.wait(timeout);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn entropy(&mut self) -> u128 {
        self.inner.entropy()
    }
}

impl<I: Io + AsRawFd> AsRawFd for Recorder<I> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// What passed a seam.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    base: Image,
    events: Vec<Event>,
    recorded_bytes: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Submitted(Recorded),
    Completed {
        /// Of the event that submitted it.
        number: usize,
        /// Bytes moved; `None` when it failed.
        result: Option<usize>,
        file: Option<FileId>,
    },
}

#[derive(Clone, Debug)]
enum Recorded {
    Open {
        name: String,
        create: bool,
    },
    Close {
        file: FileId,
    },
    Length {
        file: FileId,
        bytes: u64,
    },
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    Read,
    Flush {
        file: FileId,
    },
    SyncDir,
    Remove {
        name: String,
    },
}

impl Recording {
    /// Number of events; every number up to and including this is a cut.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of writes that are kept.
    #[must_use]
    pub fn recorded_bytes(&self) -> u64 {
        self.recorded_bytes
    }

    /// The disk as a power cut after the first `cut` events may leave it: all that was durable
    /// then, and of the rest a random subset of sectors, names and lengths. Replays the recording
    /// up to there.
    ///
    /// # Panics
    /// When `cut` lies behind the end of the recording.
    #[must_use]
    pub fn image_at(&self, cut: usize, random: &mut Random) -> Image {
        let mut replay = Replay::new(self);
        for number in 0..cut {
            replay.step(number);
        }
        let left = replay.medium.after_power_cut(&replay.under_way(), random);
        drop(replay);
        let files = left.into_iter();
        files
            .map(|(name, bytes)| (name, std::rc::Rc::unwrap_or_clone(bytes)))
            .collect()
    }

    /// What surely survives a power cut after the first `cut` events.
    ///
    /// # Panics
    /// When `cut` lies behind the end of the recording.
    #[must_use]
    pub fn durable_at(&self, cut: usize) -> Image {
        let mut replay = Replay::new(self);
        for number in 0..cut {
            replay.step(number);
        }
        replay.medium.durable_image()
    }

    fn submitted(&mut self, op: &Op) -> usize {
        let recorded = match op {
            Op::Open { name, create } => Recorded::Open {
                name: name.clone(),
                create: *create,
            },
            Op::Close { file } => Recorded::Close { file: *file },
            Op::Allocate { file, bytes } | Op::Truncate { file, bytes } => Recorded::Length {
                file: *file,
                bytes: *bytes,
            },
            Op::Write {
                file,
                offset,
                bufs,
                durable,
            } => {
                let mut bytes = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
                for buf in bufs {
                    bytes.extend_from_slice(buf);
                }
                self.recorded_bytes += bytes.len() as u64;
                Recorded::Write {
                    file: *file,
                    offset: *offset,
                    bytes,
                    durable: *durable,
                }
            }
            Op::Read { .. } => Recorded::Read,
            Op::Flush { file } => Recorded::Flush { file: *file },
            Op::SyncDir => Recorded::SyncDir,
            Op::Remove { name } => Recorded::Remove { name: name.clone() },
        };
        self.events.push(Event::Submitted(recorded));
        self.events.len() - 1
    }
}

/// The disk while the recording is played.
struct Replay<'a> {
    events: &'a [Event],
    medium: Medium,
    files: HashMap<FileId, Inode>,
    /// Submitted and not completed, in order, with the moment of their submission.
    pending: Vec<(usize, Moment)>,
}

impl<'a> Replay<'a> {
    fn new(recording: &'a Recording) -> Replay<'a> {
        Replay {
            events: &recording.events,
            medium: Medium::new(SECTOR_BYTES, recording.base.clone()),
            files: HashMap::new(),
            pending: Vec::new(),
        }
    }

    fn step(&mut self, number: usize) {
        match &self.events[number] {
            Event::Submitted(_) => self.pending.push((number, self.medium.moment())),
            Event::Completed {
                number,
                result,
                file,
            } => {
                let position = self
                    .pending
                    .iter()
                    .position(|(pending, _)| pending == number);
                let Some(position) = position else { return };
                let (number, submitted) = self.pending.remove(position);
                if let Event::Submitted(recorded) = &self.events[number] {
                    self.complete(recorded, submitted, *result, *file);
                }
            }
        }
    }

    fn complete(
        &mut self,
        recorded: &Recorded,
        submitted: Moment,
        result: Option<usize>,
        opened: Option<FileId>,
    ) {
        let inode = |file: &FileId| self.files.get(file).copied();
        match (recorded, result) {
            (Recorded::Open { name, create }, Some(_)) => {
                if *create {
                    self.medium.create(name);
                }
                if let (Some(inode), Some(file)) = (self.medium.find(name), opened) {
                    self.files.insert(file, inode);
                }
            }
            (Recorded::Close { file }, _) => {
                self.files.remove(file);
                let files = &self.files;
                self.medium
                    .forget_unnamed(|inode| files.values().any(|open| *open == inode));
            }
            (Recorded::Length { file, bytes }, Some(_)) => {
                if let Some(inode) = inode(file) {
                    self.medium.set_length(inode, *bytes);
                }
            }
            (
                Recorded::Write {
                    file,
                    offset,
                    bytes,
                    durable,
                },
                Some(written),
            ) => {
                if let Some(inode) = inode(file) {
                    let bytes = bytes[..written.min(bytes.len())].to_vec();
                    self.medium.write(inode, *offset, bytes, *durable);
                }
            }
            (
                Recorded::Write {
                    file,
                    offset,
                    bytes,
                    ..
                },
                None,
            ) => {
                if let Some(inode) = inode(file) {
                    self.medium.write_unvouched(inode, *offset, bytes.clone());
                }
            }
            (Recorded::Flush { file }, result) => {
                if let Some(inode) = inode(file) {
                    match result {
                        Some(_) => self.medium.flushed(inode, submitted),
                        None => self.medium.flush_failed(inode, submitted),
                    }
                }
            }
            (Recorded::SyncDir, Some(_)) => self.medium.names_synced(submitted),
            (Recorded::Remove { name }, Some(_)) => {
                self.medium.remove(name);
            }
            (Recorded::Read, _)
            | (
                Recorded::Open { .. }
                | Recorded::Length { .. }
                | Recorded::SyncDir
                | Recorded::Remove { .. },
                None,
            ) => {}
        }
    }

    fn under_way(&self) -> Vec<Started> {
        let change = |(number, _): &(usize, Moment)| {
            let Event::Submitted(recorded) = &self.events[*number] else {
                return None;
            };
            let inode = |file: &FileId| self.files.get(file).copied();
            match recorded {
                Recorded::Write {
                    file,
                    offset,
                    bytes,
                    ..
                } => {
                    let bytes = bytes.clone();
                    Some(Started::Write {
                        inode: inode(file)?,
                        offset: *offset,
                        bytes,
                    })
                }
                Recorded::Length { file, bytes } => Some(Started::Length {
                    inode: inode(file)?,
                    bytes: *bytes,
                }),
                Recorded::Open { name, create: true } => {
                    Some(Started::Create { name: name.clone() })
                }
                Recorded::Remove { name } => Some(Started::Remove { name: name.clone() }),
                Recorded::Open { .. }
                | Recorded::Close { .. }
                | Recorded::Read
                | Recorded::Flush { .. }
                | Recorded::SyncDir => None,
            }
        };
        self.pending.iter().filter_map(change).collect()
    }
}

#[cfg(test)]
mod tests;
