//! What was found when storage started: for the start-up report and for whoever wonders why one
//! machine is slower than the next.

use std::fmt;

use super::super::Geometry;

/// Whether something is registered with the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It is.
    Registered,
    /// It is not: the options do not ask for it, or there is nothing to register.
    NotAsked,
    /// The kernel refused; everything works without. The text names the limit.
    Refused(String),
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Registration::Registered => f.write_str("registered"),
            Registration::NotAsked => f.write_str("not registered"),
            Registration::Refused(reason) => write!(f, "not registered: {reason}"),
        }
    }
}

/// What the machine offers and what of it is in use.
#[derive(Clone, Debug)]
pub struct UringReport {
    /// Type of the filesystem.
    pub filesystem: String,
    /// Release of the kernel.
    pub kernel: String,
    /// What the log goes by.
    pub geometry: Geometry,
    /// The device's own alignment of offsets and lengths, where the filesystem tells.
    pub device_offset_align: Option<u32>,
    /// The device's own alignment of memory, where the filesystem tells.
    pub device_memory_align: Option<u32>,
    /// Features of the ring in use.
    pub features: Vec<&'static str>,
    /// Features this kernel lacks; everything works without.
    pub missing: Vec<&'static str>,
    /// Files of the log.
    pub files: Registration,
    /// The arena of the pool.
    pub buffers: Registration,
    /// Length of the arena.
    pub arena_bytes: usize,
}

impl fmt::Display for UringReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.geometry.direct {
            "O_DIRECT"
        } else {
            "buffered (page cache)"
        };
        write!(
            f,
            "{} {mode}, blocks of {} bytes",
            self.filesystem, self.geometry.block_bytes
        )?;
        match (self.device_offset_align, self.device_memory_align) {
            (Some(offset), Some(memory)) => {
                write!(f, " (device: offsets {offset}, memory {memory})")?;
            }
            _ => f.write_str(" (alignment not told by the filesystem)")?,
        }
        write!(
            f,
            "; Linux {}; io_uring: {}",
            self.kernel,
            self.features.join(", ")
        )?;
        if !self.missing.is_empty() {
            write!(f, "; without {}", self.missing.join(", "))?;
        }
        write!(
            f,
            "; files {}; {} MiB of buffers {}",
            self.files,
            self.arena_bytes >> 20,
            self.buffers
        )
    }
}
