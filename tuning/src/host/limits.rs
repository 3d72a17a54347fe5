//! Limits of the process (`/proc/self/limits`): locked memory and open files. A service manager
//! gives a node other limits than a shell does: these are the shell's.

use super::finding::{Finding, Text};

const MEMLOCK: &str = "locked memory";
const FILES: &str = "open files";

/// Connections beyond this need more than the limits that most systems start with.
const FEW_FILES: u64 = 4096;

/// A limit: soft and hard, `None` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is in force.
    pub soft: Option<u64>,
    /// How far it can be raised.
    pub hard: Option<u64>,
}

/// The limit of this name, as the table writes it.
#[must_use]
pub fn limit(table: &str, name: &str) -> Option<Limit> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Limit {
        soft: next()?,
        hard: next()?,
    })
}

/// Judges the limit on locked memory against what the cores register together: io_uring counts it
/// per user, over all rings. A process with CAP_IPC_LOCK is exempt.
#[must_use]
pub fn memlock(table: Text<'_>, needed_bytes: u64, exempt: bool) -> Finding {
    let limit = match table.map(|table| limit(table, "Max locked memory")) {
        Ok(Some(limit)) => limit,
        Ok(None) => return Finding::unknown(MEMLOCK, "not in /proc/self/limits"),
        Err(obstacle) => return Finding::unknown(MEMLOCK, obstacle),
    };
    let words = |bytes: Option<u64>| {
        bytes.map_or("none".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
    };
    let value = format!("limit {} (hard {})", words(limit.soft), words(limit.hard));
    let reason = "buffers that are registered with the kernel cost less CPU for each write";
    if limit.soft.is_none_or(|soft| soft >= needed_bytes) {
        return Finding::ok(MEMLOCK, value, reason);
    }
    if exempt {
        let value = format!("{value}; this process is exempt (CAP_IPC_LOCK)");
        return Finding::ok(
            MEMLOCK,
            value,
            "see that the node's user is, or has a higher limit",
        );
    }
    Finding::advice(
        MEMLOCK,
        value,
        format!(
            "LimitMEMLOCK={}M in the service, or ulimit -l {}",
            needed_bytes.div_ceil(1 << 20),
            needed_bytes.div_ceil(1 << 10)
        ),
        reason,
    )
}

/// Judges the limit on open files: each connection is one.
#[must_use]
pub fn open_files(table: Text<'_>) -> Finding {
    let limit = match table.map(|table| limit(table, "Max open files")) {
        Ok(Some(limit)) => limit,
        Ok(None) => return Finding::unknown(FILES, "not in /proc/self/limits"),
        Err(obstacle) => return Finding::unknown(FILES, obstacle),
    };
    let words = |count: Option<u64>| count.map_or("none".to_owned(), |count| count.to_string());
    let value = format!("limit {} (hard {})", words(limit.soft), words(limit.hard));
    let reason = "every connection is an open file, and so is every segment";
    if limit.soft.is_none_or(|soft| soft > FEW_FILES) {
        return Finding::ok(FILES, value, reason);
    }
    Finding::advice(
        FILES,
        value,
        "LimitNOFILE=65536 in the service, or ulimit -n 65536",
        reason,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    const TABLE: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            1024                 524288               files     
Max locked memory         8388608              unlimited            bytes     
";

    #[test]
    fn limits_are_read_with_and_without_end() {
        let found = limit(TABLE, "Max locked memory");
        let expected = Limit {
            soft: Some(8 << 20),
            hard: None,
        };
        assert_eq!(found, Some(expected));
        assert_eq!(limit(TABLE, "Max file locks"), None);
    }

    #[test]
    fn a_limit_is_enough_or_the_advice_says_how_much_is() {
        let finding = memlock(Ok(TABLE), 112 << 20, false);
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(
            finding
                .advice
                .unwrap_or_default()
                .contains("LimitMEMLOCK=112M")
        );
        assert_eq!(memlock(Ok(TABLE), 112 << 20, true).verdict, Verdict::Ok);
        assert_eq!(memlock(Ok(TABLE), 8 << 20, false).verdict, Verdict::Ok);
        assert_eq!(memlock(Err("gone"), 1, false).verdict, Verdict::Unknown);
        assert_eq!(open_files(Ok(TABLE)).verdict, Verdict::Advice);
        let many = TABLE.replace("1024", "20000");
        assert_eq!(open_files(Ok(&many)).verdict, Verdict::Ok);
        assert_eq!(open_files(Ok("")).verdict, Verdict::Unknown);
    }
}
