//! Named limits of this face. Each bounds what one client can make a core hold or do at a time.

use std::time::Duration;

/// Longest request before a login: a SASL token and little else.
pub const LOGIN_REQUEST_BYTES: usize = 8 << 10;

/// Requests that a login may take; it takes four.
pub const LOGIN_REQUESTS: usize = 16;

/// Topics, and partitions, that one request may name. Ten times what a core is meant to have.
pub const NAMED_PER_REQUEST: usize = 100_000;

/// Partitions that one DescribeTopicPartitions answer has at most, as Kafka's default for
/// `max.request.partition.size.limit`.
pub const DESCRIBED_PARTITIONS: usize = 2_000;

/// Largest frame of a request that is not Produce: only records are large.
pub const CONTROL_REQUEST_BYTES: usize = 4 << 20;

/// A frame longer than this is received into memory of the core's pool, from where it can go to
/// the disk as it is. Shorter ones are copied into the open block, which costs less than an
/// extent of their own.
pub const LARGE_FRAME_BYTES: usize = 32 << 10;

/// What a connection reads into while it has something to read.
pub const READ_BUFFER_BYTES: usize = 64 << 10;

/// The first read behind a large frame: enough for the length and header of the next one, little
/// to copy when that is large too.
pub const READ_AFTER_LARGE_BYTES: usize = 4 << 10;

/// Bytes received, checked or sent in one step of a core.
pub const STEP_BYTES: usize = 256 << 10;

/// The same over TLS, where each byte is also encrypted or decrypted, and copied.
pub const TLS_STEP_BYTES: usize = 128 << 10;

/// Partitions looked at in one step of a core.
pub const STEP_PARTITIONS: usize = 128;

/// Requests of a connection that wait for their answer.
pub const PENDING_ANSWERS: usize = 64;

/// Bytes of requests of a connection that wait to be handled; one request may always wait.
pub const PENDING_REQUEST_BYTES: usize = 1 << 20;

/// Most record bytes in one Fetch answer, whatever the client asks for: they stay in memory until
/// the client has taken them.
pub const FETCH_ANSWER_BYTES: usize = 16 << 20;

/// Most decompressed bytes of a batch that is opened. How many are opened at a time is bounded by the
/// memory that their decompressors take.
pub const OPENED_BATCH_BYTES: u64 = 128 << 20;

/// A client that takes less than this of an answer within the frame timeout is disconnected.
pub const LEAST_SENT_BYTES: usize = 64 << 10;

/// How long a client may take to take an answer before that no longer holds memory of the log, and
/// how often it is looked at from then on.
pub const SLOW_AFTER: Duration = Duration::from_millis(500);

/// While others wait for memory of answers, a client takes one such part of its answer, or
/// [`LEAST_SENT_BYTES`], from one look to the next, or is disconnected: an answer of any length is gone
/// within 16 seconds.
pub const SLOW_PART: usize = 32;

/// The least that a Fetch waits for of the memory of answers, if it wants as much: what consumers ask of
/// a partition by default.
pub const FETCH_PART_BYTES: usize = 1 << 20;

/// How long a Fetch waits for memory at least, whatever its client's patience is.
pub const FETCH_MEMORY_WAIT: Duration = Duration::from_secs(5);

/// Bytes of requests of a connection that wait without being counted against `request_memory`, so
/// that heartbeats and the like are read even when nothing else is.
pub const UNCOUNTED_REQUEST_BYTES: usize = 4 << 10;
