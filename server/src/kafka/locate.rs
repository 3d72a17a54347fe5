//! Finds the partition behind a topic and an index, if this core leads it. The same for every
//! API that reads or writes partitions.

use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::{Topic, Topics};
use ringlog_types::{LogId, PartitionId};

use super::endpoints::{Leader, leader_of};
use super::topic_ref::TopicRef;
use crate::node::core::Core;
use crate::node::topology::Topology;

/// A partition that cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHere {
    /// The protocol's code.
    pub code: ResponseError,
    /// The reason, for people.
    pub cause: String,
    /// Who leads it instead.
    pub leader: Option<Leader>,
}

/// The partition with this index, and its topic.
///
/// # Errors
/// When there is none, or another core leads it.
pub fn locate<'a>(
    topology: &Topology,
    core: &'a Core,
    topic: &TopicRef,
    index: i32,
) -> Result<(PartitionId, &'a Topic), NotHere> {
    let found = find(&core.topics, topic)?;
    let partition = locate_in(topology, core.log_id, found, index)?;
    Ok((partition, found))
}

/// The topic.
///
/// # Errors
/// When there is none.
pub fn find<'a>(topics: &'a Topics, topic: &TopicRef) -> Result<&'a Topic, NotHere> {
    topic.find(topics).ok_or_else(|| {
        let code = match topic {
            TopicRef::Name(_) => ResponseError::UnknownTopicOrPartition,
            TopicRef::Id(_) => ResponseError::UnknownTopicId,
        };
        NotHere::new(code, "there is no such topic".to_owned())
    })
}

/// That a topic of this name has a partition with this index, whoever leads it.
///
/// # Errors
/// When there is none.
pub fn has_partition(topics: &Topics, name: &str, index: i32) -> Result<(), NotHere> {
    let topic = find(topics, &TopicRef::Name(name.into()))?;
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    if place < topic.partitions.len() {
        return Ok(());
    }
    Err(no_such_index(topic))
}

fn no_such_index(topic: &Topic) -> NotHere {
    let cause = format!("the topic has {} partitions", topic.partitions.len());
    NotHere::new(ResponseError::UnknownTopicOrPartition, cause)
}

/// The partition of a topic with this index, if it lies in log `here`.
///
/// # Errors
/// When there is none, or another core leads it.
pub fn locate_in(
    topology: &Topology,
    here: LogId,
    topic: &Topic,
    index: i32,
) -> Result<PartitionId, NotHere> {
    let log = usize::try_from(index)
        .ok()
        .and_then(|index| topic.partitions.get(index));
    let Some(log) = log else {
        return Err(no_such_index(topic));
    };
    if *log != here {
        let leader = leader_of(topology, *log);
        let cause = format!("broker {} leads the partition", leader.id);
        return Err(NotHere {
            leader: Some(leader),
            ..NotHere::new(ResponseError::NotLeaderOrFollower, cause)
        });
    }
    // It is an index of a list whose length fits u32.
    Ok(PartitionId::new(topic.number, index as u32))
}

impl NotHere {
    fn new(code: ResponseError, cause: String) -> NotHere {
        NotHere {
            code,
            cause,
            leader: None,
        }
    }
}

/// Checks the leader epoch that a client knows, -1 for a client that knows none (KIP-320).
///
/// # Errors
/// When it is not the current one.
pub fn check_leader_epoch(known: i32, current: i32) -> Result<(), NotHere> {
    if known < 0 || known == current {
        return Ok(());
    }
    let code = if known < current {
        ResponseError::FencedLeaderEpoch
    } else {
        ResponseError::UnknownLeaderEpoch
    };
    let cause = format!("the client knows leader epoch {known}, the current one is {current}");
    Err(NotHere {
        code,
        cause,
        leader: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_of_the_past_is_fenced_and_one_of_the_future_unknown() {
        check_leader_epoch(-1, 7).unwrap();
        check_leader_epoch(7, 7).unwrap();
        let code = |known| check_leader_epoch(known, 7).unwrap_err().code;
        assert_eq!(code(6), ResponseError::FencedLeaderEpoch);
        assert_eq!(code(8), ResponseError::UnknownLeaderEpoch);
    }
}
