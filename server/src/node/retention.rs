//! Retention: from time to time, moves the start of each partition of this core to where its
//! topic's limits of time and bytes put it, and forgets producers that have been silent.
//!
//! Invariant: a start moves by an entry in the log, like everything else; a step looks at a
//! bounded number of partitions.

use std::time::Duration;

use ringlog_engine::topics::TopicConfig;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta};
use ringlog_types::PartitionId;

use super::core::{Core, CoreHandle};

/// Partitions looked at in one step.
const PARTITIONS_PER_STEP: usize = 128;

/// Checks retention for as long as the core runs.
pub async fn run(core: CoreHandle) {
    let settings = core.settings();
    let (every, expiry) = (settings.retention_check, settings.producer_expiry);
    loop {
        tokio::time::sleep(every).await;
        check(&core).await;
        core.with(|core| expire_producers(core, expiry));
    }
}

async fn check(core: &CoreHandle) {
    let partitions: Vec<PartitionId> = core.with(|core| core.log.partitions().collect());
    for step in partitions.chunks(PARTITIONS_PER_STEP) {
        let result = core.with(|core| {
            let now_ms = core.now_ms();
            step.iter()
                .try_for_each(|partition| move_start(core, *partition, now_ms))
        });
        match result {
            Ok(()) => tokio::task::yield_now().await,
            // The rest is looked at the next time.
            Err(AppendError::Busy) => return,
            Err(error) => {
                tracing::warn!(core = %core.id(), %error, "retention could not be carried out");
                return;
            }
        }
    }
}

fn move_start(core: &mut Core, partition: PartitionId, now_ms: i64) -> Result<(), AppendError> {
    let Some(topic) = core.topics.by_number(partition.topic()) else {
        // Its topic was deleted; its end is on its way into the log.
        return Ok(());
    };
    let Some((keep_bytes, expire_before_ms)) = limits(&topic.config, now_ms) else {
        return Ok(());
    };
    let wanted = core
        .log
        .retention_start(partition, keep_bytes, expire_before_ms);
    let (start, end) = core.log.bounds(partition);
    if wanted <= start || wanted > end {
        return Ok(());
    }
    let meta = EntryMeta {
        partition,
        kind: EntryKind::StartOffset,
        machine: 0,
        base_offset: wanted,
        count: 0,
        max_timestamp: -1,
    };
    core.log.append(&[(meta, &[])])?;
    tracing::debug!(%partition, from = %start, to = %wanted, "retention moves the start");
    Ok(())
}

/// Bytes to keep, and the time before which records expire; `None` without any limit.
fn limits(config: &TopicConfig, now_ms: i64) -> Option<(Option<u64>, Option<i64>)> {
    if !config.cleanup_policy().deletes() {
        return None;
    }
    let keep_bytes = config.retention_bytes();
    let expire_before_ms = config
        .retention_ms()
        .map(|ms| now_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    (keep_bytes.is_some() || expire_before_ms.is_some()).then_some((keep_bytes, expire_before_ms))
}

fn expire_producers(core: &mut Core, expiry: Duration) {
    let silent_ms = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
    let before_ms = core.now_ms().saturating_sub(silent_ms);
    core.partitions.expire_producers(before_ms);
}
