//! Why a ring or a directory cannot be used, in words that say how to change that.

use std::io;
use std::path::PathBuf;

/// Why storage on a real disk cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UringError {
    /// The administrator turned io_uring off.
    #[error(
        "io_uring is switched off on this machine: kernel.io_uring_disabled is {value} \
         ({meaning}); allow it with `sysctl -w kernel.io_uring_disabled=0`"
    )]
    Disabled {
        /// Value of the sysctl.
        value: u32,
        /// What the value means.
        meaning: &'static str,
    },
    /// Something between this process and the kernel forbids it.
    #[error(
        "io_uring_setup was refused ({source}): {filter}; in a container, run with \
         `--security-opt seccomp=unconfined` or a profile that allows io_uring_setup, \
         io_uring_enter and io_uring_register"
    )]
    Forbidden {
        /// What is known of the filter.
        filter: &'static str,
        /// What the call returned.
        source: io::Error,
    },
    /// The kernel has no io_uring, or not enough of it.
    #[error(
        "this kernel ({kernel}) lacks what the log needs from io_uring: {missing}; \
         Linux 5.11 or newer is needed, 6.1 or newer recommended"
    )]
    KernelTooOld {
        /// Release of the kernel.
        kernel: String,
        /// What is not there.
        missing: String,
    },
    /// Setting the ring up failed otherwise.
    #[error("io_uring_setup with {entries} entries failed: {source}; {advice}")]
    Setup {
        /// Entries asked for.
        entries: u32,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        advice: String,
    },
    /// The directory cannot be used.
    #[error("cannot {attempt} {}: {source}; check that the path exists and may be written", path.display())]
    Directory {
        /// What was tried.
        attempt: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The filesystem has no O_DIRECT.
    #[error(
        "{} lies on {filesystem}, which does not support O_DIRECT ({found}); choose a directory \
         on ext4, xfs or another disk filesystem, or pass --allow-buffered-io to write through \
         the page cache",
        path.display()
    )]
    NoDirectIo {
        /// The directory.
        path: PathBuf,
        /// Name of the filesystem's type.
        filesystem: String,
        /// How that showed.
        found: String,
    },
}
