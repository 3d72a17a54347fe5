//! Named limits of the HTTP API. Each bounds what one request can make the node hold or do.

use std::time::Duration;

/// Records in one request.
pub(super) const RECORDS_PER_REQUEST: usize = 100_000;

/// Headers of a record that is written.
pub(super) const HEADERS_PER_RECORD: usize = 1_000;

/// Records of a partition are put into batches of about this size, smaller where the topic's
/// `max.message.bytes` says so.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// What an owner is asked to append in one step: a core copies some MiB in 500 µs at the most.
pub(super) const FRAME_BYTES: usize = 512 << 10;

/// Bytes of batches that are read for one answer, whatever is asked for.
pub(super) const MOST_READ_BYTES: u32 = 8 << 20;

/// The same if nobody says.
pub(super) const READ_BYTES: u32 = 1 << 20;

/// An answer with records ends behind the first that makes it this long. One record is answered
/// whole.
pub(super) const ANSWER_BYTES: usize = 16 << 20;

/// Most bytes of a batch's records when decompressed.
pub(super) const OPENED_BATCH_BYTES: usize = 32 << 20;

/// Records in one answer, whatever is asked for.
pub(super) const MOST_RECORDS: usize = 100_000;

/// Longest wait for records. Shorter than connections may be idle.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Topics or groups in one answer, whatever is asked for.
pub(super) const MOST_LISTED: usize = 10_000;

/// The same if nobody says.
pub(super) const LISTED: usize = 1_000;

/// Offsets in one request about a group.
pub(super) const OFFSETS_PER_REQUEST: usize = 10_000;

/// Largest body of a request that brings no records.
pub(super) const CONTROL_BODY_BYTES: usize = 1 << 20;
