//! How long synchronous steps hold a core, told apart by whose fault it is: a step that took long
//! by itself is a defect of this program; one during which the kernel gave the CPU to somebody
//! else says that the machine is shared.
//!
//! Which of the two shows in the thread's count of involuntary context switches, read when a step
//! was long and each time the core goes to sleep: a step counts as preempted when the count moved
//! since it was read last, so a busy core may call a long step preempted that was not, never the
//! other way round. What a hypervisor takes from a virtual CPU nobody counts: it looks like a step
//! that took long by itself.

use std::cell::Cell;
use std::panic::Location;
use std::time::{Duration, Instant};

use ringlog_storage::log::Part;

use super::metrics::CoreMetrics;
use super::step_kind::StepKind;
use crate::runtime;

/// Longest time that one step may hold a core.
pub const STEP_BUDGET: Duration = Duration::from_micros(500);

/// Work that can end anywhere ends its step after this long: what it began may take as long again.
const ENOUGH: Duration = Duration::from_micros(150);

/// How long a step that can end anywhere may go on.
#[derive(Clone, Copy, Debug)]
pub struct Allowance(Instant);

impl Allowance {
    /// From now on.
    #[must_use]
    pub fn begin() -> Allowance {
        Allowance(Instant::now())
    }

    /// Whether the step is to end.
    #[must_use]
    pub fn is_used_up(self) -> bool {
        self.0.elapsed() > ENOUGH
    }
}

/// Watches the steps of one core's thread.
#[derive(Debug, Default)]
pub struct StepWatch {
    preemptions: Cell<u64>,
}

impl StepWatch {
    /// Notes that a step took this long. One that held the core for too long is counted by its kind,
    /// and said in the log with the place in the source that took it. `longest` is what took longest
    /// in the log's last turn.
    #[track_caller]
    pub fn note(&self, metrics: &CoreMetrics, took: Duration, longest: Part) {
        let is_long = took > STEP_BUDGET;
        let was_preempted = is_long && self.look();
        metrics.step(took, was_preempted);
        if is_long {
            let at = Location::caller();
            let kind = StepKind::of(at, longest);
            if !was_preempted {
                metrics.long_step(kind, took);
            }
            let kind = kind.label();
            tracing::debug!(?took, was_preempted, kind, %at, "a step held the core for too long");
        }
    }

    /// Reads the count, so that what came before is no step's fault. One system call.
    pub fn refresh(&self) {
        self.look();
    }

    /// Whether the thread was preempted since the last look.
    fn look(&self) -> bool {
        let now = runtime::preemptions();
        self.preemptions.replace(now) != now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_step_counts_as_the_machines_only_when_the_thread_was_preempted() {
        let (watch, metrics) = (StepWatch::default(), CoreMetrics::default());
        watch.preemptions.set(u64::MAX);
        watch.note(&metrics, STEP_BUDGET * 3, Part::Blocks);
        assert_eq!(metrics.longest_step(), Duration::ZERO);
        assert_eq!(metrics.longest_preempted_step(), STEP_BUDGET * 3);
        assert_eq!(metrics.long_steps(StepKind::Other), 0);
        // Tried until nothing interrupts it between the two looks.
        while metrics.longest_step() < STEP_BUDGET {
            watch.refresh();
            watch.note(&metrics, STEP_BUDGET * 2, Part::Blocks);
        }
        assert_eq!(metrics.longest_step(), STEP_BUDGET * 2);
        assert_eq!(metrics.long_steps(StepKind::Other), 1);
        assert_eq!(metrics.longest_of(StepKind::Other), STEP_BUDGET * 2);
        watch.preemptions.set(u64::MAX);
        watch.note(&metrics, STEP_BUDGET / 2, Part::Blocks);
        assert_eq!(
            watch.preemptions.get(),
            u64::MAX,
            "a short step costs no look"
        );
    }
}
