//! Retention: from time to time, moves the start of each partition of this core to where its
//! topic's limits of time and bytes put it, and forgets producers that have been silent.
//!
//! Invariant: a start moves by an entry in the log, like everything else; a step looks at
//! partitions for a bounded time: one may lie in one segment or in a thousand.

use std::time::Duration;

use ringlog_engine::topics::TopicConfig;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta};
use ringlog_types::PartitionId;

use super::core::{Core, CoreHandle};
use super::step_watch::Allowance;

/// Partitions that are gone through together, in as many steps as it takes.
const PARTITIONS_TOGETHER: usize = 128;

/// How often the partitions of a step are asked for again, while the index of old segments is read.
const ATTEMPTS: usize = 64;

/// How long a read of the index is waited for.
const READ_PATIENCE: Duration = Duration::from_millis(100);

/// Checks retention for as long as the core runs.
pub async fn run(core: CoreHandle) {
    let settings = core.settings();
    let (every, expiry) = (settings.retention_check, settings.producer_expiry);
    loop {
        tokio::time::sleep(every).await;
        check(&core).await;
        // Each step forgets some of those that have been silent.
        while core.with(|core| expire_producers(core, expiry)) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn check(core: &CoreHandle) {
    let partitions: Vec<PartitionId> = core.with(|core| core.log.partitions().collect());
    for together in partitions.chunks(PARTITIONS_TOGETHER) {
        let mut left = together.to_vec();
        for _ in 0..ATTEMPTS {
            let (mut ticket, mut later) = (None, Vec::new());
            let mut todo = &left[..];
            while !todo.is_empty() {
                let done = core.with(|core| step(core, todo, &mut ticket, &mut later));
                match done {
                    Ok(done) => todo = &todo[done..],
                    // The rest is looked at the next time.
                    Err(AppendError::Busy) => return,
                    Err(error) => {
                        tracing::warn!(core = %core.id(), %error, "retention could not be carried out");
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
            let Some(ticket) = ticket else { break };
            // Without a read under way there is none to wait for: the next check it is.
            let reads = core.reads_done(ticket);
            let _ = tokio::time::timeout(READ_PATIENCE, reads).await;
            left = later;
        }
    }
}

/// Looks at partitions for as long as a step may. Returns how many; those for which the index of old
/// segments must be read first are looked at `later`, when it passed `ticket`.
fn step(
    core: &mut Core,
    partitions: &[PartitionId],
    ticket: &mut Option<u64>,
    later: &mut Vec<PartitionId>,
) -> Result<usize, AppendError> {
    let (now_ms, allowance) = (core.now_ms(), Allowance::begin());
    for (done, partition) in partitions.iter().enumerate() {
        if done > 0 && allowance.is_used_up() {
            return Ok(done);
        }
        if let Err(read) = move_start(core, *partition, now_ms)? {
            *ticket = Some(read);
            later.push(*partition);
        }
    }
    Ok(partitions.len())
}

/// `Ok(Err(ticket))`: the index of old segments must be read first.
fn move_start(
    core: &mut Core,
    partition: PartitionId,
    now_ms: i64,
) -> Result<Result<(), u64>, AppendError> {
    let Some(topic) = core.topics.by_number(partition.topic()) else {
        // Its topic was deleted; its end is on its way into the log.
        return Ok(Ok(()));
    };
    let Some((keep_bytes, expire_before_ms)) = limits(&topic.config, now_ms) else {
        return Ok(Ok(()));
    };
    let wanted = core
        .log
        .retention_start(partition, keep_bytes, expire_before_ms);
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(ticket) => return Ok(Err(ticket)),
    };
    let (start, end) = core.log.bounds(partition);
    if wanted <= start || wanted > end {
        return Ok(Ok(()));
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
    Ok(Ok(()))
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

fn expire_producers(core: &mut Core, expiry: Duration) -> usize {
    let silent_ms = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
    let before_ms = core.now_ms().saturating_sub(silent_ms);
    core.partitions.expire_producers(before_ms)
}
