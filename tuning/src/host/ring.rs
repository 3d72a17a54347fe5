//! io_uring: whether it is allowed, what of it this kernel has, and whether memory could be
//! registered with it.

use super::finding::{Finding, Text};

const ALLOWED: &str = "kernel.io_uring_disabled";
const FEATURES: &str = "io_uring features";
const REGISTRATION: &str = "registered memory";

/// Judges the sysctl and whether a ring could be made; `made` says who forbade it otherwise.
#[must_use]
pub fn allowed(sysctl: Text<'_>, made: Result<(), &str>) -> Finding {
    let value = sysctl.map_or("no such setting (before Linux 6.6)", str::trim);
    match made {
        Ok(()) if value == "1" => Finding::ok(
            ALLOWED,
            "1: privileged processes and kernel.io_uring_group only",
            "this process may; see that the node's user may too",
        ),
        Ok(()) => Finding::ok(ALLOWED, value, "a ring can be made here"),
        Err(obstacle) => Finding::advice(
            ALLOWED,
            value,
            "sysctl -w kernel.io_uring_disabled=0, and allow the io_uring calls in the \
             container's seccomp profile",
            format!("no ring can be made: {obstacle}"),
        ),
    }
}

/// Judges which features the ring got and which it did not.
#[must_use]
pub fn features(found: &[&str], missing: &[&str]) -> Finding {
    let value = found.join(", ");
    if missing.is_empty() {
        return Finding::ok(FEATURES, value, "everything the log can make use of");
    }
    Finding::advice(
        FEATURES,
        format!("{value}; without {}", missing.join(", ")),
        "a newer kernel has them (SINGLE_ISSUER 6.0, FTRUNCATE 6.9, WRITEV_FIXED 6.15)",
        "the log works without, with a little more CPU for each write",
    )
}

/// Judges whether a core's memory could be registered; `refusal` is what the kernel said.
#[must_use]
pub fn registration(arena_bytes: usize, refusal: Option<&str>) -> Finding {
    let value = format!("{} MiB", arena_bytes >> 20);
    match refusal {
        None => Finding::ok(
            REGISTRATION,
            value,
            "writes need not pin their pages each time",
        ),
        Some(refusal) => Finding::advice(
            REGISTRATION,
            format!("{value} refused"),
            "raise the memlock limit (LimitMEMLOCK=infinity, or ulimit -l unlimited)",
            refusal,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    #[test]
    fn what_forbids_a_ring_is_told_and_a_restricted_one_is_pointed_out() {
        assert_eq!(allowed(Ok("0\n"), Ok(())).verdict, Verdict::Ok);
        let restricted = allowed(Ok("1\n"), Ok(()));
        assert!(restricted.reason.contains("node's user"));
        let forbidden = allowed(Ok("2\n"), Err("io_uring is disabled"));
        assert_eq!(forbidden.verdict, Verdict::Advice);
        assert!(forbidden.reason.contains("io_uring is disabled"));
        let old = allowed(Err("gone"), Ok(())).value.unwrap_or_default();
        assert!(old.contains("before Linux 6.6"));
    }

    #[test]
    fn missing_features_and_refused_memory_are_advice() {
        assert_eq!(features(&["COOP_TASKRUN"], &[]).verdict, Verdict::Ok);
        let finding = features(&["COOP_TASKRUN"], &["FTRUNCATE"]);
        assert!(
            finding
                .value
                .unwrap_or_default()
                .ends_with("without FTRUNCATE")
        );
        assert_eq!(registration(56 << 20, None).verdict, Verdict::Ok);
        let refused = registration(56 << 20, Some("RLIMIT_MEMLOCK is 8 MiB"));
        assert_eq!(refused.value.as_deref(), Some("56 MiB refused"));
        assert_eq!(refused.reason, "RLIMIT_MEMLOCK is 8 MiB");
    }
}
