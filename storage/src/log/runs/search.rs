//! From the root of a run to a row. Pure: pages come from whoever calls, who may not have them yet.

use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use crate::format::run_page::{Page, RunRow};

/// Why a search could not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) enum Stop {
    /// This page has to be read first.
    Missing(u32),
    /// This page contradicts the one that leads to it.
    Contradiction(u32),
}

/// A run to search: its root, its pages, and which of its rows count.
pub(in crate::log) struct Search<'a> {
    /// The page in which the search begins.
    pub root: u32,
    /// A page, if it is in memory.
    pub page: &'a mut dyn FnMut(u32) -> Option<Rc<Page>>,
    /// Whether a row counts.
    pub counts: &'a dyn Fn(&RunRow) -> bool,
}

impl Search<'_> {
    /// The first row of the partition that counts, ends behind `offset`, and reaches a time.
    ///
    /// # Errors
    /// A page is missing, or wrong.
    pub fn first(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<RunRow>, Stop> {
        let root = self.load(self.root, u16::MAX)?;
        self.first_under(&root, partition, offset, timestamp_ms)
    }

    fn first_under(
        &mut self,
        page: &Page,
        partition: PartitionId,
        offset: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<RunRow>, Stop> {
        if page.level() == 0 {
            let rows = (page.first_row_behind(partition, offset)..).map_while(|at| page.row(at));
            let mut own = rows.take_while(|row| row.partition == partition);
            let wanted =
                own.find(|row| row.block.max_timestamp >= timestamp_ms && (self.counts)(row));
            return Ok(wanted);
        }
        let fences = (page.fence_before(partition, offset)..).map_while(|at| page.fence(at));
        for fence in fences.take_while(|fence| fence.partition <= partition) {
            if fence.max_timestamp < timestamp_ms {
                continue;
            }
            let below = self.load(fence.page, page.level())?;
            let found = self.first_under(&below, partition, offset, timestamp_ms)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Rows that count and follow a row, of its partition: those of one page.
    ///
    /// # Errors
    /// A page is missing, or wrong.
    pub fn following(&mut self, row: &RunRow, most: usize) -> Result<Vec<RunRow>, Stop> {
        let (partition, end) = (row.partition, row.block.end);
        let mut page = self.load(self.root, u16::MAX)?;
        while page.level() > 0 {
            let Some(fence) = page.fence(page.fence_before(partition, end)) else {
                return Ok(Vec::new());
            };
            page = self.load(fence.page, page.level())?;
        }
        let rows = (page.first_row_behind(partition, end)..).map_while(|at| page.row(at));
        let own = rows.take_while(|other| other.partition == partition);
        Ok(own.filter(|row| (self.counts)(row)).take(most).collect())
    }

    /// The largest timestamp of the partition's rows that count and end behind `offset`, if it
    /// is above `known`; else `known`.
    ///
    /// # Errors
    /// A page is missing, or wrong.
    pub fn largest(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        known: i64,
    ) -> Result<i64, Stop> {
        let root = self.load(self.root, u16::MAX)?;
        self.largest_under(&root, partition, offset, known)
    }

    fn largest_under(
        &mut self,
        page: &Page,
        partition: PartitionId,
        offset: Offset,
        known: i64,
    ) -> Result<i64, Stop> {
        if page.level() == 0 {
            let rows = (page.first_row_behind(partition, offset)..).map_while(|at| page.row(at));
            let own = rows.take_while(|row| row.partition == partition);
            let own = own.filter(|row| row.block.max_timestamp > known && (self.counts)(row));
            let largest = own.map(|row| row.block.max_timestamp).max();
            return Ok(largest.unwrap_or(known));
        }
        let fences = (page.fence_before(partition, offset)..).map_while(|at| page.fence(at));
        let fences: Vec<_> = fences
            .take_while(|fence| fence.partition <= partition)
            .collect();
        let mut known = known;
        // The last one first: times mostly grow with offsets, and then it rules the others out.
        for fence in fences.iter().rev() {
            if fence.max_timestamp > known {
                let below = self.load(fence.page, page.level())?;
                known = self.largest_under(&below, partition, offset, known)?;
            }
        }
        Ok(known)
    }

    fn load(&mut self, number: u32, above: u16) -> Result<Rc<Page>, Stop> {
        let page = (self.page)(number).ok_or(Stop::Missing(number))?;
        if page.level() < above {
            Ok(page)
        } else {
            Err(Stop::Contradiction(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::footer::BlockRef;
    use crate::format::run_header::RunHeader;
    use crate::format::run_page::rows_in;
    use crate::log::runs::builder::RunBuilder;

    const UNIT: usize = 4096;

    fn row(partition: u64, number: u64, segment: u64) -> RunRow {
        RunRow {
            partition: PartitionId(partition),
            segment,
            block: BlockRef {
                first: Offset(number * 10),
                end: Offset(number * 10 + 10),
                max_timestamp: (number * 7 % 100) as i64,
                position_units: 1,
                block_units: 1,
                payload_bytes: 1,
            },
        }
    }

    /// A run of some partitions, its pages, and its root.
    fn run(rows: &[RunRow]) -> (Vec<Rc<Page>>, u32) {
        let header = RunHeader {
            log: ringlog_types::LogId(0),
            number: 1,
            nonce: 3,
            unit_bytes: UNIT as u32,
        };
        let key = header.key();
        let mut builder = RunBuilder::new(header, UNIT);
        rows.iter().for_each(|row| builder.push(*row));
        let root = builder.finish();
        assert_eq!(builder.rows(), rows.len() as u64);
        let bytes = builder.take_finished();
        assert_eq!(bytes.len(), builder.pages() as usize * UNIT);
        assert_eq!(RunHeader::decode(&bytes), Ok(header));
        let pages = (1..).zip(bytes[UNIT..].chunks(UNIT));
        let pages = pages.map(|(number, page)| Rc::new(Page::decode(&key, number, page).unwrap()));
        (pages.collect(), root)
    }

    fn search<T>(
        (pages, root): &(Vec<Rc<Page>>, u32),
        counts: &dyn Fn(&RunRow) -> bool,
        wanted: impl FnOnce(&mut Search<'_>) -> T,
    ) -> (T, usize) {
        let mut seen = 0;
        let mut page = |number: u32| {
            seen += 1;
            pages.get(number as usize - 1).cloned()
        };
        let found = wanted(&mut Search {
            root: *root,
            page: &mut page,
            counts,
        });
        (found, seen)
    }

    #[test]
    fn every_row_is_found_by_offset_by_time_and_among_rows_that_do_not_count() {
        for count in [0, 1, 5, rows_in(UNIT), rows_in(UNIT) + 1, 40_000] {
            // Partition 2 has half of the rows, 4 the other half.
            let half = count as u64 / 2;
            let rows: Vec<RunRow> = (0..half)
                .map(|at| row(2, at, at % 3))
                .chain((0..count as u64 - half).map(|at| row(4, at, at % 3)))
                .collect();
            let run = run(&rows);
            let (none, _) = search(&run, &|_| true, |s| s.first(PartitionId(3), Offset(0), -1));
            assert_eq!(none, Ok(None));
            for at in (0..rows.len()).step_by(1 + rows.len() / 97) {
                let of = rows[at].partition;
                let offset = rows[at].block.first.plus(3);
                let (found, seen) = search(&run, &|_| true, |s| s.first(of, offset, -1));
                assert_eq!(found, Ok(Some(rows[at])));
                assert!(seen <= 4, "{seen} pages");
                let counts = |row: &RunRow| row.segment == 1;
                let own = rows.iter().filter(|row| row.partition == of && counts(row));
                let mut later = own.filter(|row| row.block.end > offset);
                let timed = |ms: i64| {
                    let mut later = later.clone();
                    later.find(|row| row.block.max_timestamp >= ms).copied()
                };
                for ms in [0, 50, 93, 99, 100] {
                    let (found, _) = search(&run, &counts, |s| s.first(of, offset, ms));
                    assert_eq!(found, Ok(timed(ms)), "{count} rows, at {at}, {ms} ms");
                }
                let largest = later.clone().map(|row| row.block.max_timestamp).max();
                let (found, _) = search(&run, &counts, |s| s.largest(of, offset, -1));
                assert_eq!(found, Ok(largest.unwrap_or(-1)));
                let _ = later.next();
            }
        }
    }

    #[test]
    fn a_page_that_is_not_there_is_asked_for() {
        let rows: Vec<RunRow> = (0..1_000).map(|at| row(2, at, 1)).collect();
        let (pages, root) = run(&rows);
        let mut page = |number: u32| (number == root).then(|| Rc::clone(&pages[root as usize - 1]));
        let mut search = Search {
            root,
            page: &mut page,
            counts: &|_| true,
        };
        let found = search.first(PartitionId(2), Offset(0), -1);
        assert_eq!(found, Err(Stop::Missing(1)));
    }
}
