//! What a start must show: exactly the node that a beginning of the log makes, with everything
//! acknowledged in that beginning.

use std::time::Duration;

use ringlog_engine::groups::Identity;
use ringlog_engine::limits::LEADER_EPOCHS_PER_PARTITION;
use ringlog_storage::io::Io;
use ringlog_storage::log::{Read, Urgency};
use ringlog_types::batch::BatchHeader;
use ringlog_types::{Offset, PartitionId};

use super::model::{Model, Partition, Topic, WINDOW, describe, repeat_of};
use super::node::{Node, Produced};

/// Reads that may fail one after the other before it counts.
const READ_ATTEMPTS: u32 = 20;

/// Compares the machines, the log and the model after a start.
///
/// # Errors
/// The first difference.
pub fn check_start<I: Io>(
    node: &mut Node<I>,
    model: &Model,
    reads_may_fail: bool,
) -> Result<u64, String> {
    check_topics(node, model)?;
    check_groups(node, model)?;
    check_members(node, model)?;
    let mut checked = 0;
    for (partition, state) in &model.state.partitions {
        let at = PartitionId(*partition);
        let expected = (Offset(state.start), Offset(state.end));
        let found = [
            ("log", node.log.bounds(at)),
            (
                "machine",
                (
                    node.machines.partitions.start_offset(at),
                    node.machines.partitions.end_offset(at),
                ),
            ),
        ];
        for (who, bounds) in found {
            if bounds != expected {
                return Err(format!(
                    "partition {at}: the {who} has {bounds:?}, expected {expected:?}"
                ));
            }
        }
        let next = node.machines.partitions.next_offset(at);
        if next != expected.1 {
            return Err(format!(
                "partition {at}: {next} is the next offset, not {}",
                expected.1
            ));
        }
        checked += check_reads(node, at, state, reads_may_fail)?;
        check_producers(node, at, state)?;
        check_epochs(node, at, state)?;
    }
    let mut partitions = node.log.partitions();
    let unknown = partitions.find(|at| {
        let (start, end) = node.log.bounds(*at);
        start < end && !model.state.partitions.contains_key(&at.0)
    });
    match unknown {
        Some(at) => Err(format!(
            "partition {at} is there and was dropped or never written"
        )),
        None => Ok(checked),
    }
}

fn check_topics<I: Io>(node: &Node<I>, model: &Model) -> Result<(), String> {
    let found = node.machines.topics.iter().map(|topic| {
        let retention = topic.config.entry("retention.ms");
        let is_set = retention.is_some_and(|entry| !entry.is_default);
        let seen = Topic {
            name: topic.name.clone(),
            partitions: topic.partition_count(),
            retention_ms: topic.config.retention_ms().filter(|_| is_set),
            promise: super::workload::promise_of(topic.config.durability()),
        };
        (topic.number.0, seen)
    });
    let found: std::collections::BTreeMap<u32, Topic> = found.collect();
    if found != model.state.topics {
        return Err(format!(
            "the topics are {found:?}, expected {:?}",
            model.state.topics
        ));
    }
    Ok(())
}

/// Every offset that a group committed, and no other.
fn check_groups<I: Io>(node: &Node<I>, model: &Model) -> Result<(), String> {
    let groups = &node.machines.groups;
    let listed = groups.list(None, usize::MAX);
    let found = listed.iter().flat_map(|group| {
        let offsets = groups.offsets(&group.id, None);
        offsets.map(|(at, offset)| ((group.id.to_string(), at.0), offset.offset))
    });
    let found: std::collections::BTreeMap<(String, u64), i64> = found.collect();
    let expected = &model.state.offsets;
    let keys = found.keys().chain(expected.keys());
    for (group, partition) in keys {
        let key = (group.clone(), *partition);
        let (found, expected) = (found.get(&key), expected.get(&key));
        if found != expected {
            let at = PartitionId(*partition);
            return Err(format!(
                "{group} has {found:?} for {at}, expected {expected:?}"
            ));
        }
    }
    Ok(())
}

/// Every member that was durable is in its group still, in its generation and with its part.
fn check_members<I: Io>(node: &mut Node<I>, model: &Model) -> Result<(), String> {
    let now = node.group_time();
    for (id, (generation, members)) in &model.state.groups {
        let groups = &mut node.machines.groups;
        let described = groups.describe(id);
        let described = described.into_iter().flat_map(|group| group.members);
        let found = described.map(|member| (member.id.to_string(), member.assignment.to_vec()));
        let found: std::collections::BTreeMap<String, Vec<u8>> = found.collect();
        if found != *members {
            return Err(format!("{id} has {found:?}, expected {members:?}"));
        }
        for member in members.keys() {
            let who = Identity {
                member_id: member,
                instance_id: None,
            };
            let heard = groups.heartbeat(id, &who, *generation, now);
            if heard.is_err() {
                return Err(format!(
                    "{member} of {id} is not of generation {generation}: {heard:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Every batch byte for byte, one after the other, from the start to the end.
fn check_reads<I: Io>(
    node: &mut Node<I>,
    at: PartitionId,
    state: &Partition,
    reads_may_fail: bool,
) -> Result<u64, String> {
    let mut expected = state.batches.iter();
    let (mut offset, mut failures, mut checked) = (state.start, 0, 0);
    while offset < state.end {
        match node.log.read(at, Offset(offset), 100_000) {
            Read::Batches(found) if !found.is_empty() => {
                for bytes in found {
                    let Some(batch) = expected.next() else {
                        return Err(format!("partition {at} at {offset}: a batch nobody wrote"));
                    };
                    if *bytes != *batch.bytes {
                        return Err(format!(
                            "partition {at} at {offset}: other bytes than the batch {}..{}",
                            batch.base,
                            batch.end()
                        ));
                    }
                    offset = batch.end();
                    checked += 1;
                }
            }
            Read::Pending(ticket) => {
                while node.log.reads_done() <= ticket {
                    node.log.submit();
                    node.log.io_mut().wait(Duration::from_millis(10));
                    node.poll()?;
                }
            }
            Read::Failed(_) if reads_may_fail => {
                failures += 1;
                if failures > READ_ATTEMPTS {
                    // The disk is gone; the next life looks again.
                    return Ok(checked);
                }
                node.log.io_mut().wait(Duration::from_millis(1));
            }
            other => return Err(format!("reading partition {at} at {offset}: {other:?}")),
        }
    }
    Ok(checked)
}

/// Each leader epoch that wrote a batch which is still there ended where the next one began.
fn check_epochs<I: Io>(node: &Node<I>, at: PartitionId, state: &Partition) -> Result<(), String> {
    let current = i32::try_from(node.log.epoch()).map_err(|error| error.to_string())?;
    let mut began: Vec<(i32, u64)> = Vec::new();
    for batch in &state.batches {
        let header = BatchHeader::parse(&batch.bytes).map_err(|error| error.to_string())?;
        let epoch = header.partition_leader_epoch;
        if began.last().is_none_or(|(last, _)| *last != epoch) {
            began.push((epoch, batch.base));
        }
    }
    let ends = began.iter().skip(1).map(|(_, first)| *first);
    let ends: Vec<u64> = ends.chain([state.end]).collect();
    let known = began.len().saturating_sub(LEADER_EPOCHS_PER_PARTITION);
    for ((epoch, _), end) in began.iter().zip(ends).skip(known) {
        let expected = Some((*epoch, Offset(end)));
        let found = node.machines.partitions.epoch_end(at, *epoch, current);
        if found != expected {
            return Err(format!(
                "partition {at}: leader epoch {epoch} ended at {found:?}, expected {expected:?}"
            ));
        }
    }
    Ok(())
}

/// Repeats of what each producer wrote last are known, with their first offsets; an older epoch is
/// fenced. None of it adds anything.
fn check_producers<I: Io>(
    node: &mut Node<I>,
    at: PartitionId,
    state: &Partition,
) -> Result<(), String> {
    for (id, (epoch, written)) in &state.producers {
        for batch in written.iter().rev().take(WINDOW) {
            let repeat = repeat_of(batch);
            match node.produce(at, &repeat, Urgency::Durable) {
                Produced::Repeated {
                    base_offset: Offset(base),
                    pending: false,
                } if base == batch.base => {}
                other => {
                    return Err(format!(
                        "partition {at}: a repeat of {} after a start came to {other:?}",
                        describe(batch)
                    ));
                }
            }
        }
        if *epoch > 0 {
            let fenced = super::workload::batch(Some((*id, epoch - 1, 0)), 1, 7);
            let answer = node.produce(at, &fenced, Urgency::Durable);
            if !matches!(answer, Produced::Refused(_)) {
                return Err(format!(
                    "partition {at}: producer {id} of epoch {} is not fenced: {answer:?}",
                    epoch - 1
                ));
            }
        }
    }
    Ok(())
}
