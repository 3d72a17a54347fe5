//! Rows that runs cover, gathered by segment.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use crate::format::footer::BlockRef;
use crate::log::index::Footer;

/// Rows of segments that runs cover, by segment: as far as a switch moves them.
pub(crate) type CoveredRows = BTreeMap<u64, Rc<Footer>>;

/// Rows of one partition, as a footer has them.
pub(crate) fn footer_of(partition: PartitionId, rows: Vec<BlockRef>) -> Rc<Footer> {
    let mut rows: Vec<(PartitionId, BlockRef)> =
        rows.into_iter().map(|row| (partition, row)).collect();
    rows.sort_by_key(|(_, row)| row.first);
    rows.dedup_by_key(|(_, row): &mut (PartitionId, BlockRef)| -> Offset { row.first });
    Rc::new(Footer::new(rows))
}
