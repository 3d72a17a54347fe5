//! DescribeLogDirs (KIP-113): where a broker's records lie, and how many bytes each partition
//! has. A broker is a core with one log, which lies in one of the node's data directories.
//!
//! A partition's size is that of its live batches, as the index knows it: partitions share
//! segment files, whose space is given back when nothing in them lives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::{PartitionId, TopicNumber};

use super::bounds::{Field, Shape, field};
use crate::node::core::{Core, CoreHandle};
use crate::node::step_watch::Allowance;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Text),
    field(Shape::Values(&Shape::Fixed(4))),
]))];

/// Bytes that are not known.
const UNKNOWN: i64 = -1;

/// Partitions of a topic whose log is this core's.
type Hosted = (String, Vec<PartitionId>);

/// Answers a request.
pub async fn handle(core: &CoreHandle, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let (directory, failure) = core.with(|core| {
        let log_dir = core.log.io().path();
        let directory = log_dir.parent().unwrap_or(log_dir).to_owned();
        (directory, core.log.failure().map(str::to_owned))
    });
    let shown = std::path::absolute(&directory).unwrap_or_else(|_| directory.clone());
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(shown.display().to_string()))
        .with_total_bytes(UNKNOWN)
        .with_usable_bytes(UNKNOWN);
    if let Some(cause) = failure {
        tracing::warn!(core = %core.id(), %cause, "the directory of a closed log was asked for");
        return of(result.with_error_code(ResponseError::KafkaStorageError.code()));
    }
    let hosted = match request.topics {
        None => all(core).await,
        Some(topics) => named(core, topics).await,
    };
    let mut topics = Vec::with_capacity(hosted.len());
    for (name, partitions) in hosted {
        topics.push(
            DescribeLogDirsTopic::default()
                .with_name(TopicName(StrBytes::from_string(name)))
                .with_partitions(sizes(core, &partitions).await),
        );
    }
    let (total_bytes, usable_bytes) = space(core, &directory);
    of(result
        .with_topics(topics)
        .with_total_bytes(total_bytes)
        .with_usable_bytes(usable_bytes))
}

fn of(result: DescribeLogDirsResult) -> DescribeLogDirsResponse {
    DescribeLogDirsResponse::default().with_results(vec![result])
}

/// Every partition of this core, also those without a record.
async fn all(core: &CoreHandle) -> Vec<Hosted> {
    let numbers: Vec<TopicNumber> =
        core.with(|core| core.topics.iter().map(|topic| topic.number).collect());
    let mut hosted = Vec::new();
    let mut left = &numbers[..];
    while !left.is_empty() {
        let done = core.with(|core| {
            let allowance = Allowance::begin();
            let looked_at = left.iter().enumerate().find_map(|(place, number)| {
                hosted.extend(hosted_of(core, *number, |_| true));
                allowance.is_used_up().then_some(place + 1)
            });
            looked_at.unwrap_or(left.len())
        });
        left = &left[done..];
        tokio::task::yield_now().await;
    }
    hosted
}

/// Those of the named partitions that are this core's; Kafka leaves out the others likewise.
async fn named(core: &CoreHandle, topics: Vec<DescribableLogDirTopic>) -> Vec<Hosted> {
    let mut wanted: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
    for topic in topics {
        wanted
            .entry(topic.topic)
            .or_default()
            .extend(topic.partitions);
        tokio::task::yield_now().await;
    }
    let mut hosted = Vec::new();
    for (name, indexes) in wanted {
        core.with(|core| {
            let number = core.topics.by_name(&name).map(|topic| topic.number);
            hosted.extend(number.and_then(|number| {
                hosted_of(core, number, |index| {
                    i32::try_from(index).is_ok_and(|index| indexes.contains(&index))
                })
            }));
        });
        tokio::task::yield_now().await;
    }
    hosted
}

fn hosted_of(core: &Core, number: TopicNumber, is_wanted: impl Fn(u32) -> bool) -> Option<Hosted> {
    let topic = core.topics.by_number(number)?;
    let partitions = (0u32..).zip(&topic.partitions);
    let own = partitions.filter(|(index, log)| **log == core.log_id && is_wanted(*index));
    let own: Vec<PartitionId> = own
        .map(|(index, _)| PartitionId::new(number, index))
        .collect();
    (!own.is_empty()).then(|| (topic.name.clone(), own))
}

/// How many bytes each of these partitions has, in as many steps as it takes: one may lie in one
/// segment or in a thousand.
async fn sizes(core: &CoreHandle, partitions: &[PartitionId]) -> Vec<DescribeLogDirsPartition> {
    let mut sizes = Vec::with_capacity(partitions.len());
    while sizes.len() < partitions.len() {
        core.with(|core| {
            let allowance = Allowance::begin();
            for partition in &partitions[sizes.len()..] {
                let bytes = core.log.partition_bytes(*partition);
                let index = i32::try_from(partition.index());
                sizes.push(
                    DescribeLogDirsPartition::default()
                        .with_partition_index(index.expect("a topic's partitions fit i32"))
                        .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX)),
                );
                if allowance.is_used_up() {
                    break;
                }
            }
        });
        tokio::task::yield_now().await;
    }
    sizes
}

/// All bytes of the directory's filesystem, and those that this process may still use.
fn space(core: &CoreHandle, directory: &Path) -> (i64, i64) {
    match rustix::fs::statvfs(directory) {
        Ok(space) => {
            let bytes = |blocks: u64| {
                i64::try_from(blocks.saturating_mul(space.f_frsize)).unwrap_or(i64::MAX)
            };
            (bytes(space.f_blocks), bytes(space.f_bavail))
        }
        Err(error) => {
            tracing::warn!(
                core = %core.id(), directory = %directory.display(), %error,
                "the space of a data directory is not known"
            );
            (UNKNOWN, UNKNOWN)
        }
    }
}
