//! Requests about partitions, taken apart by owner, answered there, and put together again.

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
use crate::node::errand::Unanswered;

/// Topics, each with what is asked or said of its partitions.
pub(super) type ByTopic<P> = Vec<(TopicName, Vec<P>)>;

/// Has each owner answer for its partitions, all at the same time; what they say, in the order of what
/// was asked. `index` gives a partition's number; `answer` is called on the owner, and says one thing for
/// each partition, in their order.
///
/// Cancellation: what was asked ends at its next wait.
///
/// # Errors
/// When an owner stops.
pub(super) async fn ask_owners<P, A, F, Fut>(
    core: &CoreHandle,
    asked: ByTopic<P>,
    index: impl Fn(&P) -> i32,
    answer: F,
) -> Result<ByTopic<A>, Unanswered>
where
    P: Send + 'static,
    A: Send + 'static,
    F: Fn(CoreHandle, ByTopic<P>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Vec<A>> + 'static,
{
    let split = split(core, asked, index).await;
    let work = split.distinct.iter().zip(split.asked);
    let work = work.map(|(owner, asked)| {
        let answer = answer.clone();
        (*owner, move |there| answer(there, asked))
    });
    let said = at_each(core, work.collect()).await?;
    let mut said = in_order(&split.owners, &split.distinct, said).into_iter();
    let topics = split.topics.into_iter();
    let topics = topics.map(|(name, count)| (name, said.by_ref().take(count).collect()));
    Ok(topics.collect())
}

/// Where a request's partitions are.
struct Split<P> {
    /// The owner of each partition, in the order of the request.
    owners: Vec<CoreId>,
    distinct: Vec<CoreId>,
    /// What is asked of each of them.
    asked: Vec<ByTopic<P>>,
    /// Each topic, and how many of the partitions are its.
    topics: Vec<(TopicName, usize)>,
}

/// Takes a request apart by the owners of its partitions.
async fn split<P>(core: &CoreHandle, asked: ByTopic<P>, index: impl Fn(&P) -> i32) -> Split<P> {
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
    let mut parts: Vec<ByTopic<P>> = distinct.iter().map(|_| Vec::new()).collect();
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
    let version = header.version;
    let mut request: ListOffsetsRequest = decode(header, frame, of_offsets::FIELDS)?;
    let asked = std::mem::take(&mut request.topics).into_iter();
    let asked = asked.map(|topic| (topic.name, topic.partitions));
    let index = |partition: &ListOffsetsPartition| partition.partition_index;
    let found = ask_owners(core, asked.collect(), index, move |there, asked| {
        let topics = asked.into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(name)
                .with_partitions(partitions)
        });
        let part = request.clone().with_topics(topics.collect());
        async move {
            let found = of_offsets::handle(&there, version, part).await;
            let found = found.topics.into_iter();
            found.flat_map(|topic| topic.partitions).collect()
        }
    });
    let topics = found.await?.into_iter().map(|(name, partitions)| {
        ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
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
    let mut request: DeleteRecordsRequest = decode(header, frame, of_records::FIELDS)?;
    let asked = std::mem::take(&mut request.topics).into_iter();
    let asked = asked.map(|topic| (topic.name, topic.partitions));
    let index = |partition: &DeleteRecordsPartition| partition.partition_index;
    let deleted = ask_owners(core, asked.collect(), index, move |there, asked| {
        let topics = asked.into_iter().map(|(name, partitions)| {
            DeleteRecordsTopic::default()
                .with_name(name)
                .with_partitions(partitions)
        });
        let part = request.clone().with_topics(topics.collect());
        async move {
            let deleted = of_records::handle(&there, part).await;
            let deleted = deleted.topics.into_iter();
            deleted.flat_map(|topic| topic.partitions).collect()
        }
    });
    let topics = deleted.await?.into_iter().map(|(name, partitions)| {
        DeleteRecordsTopicResult::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    let response = DeleteRecordsResponse::default().with_topics(topics.collect());
    Ok(Answer::of(header, &response)?)
}
