//! The figures of a core, one table per source: name, help and where it comes from.

use std::ops::RangeInclusive;

use ringlog_storage::log::{Histogram, Stats};

use crate::node::message::Snapshot;
use crate::node::metrics::CoreMetrics;

pub(super) type OfCore = fn(&CoreMetrics) -> u64;
pub(super) type OfSnapshot = fn(&Snapshot) -> u64;
pub(super) type OfLog = fn(&Stats) -> &Histogram;

/// Name, help, figure.
pub(super) const COUNTERS: &[(&str, &str, OfCore)] = &[
    ("ringlog_records_in", "Records taken in", |core| {
        core.records_in.get()
    }),
    ("ringlog_batches_in", "Record batches taken in", |core| {
        core.batches_in.get()
    }),
    (
        "ringlog_bytes_in",
        "Bytes of record batches taken in",
        |core| core.bytes_in.get(),
    ),
    (
        "ringlog_duplicate_batches",
        "Batches recognised as repeats of an idempotent producer",
        |core| core.duplicate_batches.get(),
    ),
    (
        "ringlog_batches_out",
        "Record batches handed to consumers",
        |core| core.batches_out.get(),
    ),
    (
        "ringlog_bytes_out",
        "Bytes of record batches handed to consumers",
        |core| core.bytes_out.get(),
    ),
    (
        "ringlog_received_bytes",
        "Bytes received on connections",
        |core| core.received_bytes.get(),
    ),
    ("ringlog_sent_bytes", "Bytes sent on connections", |core| {
        core.sent_bytes.get()
    }),
    (
        "ringlog_connections_accepted",
        "Connections accepted",
        |core| core.connections_accepted.get(),
    ),
    (
        "ringlog_tls_handshakes",
        "TLS handshakes completed; those that failed are among the errors",
        |core| core.tls_handshakes.get(),
    ),
    (
        "ringlog_logins",
        "SASL logins completed; those that failed are among the errors",
        |core| core.logins.get(),
    ),
    (
        "ringlog_driver_turns",
        "Turns of the log's driver",
        |core| core.driver_turns.get(),
    ),
    (
        "ringlog_fetch_sessions_refused",
        "Fetch sessions for whose partitions there was no room (max_fetch_session_partitions)",
        |core| core.fetch_sessions_refused.get(),
    ),
    (
        "ringlog_memory_waits",
        "Times a request waited for memory",
        |core| core.memory_waits.get(),
    ),
    (
        "ringlog_room_waits",
        "Times a request waited for its turn, or for room, to append to the log",
        |core| core.room_waits.get(),
    ),
];

pub(super) const GAUGES: &[(&str, &str, OfCore)] = &[
    ("ringlog_connections", "Connections open", |core| {
        core.connections.get()
    }),
    (
        "ringlog_requests_in_progress",
        "Requests whose answer is not sent yet",
        |core| core.requests_in_progress.get(),
    ),
    (
        "ringlog_fetch_sessions",
        "Fetch sessions (KIP-227) of connections",
        |core| core.fetch_sessions.get(),
    ),
    (
        "ringlog_fetch_session_partitions",
        "Partitions in fetch sessions",
        |core| core.fetch_session_partitions.get(),
    ),
];

pub(super) const LOG_COUNTERS: &[(&str, &str, OfSnapshot)] = &[
    ("ringlog_blocks", "Blocks made durable", |core| {
        core.log.blocks
    }),
    (
        "ringlog_block_bytes",
        "Bytes of durable blocks, headers and padding included",
        |core| core.log.block_bytes,
    ),
    (
        "ringlog_payload_bytes",
        "Bytes of entries in durable blocks",
        |core| core.log.payload_bytes,
    ),
    ("ringlog_entries", "Entries in durable blocks", |core| {
        core.log.entries
    }),
    (
        "ringlog_prewriting_bytes",
        "Bytes written ahead to prepare segments",
        |core| core.log.prewriting_bytes,
    ),
    (
        "ringlog_flushes",
        "Durable writes and flushes issued for blocks",
        |core| core.log.flushes,
    ),
    (
        "ringlog_cache_hits",
        "Blocks that readers found in memory",
        |core| core.log.cache_hits,
    ),
    (
        "ringlog_cache_misses",
        "Blocks that were read for readers",
        |core| core.log.cache_misses,
    ),
    (
        "ringlog_cold_read_bytes",
        "Bytes read for readers",
        |core| core.log.cold_read_bytes,
    ),
    (
        "ringlog_clean_read_bytes",
        "Bytes read by the cleaner",
        |core| core.log.clean_read_bytes,
    ),
    (
        "ringlog_clean_written_bytes",
        "Bytes written by the cleaner; none of them are among the others",
        |core| core.log.clean_written_bytes,
    ),
    (
        "ringlog_clean_runs",
        "Runs of the cleaner that replaced segments",
        |core| core.log.clean_runs,
    ),
    (
        "ringlog_cleaned_segments",
        "Segments replaced by the cleaner",
        |core| core.log.cleaned_segments,
    ),
    (
        "ringlog_compaction_passes",
        "Passes of log compaction over a partition",
        |core| core.log.compaction_passes,
    ),
    (
        "ringlog_compacted_batches",
        "Batches of which log compaction left nothing, or not all",
        |core| core.log.compacted_batches,
    ),
    (
        "ringlog_clean_failures",
        "Runs of the cleaner given up because the device failed",
        |core| core.log.clean_failures,
    ),
    (
        "ringlog_scrubbed_bytes",
        "Bytes of sealed segments read to look for damage",
        |core| core.log.scrubbed_bytes,
    ),
    (
        "ringlog_scrub_damage",
        "Damaged places found by looking for them; nobody had read them",
        |core| core.log.scrub_damage,
    ),
    (
        "ringlog_scrub_passes",
        "Times that all sealed segments were looked at",
        |core| core.log.scrub_passes,
    ),
    (
        "ringlog_index_runs_made",
        "Index runs written, merged ones included",
        |core| core.log.index_runs_made,
    ),
    (
        "ringlog_index_runs_broken",
        "Index runs that were found damaged, and made anew",
        |core| core.log.index_runs_broken,
    ),
    (
        "ringlog_index_written_bytes",
        "Bytes written into index runs",
        |core| core.log.index_written_bytes,
    ),
    (
        "ringlog_index_pages_read",
        "Pages read of index runs",
        |core| core.log.index_pages_read,
    ),
    ("ringlog_checkpoints", "Checkpoints made durable", |core| {
        core.log.checkpoints
    }),
    ("ringlog_segments_sealed", "Segments sealed", |core| {
        core.log.sealed
    }),
    (
        "ringlog_refused_busy",
        "Appends refused because too much waited",
        |core| core.log.refused_busy,
    ),
    (
        "ringlog_refused_full",
        "Appends refused because the disk was full",
        |core| core.log.refused_full,
    ),
    (
        "ringlog_request_memory_waits",
        "Requests that were read only when others were answered (request_memory)",
        |core| core.request_memory.waits,
    ),
    (
        "ringlog_answer_memory_waits",
        "Answers that waited until others were taken (answer_memory)",
        |core| core.answer_memory.waits,
    ),
    (
        "ringlog_answer_memory_given_up",
        "Consumers answered without records, or disconnected because they were slow, for want of \
         answer_memory",
        |core| core.answer_memory.given_up,
    ),
    (
        "ringlog_opening_memory_waits",
        "Batches that were decompressed only when others were",
        |core| core.opening_memory.waits,
    ),
    (
        "ringlog_producers_displaced",
        "Idempotent producers forgotten because more are not remembered, by partition or core",
        |core| core.producers.displaced,
    ),
    (
        "ringlog_producers_expired",
        "Idempotent producers forgotten because they were silent for producer_expiry_ms",
        |core| core.producers.expired,
    ),
];

pub(super) const LOG_GAUGES: &[(&str, &str, OfSnapshot)] = &[
    (
        "ringlog_blocks_in_flight",
        "Block writes in flight",
        |core| wide(core.blocks_in_flight),
    ),
    (
        "ringlog_durable_sequence",
        "Last block of the durable prefix",
        |core| core.durable,
    ),
    (
        "ringlog_appended_sequence",
        "Newest block with an entry",
        |core| core.appended,
    ),
    (
        "ringlog_pending_bytes",
        "Bytes appended and not yet durable",
        |core| wide(core.pending_bytes),
    ),
    (
        "ringlog_cached_bytes",
        "Bytes of blocks kept for readers",
        |core| wide(core.cached_bytes),
    ),
    (
        "ringlog_memory_used_bytes",
        "Memory handed out for requests, blocks and reads",
        |core| wide(core.memory_used_bytes),
    ),
    (
        "ringlog_memory_limit_bytes",
        "The most memory that is handed out",
        |core| wide(core.memory_limit_bytes),
    ),
    (
        "ringlog_request_memory_used_bytes",
        "Memory of requests that wait to be answered",
        |core| wide(core.request_memory.used_bytes),
    ),
    (
        "ringlog_request_memory_limit_bytes",
        "The most of it (request_memory)",
        |core| wide(core.request_memory.limit_bytes),
    ),
    (
        "ringlog_answer_memory_used_bytes",
        "Memory of answers that wait to be taken",
        |core| wide(core.answer_memory.used_bytes),
    ),
    (
        "ringlog_answer_memory_limit_bytes",
        "The most of it (answer_memory)",
        |core| wide(core.answer_memory.limit_bytes),
    ),
    (
        "ringlog_opening_memory_used_bytes",
        "Memory of batches that are being decompressed",
        |core| wide(core.opening_memory.used_bytes),
    ),
    (
        "ringlog_index_runs",
        "Index runs on disk, which have the index of old segments",
        |core| wide(core.log.index_runs),
    ),
    (
        "ringlog_segments_live",
        "Segments with live entries",
        |core| wide(core.log.segments_live),
    ),
    (
        "ringlog_segments_foreign",
        "Live segments that other logs wrote, before the number of cores or directories changed",
        |core| wide(core.log.segments_foreign),
    ),
    (
        "ringlog_segments_free",
        "Segments ready to be written",
        |core| wide(core.log.segments_free),
    ),
    (
        "ringlog_cleaning",
        "Whether a run of the cleaner is under way",
        |core| u64::from(core.log.cleaning),
    ),
    ("ringlog_damaged_ranges", "Damaged ranges known", |core| {
        core.log.damaged_ranges
    }),
    (
        "ringlog_metadata_version",
        "Metadata records applied",
        |core| core.metadata_version,
    ),
    ("ringlog_topics", "Topics", |core| wide(core.topics)),
    (
        "ringlog_partitions",
        "Partitions with entries in this core's log",
        |core| wide(core.partitions),
    ),
    (
        "ringlog_producers",
        "Idempotent producers remembered, of all partitions together",
        |core| core.producers.remembered,
    ),
    (
        "ringlog_producers_limit",
        "The most idempotent producers that are remembered",
        |core| core.producers.limit,
    ),
    (
        "ringlog_groups",
        "Consumer groups that this core coordinates and that have members",
        |core| wide(core.groups.live),
    ),
    (
        "ringlog_group_bytes",
        "Bytes of subscriptions and assignments of their members",
        |core| wide(core.groups.bytes),
    ),
    (
        "ringlog_committed_offsets",
        "Offsets that groups of this core committed",
        |core| wide(core.groups.offsets),
    ),
];

/// A histogram and how it is shown.
pub(super) struct HistogramRow {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) histogram: OfLog,
    /// What one of its units is in the unit shown.
    pub(super) unit: f64,
    /// Powers of two that bound the buckets: always the same ones, so that rates can be formed.
    pub(super) bounds: RangeInclusive<u32>,
}

pub(super) const HISTOGRAMS: &[HistogramRow] = &[
    HistogramRow {
        name: "ringlog_commit_queue_seconds",
        help: "From an entry's arrival in a block to the block's write",
        histogram: |log| &log.queue_latency,
        unit: 1e-9,
        bounds: 12..=34,
    },
    HistogramRow {
        name: "ringlog_commit_write_seconds",
        help: "From a block's write to its place in the durable prefix (one durable write or flush)",
        histogram: |log| &log.write_latency,
        unit: 1e-9,
        bounds: 12..=34,
    },
    HistogramRow {
        name: "ringlog_block_size_bytes",
        help: "Bytes of each block",
        histogram: |log| &log.block_size,
        unit: 1.0,
        bounds: 12..=24,
    },
];

/// A count in memory fits 64 bits.
pub(super) fn wide(count: usize) -> u64 {
    count as u64
}
