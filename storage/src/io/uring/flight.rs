//! Operations on their way: what the kernel may touch until they complete, and the submission
//! entry made of each.
//!
//! Invariant: everything a submission entry points to (buffers, iovecs, names) is owned by the
//! flight it was made from, at an address that does not change when the flight is moved; the
//! flight stays in the slab until its completion.

use std::ffi::CString;
use std::io;

use io_uring::{opcode, squeue, types};

use super::super::{FileId, Op, Token};
use super::directory::plain_name;
use super::files::Target;
use crate::buffer::{Buf, BufMut, Pool};

/// The arena is the only registered buffer.
const ARENA_INDEX: u16 = 0;

/// How often an operation is submitted again when the kernel answers EAGAIN or EINTR before the
/// answer counts as its failure.
const MAX_RETRIES: u8 = 16;

/// An accepted operation.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) token: Token,
    /// How often it was submitted again because the kernel asked to.
    retries: u8,
    /// A worker of the ring has it, and looks the file up when it comes to it.
    pub(super) by_worker: bool,
    pub(super) work: Work,
}

/// What an operation needs until it completes.
#[derive(Debug)]
pub(super) enum Work {
    Open {
        name: CString,
        create: bool,
    },
    Close {
        file: FileId,
    },
    Allocate {
        file: FileId,
        bytes: u64,
    },
    Truncate {
        file: FileId,
        bytes: u64,
    },
    Write {
        file: FileId,
        offset: u64,
        /// Keeps alive what `iovecs` points to.
        _bufs: Vec<Buf>,
        iovecs: Vec<libc::iovec>,
        durable: bool,
        in_arena: bool,
    },
    Read {
        file: FileId,
        offset: u64,
        buf: BufMut,
        /// Bytes that earlier, shorter reads have filled.
        filled: usize,
        in_arena: bool,
    },
    Flush {
        file: FileId,
    },
    SyncDir,
    Remove {
        name: CString,
    },
    /// Cannot be done; completes through the ring all the same, so that whoever waits on the
    /// ring's descriptor sees it.
    Refused {
        error: Option<io::Error>,
        buf: Option<BufMut>,
    },
}

impl Flight {
    /// Takes over an operation.
    pub(super) fn new(op: Op, token: Token, arena: Option<&Pool>) -> Flight {
        let named = |name: &str, work: fn(CString) -> Work| match plain_name(name) {
            Ok(name) => work(name),
            Err(error) => Work::Refused {
                error: Some(error),
                buf: None,
            },
        };
        let work = match op {
            Op::Open { name, create: true } => {
                named(&name, |name| Work::Open { name, create: true })
            }
            Op::Open {
                name,
                create: false,
            } => named(&name, |name| Work::Open {
                name,
                create: false,
            }),
            Op::Remove { name } => named(&name, |name| Work::Remove { name }),
            Op::Close { file } => Work::Close { file },
            Op::Allocate { file, bytes } => Work::Allocate { file, bytes },
            Op::Truncate { file, bytes } => Work::Truncate { file, bytes },
            Op::Flush { file } => Work::Flush { file },
            Op::SyncDir => Work::SyncDir,
            Op::Write {
                file,
                offset,
                bufs,
                durable,
            } => {
                let in_arena =
                    arena.is_some_and(|pool| bufs.iter().all(|buf| buf.registered_in(pool)));
                let iovecs = gather(&bufs);
                Work::Write {
                    file,
                    offset,
                    _bufs: bufs,
                    iovecs,
                    durable,
                    in_arena,
                }
            }
            Op::Read { file, offset, buf } => {
                let in_arena = arena.is_some_and(|pool| buf.registered_in(pool));
                Work::Read {
                    file,
                    offset,
                    buf,
                    filled: 0,
                    in_arena,
                }
            }
        };
        Flight {
            token,
            retries: 0,
            by_worker: false,
            work,
        }
    }

    /// The file it needs to be open, if any.
    pub(super) fn file(&self) -> Option<FileId> {
        match &self.work {
            Work::Allocate { file, .. }
            | Work::Truncate { file, .. }
            | Work::Write { file, .. }
            | Work::Read { file, .. }
            | Work::Flush { file }
            | Work::Close { file } => Some(*file),
            Work::Open { .. } | Work::SyncDir | Work::Remove { .. } | Work::Refused { .. } => None,
        }
    }

    /// Gives the operation up with `error`; its buffer goes back with the completion.
    pub(super) fn refuse(&mut self, error: io::Error) {
        let refused = Work::Refused {
            error: Some(error),
            buf: None,
        };
        let given_up = std::mem::replace(&mut self.work, refused);
        if let (Work::Read { buf, .. }, Work::Refused { buf: kept, .. }) =
            (given_up, &mut self.work)
        {
            *kept = Some(buf);
        }
    }

    /// Whether the kernel's wish to be asked again (EAGAIN, EINTR) is followed, which is counted.
    /// A flush is not repeated: a failed one is final, whatever the reason. Closing releases the
    /// descriptor even when interrupted.
    pub(super) fn repeats(&mut self) -> bool {
        let repeats = self.retries < MAX_RETRIES
            && !matches!(
                self.work,
                Work::Flush { .. } | Work::SyncDir | Work::Close { .. }
            );
        self.retries += u8::from(repeats);
        repeats
    }

    /// Counts what a read brought; whether more may come. A read that ends within a block has met
    /// the end of the file, and so has one that brings nothing.
    pub(super) fn reads_on(&mut self, result: i32, block_bytes: usize) -> bool {
        let Work::Read { buf, filled, .. } = &mut self.work else {
            return false;
        };
        let Ok(moved) = usize::try_from(result) else {
            return false;
        };
        *filled += moved;
        moved > 0 && *filled < buf.len() && filled.is_multiple_of(block_bytes)
    }

    /// Where it writes, and how many bytes.
    pub(super) fn writes(&self) -> Option<(FileId, u64, u64)> {
        let Work::Write {
            file,
            offset,
            iovecs,
            ..
        } = &self.work
        else {
            return None;
        };
        let bytes = iovecs.iter().map(|iovec| iovec.iov_len as u64).sum();
        Some((*file, *offset, bytes))
    }

    /// The submission entry. `target` names [`Flight::file`]; for a close it is the descriptor.
    pub(super) fn entry(&mut self, target: Target, ring: &RingTraits) -> squeue::Entry {
        let fd = types::Fd(target.number);
        let directory = types::Fd(ring.directory);
        let entry = match &mut self.work {
            Work::Open { name, create } => {
                let mut flags = libc::O_RDWR | libc::O_CLOEXEC;
                flags |= if *create {
                    libc::O_CREAT | libc::O_EXCL
                } else {
                    0
                };
                flags |= if ring.direct { libc::O_DIRECT } else { 0 };
                opcode::OpenAt::new(directory, name.as_ptr())
                    .flags(flags)
                    .mode(0o600)
                    .build()
            }
            Work::Close { .. } => opcode::Close::new(fd).build(),
            Work::Allocate { bytes, .. } => opcode::Fallocate::new(fd, *bytes).build(),
            // Without the operation the file is cut when this completes.
            Work::Truncate { .. } if !ring.ftruncate => return opcode::Nop::new().build(),
            Work::Truncate { bytes, .. } => opcode::Ftruncate::new(fd, *bytes).build(),
            Work::Write {
                offset,
                iovecs,
                durable,
                in_arena,
                ..
            } => {
                let rw_flags = if *durable { dsync_flag() } else { 0 };
                write_entry(fd, iovecs, *offset, rw_flags, *in_arena, ring.writev_fixed)
            }
            Work::Read {
                offset,
                buf,
                filled,
                in_arena,
                ..
            } => {
                let offset = *offset + *filled as u64;
                let rest = &mut buf[*filled..];
                let (start, bytes) = (rest.as_mut_ptr(), entry_bytes(rest.len()));
                if *in_arena {
                    opcode::ReadFixed::new(fd, start, bytes, ARENA_INDEX)
                        .offset(offset)
                        .build()
                } else {
                    opcode::Read::new(fd, start, bytes).offset(offset).build()
                }
            }
            Work::Flush { .. } => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Work::SyncDir => opcode::Fsync::new(directory).build(),
            Work::Remove { name } => opcode::UnlinkAt::new(directory, name.as_ptr()).build(),
            Work::Refused { .. } => opcode::Nop::new().build(),
        };
        if target.registered {
            entry.flags(squeue::Flags::FIXED_FILE)
        } else {
            entry
        }
    }
}

/// What entries depend on besides their operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingTraits {
    pub(super) directory: i32,
    pub(super) direct: bool,
    pub(super) writev_fixed: bool,
    pub(super) ftruncate: bool,
}

/// Neighbours in memory become one vector: slices of one frame are written as one.
fn gather(bufs: &[Buf]) -> Vec<libc::iovec> {
    let mut iovecs: Vec<libc::iovec> = Vec::with_capacity(bufs.len());
    for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
        if let Some(last) = iovecs.last_mut()
            && last.iov_base.addr() + last.iov_len == buf.as_ptr().addr()
        {
            last.iov_len += buf.len();
        } else {
            // The kernel only reads through it.
            let iov_base = buf.as_ptr().cast_mut().cast();
            iovecs.push(libc::iovec {
                iov_base,
                iov_len: buf.len(),
            });
        }
    }
    iovecs
}

/// `RWF_DSYNC`. A debug build can be told to leave it out, so that the test that watches the
/// device's flush counter is seen to fail without it.
fn dsync_flag() -> i32 {
    #[cfg(debug_assertions)]
    {
        static LEFT_OUT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        let left_out = LEFT_OUT.get_or_init(|| {
            let told = std::env::var_os("RINGLOG_TEST_NO_DSYNC").is_some();
            if told {
                tracing::warn!("RINGLOG_TEST_NO_DSYNC is set: nothing that is written is flushed");
            }
            told
        });
        if *left_out {
            return 0;
        }
    }
    libc::RWF_DSYNC
}

fn write_entry(
    fd: types::Fd,
    iovecs: &[libc::iovec],
    offset: u64,
    rw_flags: i32,
    in_arena: bool,
    writev_fixed: bool,
) -> squeue::Entry {
    match iovecs {
        [one] if in_arena => opcode::WriteFixed::new(
            fd,
            one.iov_base.cast(),
            entry_bytes(one.iov_len),
            ARENA_INDEX,
        )
        .offset(offset)
        .rw_flags(rw_flags)
        .build(),
        [one] => opcode::Write::new(fd, one.iov_base.cast(), entry_bytes(one.iov_len))
            .offset(offset)
            .rw_flags(rw_flags)
            .build(),
        many if in_arena && writev_fixed => {
            opcode::WritevFixed::new(fd, many.as_ptr(), entry_bytes(many.len()), ARENA_INDEX)
                .offset(offset)
                .rw_flags(rw_flags)
                .build()
        }
        many => opcode::Writev::new(fd, many.as_ptr(), entry_bytes(many.len()))
            .offset(offset)
            .rw_flags(rw_flags)
            .build(),
    }
}

/// An entry's length field has 32 bits; the kernel itself moves at most 2 GiB per call. A longer
/// request is cut short and shows as a short result, which the log treats as a failure.
fn entry_bytes(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
