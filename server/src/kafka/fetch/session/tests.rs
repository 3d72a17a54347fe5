use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kafka::fetch::response::{Found, Refusal};
use ringlog_storage::buffer::Buf;

type Name = (usize, i32);

/// Partitions that the sessions of a core have at the most.
const MOST: usize = 1000;

fn topic(number: usize) -> TopicRef {
    TopicRef::Name(format!("topic-{number}").into())
}

fn request(id: i32, epoch: i32, wanted: &[(Name, i64)], forgotten: &[Name]) -> FetchRequest {
    let mut request = FetchRequest {
        session_id: id,
        session_epoch: epoch,
        ..FetchRequest::default()
    };
    for ((of, index), offset) in wanted {
        push_run(&mut request.topics, &topic(*of), 1);
        request.partitions.push(FetchPartition {
            index: *index,
            current_leader_epoch: -1,
            offset: *offset,
            max_bytes: 1,
        });
    }
    let forgotten = forgotten.iter();
    request.forgotten = forgotten
        .map(|(of, index)| (topic(*of), vec![*index]))
        .collect();
    request
}

/// What a turn wants: in its order.
fn wanted(turn: &Turn) -> Vec<(Name, i64)> {
    let mut partitions = turn.request().partitions.iter();
    let mut wanted = Vec::new();
    for (topic, count) in &turn.request().topics {
        let TopicRef::Name(name) = topic else {
            panic!()
        };
        let number = name.trim_start_matches("topic-").parse().unwrap();
        for partition in partitions.by_ref().take(*count) {
            wanted.push(((number, partition.index), partition.offset));
        }
    }
    assert!(partitions.next().is_none());
    wanted
}

fn told(answer: &FetchAnswer) -> Vec<Name> {
    let mut partitions = answer.partitions.iter();
    let mut told = Vec::new();
    for (topic, count) in &answer.topics {
        let TopicRef::Name(name) = topic else {
            panic!()
        };
        let number = name.trim_start_matches("topic-").parse().unwrap();
        for partition in partitions.by_ref().take(*count) {
            told.push((number, partition.index));
        }
    }
    assert!(partitions.next().is_none());
    told
}

/// What is in a partition: high watermark, whether its answer has records, whether it is refused.
type There = (i64, bool, bool);

fn found(turn: &Turn, there: impl Fn(Name) -> There) -> Vec<PartitionAnswer> {
    let answer = |(name, _): (Name, i64)| {
        let (high_watermark, has_records, is_refused) = there(name);
        let outcome = if is_refused {
            Err(Refusal::new(ResponseError::NotLeaderOrFollower, ""))
        } else {
            Ok(Found {
                high_watermark,
                log_start_offset: 0,
                batches: has_records
                    .then(|| Buf::from_vec(vec![1]))
                    .into_iter()
                    .collect(),
            })
        };
        PartitionAnswer {
            index: name.1,
            outcome,
        }
    };
    wanted(turn).into_iter().map(answer).collect()
}

fn begin(
    slot: &SessionSlot,
    metrics: &Arc<CoreMetrics>,
    request: FetchRequest,
) -> Result<Turn, ResponseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(slot.begin(metrics, MOST, false, request))
}

#[derive(Clone, Debug)]
struct Step {
    wanted: BTreeMap<Name, i64>,
    forgotten: Vec<Name>,
    there: BTreeMap<Name, There>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || (0..3_usize, 0..5_i32);
    let step = (
        proptest::collection::btree_map(name(), 0..99_i64, 0..4),
        proptest::collection::vec(name(), 0..3),
        proptest::collection::btree_map(
            name(),
            (0..3_i64, any::<bool>(), proptest::bool::weighted(0.1)),
            0..6,
        ),
    );
    let step = step.prop_map(|(wanted, forgotten, there)| Step {
        wanted,
        forgotten,
        there,
    });
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #[test]
    fn a_session_wants_what_its_requests_said_and_tells_what_is_new(
        first in proptest::collection::btree_map((0..3_usize, 0..5_i32), 0..99_i64, 1..15),
        steps in steps(),
    ) {
        let metrics = Arc::new(CoreMetrics::default());
        let slot = SessionSlot::default();
        let mut model = first.clone();
        let first: Vec<_> = first.into_iter().collect();
        let turn = begin(&slot, &metrics, request(0, 0, &first, &[])).unwrap();
        prop_assert_eq!(wanted(&turn), first);
        let mut said: BTreeMap<Name, (i64, bool)> = BTreeMap::new();
        let answers = found(&turn, |_| (0, false, false));
        let answer = slot.end(turn, answers, Vec::new());
        prop_assert_eq!(told(&answer).len(), model.len());
        said.extend(model.keys().map(|name| (*name, (0, false))));
        let id = answer.session_id;
        prop_assert!(id > 0);
        for (epoch, step) in (1..).zip(steps) {
            let changes: Vec<_> = step.wanted.iter().map(|(name, offset)| (*name, *offset)).collect();
            for name in &step.forgotten {
                model.remove(name);
                said.remove(name);
            }
            model.extend(changes.iter().copied());
            let turn = begin(&slot, &metrics, request(id, epoch, &changes, &step.forgotten)).unwrap();
            let order = wanted(&turn);
            let sorted: BTreeMap<_, _> = order.iter().copied().collect();
            prop_assert_eq!(&sorted, &model);
            prop_assert_eq!(order.len(), model.len());
            let there = |name: Name| step.there.get(&name).copied().unwrap_or((0, false, false));
            let answers = found(&turn, there);
            let answer = slot.end(turn, answers, Vec::new());
            let expected = order.iter().map(|(name, _)| *name).filter(|name| {
                let (high, has_records, is_refused) = there(*name);
                has_records || is_refused || said.get(name) != Some(&(high, false))
            });
            prop_assert_eq!(told(&answer), expected.collect::<Vec<_>>());
            for name in model.keys() {
                let (high, _, is_refused) = there(*name);
                said.insert(*name, if is_refused { (-1, true) } else { (high, false) });
            }
            let counted = metrics.fetch_session_partitions.get();
            prop_assert_eq!(counted, model.len() as u64);
            if model.is_empty() {
                prop_assert_eq!(answer.session_id, 0);
                return Ok(());
            }
            prop_assert_eq!(answer.session_id, id);
        }
        drop(slot);
        prop_assert_eq!(metrics.fetch_sessions.get(), 0);
        prop_assert_eq!(metrics.fetch_session_partitions.get(), 0);
    }
}

#[test]
fn the_next_answer_begins_behind_the_last_partition_that_had_records() {
    let metrics = Arc::new(CoreMetrics::default());
    let slot = SessionSlot::default();
    let all: Vec<_> = (0..6).map(|index| ((0, index), 0)).collect();
    let turn = begin(&slot, &metrics, request(0, 0, &all, &[])).unwrap();
    let answers = found(&turn, |(_, index)| (1, index < 2, false));
    let id = slot.end(turn, answers, Vec::new()).session_id;
    let turn = begin(&slot, &metrics, request(id, 1, &[((0, 1), 7)], &[])).unwrap();
    let order: Vec<_> = wanted(&turn)
        .iter()
        .map(|((_, index), offset)| (*index, *offset))
        .collect();
    assert_eq!(order, [(2, 0), (3, 0), (4, 0), (5, 0), (0, 0), (1, 7)]);
}

#[test]
fn a_request_that_is_not_the_next_of_the_session_is_refused_and_the_session_stays() {
    let metrics = Arc::new(CoreMetrics::default());
    let slot = SessionSlot::default();
    let refused = |request| begin(&slot, &metrics, request).err();
    let unknown = Some(ResponseError::FetchSessionIdNotFound);
    assert_eq!(refused(request(9, 1, &[], &[])), unknown);
    let turn = begin(&slot, &metrics, request(0, 0, &[((0, 0), 0)], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let id = slot.end(turn, answers, Vec::new()).session_id;
    assert_eq!(refused(request(id + 1, 1, &[], &[])), unknown);
    let epoch = Some(ResponseError::InvalidFetchSessionEpoch);
    assert_eq!(refused(request(id, 2, &[], &[])), epoch);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let by_id = runtime.block_on(slot.begin(&metrics, MOST, true, request(id, 1, &[], &[])));
    assert_eq!(by_id.err(), Some(ResponseError::FetchSessionTopicIdError));
    let turn = begin(&slot, &metrics, request(id, 1, &[], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let answer = slot.end(turn, answers, Vec::new());
    assert_eq!((answer.session_id, told(&answer)), (id, vec![]));
    // One that is given up takes its session with it.
    drop(begin(&slot, &metrics, request(id, 2, &[], &[])).unwrap());
    assert_eq!(metrics.fetch_sessions.get(), 0);
    assert_eq!(refused(request(id, 3, &[], &[])), unknown);
    // A full fetch without a session leaves the one there is, and ends it if it names it.
    let turn = begin(&slot, &metrics, request(0, 0, &[((0, 0), 0)], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let id = slot.end(turn, answers, Vec::new()).session_id;
    let turn = begin(&slot, &metrics, request(0, -1, &[((0, 0), 0)], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let answer = slot.end(turn, answers, Vec::new());
    assert_eq!((answer.session_id, told(&answer)), (0, vec![(0, 0)]));
    assert_eq!(metrics.fetch_sessions.get(), 1);
    let turn = begin(&slot, &metrics, request(id, -1, &[((0, 0), 0)], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let answer = slot.end(turn, answers, Vec::new());
    assert_eq!((answer.session_id, told(&answer)), (0, vec![(0, 0)]));
    assert_eq!(metrics.fetch_sessions.get(), 0);
}

#[test]
fn sessions_beyond_the_bound_of_a_core_are_not_begun() {
    let metrics = Arc::new(CoreMetrics::default());
    metrics.fetch_session_partitions.add(MOST as u64 - 1);
    let slot = SessionSlot::default();
    let both = [((0, 0), 0), ((0, 1), 0)];
    let turn = begin(&slot, &metrics, request(0, 0, &both, &[])).unwrap();
    assert_eq!(metrics.fetch_sessions_refused.get(), 1);
    let answers = found(&turn, |_| (1, false, false));
    let answer = slot.end(turn, answers, Vec::new());
    assert_eq!((answer.session_id, told(&answer).len()), (0, 2));
    let turn = begin(&slot, &metrics, request(0, 0, &both[..1], &[])).unwrap();
    let answers = found(&turn, |_| (1, false, false));
    let id = slot.end(turn, answers, Vec::new()).session_id;
    assert!(id > 0);
    // It cannot grow either: the client begins anew.
    let more = begin(&slot, &metrics, request(id, 1, &both[1..], &[]));
    assert_eq!(more.err(), Some(ResponseError::FetchSessionIdNotFound));
}
