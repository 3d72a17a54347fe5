//! Where a request's records go: the partition behind a name and an index, whether this core
//! leads it, and the rules of its topic.

use ringlog_types::PartitionId;

use super::checks::Rules;
use super::request::PartitionRecords;
use super::response::Refusal;
use crate::kafka::endpoints::{Endpoint, add_endpoint};
use crate::kafka::limits::STEP_PARTITIONS;
use crate::kafka::locate::{NotHere, locate};
use crate::kafka::topic_ref::TopicRef;
use crate::node::core::{Core, CoreHandle};

/// A partition that this core leads.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Which.
    pub partition: PartitionId,
    /// What its topic allows.
    pub rules: Rules,
}

/// Finds the target of each partition of a request; notes where those are that this core does
/// not lead.
pub async fn resolve(
    core: &CoreHandle,
    topics: &[(TopicRef, usize)],
    partitions: &[PartitionRecords],
    version: i16,
    endpoints: &mut Vec<Endpoint>,
) -> Vec<Result<Target, Refusal>> {
    let mut targets = Vec::with_capacity(partitions.len());
    let (mut rest, mut unpaused) = (partitions, 0);
    for (topic, count) in topics {
        let (of_topic, behind) = rest.split_at(*count);
        rest = behind;
        for step in of_topic.chunks(STEP_PARTITIONS) {
            core.with(|state| {
                let found = step.iter().map(|p| target(core, state, topic, p.index));
                targets.extend(found);
            });
            unpaused += step.len();
            if unpaused >= STEP_PARTITIONS {
                unpaused = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    // Clients of older versions ask for metadata instead.
    if version >= super::response::LEADER_SINCE {
        let leaders = targets
            .iter()
            .filter_map(|target| target.as_ref().err()?.leader);
        for leader in leaders {
            add_endpoint(endpoints, core.topology(), leader);
        }
    }
    targets
}

fn target(
    handle: &CoreHandle,
    core: &Core,
    topic: &TopicRef,
    index: i32,
) -> Result<Target, Refusal> {
    let (partition, topic) = locate(handle.topology(), core, topic, index)?;
    Ok(Target {
        partition,
        rules: Rules::of(&topic.config),
    })
}

impl From<NotHere> for Refusal {
    fn from(not_here: NotHere) -> Refusal {
        let NotHere {
            code,
            cause,
            leader,
        } = not_here;
        Refusal {
            leader,
            ..Refusal::new(code, cause)
        }
    }
}
