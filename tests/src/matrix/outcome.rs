//! What a client is asked to do, and what came of it.

/// What clients do with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Events go in and come out.
    Records,
    /// Headers come back as they were sent.
    Headers,
    /// Timestamps come back as they were sent.
    Timestamps,
    /// Batches compressed with gzip.
    Gzip,
    /// Batches compressed with snappy.
    Snappy,
    /// Batches compressed with lz4.
    Lz4,
    /// Batches compressed with zstd.
    Zstd,
    /// An idempotent producer.
    Idempotence,
    /// Three members share partitions, one is killed, the two others take over.
    Group,
    /// A group goes on where it committed.
    Resume,
    /// A member and a producer go on when the node was killed and is back.
    Restart,
    /// Topics are made, listed, described and deleted.
    Topics,
    /// A topic's settings are shown.
    Configs,
    /// A topic's settings are changed.
    AlterConfigs,
    /// Groups are listed, described and deleted.
    GroupAdmin,
    /// TLS, with a user and a password by SCRAM.
    Security,
}

impl Feature {
    /// All, in the order of the table.
    pub const ALL: [Feature; 16] = [
        Feature::Records,
        Feature::Headers,
        Feature::Timestamps,
        Feature::Gzip,
        Feature::Snappy,
        Feature::Lz4,
        Feature::Zstd,
        Feature::Idempotence,
        Feature::Group,
        Feature::Resume,
        Feature::Restart,
        Feature::Topics,
        Feature::Configs,
        Feature::AlterConfigs,
        Feature::GroupAdmin,
        Feature::Security,
    ];

    /// As the table has it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Feature::Records => "produce, consume",
            Feature::Headers => "headers",
            Feature::Timestamps => "timestamps",
            Feature::Gzip => "gzip",
            Feature::Snappy => "snappy",
            Feature::Lz4 => "lz4",
            Feature::Zstd => "zstd",
            Feature::Idempotence => "idempotent producer",
            Feature::Group => "group of three, one killed",
            Feature::Resume => "commit and resume",
            Feature::Restart => "goes on after a kill of the node",
            Feature::Topics => "create, list, describe, delete topics",
            Feature::Configs => "show a topic's settings",
            Feature::AlterConfigs => "change a topic's settings",
            Feature::GroupAdmin => "list, describe, delete groups",
            Feature::Security => "TLS with SCRAM",
        }
    }
}

/// What came of a feature with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Everything held.
    Passed,
    /// Something did not.
    Failed(String),
    /// It was not tried, and why.
    NotRun(String),
}

impl Cell {
    /// From what a scenario came to.
    #[must_use]
    pub fn of(result: anyhow::Result<Cell>) -> Cell {
        result.unwrap_or_else(|error| Cell::Failed(format!("{error:#}")))
    }
}
