//! Named limits of this face. Each bounds what one client can make a core hold or do at a time.

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

/// Partitions looked at in one step of a core.
pub const STEP_PARTITIONS: usize = 128;

/// Requests of a connection that wait for their answer.
pub const PENDING_ANSWERS: usize = 64;

/// Bytes of requests of a connection that wait to be handled; one request may always wait.
pub const PENDING_REQUEST_BYTES: usize = 1 << 20;

/// Most record bytes in one Fetch answer, whatever the client asks for: they stay in memory until
/// the client has taken them.
pub const FETCH_ANSWER_BYTES: usize = 16 << 20;

/// Most decompressed bytes of a batch that is opened.
pub const OPENED_BATCH_BYTES: u64 = 128 << 20;

/// A client that takes less than this of an answer within the frame timeout is disconnected.
pub const LEAST_SENT_BYTES: usize = 64 << 10;

/// Partitions of all fetch sessions of a core: some 100 bytes of memory each. Beyond it full
/// fetches are answered without a session.
pub const FETCH_SESSION_PARTITIONS: usize = 400_000;
