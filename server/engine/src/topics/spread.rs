//! Which log each partition goes to when a node has other logs than before: every topic evenly
//! over all of them, all partitions together evenly, and where that allows a choice, a partition
//! stays with the core that has it.
//!
//! Pure: called once, before a node with another number of logs serves.

use std::collections::BTreeMap;

use ringlog_types::LogId;

use super::owners::Owners;
use super::state::Topics;
use super::topic::Topic;

/// Spreads the topics' partitions over `after`, the logs by core, where they lie in `before`.
/// With as many logs as before, each core keeps what it has.
///
/// # Panics
/// Without any log to spread over.
#[must_use]
pub fn spread(topics: &Topics, before: &[LogId], after: &[LogId]) -> Owners {
    assert!(!after.is_empty(), "partitions need a log");
    let cores = after.len();
    let home = |log: &LogId| before.iter().position(|known| known == log);
    let home = |log: &LogId| home(log).filter(|core| *core < cores);
    // Partitions beyond the equal share of each topic, which every core gets in any case.
    let mut load = vec![0; cores];
    let mut owners = BTreeMap::new();
    for topic in topics.iter() {
        let homes: Vec<Option<usize>> = topic.partitions.iter().map(home).collect();
        let placed = if before.len() == cores && homes.iter().all(Option::is_some) {
            homes.into_iter().flatten().collect()
        } else {
            place(topic, &homes, &mut load)
        };
        let logs = placed.into_iter().map(|core: usize| after[core]);
        owners.insert(topic.number, logs.collect());
    }
    Owners::new(owners)
}

/// The core of each partition of a topic.
fn place(topic: &Topic, homes: &[Option<usize>], load: &mut [usize]) -> Vec<usize> {
    let cores = load.len();
    let (each, extra) = (homes.len() / cores, homes.len() % cores);
    let mut held = vec![0; cores];
    for core in homes.iter().flatten() {
        held[*core] += 1;
    }
    // Those with one more than the others: who has least, and among equals who has more to keep.
    let first = usize::try_from(topic.number.0).map_or(0, |number| number % cores);
    let mut order: Vec<usize> = (0..cores).collect();
    order.sort_by_key(|core| {
        let keeps = held[*core] > each;
        (load[*core], !keeps, (*core + cores - first) % cores)
    });
    let mut room = vec![each; cores];
    for core in &order[..extra] {
        room[*core] += 1;
        load[*core] += 1;
    }
    let mut placed: Vec<Option<usize>> = homes
        .iter()
        .map(|home| {
            let core = (*home).filter(|core| room[*core] > 0)?;
            room[core] -= 1;
            Some(core)
        })
        .collect();
    let mut next = first;
    for place in placed.iter_mut().filter(|place| place.is_none()) {
        while room[next] == 0 {
            next = (next + 1) % cores;
        }
        room[next] -= 1;
        *place = Some(next);
        next = (next + 1) % cores;
    }
    placed.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringlog_types::{PartitionId, TopicNumber};

    use super::*;
    use crate::topics::{MetadataRecord, TopicConfig, TopicId};

    /// Topics with so many partitions, each partition in one of the logs.
    fn topics(partitions: &[Vec<LogId>], logs: &[LogId]) -> Topics {
        let mut topics = Topics::new(logs.to_vec());
        for (number, partitions) in (0u32..).zip(partitions) {
            topics.apply(&MetadataRecord::TopicCreated {
                number: TopicNumber(number),
                id: TopicId(u128::from(number + 2).to_be_bytes()),
                name: format!("topic-{number}"),
                partitions: partitions.clone(),
                config: TopicConfig::default(),
            });
        }
        topics
    }

    fn logs(from: u32, count: u32) -> Vec<LogId> {
        (from..from + count).map(LogId).collect()
    }

    /// As a node with so many logs creates them.
    fn created(counts: &[u32], logs: &[LogId]) -> Vec<Vec<LogId>> {
        let place = |number: usize, index: u32| logs[(number + index as usize) % logs.len()];
        counts
            .iter()
            .enumerate()
            .map(|(number, count)| (0..*count).map(|index| place(number, index)).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn every_partition_gets_one_log_and_all_logs_get_their_share(
            counts in proptest::collection::vec(1u32..40, 1..30),
            from in 1u32..9,
            to in 1u32..9,
        ) {
            let (before, after) = (logs(0, from), logs(100, to));
            let topics = topics(&created(&counts, &before), &before);
            let owners = spread(&topics, &before, &after);
            let mut load = BTreeMap::new();
            for topic in topics.iter() {
                let owned = owners.of_topic(topic.number);
                prop_assert_eq!(owned.len(), topic.partitions.len());
                let share = |log: &LogId| owned.iter().filter(|owner| *owner == log).count();
                let shares: Vec<usize> = after.iter().map(share).collect();
                let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{shares:?}");
                for log in owned {
                    *load.entry(*log).or_insert(0usize) += 1;
                }
            }
            let loads = after.iter().map(|log| load.get(log).copied().unwrap_or(0));
            let loads: Vec<usize> = loads.collect();
            if from != to {
                let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{loads:?}");
            }
        }

        #[test]
        fn as_many_logs_as_before_keep_what_they_have(
            counts in proptest::collection::vec(1u32..40, 1..30),
            cores in 1u32..9,
        ) {
            let (before, after) = (logs(3, cores), logs(50, cores));
            let topics = topics(&created(&counts, &before), &before);
            let owners = spread(&topics, &before, &after);
            for topic in topics.iter() {
                for (log, owner) in topic.partitions.iter().zip(owners.of_topic(topic.number)) {
                    prop_assert_eq!(owner.0 - 50, log.0 - 3);
                }
            }
        }
    }

    #[test]
    fn partitions_stay_where_evenness_lets_them() {
        let (before, after) = (logs(0, 1), logs(1, 2));
        // Topics of one partition each, all on core 0: half of them go.
        let one_each = topics(&created(&[1, 1, 1, 1], &before), &before);
        let owners = spread(&one_each, &before, &after);
        let stays = one_each.iter().filter(|topic| {
            let partition = PartitionId::new(topic.number, 0);
            owners.of(partition) == Some(LogId(1))
        });
        assert_eq!(stays.count(), 2);
        // A topic of four: two stay.
        let four = topics(&created(&[4], &before), &before);
        let owners = spread(&four, &before, &after);
        assert_eq!(
            owners.of_topic(TopicNumber(0)),
            [LogId(1), LogId(1), LogId(2), LogId(2)]
        );
        assert_eq!(owners.of(PartitionId::new(TopicNumber(0), 4)), None);
        assert_eq!(owners.of(PartitionId::new(TopicNumber(1), 0)), None);
    }

    #[test]
    fn topics_whose_partitions_have_new_logs_are_otherwise_as_they_were() {
        let (before, after) = (logs(0, 3), logs(3, 2));
        let mut moved = topics(&created(&[5, 1], &before), &before);
        let untouched = moved.clone();
        let owners = spread(&moved, &before, &after);
        moved.reassign(after.clone(), &owners);
        assert_eq!(moved.version(), untouched.version());
        for (topic, old) in moved.iter().zip(untouched.iter()) {
            assert_eq!(topic.partitions, owners.of_topic(topic.number));
            assert_eq!((topic.id, &topic.name), (old.id, &old.name));
        }
        let mut restored = Topics::new(after);
        restored.restore(&moved.checkpoint()).unwrap();
        assert_eq!(restored.checkpoint(), moved.checkpoint());
    }
}
