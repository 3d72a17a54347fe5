//! Mistakes that the log can be told to make, so that the simulator proves it would notice them.
//! Never made unless asked for; a check costs the comparison of a byte.

/// A mistake. See where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// Blocks count as durable when they are written, without a flush.
    SkipFlush,
    /// Blocks count as durable when their write was submitted.
    AckEarly,
    /// A durable block acknowledges those before it that are not.
    AckOutOfOrder,
    /// Payloads are served and replayed whatever their checksum says.
    IgnoreChecksums,
    /// Replay takes any block with the right sequence, whatever it says came before it.
    IgnoreChain,
    /// A recycled segment keeps its nonce, and replay takes later blocks for the next one.
    AcceptStaleBlocks,
    /// A start serves what it kept without writing and flushing it again.
    ServeTailUnflushed,
    /// New segments are given a nonce that was used before.
    ReuseNonce,
    /// The directory is never synced.
    ForgetDirectory,
    /// Segments are recycled while records in them live.
    RecycleLiveSegments,
    /// What a checkpoint let go is used before a header names that checkpoint.
    DropPredecessorEarly,
    /// Damage in the middle is taken for the end of the log.
    EndAtDamage,
    /// A block read from disk is served without asking whether it belongs there.
    ServeStrayBlocks,
    /// A group without one of its blocks is applied as far as it is there.
    ApplyBrokenGroups,
    /// A new segment takes blocks although its header may not be there.
    TrustHeaders,
    /// Segments that were cleaned are used again before the entry that replaces them is durable.
    CleanFreesEarly,
    /// The entry that replaces segments is written although what it names is not flushed.
    SwitchUnflushed,
}

impl SeededBug {
    /// All of them, by name.
    pub const ALL: [(&'static str, SeededBug); 17] = [
        ("skip-flush", SeededBug::SkipFlush),
        ("ack-early", SeededBug::AckEarly),
        ("ack-out-of-order", SeededBug::AckOutOfOrder),
        ("ignore-checksums", SeededBug::IgnoreChecksums),
        ("ignore-chain", SeededBug::IgnoreChain),
        ("accept-stale-blocks", SeededBug::AcceptStaleBlocks),
        ("serve-tail-unflushed", SeededBug::ServeTailUnflushed),
        ("reuse-nonce", SeededBug::ReuseNonce),
        ("forget-directory", SeededBug::ForgetDirectory),
        ("recycle-live-segments", SeededBug::RecycleLiveSegments),
        ("drop-predecessor-early", SeededBug::DropPredecessorEarly),
        ("end-at-damage", SeededBug::EndAtDamage),
        ("serve-stray-blocks", SeededBug::ServeStrayBlocks),
        ("apply-broken-groups", SeededBug::ApplyBrokenGroups),
        ("trust-headers", SeededBug::TrustHeaders),
        ("clean-frees-early", SeededBug::CleanFreesEarly),
        ("switch-unflushed", SeededBug::SwitchUnflushed),
    ];
}
