//! The Kafka v2 record batch, the unit that travels unopened from a client to the disk and
//! back: its header, its checks, the few fields that a broker may change, and a way to build
//! and to read one.
//!
//! ```text
//!  0 base offset i64    8 batch length i32 (counts from 12)    12 partition leader epoch i32
//! 16 magic i8 = 2      17 CRC-32C u32 over 21..               21 attributes i16
//! 23 last offset delta i32   27 base timestamp i64   35 maximum timestamp i64
//! 43 producer id i64         51 producer epoch i16   53 base sequence i32
//! 57 record count i32        61 records, compressed as one or plain
//! ```
//!
//! Integers are big-endian, as in all of Kafka's protocol. The first 21 bytes are the broker's
//! and lie outside the checksum; whoever changes a byte behind them corrects the checksum.
//!
//! | file | what |
//! |---|---|
//! | `header` | the struct and its bytes |
//! | `validate` | all that is checked of a batch when it arrives |
//! | `patch` | changes in place |
//! | `records` | reading records |
//! | `builder` | making a batch |
//! | `codec` | opening and closing compressed records |
//! | `compact` | log compaction: which records stay, and batches without the others |
//! | `checksum`, `varint` | what they stand on |

mod builder;
mod checksum;
mod codec;
pub mod compact;
mod error;
mod header;
mod patch;
mod records;
mod validate;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use checksum::{crc32c, crc32c_combine};
pub use codec::{TOO_LARGE, ZSTD_WINDOW_BYTES, compress, decoder, decoder_bytes, decompress};
pub use error::{BatchError, RecordError};
pub use header::{BatchHeader, Compression, HEADER_BYTES, TimestampType};
pub use patch::{set_base_offset, set_leader_epoch, set_log_append_time, set_max_timestamp};
pub use records::{HeaderView, Headers, RecordView, Records, records};
pub use validate::{validate, validate_compacted};
