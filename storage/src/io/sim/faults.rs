//! What the simulated disk does wrong, how often, and its record of what it did.

use std::fmt;
use std::time::Duration;

/// Rates (0 to 1) at which operations go wrong. A power cut tears writes under way and in the
/// cache whatever stands here.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// A write completes as if all were well, and nothing of it arrives.
    pub lost_write: f64,
    /// A write stops short, after a whole number of sectors, and says so.
    pub short_write: f64,
    /// A write completes as if all were well, and arrives elsewhere in the same file.
    pub misdirected_write: f64,
    /// A write fails; some of its sectors are written.
    pub write_error: f64,
    /// A read fails.
    pub read_error: f64,
    /// A flush or directory sync fails; what it covered is never vouched for again.
    pub flush_error: f64,
    /// A bit of a file's durable content flips while the machine is down; per file and restart.
    pub bit_rot: f64,
    /// An operation takes long enough for later ones to overtake it.
    pub reordered: f64,
    /// Creating, allocating or writing fails for want of space.
    pub disk_full: f64,
    /// Bytes that all files together may have, if limited.
    pub capacity_bytes: Option<u64>,
    /// An operation takes a hundred times as long.
    pub slow: f64,
    /// An operation takes 30 seconds.
    pub stuck: f64,
    /// The wall clock jumps by up to a day, forwards or backwards; per completion.
    pub clock_jump: f64,
}

impl Faults {
    /// A disk that works.
    #[must_use]
    pub fn none() -> Faults {
        Faults {
            lost_write: 0.0,
            short_write: 0.0,
            misdirected_write: 0.0,
            write_error: 0.0,
            read_error: 0.0,
            flush_error: 0.0,
            bit_rot: 0.0,
            reordered: 0.0,
            disk_full: 0.0,
            capacity_bytes: None,
            slow: 0.0,
            stuck: 0.0,
            clock_jump: 0.0,
        }
    }

    /// A disk that works until the power goes: completions overtake each other and clocks jump,
    /// which no log may mind, and nothing else.
    #[must_use]
    pub fn power_cuts_only() -> Faults {
        Faults {
            reordered: 0.1,
            slow: 0.01,
            clock_jump: 0.001,
            ..Faults::none()
        }
    }
}

/// Something the disk did wrong, or that was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Simulated time.
    pub at: Duration,
    /// What.
    pub what: Injection,
}

/// See [`Faults`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the variants are described where their rates are"
)]
pub enum Injection {
    LostWrite {
        name: String,
        offset: u64,
        bytes: u64,
    },
    ShortWrite {
        name: String,
        offset: u64,
        bytes: u64,
        written: u64,
    },
    MisdirectedWrite {
        name: String,
        offset: u64,
        bytes: u64,
        to: u64,
    },
    WriteError {
        name: String,
        offset: u64,
        bytes: u64,
    },
    ReadError {
        name: String,
        offset: u64,
    },
    FlushError {
        name: String,
    },
    DirectoryFlushError,
    BitRot {
        name: String,
        offset: u64,
    },
    Reordered,
    DiskFull {
        name: String,
    },
    Slow,
    Stuck,
    ClockJump {
        milliseconds: i64,
    },
    PowerCut {
        operations_under_way: usize,
    },
    Kill {
        operations_under_way: usize,
    },
}

impl Injection {
    /// What can be injected, by number, in words.
    pub const KINDS: [&'static str; 15] = [
        "lost write",
        "short write",
        "misdirected write",
        "failing write",
        "failing read",
        "failing flush",
        "failing directory flush",
        "bit rot",
        "reordered completion",
        "full disk",
        "slow operation",
        "stuck operation",
        "clock jump",
        "power cut",
        "kill",
    ];

    /// Its place in [`Injection::KINDS`].
    #[must_use]
    pub fn kind(&self) -> usize {
        match self {
            Injection::LostWrite { .. } => 0,
            Injection::ShortWrite { .. } => 1,
            Injection::MisdirectedWrite { .. } => 2,
            Injection::WriteError { .. } => 3,
            Injection::ReadError { .. } => 4,
            Injection::FlushError { .. } => 5,
            Injection::DirectoryFlushError => 6,
            Injection::BitRot { .. } => 7,
            Injection::Reordered => 8,
            Injection::DiskFull { .. } => 9,
            Injection::Slow => 10,
            Injection::Stuck => 11,
            Injection::ClockJump { .. } => 12,
            Injection::PowerCut { .. } => 13,
            Injection::Kill { .. } => 14,
        }
    }

    /// Whether content that was vouched for may be gone or wrong: a checker may find damage only
    /// where one of these was injected.
    #[must_use]
    pub fn corrupts(&self) -> bool {
        matches!(
            self,
            Injection::LostWrite { .. }
                | Injection::MisdirectedWrite { .. }
                | Injection::BitRot { .. }
        )
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} s {:?}", self.at.as_secs_f64(), self.what)
    }
}
