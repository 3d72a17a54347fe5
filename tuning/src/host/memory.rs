//! Memory management: transparent huge pages and swapping.

use super::finding::{Finding, Text};
use super::queue::chosen;

const HUGE_PAGES: &str = "transparent huge pages";
const SWAPPING: &str = "swapping";

/// Up to here the kernel swaps only when it hardly finds anything else.
const HARMLESS_SWAPPINESS: u32 = 10;

/// Judges `/sys/kernel/mm/transparent_hugepage/enabled`.
#[must_use]
pub fn huge_pages(text: Text<'_>) -> Finding {
    match text.map(chosen) {
        Ok(Some("always")) => Finding::advice(
            HUGE_PAGES,
            "always",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            "the kernel clears and compacts 2 MiB at a time for whoever touches new memory: a \
             pause of that thread, and memory that connections hold for nothing",
        ),
        Ok(Some(other)) => Finding::ok(HUGE_PAGES, other, "only who asks for them gets them"),
        Ok(None) => Finding::unknown(HUGE_PAGES, "none of the settings is marked"),
        Err(obstacle) => Finding::unknown(HUGE_PAGES, obstacle),
    }
}

/// Judges `/proc/swaps` and `vm.swappiness` together: without swap space the latter moves nothing
/// of a node's.
#[must_use]
pub fn swapping(swaps: Text<'_>, swappiness: Text<'_>) -> Finding {
    let places = match swaps {
        Ok(swaps) => swaps
            .lines()
            .skip(1)
            .filter(|line| !line.trim().is_empty())
            .count(),
        Err(obstacle) => return Finding::unknown(SWAPPING, obstacle),
    };
    let willing = match swappiness.map(|text| text.trim().parse::<u32>()) {
        Ok(Ok(willing)) => willing,
        Ok(Err(_)) => return Finding::unknown(SWAPPING, "vm.swappiness is no number"),
        Err(obstacle) => return Finding::unknown(SWAPPING, obstacle),
    };
    let value = format!("{places} swap spaces, vm.swappiness {willing}");
    if places == 0 || willing <= HARMLESS_SWAPPINESS {
        return Finding::ok(SWAPPING, value, "a core's memory stays where it is");
    }
    Finding::advice(
        SWAPPING,
        value,
        "sysctl -w vm.swappiness=1, or MemorySwapMax=0 in the service",
        "a page of a core that was swapped out stalls everything on that core until it is read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    #[test]
    fn huge_pages_for_everybody_are_advised_against() {
        let verdict = |text| huge_pages(Ok(text)).verdict;
        assert_eq!(verdict("[always] madvise never\n"), Verdict::Advice);
        assert_eq!(verdict("always [madvise] never\n"), Verdict::Ok);
        assert_eq!(verdict("always madvise [never]\n"), Verdict::Ok);
        assert_eq!(verdict("always\n"), Verdict::Unknown);
    }

    #[test]
    fn swappiness_matters_only_where_there_is_swap() {
        let none = "Filename\t\t\t\tType\t\tSize\n";
        let some = format!("{none}/dev/sda2 partition 8388604 0 -2\n");
        assert_eq!(swapping(Ok(none), Ok("60\n")).verdict, Verdict::Ok);
        assert_eq!(swapping(Ok(&some), Ok("60\n")).verdict, Verdict::Advice);
        assert_eq!(swapping(Ok(&some), Ok("1\n")).verdict, Verdict::Ok);
        assert_eq!(swapping(Ok(&some), Ok("x")).verdict, Verdict::Unknown);
        assert_eq!(swapping(Err("gone"), Ok("1")).verdict, Verdict::Unknown);
    }
}
