//! The queue of the block device: its scheduler, and what a durable write costs on it
//! (`/sys/block/*/queue`).

use super::finding::{Finding, Text};

const SCHEDULER: &str = "I/O scheduler";
const WRITE_CACHE: &str = "write cache";

/// Judges `queue/scheduler`, in which the one in use stands in brackets.
#[must_use]
pub fn scheduler(device: &str, text: Text<'_>) -> Finding {
    let text = match text {
        Ok(text) => text.trim(),
        Err(obstacle) => return Finding::unknown(SCHEDULER, obstacle),
    };
    match chosen(text) {
        Some("none") => Finding::ok(SCHEDULER, "none", "requests reach the device as they are"),
        Some(other) if text.split_whitespace().any(|word| word == "none") => Finding::advice(
            SCHEDULER,
            other,
            format!("echo none > /sys/block/{device}/queue/scheduler (and a udev rule to keep it)"),
            "a log writes one place in order: there is nothing to sort, and a scheduler adds a \
             lock and a queue to every request",
        ),
        Some(other) => Finding::ok(SCHEDULER, other, "the device offers no other"),
        None => Finding::unknown(SCHEDULER, format!("{text:?} names none in brackets")),
    }
}

/// The word in brackets, as the kernel marks the choice in force.
#[must_use]
pub fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

/// Judges `queue/write_cache` and `queue/fua` together.
#[must_use]
pub fn write_cache(cache: Text<'_>, fua: Text<'_>) -> Finding {
    let cache = match cache {
        Ok(cache) => cache.trim(),
        Err(obstacle) => return Finding::unknown(WRITE_CACHE, obstacle),
    };
    if cache == "write through" {
        return Finding::ok(
            WRITE_CACHE,
            "write through",
            "a completed write is durable, and a durable write costs no flush. The kernel takes \
             the device's word for it",
        );
    }
    match fua.map(str::trim) {
        Ok("1") => Finding::ok(
            WRITE_CACHE,
            format!("{cache}, with FUA"),
            "a durable write goes past the cache in one request",
        ),
        Ok("0") => Finding::advice(
            WRITE_CACHE,
            format!("{cache}, without FUA"),
            "where there is a choice, take a device with FUA or with power-loss protection. Do \
             not set `write through` by hand: that hides the cache, and a power cut then takes \
             acknowledged events",
            "every durable write is followed by a flush of the whole cache: a second request, \
             and whatever else lies in the cache is waited for",
        ),
        Ok(other) => Finding::unknown(WRITE_CACHE, format!("{cache}; fua is {other:?}")),
        Err(obstacle) => Finding::unknown(WRITE_CACHE, format!("{cache}; FUA: {obstacle}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    #[test]
    fn a_scheduler_is_advised_against_only_where_none_can_be_had() {
        let judge = |text| scheduler("vda", Ok(text));
        let finding = judge("none [mq-deadline] kyber bfq \n");
        assert_eq!(finding.value.as_deref(), Some("mq-deadline"));
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(
            finding
                .advice
                .unwrap_or_default()
                .contains("/sys/block/vda/")
        );
        assert_eq!(judge("[none] mq-deadline\n").verdict, Verdict::Ok);
        assert_eq!(judge("[mq-deadline]\n").verdict, Verdict::Ok);
        assert_eq!(judge("nonsense").verdict, Verdict::Unknown);
        assert_eq!(scheduler("x", Err("gone")).reason, "gone");
    }

    #[test]
    fn a_volatile_cache_without_fua_costs_a_flush_and_the_others_do_not() {
        let verdict = |cache, fua| write_cache(Ok(cache), fua).verdict;
        assert_eq!(verdict("write back\n", Ok("0\n")), Verdict::Advice);
        assert_eq!(verdict("write back\n", Ok("1\n")), Verdict::Ok);
        assert_eq!(verdict("write through\n", Err("gone")), Verdict::Ok);
        assert_eq!(verdict("write back\n", Err("gone")), Verdict::Unknown);
        assert_eq!(write_cache(Err("gone"), Ok("1")).verdict, Verdict::Unknown);
    }
}
