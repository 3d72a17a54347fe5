//! A page of an index run. Pages of level 0 hold rows, sorted by partition and first offset;
//! those above hold fences: of each page below the key of its first row, the largest timestamp
//! under it, and its number. The root is the page that no fence names.
//!
//! Invariant: a page's checksum is keyed with the run's nonce and covers its number, so that a page
//! that stands in another's place is refused.

use ringlog_types::{Offset, PartitionId};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FormatError;
use super::checksum::Key;
use super::footer::BlockRef;

const WHAT: &str = "index page";

/// Levels a run can have: with 127 fences in a page four levels reach beyond 2^32 pages.
pub const MAX_LEVELS: usize = 8;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHead {
    checksum: U64,
    number: U32,
    level: U16,
    count: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawRow {
    partition: U64,
    first: U64,
    end: U64,
    max_timestamp: I64,
    segment: U64,
    position_units: U32,
    block_units: U32,
    payload_bytes: U32,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawFence {
    partition: U64,
    first: U64,
    max_timestamp: I64,
    page: U32,
    reserved: U32,
}

/// The records of one partition in one block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Whose.
    pub partition: PartitionId,
    /// The block's segment.
    pub segment: u64,
    /// The block in it.
    pub block: BlockRef,
}

/// A page below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Partition of the first row under it.
    pub partition: PartitionId,
    /// First offset of that row.
    pub first: Offset,
    /// Largest timestamp of all rows under it.
    pub max_timestamp: i64,
    /// Its number.
    pub page: u32,
}

/// Rows in a page of `unit` bytes.
#[must_use]
pub fn rows_in(unit: usize) -> usize {
    (unit - size_of::<RawHead>()) / size_of::<RawRow>()
}

/// Fences in a page of `unit` bytes.
#[must_use]
pub fn fences_in(unit: usize) -> usize {
    (unit - size_of::<RawHead>()) / size_of::<RawFence>()
}

/// Appends a page of rows.
///
/// # Panics
/// When there are more rows than fit.
pub fn encode_rows(key: &Key, number: u32, rows: &[RunRow], unit: usize, out: &mut Vec<u8>) {
    let body = |out: &mut Vec<u8>| {
        for row in rows {
            let raw = RawRow {
                partition: row.partition.0.into(),
                first: row.block.first.0.into(),
                end: row.block.end.0.into(),
                max_timestamp: row.block.max_timestamp.into(),
                segment: row.segment.into(),
                position_units: row.block.position_units.into(),
                block_units: row.block.block_units.into(),
                payload_bytes: row.block.payload_bytes.into(),
                reserved: U32::ZERO,
            };
            out.extend_from_slice(raw.as_bytes());
        }
    };
    encode(key, (number, 0, rows.len()), body, unit, out);
}

/// Appends a page of fences of a level above 0.
///
/// # Panics
/// When there are more fences than fit.
pub fn encode_fences(
    key: &Key,
    (number, level): (u32, u16),
    fences: &[Fence],
    unit: usize,
    out: &mut Vec<u8>,
) {
    let body = |out: &mut Vec<u8>| {
        for fence in fences {
            let raw = RawFence {
                partition: fence.partition.0.into(),
                first: fence.first.0.into(),
                max_timestamp: fence.max_timestamp.into(),
                page: fence.page.into(),
                reserved: U32::ZERO,
            };
            out.extend_from_slice(raw.as_bytes());
        }
    };
    encode(key, (number, level, fences.len()), body, unit, out);
}

fn encode(
    key: &Key,
    (number, level, count): (u32, u16, usize),
    body: impl Fn(&mut Vec<u8>),
    unit: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let head = RawHead {
        checksum: U64::ZERO,
        number: number.into(),
        level: level.into(),
        count: u16::try_from(count)
            .expect("a page holds fewer than 2^16 rows")
            .into(),
    };
    out.extend_from_slice(head.as_bytes());
    body(out);
    assert!(out.len() - start <= unit, "a page's rows fit its unit");
    out.resize(start + unit, 0);
    let checksum = key.checksum(&out[start + 8..]);
    out[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// A page that passed its checks. Rows are read from its bytes when asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    bytes: Box<[u8]>,
    level: u16,
    count: usize,
}

impl Page {
    /// Reads the page that should be number `number`.
    ///
    /// # Errors
    /// Failing its checksum, another page, or a count that does not fit.
    pub fn decode(key: &Key, number: u32, bytes: &[u8]) -> Result<Page, FormatError> {
        let Ok((head, body)) = RawHead::ref_from_prefix(bytes) else {
            return Err(FormatError::Absent { what: WHAT });
        };
        if key.checksum(&bytes[8..]) != head.checksum.get() {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let bounds = |detail| FormatError::Bounds { what: WHAT, detail };
        if head.number.get() != number {
            let found = head.number.get();
            return Err(bounds(format!("page {found} stands in place of {number}")));
        }
        let (level, count) = (head.level.get(), usize::from(head.count.get()));
        let item = match level {
            0 => size_of::<RawRow>(),
            _ => size_of::<RawFence>(),
        };
        if usize::from(level) >= MAX_LEVELS || count * item > body.len() {
            return Err(bounds(format!("{count} items of level {level}")));
        }
        let page = Page {
            bytes: bytes.into(),
            level,
            count,
        };
        let ordered = match level {
            0 => page.raw_rows().windows(2).all(|pair| {
                let key = |row: &RawRow| (row.partition.get(), row.first.get());
                key(&pair[0]) < key(&pair[1])
            }),
            _ => page.raw_fences().windows(2).all(|pair| {
                let key = |fence: &RawFence| (fence.partition.get(), fence.first.get());
                key(&pair[0]) < key(&pair[1])
            }),
        };
        // Fences name pages before their own: a search ends.
        let back = level == 0 || page.raw_fences().iter().all(|f| f.page.get() < number);
        let whole = page.raw_rows().iter().all(|row| {
            let (first, end) = (row.first.get(), row.end.get());
            first < end && end <= i64::MAX as u64
        });
        if ordered && back && whole {
            return Ok(page);
        }
        Err(bounds(format!("page {number} is not in order")))
    }

    /// 0: it holds rows.
    #[must_use]
    pub fn level(&self) -> u16 {
        self.level
    }

    /// Rows or fences in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn raw_rows(&self) -> &[RawRow] {
        let count = if self.level == 0 { self.count } else { 0 };
        self.items(count)
    }

    fn raw_fences(&self) -> &[RawFence] {
        let count = if self.level == 0 { 0 } else { self.count };
        self.items(count)
    }

    fn items<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, count: usize) -> &[T] {
        let from = size_of::<RawHead>();
        let bytes = &self.bytes[from..from + count * size_of::<T>()];
        <[T]>::ref_from_bytes(bytes).expect("the count was checked, and the items are unaligned")
    }

    /// The row at a place; none in pages above level 0.
    #[must_use]
    pub fn row(&self, at: usize) -> Option<RunRow> {
        let raw = self.raw_rows().get(at)?;
        Some(RunRow {
            partition: PartitionId(raw.partition.get()),
            segment: raw.segment.get(),
            block: BlockRef {
                first: Offset(raw.first.get()),
                end: Offset(raw.end.get()),
                max_timestamp: raw.max_timestamp.get(),
                position_units: raw.position_units.get(),
                block_units: raw.block_units.get(),
                payload_bytes: raw.payload_bytes.get(),
            },
        })
    }

    /// The fence at a place; none in pages of level 0.
    #[must_use]
    pub fn fence(&self, at: usize) -> Option<Fence> {
        let raw = self.raw_fences().get(at)?;
        Some(Fence {
            partition: PartitionId(raw.partition.get()),
            first: Offset(raw.first.get()),
            max_timestamp: raw.max_timestamp.get(),
            page: raw.page.get(),
        })
    }

    /// The first row of the partition, or of a later one, that ends behind `offset`.
    #[must_use]
    pub fn first_row_behind(&self, partition: PartitionId, offset: Offset) -> usize {
        let wanted = (partition.0, offset.0);
        self.raw_rows()
            .partition_point(|row| (row.partition.get(), row.end.get()) <= wanted)
    }

    /// The page below in which a search for an offset begins.
    #[must_use]
    pub fn fence_before(&self, partition: PartitionId, offset: Offset) -> usize {
        let wanted = (partition.0, offset.0);
        let after = self
            .raw_fences()
            .partition_point(|fence| (fence.partition.get(), fence.first.get()) <= wanted);
        after.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(first: u64) -> RunRow {
        RunRow {
            partition: PartitionId(4),
            segment: 2,
            block: BlockRef {
                first: Offset(first),
                end: Offset(first + 4),
                max_timestamp: -1,
                position_units: 3,
                block_units: 2,
                payload_bytes: 77,
            },
        }
    }

    #[test]
    fn a_page_is_read_in_its_own_place_only_and_every_flipped_bit_is_refused() {
        let key = Key::derive(1);
        let rows: Vec<RunRow> = (0..rows_in(4096) as u64).map(|at| row(at * 4)).collect();
        let mut bytes = Vec::new();
        encode_rows(&key, 5, &rows, 4096, &mut bytes);
        assert_eq!(bytes.len(), 4096);
        let page = Page::decode(&key, 5, &bytes).unwrap();
        let found: Vec<RunRow> = (0..page.count()).filter_map(|at| page.row(at)).collect();
        assert_eq!(found, rows);
        assert_eq!(page.first_row_behind(PartitionId(4), Offset(9)), 2);
        assert!(Page::decode(&key, 6, &bytes).is_err());
        assert!(Page::decode(&Key::derive(2), 5, &bytes).is_err());
        for bit in (0..bytes.len() * 8).step_by(7) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Page::decode(&key, 5, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn fences_lead_backwards_and_out_of_order_rows_are_refused() {
        let key = Key::derive(1);
        let fence = |first, page| Fence {
            partition: PartitionId(4),
            first: Offset(first),
            max_timestamp: 9,
            page,
        };
        let mut bytes = Vec::new();
        encode_fences(&key, (7, 1), &[fence(0, 5), fence(40, 6)], 4096, &mut bytes);
        let page = Page::decode(&key, 7, &bytes).unwrap();
        assert_eq!(page.fence(1), Some(fence(40, 6)));
        assert_eq!(page.fence_before(PartitionId(4), Offset(39)), 0);
        assert_eq!(page.fence_before(PartitionId(4), Offset(40)), 1);
        assert_eq!(page.fence_before(PartitionId(1), Offset(40)), 0);
        let mut bytes = Vec::new();
        encode_fences(&key, (7, 1), &[fence(0, 7)], 4096, &mut bytes);
        assert!(Page::decode(&key, 7, &bytes).is_err(), "a circle");
        let mut bytes = Vec::new();
        encode_rows(&key, 7, &[row(8), row(4)], 4096, &mut bytes);
        assert!(Page::decode(&key, 7, &bytes).is_err(), "out of order");
    }
}
