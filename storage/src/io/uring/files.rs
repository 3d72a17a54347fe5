//! Open files of a ring: which descriptor a [`FileId`] stands for, and whether the ring knows it
//! under the same number (registered: the kernel then skips looking the descriptor up).
//!
//! Invariant: an id of a closed file never stands for a later one: the upper half counts how
//! often the slot was used.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::IoUring;

use super::super::FileId;
use super::report::Registration;
use super::written::Written;

/// Most slots registered with a ring.
const REGISTERED_SLOTS: u32 = 1024;
const MAX_SLOTS: usize = 1 << 16;

/// How an operation names its file to the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// A descriptor, or a slot of the ring's table when `registered`.
    pub(super) number: i32,
    pub(super) registered: bool,
}

#[derive(Debug)]
struct Slot {
    uses: u16,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    Open {
        fd: OwnedFd,
        registered: bool,
        written: Written,
        /// Operations that workers of the ring have.
        by_workers: u32,
    },
    Closing,
}

/// The files of one ring.
#[derive(Debug)]
pub(super) struct Files {
    slots: Vec<Slot>,
    registered_slots: usize,
}

impl Files {
    /// An empty table, registered with the ring when `register` says so and the kernel lets us.
    pub(super) fn new(ring: &IoUring, register: bool) -> (Files, Registration) {
        let (registered_slots, registration) = if register {
            // The kernel refuses more slots than descriptors that may be open.
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let slots = limit.map_or(REGISTERED_SLOTS, |limit| {
                u32::try_from(limit)
                    .unwrap_or(u32::MAX)
                    .min(REGISTERED_SLOTS)
            });
            match ring.submitter().register_files_sparse(slots) {
                Ok(()) => (slots as usize, Registration::Registered),
                Err(error) => {
                    let reason = format!("registering {slots} file slots: {error}");
                    (0, Registration::Refused(reason))
                }
            }
        } else {
            (0, Registration::NotAsked)
        };
        (
            Files {
                slots: Vec::new(),
                registered_slots,
            },
            registration,
        )
    }

    /// Takes over a freshly opened file, of which so much is written.
    pub(super) fn insert(
        &mut self,
        ring: &IoUring,
        fd: OwnedFd,
        written: Written,
    ) -> io::Result<FileId> {
        let index = match self
            .slots
            .iter()
            .position(|slot| matches!(slot.state, State::Free))
        {
            Some(index) => index,
            None if self.slots.len() < MAX_SLOTS => {
                self.slots.push(Slot {
                    uses: 0,
                    state: State::Free,
                });
                self.slots.len() - 1
            }
            None => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
        };
        // Lossless: the table has at most 2^16 slots.
        let number = index as u32;
        // A slot that cannot be filled is only slower: the descriptor works as well.
        let registered = index < self.registered_slots
            && ring
                .submitter()
                .register_files_update(number, &[fd.as_raw_fd()])
                .is_ok();
        let slot = &mut self.slots[index];
        slot.uses = slot.uses.wrapping_add(1);
        slot.state = State::Open {
            fd,
            registered,
            written,
            by_workers: 0,
        };
        Ok(FileId(u32::from(slot.uses) << 16 | number))
    }

    /// How to name the file to the kernel; `None` when it is not open.
    pub(super) fn target(&self, file: FileId) -> Option<Target> {
        let (index, slot) = self.find(file)?;
        match &slot.state {
            State::Open {
                registered: true, ..
            } => {
                // Lossless: registered slots are few.
                Some(Target {
                    number: index as i32,
                    registered: true,
                })
            }
            State::Open { fd, .. } => Some(Target {
                number: fd.as_raw_fd(),
                registered: false,
            }),
            State::Free | State::Closing => None,
        }
    }

    /// The descriptor, for calls past the ring.
    pub(super) fn fd(&self, file: FileId) -> Option<&OwnedFd> {
        match &self.find(file)?.1.state {
            State::Open { fd, .. } => Some(fd),
            State::Free | State::Closing => None,
        }
    }

    /// How far the file was written.
    pub(super) fn written(&mut self, file: FileId) -> Option<&mut Written> {
        let index = self.find(file)?.0;
        match &mut self.slots[index].state {
            State::Open { written, .. } => Some(written),
            State::Free | State::Closing => None,
        }
    }

    /// An operation on the file is handed to a worker.
    pub(super) fn handed_over(&mut self, file: FileId) {
        if let Some(by_workers) = self.by_workers(file) {
            *by_workers += 1;
        }
    }

    /// It came back.
    pub(super) fn came_back(&mut self, file: FileId) {
        if let Some(by_workers) = self.by_workers(file) {
            *by_workers -= 1;
        }
    }

    /// Whether the file may be closed: no worker will look it up any more.
    pub(super) fn may_close(&mut self, file: FileId) -> bool {
        self.by_workers(file)
            .is_none_or(|by_workers| *by_workers == 0)
    }

    fn by_workers(&mut self, file: FileId) -> Option<&mut u32> {
        let index = self.find(file)?.0;
        match &mut self.slots[index].state {
            State::Open { by_workers, .. } => Some(by_workers),
            State::Free | State::Closing => None,
        }
    }

    /// Whether closing the file changes the ring's table.
    pub(super) fn is_registered(&self, file: FileId) -> bool {
        self.target(file).is_some_and(|target| target.registered)
    }

    /// Hands the descriptor out to be closed. The caller has submitted everything that names it
    /// by its slot.
    pub(super) fn start_close(&mut self, ring: &IoUring, file: FileId) -> Option<RawFd> {
        let index = self.find(file)?.0;
        match std::mem::replace(&mut self.slots[index].state, State::Closing) {
            State::Open { fd, registered, .. } => {
                if registered {
                    // Fails only for a slot that does not exist, and this one does.
                    let removed = ring.submitter().register_files_update(index as u32, &[-1]);
                    debug_assert!(removed.is_ok(), "an existing slot is emptied: {removed:?}");
                }
                Some(fd.into_raw_fd())
            }
            other => {
                self.slots[index].state = other;
                None
            }
        }
    }

    /// The descriptor is closed: the slot may be used again.
    pub(super) fn finish_close(&mut self, file: FileId) {
        if let Some((index, _)) = self.find(file)
            && matches!(self.slots[index].state, State::Closing)
        {
            self.slots[index].state = State::Free;
        }
    }

    fn find(&self, file: FileId) -> Option<(usize, &Slot)> {
        let index = (file.0 & 0xffff) as usize;
        let slot = self.slots.get(index)?;
        (u32::from(slot.uses) == file.0 >> 16).then_some((index, slot))
    }
}
