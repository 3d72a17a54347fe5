//! Sorted rows into the pages of a run, fences above them, in one pass: a page is given out when it
//! is full, and only the unfinished page of each level is in memory.

use crate::format::checksum::Key;
use crate::format::run_header::RunHeader;
use crate::format::run_page::{Fence, RunRow, encode_fences, encode_rows, fences_in, rows_in};

/// Builds one run.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    key: Key,
    unit: usize,
    next_page: u32,
    rows: Vec<RunRow>,
    /// Unfinished pages of the levels from 1 on.
    fences: Vec<Vec<Fence>>,
    finished: Vec<u8>,
    count: u64,
}

impl RunBuilder {
    /// A run whose pages begin behind its header, in unit 1.
    pub fn new(header: RunHeader, unit: usize) -> RunBuilder {
        let mut finished = vec![0; unit];
        header.encode(&mut finished);
        RunBuilder {
            key: header.key(),
            unit,
            next_page: 1,
            rows: Vec::with_capacity(rows_in(unit)),
            fences: Vec::new(),
            finished,
            count: 0,
        }
    }

    /// Adds a row, behind all that were added.
    pub fn push(&mut self, row: RunRow) {
        debug_assert!(
            self.rows.last().is_none_or(
                |last| (last.partition, last.block.first) < (row.partition, row.block.first)
            ),
            "rows come in order"
        );
        if self.rows.len() == rows_in(self.unit) {
            let fence = self.end_rows();
            self.add_fence(0, fence);
        }
        self.rows.push(row);
        self.count += 1;
    }

    /// The key of its checksums.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Rows added.
    pub fn rows(&self) -> u64 {
        self.count
    }

    /// Units given out and waiting to be, the header included.
    pub fn pages(&self) -> u32 {
        self.next_page
    }

    /// Bytes of finished pages that have not been taken.
    pub fn finished_bytes(&self) -> usize {
        self.finished.len()
    }

    /// The header and the finished pages, in the order of the file.
    pub fn take_finished(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.finished)
    }

    /// Ends the run. Returns its root.
    pub fn finish(&mut self) -> u32 {
        let mut fence = self.end_rows();
        let mut level = 0;
        while level < self.fences.len() {
            self.add_fence(level, fence);
            fence = self.end_fences(level);
            level += 1;
        }
        fence.page
    }

    fn end_rows(&mut self) -> Fence {
        let page = self.next_page;
        self.next_page += 1;
        encode_rows(&self.key, page, &self.rows, self.unit, &mut self.finished);
        let largest = self.rows.iter().map(|row| row.block.max_timestamp).max();
        let first = self.rows.first();
        let fence = Fence {
            partition: first.map_or_else(Default::default, |row| row.partition),
            first: first.map_or_else(Default::default, |row| row.block.first),
            max_timestamp: largest.unwrap_or(-1),
            page,
        };
        self.rows.clear();
        fence
    }

    /// `level` counts from 0 here: the level of fences above the rows.
    fn add_fence(&mut self, level: usize, fence: Fence) {
        if self.fences.len() == level {
            self.fences.push(Vec::with_capacity(fences_in(self.unit)));
        }
        if self.fences[level].len() == fences_in(self.unit) {
            let above = self.end_fences(level);
            self.add_fence(level + 1, above);
        }
        self.fences[level].push(fence);
    }

    fn end_fences(&mut self, level: usize) -> Fence {
        let page = self.next_page;
        self.next_page += 1;
        let fences = std::mem::take(&mut self.fences[level]);
        let above = u16::try_from(level + 1).expect("a run has few levels");
        encode_fences(
            &self.key,
            (page, above),
            &fences,
            self.unit,
            &mut self.finished,
        );
        Fence {
            max_timestamp: fences.iter().map(|f| f.max_timestamp).max().unwrap_or(-1),
            page,
            ..fences[0]
        }
    }
}
