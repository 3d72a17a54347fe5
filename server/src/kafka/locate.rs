//! Finds the partition behind a topic and an index, if this core leads it. The same for every
//! API that reads or writes partitions.

use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::Topic;
use ringlog_types::PartitionId;

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
    let not_here = |code, cause| NotHere {
        code,
        cause,
        leader: None,
    };
    let found = topic.find(&core.topics).ok_or_else(|| {
        let code = match topic {
            TopicRef::Name(_) => ResponseError::UnknownTopicOrPartition,
            TopicRef::Id(_) => ResponseError::UnknownTopicId,
        };
        not_here(code, "there is no such topic".to_owned())
    })?;
    let log = usize::try_from(index)
        .ok()
        .and_then(|index| found.partitions.get(index));
    let Some(log) = log else {
        let cause = format!("the topic has {} partitions", found.partitions.len());
        return Err(not_here(ResponseError::UnknownTopicOrPartition, cause));
    };
    if *log != core.log_id {
        let leader = leader_of(topology, *log);
        let cause = format!("broker {} leads the partition", leader.id);
        let refusal = not_here(ResponseError::NotLeaderOrFollower, cause);
        return Err(NotHere {
            leader: Some(leader),
            ..refusal
        });
    }
    // It is an index of a list whose length fits u32.
    Ok((PartitionId::new(found.number, index as u32), found))
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
