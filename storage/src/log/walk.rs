//! Reading segments in recovery: blocking, forward, through a window of a few MiB.

use std::time::Duration;

use super::arrived;
use super::block::Block;
use crate::buffer::Buf;
use crate::format::block::{self, BlockFault};
use crate::format::block_header::BlockHeader;
use crate::format::checksum::Key;
use crate::format::entry_header::{EntryHeader, EntryMeta};
use crate::io::{Completion, FileId, Io, Op, Token};

const WINDOW_BYTES: u64 = 1 << 20;
/// How far into a block with a damaged header its entry table is looked for: blocks of copied
/// batches are smaller.
const SALVAGE_BYTES: u64 = 2 << 20;
const READS_AT_ONCE: usize = 32;
const READ_ATTEMPTS: usize = 5;
const WAIT: Duration = Duration::from_millis(100);

/// Runs one operation to its end.
pub(super) fn run<I: Io>(io: &mut I, op: Op) -> Completion {
    let mut done = Vec::new();
    io.submit(op, Token(0));
    io.kick();
    while done.is_empty() {
        io.wait(WAIT);
        io.completions(&mut done);
    }
    done.pop()
        .expect("the one operation in flight has completed")
}

/// Reads pieces of files, several at a time, in the order asked for. A read that fails is
/// tried again: what cannot be read must not be taken for what was never written.
///
/// # Errors
/// The first read that failed every time.
pub(super) fn read_pieces<I: Io>(
    io: &mut I,
    pieces: &[(FileId, u64, usize)],
) -> std::io::Result<Vec<Buf>> {
    let mut read: Vec<Option<Buf>> = pieces.iter().map(|_| None).collect();
    let mut failure = None;
    for _ in 0..READ_ATTEMPTS {
        failure = None;
        let missing: Vec<usize> = (0..pieces.len()).filter(|at| read[*at].is_none()).collect();
        for chunk in missing.chunks(READS_AT_ONCE) {
            for completion in submit_and_wait(io, pieces, chunk)? {
                // The token is the index of a piece, given a few lines below.
                let number = completion.token.0 as usize;
                match (completion.result, completion.buf) {
                    (Ok(bytes), Some(buf)) => {
                        let bytes = bytes.min(pieces[number].2);
                        read[number] = Some(buf.freeze().slice(0..bytes));
                    }
                    (Err(error), _) => failure = Some(error),
                    (Ok(_), None) => failure = Some(std::io::ErrorKind::InvalidData.into()),
                }
            }
        }
        if failure.is_none() {
            break;
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(read.into_iter().flatten().collect()),
    }
}

fn submit_and_wait<I: Io>(
    io: &mut I,
    pieces: &[(FileId, u64, usize)],
    numbers: &[usize],
) -> std::io::Result<Vec<Completion>> {
    let mut bufs = Vec::with_capacity(numbers.len());
    for number in numbers {
        let buf = io.pool().alloc(pieces[*number].2);
        bufs.push(buf.ok_or(std::io::ErrorKind::OutOfMemory)?);
    }
    for (number, buf) in numbers.iter().zip(bufs) {
        let (file, offset, _) = pieces[*number];
        io.submit(Op::Read { file, offset, buf }, Token(*number as u64));
    }
    io.kick();
    let mut done = Vec::new();
    while done.len() < numbers.len() {
        io.wait(WAIT);
        io.completions(&mut done);
    }
    Ok(done)
}

/// A segment file as recovery reads it.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub segment: u64,
    pub file: FileId,
    pub file_bytes: u64,
    pub key: &'a Key,
    pub unit: usize,
    window: Option<(u64, Buf)>,
}

impl<'a> Walk<'a> {
    pub fn new(segment: u64, file: FileId, file_bytes: u64, key: &'a Key, unit: usize) -> Walk<'a> {
        Walk {
            segment,
            file,
            file_bytes,
            key,
            unit,
            window: None,
        }
    }

    /// The bytes at `position`: as many as asked for, or as the file has.
    fn bytes_at<I: Io>(&mut self, io: &mut I, position: u64, bytes: u64) -> std::io::Result<Buf> {
        let end = (position + bytes).min(self.file_bytes);
        if position >= end {
            return Ok(Buf::from_vec(Vec::new()));
        }
        if let Some((from, window)) = &self.window {
            let to = from + window.len() as u64;
            if *from <= position && end <= to {
                return Ok(window.slice((position - from) as usize..(end - from) as usize));
            }
        }
        let length = bytes.max(WINDOW_BYTES).min(self.file_bytes - position);
        let length = (length as usize).next_multiple_of(self.unit);
        self.window = None;
        let window = read_pieces(io, &[(self.file, position, length)])?.remove(0);
        let available = (end - position).min(window.len() as u64) as usize;
        let piece = window.slice(0..available);
        self.window = Some((position, window));
        Ok(piece)
    }

    /// The block at `position`, whole; with it the entries whose payload is damaged.
    ///
    /// # Errors
    /// The device's own. What was read and is no block is the inner error.
    #[expect(
        clippy::type_complexity,
        reason = "two kinds of failure that must not mix"
    )]
    pub fn block_at<I: Io>(
        &mut self,
        io: &mut I,
        position: u64,
    ) -> std::io::Result<Result<(Block, BlockHeader, Vec<usize>), BlockFault>> {
        let head = self.bytes_at(io, position, self.unit as u64)?;
        let header = match BlockHeader::decode(self.key, &head) {
            Ok((header, _)) => header,
            Err(fault) => return Ok(Err(fault.into())),
        };
        let bytes = self.bytes_at(io, position, u64::from(header.block_bytes))?;
        let decoded = arrived::decode(&bytes, self.segment, position, self.key, self.unit);
        Ok(decoded.map(|(block, damaged)| (block, header, damaged)))
    }

    /// The entries of a block whose header fails its check, where its table can be proven, and
    /// the position behind the table. A header that holds is another block's, which went astray:
    /// it says nothing of this one.
    ///
    /// # Errors
    /// The device's own.
    pub fn salvage_at<I: Io>(
        &mut self,
        io: &mut I,
        position: u64,
    ) -> std::io::Result<Option<(Vec<EntryMeta>, u64)>> {
        let head = self.bytes_at(io, position, self.unit as u64)?;
        let Some(header) = BlockHeader::unproven(&head) else {
            return Ok(None);
        };
        if BlockHeader::decode(self.key, &head).is_ok() {
            return Ok(None);
        }
        let bytes = self.bytes_at(io, position, SALVAGE_BYTES)?;
        Ok(block::salvage_table(self.key, &bytes).map(|entries| {
            let table_bytes = entries.len() * EntryHeader::BYTES;
            let table_end = header.table_offset as usize + table_bytes;
            let end = position + table_end.next_multiple_of(self.unit) as u64;
            (entries.iter().map(|entry| entry.meta).collect(), end)
        }))
    }

    /// Every block header from `position` on that is valid under this segment's key, whether
    /// or not what lies between is.
    ///
    /// # Errors
    /// The device's own.
    pub fn headers_from<I: Io>(
        &mut self,
        io: &mut I,
        position: u64,
    ) -> std::io::Result<Vec<(u64, BlockHeader)>> {
        let unit = self.unit as u64;
        let mut found = Vec::new();
        let mut at = position;
        while at < self.file_bytes {
            let bytes = self.bytes_at(io, at, unit)?;
            if BlockHeader::maybe(&bytes)
                && let Ok((header, _)) = BlockHeader::decode(self.key, &bytes)
            {
                found.push((at, header));
            }
            // Unit by unit: a block that lies where it does not belong may span others.
            at += unit;
        }
        Ok(found)
    }
}
