//! What bounds the machines. Each limit has a defined answer when it is reached: an error to the
//! client that wanted more, or the longest idle entry is forgotten.

/// Characters in a topic's name (Kafka's limit: a directory name with a partition number behind
/// it fits 255).
pub const TOPIC_NAME_CHARS: usize = 249;

/// Topics in a node.
pub const TOPICS: usize = 100_000;

/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC: u32 = 10_000;

/// Partitions of all topics together.
pub const PARTITIONS: u64 = 200_000;

/// Control commands that are decided and not yet durable.
pub const PENDING_COMMANDS: usize = 4_096;

/// Configuration entries in one command.
pub const CONFIGS_PER_COMMAND: usize = 256;

/// Characters in a configuration value that is free text.
pub const CONFIG_VALUE_CHARS: usize = 1_024;

/// Largest `max.message.bytes`: a batch must fit one commit block of 16 MiB with its headers.
pub const MESSAGE_BYTES: i64 = 16 * 1024 * 1024 - 64 * 1024;

/// Idempotent producers remembered per partition. One more, and those that have not written to
/// the partition for longest are forgotten: their next batch counts as that of an unknown
/// producer, which Kafka accepts with any sequence.
pub const PRODUCERS_PER_PARTITION: u32 = 10_000;

/// Idempotent producers remembered in all partitions of a log together (about 200 bytes each).
pub const PRODUCERS_PER_LOG: u32 = 200_000;

/// Batches remembered per producer and partition, to recognise repeats: as many as a client may
/// have in flight (KIP-98).
pub const BATCHES_PER_PRODUCER: usize = 5;

/// Producers looked at in one step of [`crate::partitions::Partitions::expire_producers`].
pub const PRODUCERS_PER_EXPIRY_STEP: usize = 1_024;

/// Leader epochs of a partition whose beginning is kept (16 bytes each): one more with each start
/// of the node after which something was written to it.
pub const LEADER_EPOCHS_PER_PARTITION: usize = 16;

/// Producer ids per logged block.
pub const PRODUCER_IDS_PER_BLOCK: u64 = 1_000;

/// Consumer groups of a log.
pub const GROUPS_PER_LOG: usize = 50_000;

/// Members of one group.
pub const MEMBERS_PER_GROUP: usize = 1_000;

/// Bytes of subscriptions and assignments of one group's members: with them goes one entry of the
/// log, encoded in one step of the core.
pub const BYTES_PER_GROUP: usize = 2 << 20;

/// The same for all groups of a log together.
pub const GROUP_BYTES_PER_LOG: usize = 256 << 20;

/// Offsets that the groups of a log may have committed (about 100 bytes each, and their
/// metadata).
pub const OFFSETS_PER_LOG: usize = 2_000_000;

/// Bytes of the records of one commit: one copy in one step of the core. As many as Kafka takes by
/// default for a batch of `__consumer_offsets` (`message.max.bytes`).
pub const BYTES_PER_COMMIT: usize = 1 << 20;

/// Offsets in one record of a commit: applied in one step.
pub const OFFSETS_PER_RECORD: usize = 512;

/// A record of a commit is closed at this length.
pub const BYTES_PER_OFFSETS_RECORD: usize = 32 << 10;

/// Groups whose timers are looked at in one step.
pub const GROUPS_PER_TIMER_STEP: usize = 4;

/// Rows looked at in one step of [`crate::groups::Groups::sweep`].
pub const ROWS_PER_SWEEP_STEP: usize = 512;

/// Users of a node.
pub const USERS: usize = 10_000;

/// Bytes of a user's name.
pub const USER_NAME_BYTES: usize = 255;

/// How often a password is hashed at least: RFC 7677, and what Kafka accepts.
pub const SCRAM_LEAST_ITERATIONS: u32 = 4_096;

/// And at most: Kafka's limit (KIP-554). A login by PLAIN costs the node as many.
pub const SCRAM_MOST_ITERATIONS: u32 = 16_384;

/// Bytes of a salt.
pub const SCRAM_SALT_BYTES: usize = 256;
