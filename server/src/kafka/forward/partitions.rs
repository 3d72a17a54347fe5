//! Requests about partitions, taken apart by owner and put together again.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_records_response::DeleteRecordsTopicResult;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsTopicResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, TopicName,
};
use ringlog_types::CoreId;

use super::there::{at_each, distinct, in_order, owners};
use crate::kafka::answer::Answer;
use crate::kafka::decode::{RequestError, decode};
use crate::kafka::request::RequestHeader;
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::{delete_records as of_records, list_offsets as of_offsets};
use crate::node::core::CoreHandle;

/// A topic with what is asked of its partitions.
pub(super) type Asked<P> = Vec<(TopicName, Vec<P>)>;

/// Where a request's partitions are.
pub(super) struct Split<P> {
    /// The owner of each partition, in the order of the request.
    pub owners: Vec<CoreId>,
    pub distinct: Vec<CoreId>,
    /// What is asked of each of them.
    pub asked: Vec<Asked<P>>,
    /// Each topic, and how many of the partitions are its.
    pub topics: Vec<(TopicName, usize)>,
}

/// Takes a request apart by the owners of its partitions; `index` gives a partition's number.
pub(super) async fn split<P>(
    core: &CoreHandle,
    asked: Asked<P>,
    index: impl Fn(&P) -> i32,
) -> Split<P> {
    let refs: Vec<TopicRef> = asked
        .iter()
        .map(|(name, _)| TopicRef::Name(name.as_str().into()))
        .collect();
    let named = refs
        .iter()
        .zip(&asked)
        .flat_map(|(topic, (_, partitions))| {
            let index = &index;
            partitions.iter().map(move |one| (topic, index(one)))
        });
    let owners = owners(core, named).await;
    let distinct = distinct(&owners);
    let mut parts: Vec<Asked<P>> = distinct.iter().map(|_| Vec::new()).collect();
    let mut topics = Vec::with_capacity(asked.len());
    let mut next = owners.iter();
    for (name, partitions) in asked {
        topics.push((name.clone(), partitions.len()));
        // A topic that is named twice stays two: each owner sees what the client wrote.
        let begun: Vec<usize> = parts.iter().map(Vec::len).collect();
        for (partition, owner) in partitions.into_iter().zip(next.by_ref()) {
            let place = distinct.iter().position(|known| known == owner);
            let place = place.expect("each owner is among the distinct ones");
            let part = &mut parts[place];
            if part.len() == begun[place] {
                part.push((name.clone(), Vec::new()));
            }
            if let Some((_, of_topic)) = part.last_mut() {
                of_topic.push(partition);
            }
        }
    }
    Split {
        owners,
        distinct,
        asked: parts,
        topics,
    }
}

/// Answers a ListOffsets request.
///
/// # Errors
/// When it is malformed, or an owner stops.
pub async fn list_offsets(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let (version, request) = (header.version, decode(header, frame, of_offsets::FIELDS)?);
    let ListOffsetsRequest {
        replica_id,
        isolation_level,
        timeout_ms,
        topics,
        ..
    } = request;
    let asked = topics
        .into_iter()
        .map(|topic| (topic.name, topic.partitions));
    let index = |partition: &ListOffsetsPartition| partition.partition_index;
    let split = split(core, asked.collect(), index).await;
    let work = split
        .distinct
        .iter()
        .zip(split.asked)
        .map(|(owner, asked)| {
            let topics = asked.into_iter().map(|(name, partitions)| {
                ListOffsetsTopic::default()
                    .with_name(name)
                    .with_partitions(partitions)
            });
            let request = ListOffsetsRequest::default()
                .with_replica_id(replica_id)
                .with_isolation_level(isolation_level)
                .with_timeout_ms(timeout_ms)
                .with_topics(topics.collect());
            let work = move |there: CoreHandle| async move {
                let found = of_offsets::handle(&there, version, request).await;
                found
                    .topics
                    .into_iter()
                    .flat_map(|topic| topic.partitions)
                    .collect()
            };
            (*owner, work)
        });
    let found: Vec<Vec<_>> = at_each(core, work.collect()).await?;
    let mut found = in_order(&split.owners, &split.distinct, found).into_iter();
    let topics = split.topics.into_iter().map(|(name, count)| {
        ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(found.by_ref().take(count).collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    Ok(Answer::of(header, &response)?)
}

/// Answers a DeleteRecords request.
///
/// # Errors
/// When it is malformed, or an owner stops.
pub async fn delete_records(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let request: DeleteRecordsRequest = decode(header, frame, of_records::FIELDS)?;
    let timeout_ms = request.timeout_ms;
    let asked = request
        .topics
        .into_iter()
        .map(|topic| (topic.name, topic.partitions));
    let index = |partition: &DeleteRecordsPartition| partition.partition_index;
    let split = split(core, asked.collect(), index).await;
    let work = split
        .distinct
        .iter()
        .zip(split.asked)
        .map(|(owner, asked)| {
            let topics = asked.into_iter().map(|(name, partitions)| {
                DeleteRecordsTopic::default()
                    .with_name(name)
                    .with_partitions(partitions)
            });
            let request = DeleteRecordsRequest::default()
                .with_timeout_ms(timeout_ms)
                .with_topics(topics.collect());
            let work = move |there: CoreHandle| async move {
                let deleted = of_records::handle(&there, request).await;
                deleted
                    .topics
                    .into_iter()
                    .flat_map(|topic| topic.partitions)
                    .collect()
            };
            (*owner, work)
        });
    let deleted: Vec<Vec<_>> = at_each(core, work.collect()).await?;
    let mut deleted = in_order(&split.owners, &split.distinct, deleted).into_iter();
    let topics = split.topics.into_iter().map(|(name, count)| {
        DeleteRecordsTopicResult::default()
            .with_name(name)
            .with_partitions(deleted.by_ref().take(count).collect())
    });
    let response = DeleteRecordsResponse::default().with_topics(topics.collect());
    Ok(Answer::of(header, &response)?)
}
