//! What groups need without anybody asking: timers of sessions and rebalances, and from time to
//! time a look for offsets and groups that nobody needs any more.
//!
//! Invariant: a step looks at a bounded number of groups, and what it decides goes into the log.

use ringlog_engine::groups::Sweep;
use ringlog_types::PartitionId;

use super::core::{Core, CoreHandle};

/// Keeps the groups' timers and forgets what nobody needs, for as long as the core runs.
pub async fn run(core: CoreHandle) {
    let timers = async {
        loop {
            core.group_timers().await;
        }
    };
    let sweeps = async {
        loop {
            tokio::time::sleep(core.settings().offsets_retention_check).await;
            sweep(&core).await;
        }
    };
    // Neither ends.
    tokio::join!(timers, sweeps);
}

/// Forgets what nobody needs any more. What cannot be logged now is found the next time.
async fn sweep(core: &CoreHandle) {
    let retention = core.settings().offsets_retention.as_millis();
    let retention_ms = i64::try_from(retention).unwrap_or(i64::MAX);
    let mut sweep = Sweep::default();
    while !sweep.is_at_end() {
        let records = core.with(|state| {
            let wall_ms = state.now_ms();
            let topic = |partition| topic_of(state, partition);
            let groups = &state.groups;
            groups.sweep(&mut sweep, wall_ms, retention_ms, topic)
        });
        for record in records {
            let bytes = record.encode().len();
            let logged = core.decide_group(bytes, |_, _| Ok(record.clone())).await;
            if let Err(error) = logged {
                tracing::warn!(core = %core.id(), %error, "offsets could not be forgotten");
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The name of the topic that has the partition.
fn topic_of(core: &Core, partition: PartitionId) -> Option<&str> {
    let topic = core.topics.by_number(partition.topic())?;
    (partition.index() < topic.partition_count()).then_some(topic.name.as_str())
}
