//! Making a ring: flags with their fallbacks, what the kernel supports, and, when no ring can be
//! made, who forbids it.
//!
//! `SINGLE_ISSUER` binds the ring to the thread that makes it; everything here is single-threaded
//! anyway. `COOP_TASKRUN` saves interrupts of the running thread; with it `TASKRUN_FLAG` says when
//! the kernel must be entered to see completions while spinning, and a thread that sleeps in
//! epoll is woken as without it. `DEFER_TASKRUN` is not used: completions then appear only when
//! the owner enters the ring with GETEVENTS, which a loop that sleeps in epoll does not do.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::error::UringError;

/// A ring and what it can do.
pub(super) struct Ring {
    pub(super) ring: IoUring,
    pub(super) features: Vec<&'static str>,
    pub(super) missing: Vec<&'static str>,
    /// Vectored writes from registered buffers (Linux 6.15).
    pub(super) writev_fixed: bool,
    /// Cutting a file (Linux 6.9).
    pub(super) ftruncate: bool,
    /// Waiting with a time limit in one call (Linux 5.11).
    pub(super) wait_with_timeout: bool,
}

const SINGLE_ISSUER: &str = "SINGLE_ISSUER";
const COOP_TASKRUN: &str = "COOP_TASKRUN";
const WRITEV_FIXED: &str = "WRITEV_FIXED";
const FTRUNCATE: &str = "FTRUNCATE";

const NEEDED: [(u8, &str); 9] = [
    (opcode::Nop::CODE, "NOP"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::UnlinkAt::CODE, "UNLINKAT"),
];

/// Makes a ring with the best flags the kernel takes.
pub(super) fn make(entries: u32) -> Result<Ring, UringError> {
    let mut missing = Vec::new();
    let mut features = vec![SINGLE_ISSUER, COOP_TASKRUN];
    // Each attempt drops what the newest of the remaining kernels lacks.
    let ring = loop {
        let mut builder = IoUring::builder();
        builder.dontfork();
        if features.contains(&COOP_TASKRUN) {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if features.contains(&SINGLE_ISSUER) {
            builder.setup_single_issuer();
        }
        match builder.build(entries) {
            Ok(ring) => break ring,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !features.is_empty() => {
                missing.push(features.remove(0));
            }
            Err(error) => return Err(explain(entries, error)),
        }
    };
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Err(UringError::KernelTooOld {
            kernel: kernel_release(),
            missing: format!("a list of its operations (IORING_REGISTER_PROBE: {error})"),
        });
    }
    let lacking: Vec<_> = NEEDED
        .iter()
        .filter(|(code, _)| !probe.is_supported(*code))
        .map(|(_, name)| *name)
        .collect();
    if !lacking.is_empty() {
        return Err(UringError::KernelTooOld {
            kernel: kernel_release(),
            missing: format!("operations {}", lacking.join(", ")),
        });
    }
    let writev_fixed = probe.is_supported(opcode::WritevFixed::CODE);
    if writev_fixed {
        &mut features
    } else {
        &mut missing
    }
    .push(WRITEV_FIXED);
    let ftruncate = probe.is_supported(opcode::Ftruncate::CODE);
    if ftruncate {
        &mut features
    } else {
        &mut missing
    }
    .push(FTRUNCATE);
    let wait_with_timeout = ring.params().is_feature_ext_arg();
    Ok(Ring {
        ring,
        features,
        missing,
        writev_fixed,
        ftruncate,
        wait_with_timeout,
    })
}

/// Release of the running kernel.
pub(super) fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn explain(entries: u32, source: io::Error) -> UringError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some((value, meaning)) => UringError::Disabled { value, meaning },
            None => UringError::Forbidden {
                filter: seccomp_state(),
                source,
            },
        },
        // Some container profiles answer a filtered call as if it did not exist.
        Some(libc::ENOSYS) if seccomp_state() != NO_FILTER => UringError::Forbidden {
            filter: seccomp_state(),
            source,
        },
        Some(libc::ENOSYS) => UringError::KernelTooOld {
            kernel: kernel_release(),
            missing: "io_uring_setup does not exist".to_owned(),
        },
        Some(libc::ENOMEM) => UringError::Setup {
            entries,
            source,
            advice: format!(
                "before Linux 5.12 rings count as locked memory, whose limit here is {}; raise it \
                 with `ulimit -l` or LimitMEMLOCK=",
                memlock_limit()
            ),
        },
        Some(libc::EMFILE | libc::ENFILE) => UringError::Setup {
            entries,
            source,
            advice: "raise the limit of open files (`ulimit -n`)".to_owned(),
        },
        _ => UringError::Setup {
            entries,
            source,
            advice: format!(
                "Linux {} answered so; ask for fewer entries",
                kernel_release()
            ),
        },
    }
}

/// The limit of locked memory, for people.
pub(super) fn memlock_limit() -> String {
    match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) => format!("{bytes} bytes (RLIMIT_MEMLOCK)"),
        None => "unlimited (RLIMIT_MEMLOCK)".to_owned(),
    }
}

fn disabled_by_sysctl() -> Option<(u32, &'static str)> {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    match text.trim().parse().ok()? {
        1 => Some((
            1,
            "only for processes with CAP_SYS_ADMIN or in kernel.io_uring_group",
        )),
        2 => Some((2, "for all processes")),
        _ => None,
    }
}

const NO_FILTER: &str = "no seccomp filter is active, so a security module forbids it";

fn seccomp_state() -> &'static str {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .map(str::trim);
    match mode {
        Some("2") => "a seccomp filter is active in this process",
        Some("0") => NO_FILTER,
        _ => "whether a seccomp filter is active cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_names_the_cause_and_the_remedy() {
        let refused = explain(8, io::Error::from_raw_os_error(libc::ENOMEM)).to_string();
        assert!(
            refused.contains("RLIMIT_MEMLOCK") && refused.contains("ulimit -l"),
            "{refused}"
        );
        let refused = explain(8, io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(
            refused.contains("kernel.io_uring_disabled") || refused.contains("seccomp"),
            "{refused}"
        );
        let refused = explain(8, io::Error::from_raw_os_error(libc::ENOSYS)).to_string();
        assert!(
            refused.contains("5.11") || refused.contains("seccomp"),
            "{refused}"
        );
    }

    #[test]
    fn a_sysctl_that_disables_is_named_with_its_value() {
        let error = UringError::Disabled {
            value: 2,
            meaning: "for all processes",
        }
        .to_string();
        assert!(
            error.contains("io_uring_disabled is 2") && error.contains("sysctl -w"),
            "{error}"
        );
    }
}
