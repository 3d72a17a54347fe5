//! Which of the node's logs has a group: its place among the cores, by a hash of the group's id.
//! Asked by every core alike, and by a start with another number of cores.
//!
//! Invariant: the hash is on disk, in the place where each group's entries are. It never changes.

/// The place of the log that has a group, among so many.
///
/// # Panics
/// Without any log.
#[must_use]
pub fn coordinator(group: &str, logs: usize) -> usize {
    // FNV-1a, whose low bits alone are weak for ids that differ in their last letter: the high
    // half is folded in.
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = hash ^ (hash >> 32);
    let logs = u64::try_from(logs).expect("a node has few logs");
    usize::try_from(folded % logs).expect("the place is below the number of logs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_keeps_its_place_whatever_build_asks() {
        let places = ["", "a", "payments", "consumer-17"].map(|group| coordinator(group, 7));
        assert_eq!(places, [6, 1, 5, 1]);
    }

    #[test]
    fn groups_spread_over_the_logs() {
        let mut counts = [0usize; 5];
        for number in 0..10_000 {
            counts[coordinator(&format!("group-{number}"), 5)] += 1;
        }
        assert!(
            counts.iter().all(|count| (1_700..2_300).contains(count)),
            "{counts:?}"
        );
    }
}
