//! What a check says: the findings, each with its place, and what was looked at.

use std::fmt;

use ringlog_types::{LogId, Offset, PartitionId, Sequence};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What was durable cannot be read, or contradicts itself.
    Damage,
    /// Worth telling; nothing that is still needed is lost.
    Notice,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A file that is no segment.
    StrangeFile,
    /// The first unit of a segment file.
    SegmentHeader,
    /// A segment of another log, or with lengths that cannot be.
    ForeignSegment,
    /// A segment that the checkpoint or the chain names is not there.
    MissingSegment,
    /// The header of a block: nothing valid stands where a block belongs.
    BlockHeader,
    /// The entry table of a block.
    EntryTable,
    /// The payload of an entry.
    Payload,
    /// A record batch whose own CRC-32C, shape or offsets are wrong under a right checksum.
    Batch,
    /// A block that stands where another belongs.
    Chain,
    /// What a block states to be durable, or its epoch, contradicts its place.
    Statement,
    /// The flags of an atomic group.
    Group,
    /// The index of a sealed segment.
    Footer,
    /// An index run.
    IndexRun,
    /// The last unit of a sealed segment.
    Trailer,
    /// A segment that was not sealed although a later one was begun.
    Unsealed,
    /// The newest checkpoint.
    Checkpoint,
    /// Offsets of a partition that are in no block, or in two.
    Offsets,
    /// Offsets that an earlier start found damaged and wrote down.
    KnownDamage,
}

impl Fault {
    /// Its name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::StrangeFile => "strange-file",
            Fault::SegmentHeader => "segment-header",
            Fault::ForeignSegment => "foreign-segment",
            Fault::MissingSegment => "missing-segment",
            Fault::BlockHeader => "block-header",
            Fault::EntryTable => "entry-table",
            Fault::Payload => "payload",
            Fault::Batch => "batch",
            Fault::Chain => "chain",
            Fault::Statement => "statement",
            Fault::Group => "group",
            Fault::Footer => "footer",
            Fault::IndexRun => "index-run",
            Fault::Trailer => "trailer",
            Fault::Unsealed => "unsealed",
            Fault::Checkpoint => "checkpoint",
            Fault::Offsets => "offsets",
            Fault::KnownDamage => "known-damage",
        }
    }
}

/// Offsets of one partition, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetRange {
    /// Whose.
    pub partition: PartitionId,
    /// First offset.
    pub first: Offset,
    /// Behind the last.
    pub end: Offset,
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OffsetRange {
            partition,
            first,
            end,
        } = self;
        write!(f, "partition {partition} offsets {first}..{end}")
    }
}

/// Where a finding is; what does not apply or is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File name in the log's directory.
    pub file: Option<String>,
    /// Segment number.
    pub segment: Option<u64>,
    /// Byte position in the file.
    pub position: Option<u64>,
    /// Blocks: first and behind the last.
    pub blocks: Option<(Sequence, Sequence)>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What kind.
    pub fault: Fault,
    /// Where.
    pub place: Place,
    /// Offsets that cannot be read because of it.
    pub offsets: Vec<OffsetRange>,
    /// In words.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Damage => "DAMAGE",
            Severity::Notice => "notice",
        };
        write!(f, "{word} {}", self.fault.name())?;
        if let Some(file) = &self.place.file {
            write!(f, ", file {file}")?;
        }
        if let Some(segment) = self.place.segment {
            write!(f, ", segment {segment}")?;
        }
        if let Some(position) = self.place.position {
            write!(f, ", byte {position}")?;
        }
        match self.place.blocks {
            Some((first, end)) if first.next() == end => write!(f, ", block {first}")?,
            Some((first, end)) => write!(f, ", blocks {first}..{end}")?,
            None => {}
        }
        for range in &self.offsets {
            write!(f, ", {range}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// Blocks behind the end of the log that were written and never known durable: a crash left
/// them, nobody was told of them, the next start discards them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TornTail {
    /// Where each lies: file, byte position, length.
    pub blocks: Vec<(String, u64, u64)>,
    /// Their bytes.
    pub bytes: u64,
}

/// What a segment file is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sealed, with live or recent blocks.
    Sealed,
    /// With blocks, and not sealed.
    Open,
    /// Opened, without a block yet.
    Prepared,
    /// Its blocks are dead: to be used again.
    Free,
    /// Never used.
    Unused,
    /// Cannot be told.
    Unknown,
}

impl Role {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Sealed => "sealed",
            Role::Open => "open",
            Role::Prepared => "prepared",
            Role::Free => "free",
            Role::Unused => "unused",
            Role::Unknown => "unknown",
        }
    }
}

/// A segment file that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCheck {
    /// Its file.
    pub file: String,
    /// Its length.
    pub file_bytes: u64,
    /// Its number, if it has one.
    pub segment: Option<u64>,
    /// What it is.
    pub role: Role,
    /// Blocks of the log in it.
    pub blocks: u64,
    /// Bytes of those.
    pub block_bytes: u64,
    /// First and last of those.
    pub sequences: Option<(Sequence, Sequence)>,
}

/// What a check of one log found.
#[derive(Clone, Debug)]
pub struct LogCheck {
    /// Which.
    pub log: LogId,
    /// Every segment file, by number.
    pub segments: Vec<SegmentCheck>,
    /// What is wrong, damage first.
    pub findings: Vec<Finding>,
    /// What a crash left behind the end.
    pub tail: TornTail,
    /// First block of the checkpoint that was used.
    pub checkpoint: Option<Sequence>,
    /// The last block.
    pub end: Sequence,
    /// Partitions with their first and end offsets.
    pub partitions: Vec<OffsetRange>,
    /// Blocks checked.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Record batches whose own checksum was checked.
    pub batches: u64,
}

impl LogCheck {
    /// Whether something that was durable is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damage().next().is_some()
    }

    /// Only what is damage.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.severity == Severity::Damage)
    }
}
