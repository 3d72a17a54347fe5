//! What administrators ask of partitions, and of all that the node stores: taken apart by owner, or
//! asked of every core.

use bytes::Bytes;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::TopicResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::OffsetForLeaderTopicResult;
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest,
    DescribeProducersResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use ringlog_types::CoreId;

use super::partitions::ask_owners;
use super::there::at_each;
use crate::kafka::answer::Answer;
use crate::kafka::decode::{RequestError, decode};
use crate::kafka::request::RequestHeader;
use crate::kafka::{describe_log_dirs, describe_producers, offset_for_leader_epoch};
use crate::node::core::CoreHandle;

/// Answers an OffsetForLeaderEpoch request.
///
/// # Errors
/// When it is malformed, or an owner stops.
pub async fn leader_epochs(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let mut request: OffsetForLeaderEpochRequest =
        decode(header, frame, offset_for_leader_epoch::FIELDS)?;
    let asked = std::mem::take(&mut request.topics).into_iter();
    let asked = asked.map(|topic| (topic.topic, topic.partitions));
    let index = |asked: &OffsetForLeaderPartition| asked.partition;
    let found = ask_owners(core, asked.collect(), index, move |there, asked| {
        let topics = asked.into_iter().map(|(name, partitions)| {
            OffsetForLeaderTopic::default()
                .with_topic(name)
                .with_partitions(partitions)
        });
        let part = request.clone().with_topics(topics.collect());
        async move {
            let found = offset_for_leader_epoch::handle(&there, part).await;
            let found = found.topics.into_iter();
            found.flat_map(|topic| topic.partitions).collect()
        }
    });
    let topics = found.await?.into_iter().map(|(name, partitions)| {
        OffsetForLeaderTopicResult::default()
            .with_topic(name)
            .with_partitions(partitions)
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    Ok(Answer::of(header, &response)?)
}

/// Answers a DescribeProducers request.
///
/// # Errors
/// When it is malformed, or an owner stops.
pub async fn producers(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let request: DescribeProducersRequest = decode(header, frame, describe_producers::FIELDS)?;
    let asked = request.topics.into_iter();
    let asked = asked.map(|topic| (topic.name, topic.partition_indexes));
    let index = |index: &i32| *index;
    let found = ask_owners(core, asked.collect(), index, |there, asked| {
        let topics = asked.into_iter().map(|(name, indexes)| {
            TopicRequest::default()
                .with_name(name)
                .with_partition_indexes(indexes)
        });
        let part = DescribeProducersRequest::default().with_topics(topics.collect());
        async move {
            let found = describe_producers::handle(&there, part).await;
            let found = found.topics.into_iter();
            found.flat_map(|topic| topic.partitions).collect()
        }
    });
    let topics = found.await?.into_iter().map(|(name, partitions)| {
        TopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    let response = DescribeProducersResponse::default().with_topics(topics.collect());
    Ok(Answer::of(header, &response)?)
}

/// Answers a DescribeLogDirs request: each data directory once, whichever cores have their logs in
/// it.
///
/// # Errors
/// When it is malformed, or a core stops.
pub async fn log_dirs(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let request: DescribeLogDirsRequest = decode(header, frame, describe_log_dirs::FIELDS)?;
    let work = (0..core.topology().cores()).map(|id| {
        let request = request.clone();
        let work = move |there: CoreHandle| async move {
            describe_log_dirs::handle(&there, request).await.results
        };
        (CoreId(id), work)
    });
    let found: Vec<Vec<DescribeLogDirsResult>> = at_each(core, work.collect()).await?;
    let mut merged: Vec<DescribeLogDirsResult> = Vec::new();
    for result in found.into_iter().flatten() {
        match merged
            .iter_mut()
            .find(|known| known.log_dir == result.log_dir)
        {
            Some(known) => merge(known, result),
            None => merged.push(result),
        }
    }
    let response = DescribeLogDirsResponse::default().with_results(merged);
    Ok(Answer::of(header, &response)?)
}

/// Adds what another core has in the same directory.
fn merge(known: &mut DescribeLogDirsResult, other: DescribeLogDirsResult) {
    if known.error_code == 0 {
        known.error_code = other.error_code;
    }
    known.total_bytes = known.total_bytes.max(other.total_bytes);
    known.usable_bytes = known.usable_bytes.max(other.usable_bytes);
    for topic in other.topics {
        match known.topics.iter_mut().find(|one| one.name == topic.name) {
            Some(one) => one.partitions.extend(topic.partitions),
            None => known.topics.push(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsTopic,
    };
    use kafka_protocol::protocol::StrBytes;

    fn result(partition: i32, error_code: i16) -> DescribeLogDirsResult {
        let partition = DescribeLogDirsPartition::default().with_partition_index(partition);
        let topic = DescribeLogDirsTopic::default()
            .with_name(StrBytes::from_static_str("t").into())
            .with_partitions(vec![partition]);
        DescribeLogDirsResult::default()
            .with_error_code(error_code)
            .with_total_bytes(7)
            .with_topics(vec![topic])
    }

    #[test]
    fn cores_that_share_a_directory_are_one_answer_with_the_partitions_of_both() {
        let mut known = result(0, 0);
        merge(&mut known, result(1, 56));
        let indexes = known.topics[0].partitions.iter();
        let indexes: Vec<i32> = indexes.map(|one| one.partition_index).collect();
        assert_eq!((known.topics.len(), indexes), (1, vec![0, 1]));
        assert_eq!((known.error_code, known.total_bytes), (56, 7));
    }
}
