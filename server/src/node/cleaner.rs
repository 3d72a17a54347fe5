//! Cleaning: from time to time has the log look for old segments that are worth rewriting, and
//! takes what is to be worked out about their bytes to the helper and back.
//!
//! Invariant: the log alone reads, writes and switches; here is decided only how long records
//! last, which the log does not know.

use std::time::Duration;

use ringlog_engine::topics::Topics;
use ringlog_storage::log::clean::{CleanOutcome, CleanTask, Compactable, Lasting};
use ringlog_types::PartitionId;

use super::compaction;
use super::core::CoreHandle;
use super::helper::Helper;

/// How often the log looks at some of its segments.
const PLAN_EVERY: Duration = Duration::from_secs(1);
/// While a run is under way: how often it is asked for a task.
const TASK_EVERY: Duration = Duration::from_millis(5);
/// What retention takes within this time is not copied: reading it scattered once or twice more
/// costs less than copying all of it.
const LASTING_MS: u64 = 6 * 60 * 60 * 1000;

/// Cleans for as long as the core runs, with the help of `helper`.
pub async fn run(core: CoreHandle, mut helper: Helper<CleanTask, CleanOutcome>) {
    loop {
        tokio::time::sleep(PLAN_EVERY).await;
        if !begin_compaction(&core).await {
            plan(&core);
            // What is looked at more closely has to be read first.
            while core.with(|core| core.log.looks_at_segments()) {
                core.work().raise();
                tokio::time::sleep(TASK_EVERY).await;
                plan(&core);
            }
        }
        while core.with(|core| core.log.stats().cleaning) {
            // The log goes on with what the budget allows.
            core.work().raise();
            let Some(task) = core.with(|core| core.log.take_clean_task()) else {
                tokio::time::sleep(TASK_EVERY).await;
                continue;
            };
            let Some(outcome) = helper.run(task).await else {
                tracing::error!(core = %core.id(), "the helper is gone: nothing is cleaned");
                std::future::pending::<()>().await;
                return;
            };
            core.with(|core| core.log.finish_clean_task(outcome));
        }
    }
}

/// Has the log look at some of its segments.
fn plan(core: &CoreHandle) {
    core.with(|core| {
        let topics = &core.topics;
        core.log
            .plan_cleaning(&|partition| lasting(topics, partition))
    });
}

/// Looks for a partition to compact, a step at a time. Whether one is being compacted.
async fn begin_compaction(core: &CoreHandle) -> bool {
    let partitions: Vec<PartitionId> = core.with(|core| core.log.partitions().collect());
    let now_ms = core.with(|core| core.now_ms());
    let (mut found, mut left) = (None, &partitions[..]);
    while !left.is_empty() {
        let (done, next) = core.with(|core| compaction::dirtiest(core, left, now_ms));
        found = match (found, next) {
            (Some(best), Some(next)) => Some(if dirt(&next) > dirt(&best) {
                next
            } else {
                best
            }),
            (best, next) => best.or(next),
        };
        left = &left[done..];
        tokio::task::yield_now().await;
    }
    found.is_some_and(|(_, partition, what)| {
        core.with(|core| compaction::begin(core, partition, &what, now_ms))
    })
}

fn dirt(found: &(u128, PartitionId, Compactable)) -> u128 {
    found.0
}

fn lasting(topics: &Topics, partition: PartitionId) -> Lasting {
    let Some(topic) = topics.by_number(partition.topic()) else {
        return Lasting::Soon; // Deleted: its end is on its way into the log.
    };
    let config = &topic.config;
    let expires = config.cleanup_policy().deletes()
        && config.retention_ms().is_some_and(|ms| ms < LASTING_MS);
    if expires {
        Lasting::Soon
    } else {
        Lasting::Long
    }
}
