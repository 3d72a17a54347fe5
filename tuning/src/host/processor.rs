//! The CPUs: how fast they are let run, and how the kernel takes them away from a process.

use super::finding::{Finding, Text};

const GOVERNOR: &str = "CPU frequency governor";
const PREEMPTION: &str = "kernel preemption";
const SHOWN: &str = "shown for the comparison of machines: none is known to be better here";

/// Judges the governors of all CPUs, one text each.
#[must_use]
pub fn governor(texts: &[Text<'_>]) -> Finding {
    let mut names: Vec<&str> = Vec::new();
    for text in texts {
        match text {
            Ok(name) => names.push(name.trim()),
            Err(obstacle) => return Finding::unknown(GOVERNOR, *obstacle),
        }
    }
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [] => Finding::unknown(
            GOVERNOR,
            "there is no cpufreq here; in a virtual machine the host decides",
        ),
        ["performance"] => Finding::ok(GOVERNOR, "performance", "cores run at full speed"),
        _ => Finding::advice(
            GOVERNOR,
            names.join(", "),
            "cpupower frequency-set -g performance",
            "a core that waits for the disk looks idle: it is clocked down, and every wake-up \
             pays for it",
        ),
    }
}

/// Judges the preemption model by the kernel's version line (`uname -v`) and, where it is chosen
/// at start, by debugfs' `sched/preempt` or the kernel's command line.
#[must_use]
pub fn preemption(version: &str, debugfs: Text<'_>, command_line: Text<'_>) -> Finding {
    let is = |word: &str| version.split_whitespace().any(|other| other == word);
    if is("PREEMPT_RT") {
        return Finding::advice(
            PREEMPTION,
            "PREEMPT_RT",
            "use a kernel without it, unless something else here needs it",
            "interrupts become threads and locks sleep: more work for every request",
        );
    }
    if !is("PREEMPT_DYNAMIC") {
        let model = if is("PREEMPT") {
            "full"
        } else {
            "none or voluntary"
        };
        return Finding::ok(PREEMPTION, format!("{model}, built in"), SHOWN);
    }
    let parameter = command_line.ok().and_then(|line| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix("preempt="))
    });
    match (debugfs.map(in_parentheses), parameter) {
        (Ok(Some(model)), _) => Finding::ok(PREEMPTION, format!("{model}, of a choice"), SHOWN),
        (_, Some(model)) => Finding::ok(PREEMPTION, format!("{model}, by preempt="), SHOWN),
        (debugfs, None) => {
            let obstacle = debugfs.err().unwrap_or("nothing is marked in it");
            Finding::unknown(
                PREEMPTION,
                format!("chosen at start (PREEMPT_DYNAMIC); debugfs says how: {obstacle}"),
            )
        }
    }
}

/// How debugfs marks the choice in force.
fn in_parentheses(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('(')?;
    rest.split_once(')').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    #[test]
    fn a_governor_that_clocks_down_on_one_cpu_is_enough_for_advice() {
        let verdict = |texts: &[Text<'_>]| governor(texts).verdict;
        assert_eq!(
            verdict(&[Ok("performance\n"), Ok("performance\n")]),
            Verdict::Ok
        );
        let mixed = governor(&[Ok("performance\n"), Ok("schedutil\n")]);
        assert_eq!(mixed.verdict, Verdict::Advice);
        assert_eq!(mixed.value.as_deref(), Some("performance, schedutil"));
        assert_eq!(verdict(&[]), Verdict::Unknown);
        assert_eq!(verdict(&[Err("gone")]), Verdict::Unknown);
    }

    #[test]
    fn the_preemption_model_is_told_from_what_can_be_seen_and_not_guessed() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Mon";
        let value = |version, debugfs, line| preemption(version, debugfs, line).value;
        let seen = value(dynamic, Ok("none voluntary (full) lazy\n"), Err("gone"));
        assert_eq!(seen.as_deref(), Some("full, of a choice"));
        let told = value(dynamic, Err("gone"), Ok("quiet preempt=full"));
        assert_eq!(told.as_deref(), Some("full, by preempt="));
        let untold = preemption(dynamic, Err("not permitted"), Ok("quiet"));
        assert_eq!(untold.verdict, Verdict::Unknown);
        assert!(untold.reason.ends_with("not permitted"));
        let built_in = value("#1 SMP Mon", Err("gone"), Err("gone"));
        assert_eq!(built_in.as_deref(), Some("none or voluntary, built in"));
        let real_time = preemption("#1 SMP PREEMPT_RT Mon", Err("gone"), Err("gone"));
        assert_eq!(real_time.verdict, Verdict::Advice);
    }
}
