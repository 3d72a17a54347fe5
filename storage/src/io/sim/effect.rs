//! What an operation does to the simulated disk, and how it goes wrong.

use std::io;

use super::super::medium::{Inode, Moment, sectors};
use super::super::{Completion, Op, Token};
use super::faults::Injection;
use super::machine::{HandleId, Machine, OpenFile, failed};
use crate::buffer::Buf;

impl Machine {
    /// Lets an operation happen.
    pub(super) fn effect(
        &mut self,
        handle: HandleId,
        token: Token,
        op: Op,
        accepted_at: (Moment, u64),
    ) -> Completion {
        let done = |result| Completion {
            token,
            result,
            buf: None,
            file: None,
        };
        let file = match &op {
            Op::Open { .. } | Op::SyncDir | Op::Remove { .. } => None,
            Op::Close { file }
            | Op::Allocate { file, .. }
            | Op::Truncate { file, .. }
            | Op::Write { file, .. }
            | Op::Read { file, .. }
            | Op::Flush { file } => match self.open_files.get(file) {
                Some(open) => Some((*file, open.clone())),
                None => return failed(token, op, os_error(libc::EBADF)),
            },
        };
        match (op, file) {
            (Op::Open { name, create }, _) => match self.open_or_create(&name, create) {
                Ok(inode) => {
                    let file = Some(self.open(handle, inode, name));
                    Completion {
                        token,
                        result: Ok(0),
                        buf: None,
                        file,
                    }
                }
                Err(error) => done(Err(error)),
            },
            (Op::Remove { name }, _) => {
                let removed = self.medium.remove(&name);
                self.forget_unnamed();
                done(if removed {
                    Ok(0)
                } else {
                    Err(os_error(libc::ENOENT))
                })
            }
            (Op::SyncDir, _) => {
                if self.random.chance(self.faults.flush_error) {
                    self.inject(Injection::DirectoryFlushError);
                    return done(Err(os_error(libc::EIO)));
                }
                self.medium.names_synced(accepted_at.0);
                done(Ok(0))
            }
            (Op::Close { .. }, Some((file, _))) => {
                self.open_files.remove(&file);
                self.forget_unnamed();
                done(Ok(0))
            }
            (Op::Allocate { bytes, .. }, Some((_, open))) => done(self.allocate(&open, bytes)),
            (Op::Truncate { bytes, .. }, Some((_, open))) => {
                self.medium.set_length(open.inode, bytes);
                done(Ok(0))
            }
            (Op::Flush { .. }, Some((_, open))) => {
                if self.random.chance(self.faults.flush_error) {
                    self.medium.flush_failed(open.inode, accepted_at.0);
                    self.ledger.forget_unflushed();
                    self.inject(Injection::FlushError { name: open.name });
                    return done(Err(os_error(libc::EIO)));
                }
                self.medium.flushed(open.inode, accepted_at.0);
                self.ledger.flushed(&open.name, accepted_at.1);
                done(Ok(0))
            }
            (
                Op::Write {
                    offset,
                    bufs,
                    durable,
                    ..
                },
                Some((_, open)),
            ) => done(self.write(&open, offset, &bufs, durable)),
            (
                Op::Read {
                    offset, mut buf, ..
                },
                Some((_, open)),
            ) => {
                let result = self.read(&open, offset, &mut buf);
                Completion {
                    token,
                    result,
                    buf: Some(buf),
                    file: None,
                }
            }
            (op, None) => failed(token, op, os_error(libc::EBADF)),
        }
    }

    fn open_or_create(&mut self, name: &str, create: bool) -> io::Result<Inode> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a plain file name",
            ));
        }
        if !create {
            return self.medium.find(name).ok_or_else(|| os_error(libc::ENOENT));
        }
        if self.is_full(name, 0) {
            return Err(os_error(libc::ENOSPC));
        }
        self.medium
            .create(name)
            .ok_or_else(|| os_error(libc::EEXIST))
    }

    fn allocate(&mut self, open: &OpenFile, bytes: u64) -> io::Result<usize> {
        let length = self.medium.content(open.inode).len() as u64;
        if self.is_full(&open.name, bytes.saturating_sub(length)) {
            return Err(os_error(libc::ENOSPC));
        }
        self.medium.set_length(open.inode, bytes);
        Ok(0)
    }

    fn write(
        &mut self,
        open: &OpenFile,
        offset: u64,
        bufs: &[Buf],
        durable: bool,
    ) -> io::Result<usize> {
        let aligned = bufs.iter().all(|buf| self.is_aligned(offset, buf));
        if !aligned {
            return Err(os_error(libc::EINVAL));
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        for buf in bufs {
            bytes.extend_from_slice(buf);
        }
        let length = bytes.len() as u64;
        let file_bytes = self.medium.content(open.inode).len() as u64;
        let name = || open.name.clone();
        if self.is_full(&open.name, (offset + length).saturating_sub(file_bytes)) {
            return Err(os_error(libc::ENOSPC));
        }
        if self.random.chance(self.faults.write_error) {
            for (from, sector) in sectors(offset, &bytes, self.options().sector_bytes as u64) {
                if self.random.chance(0.5) {
                    self.medium
                        .write_unvouched(open.inode, from, sector.to_vec());
                }
            }
            self.inject(Injection::WriteError {
                name: name(),
                offset,
                bytes: length,
            });
            return Err(os_error(libc::EIO));
        }
        let range = |from: u64| from..from + length;
        if self.random.chance(self.faults.lost_write) {
            self.ledger.corrupted(&open.name, range(offset));
            self.inject(Injection::LostWrite {
                name: name(),
                offset,
                bytes: length,
            });
            return Ok(bytes.len());
        }
        let sector_bytes = self.options().sector_bytes as u64;
        if self.random.chance(self.faults.short_write) && length > sector_bytes {
            let written = self.random.within(0..length / sector_bytes) * sector_bytes;
            self.inject(Injection::ShortWrite {
                name: name(),
                offset,
                bytes: length,
                written,
            });
            bytes.truncate(written as usize);
            self.medium.write(open.inode, offset, bytes, durable);
            return Ok(written as usize);
        }
        let mut to = offset;
        if self.random.chance(self.faults.misdirected_write) && file_bytes > length {
            // Any other block of the file from which the write fits.
            let block_bytes = self.options().block_bytes as u64;
            let others = (file_bytes - length) / block_bytes;
            let other = if others == 0 {
                0
            } else {
                self.random.within(0..others)
            };
            let skip = u64::from(other >= offset / block_bytes);
            to = (other + skip).min(others) * block_bytes;
        }
        if to == offset {
            self.ledger.written(&open.name, range(offset), durable);
        } else {
            self.ledger.corrupted(&open.name, range(offset));
            self.ledger.corrupted(&open.name, range(to));
            self.inject(Injection::MisdirectedWrite {
                name: name(),
                offset,
                bytes: length,
                to,
            });
        }
        self.medium.write(open.inode, to, bytes, durable);
        Ok(length as usize)
    }

    fn read(&mut self, open: &OpenFile, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if !self.is_aligned(offset, buf) {
            return Err(os_error(libc::EINVAL));
        }
        if self.random.chance(self.faults.read_error) {
            self.inject(Injection::ReadError {
                name: open.name.clone(),
                offset,
            });
            return Err(os_error(libc::EIO));
        }
        let content = self.medium.content(open.inode);
        let from = content
            .len()
            .min(usize::try_from(offset).unwrap_or(usize::MAX));
        let bytes = buf.len().min(content.len() - from);
        buf[..bytes].copy_from_slice(&content[from..from + bytes]);
        Ok(bytes)
    }

    fn is_aligned(&self, offset: u64, memory: &[u8]) -> bool {
        let block_bytes = self.options().block_bytes;
        offset.is_multiple_of(block_bytes as u64)
            && memory.len().is_multiple_of(block_bytes)
            && memory.as_ptr().addr().is_multiple_of(block_bytes.min(512))
    }

    fn is_full(&mut self, name: &str, growth_bytes: u64) -> bool {
        let used_bytes = self.medium.used_bytes();
        let beyond = self
            .faults
            .capacity_bytes
            .is_some_and(|capacity| growth_bytes > 0 && used_bytes + growth_bytes > capacity);
        let full = beyond || self.random.chance(self.faults.disk_full);
        if full {
            self.inject(Injection::DiskFull {
                name: name.to_owned(),
            });
        }
        full
    }
}

fn os_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
