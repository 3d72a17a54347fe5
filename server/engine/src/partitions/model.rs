//! A model of the partitions machine, as simple as it can be: lists that are searched, and the
//! pending entries beside the committed ones. A property test runs both through the same random
//! life, crashes included.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringlog_types::batch::{BatchHeader, Builder};
use ringlog_types::{Offset, PartitionId, TopicNumber};

use super::*;

const PARTITIONS: u32 = 3;
const PRODUCERS: i64 = 4;
const LIMITS: ProducerLimits = ProducerLimits {
    per_partition: 2,
    per_log: 4,
};

/// An entry of the log.
#[derive(Clone, Debug)]
enum Entry {
    Records {
        partition: u32,
        base: u64,
        header: BatchHeader,
        unbroken: u64,
    },
    Start {
        partition: u32,
        start: u64,
    },
    Dropped {
        partition: u32,
    },
}

impl Entry {
    fn partition(&self) -> u32 {
        match self {
            Entry::Records { partition, .. }
            | Entry::Start { partition, .. }
            | Entry::Dropped { partition } => *partition,
        }
    }
}

/// A producer in a partition.
#[derive(Clone, Debug)]
struct Remembered {
    partition: u32,
    id: i64,
    epoch: i16,
    unbroken: u64,
    /// First and last sequence, base offset.
    batches: Vec<(i32, i32, u64)>,
}

/// First and last sequence of a batch, its base offset, and whether it is pending.
type Sent = (i32, i32, u64, bool);

#[derive(Clone, Debug, Default)]
struct Model {
    bounds: BTreeMap<u32, (u64, u64)>,
    /// The leader epoch of each committed offset.
    epochs: BTreeMap<u32, Vec<i32>>,
    /// Longest idle first.
    remembered: Vec<Remembered>,
    pending: Vec<Entry>,
}

fn sequence_after(sequence: i32) -> i32 {
    if sequence == i32::MAX {
        0
    } else {
        sequence + 1
    }
}

fn sequence_before(sequence: i32) -> i32 {
    if sequence == 0 {
        i32::MAX
    } else {
        sequence - 1
    }
}

impl Model {
    fn next_offset(&self, partition: u32) -> u64 {
        let reserved = self
            .pending
            .iter()
            .filter(|entry| entry.partition() == partition);
        reserved
            .filter_map(|entry| match entry {
                Entry::Records { base, header, .. } => Some(base + u64::from(header.offsets())),
                _ => None,
            })
            .chain([self.bounds.get(&partition).map_or(0, |bounds| bounds.1)])
            .max()
            .unwrap()
    }

    /// All that is known of a producer: its epoch, the batches of that, how many sequences up to
    /// the last one are known.
    fn view(&self, partition: u32, id: i64) -> Option<(i16, Vec<Sent>, u64)> {
        let mut view = self
            .remembered
            .iter()
            .find(|r| r.partition == partition && r.id == id)
            .map(|r| {
                let batches = r
                    .batches
                    .iter()
                    .map(|(f, l, b)| (*f, *l, *b, false))
                    .collect();
                (r.epoch, batches, r.unbroken)
            });
        for entry in &self.pending {
            let Entry::Records {
                partition: p,
                base,
                header,
                unbroken,
            } = entry
            else {
                continue;
            };
            if *p != partition || header.producer_id != id {
                continue;
            }
            let batch = (header.base_sequence, header.last_sequence(), *base, true);
            let mut batches: Vec<_> = match view.take() {
                Some((epoch, batches, _)) if epoch == header.producer_epoch => batches,
                _ => Vec::new(),
            };
            batches.push(batch);
            view = Some((header.producer_epoch, batches, *unbroken));
        }
        view
    }

    fn prepare(&mut self, partition: u32, header: BatchHeader) -> Result<Prepared, ProduceError> {
        let count = u64::from(header.offsets());
        let mut unbroken = count;
        let producer_id = header.producer_id;
        if producer_id >= 0
            && let Some((epoch, batches, known)) = self.view(partition, producer_id)
        {
            let found = header.base_sequence;
            let last = header.last_sequence();
            if header.producer_epoch < epoch {
                return Err(ProduceError::InvalidProducerEpoch {
                    producer_id,
                    current: epoch,
                    found: header.producer_epoch,
                });
            }
            if header.producer_epoch == epoch {
                // Twins can be only where sequences wrapped around; there are none here.
                if let Some(batch) = batches.iter().find(|b| (b.0, b.1) == (found, last)) {
                    let base_offset = Offset(batch.2);
                    return Ok(Prepared::Duplicate {
                        base_offset,
                        pending: batch.3,
                    });
                }
                let expected = sequence_after(batches.last().unwrap().1);
                if found != expected {
                    // Step back from the oldest remembered batch over what is known.
                    let span: u64 = batches
                        .iter()
                        .map(|b| (i64::from(b.1) - i64::from(b.0)).rem_euclid(1 << 31) as u64 + 1)
                        .sum();
                    let mut sequence = batches[0].0;
                    let mut back = Vec::new();
                    for _ in span..known {
                        sequence = sequence_before(sequence);
                        back.push(sequence);
                    }
                    let all_seen = (0..count).scan(found, |sequence, _| {
                        let this = *sequence;
                        *sequence = sequence_after(this);
                        Some(back.contains(&this))
                    });
                    return Err(if all_seen.into_iter().all(|seen| seen) {
                        ProduceError::DuplicateSequence {
                            producer_id,
                            first: found,
                            last,
                        }
                    } else {
                        ProduceError::OutOfOrderSequence {
                            producer_id,
                            expected,
                            found,
                        }
                    });
                }
                unbroken += known;
            } else if found != 0 {
                return Err(ProduceError::OutOfOrderSequence {
                    producer_id,
                    expected: 0,
                    found,
                });
            }
        }
        let base = self.next_offset(partition);
        self.pending.push(Entry::Records {
            partition,
            base,
            header,
            unbroken,
        });
        Ok(Prepared::Append {
            base_offset: Offset(base),
        })
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Records {
                partition,
                base,
                header,
                ..
            } => {
                let bounds = self.bounds.entry(*partition).or_default();
                bounds.1 = base + u64::from(header.offsets());
                let epochs = self.epochs.entry(*partition).or_default();
                epochs.resize(bounds.1 as usize, header.partition_leader_epoch);
                if header.producer_id >= 0 {
                    self.remember(*partition, *base, header);
                }
            }
            Entry::Start { partition, start } => {
                let bounds = self.bounds.entry(*partition).or_default();
                *bounds = (bounds.0.max(*start), bounds.1.max(*start));
            }
            Entry::Dropped { partition } => {
                self.epochs.remove(partition);
                self.bounds.remove(partition);
                self.remembered.retain(|r| r.partition != *partition);
            }
        }
    }

    fn remember(&mut self, partition: u32, base: u64, header: &BatchHeader) {
        let id = header.producer_id;
        let found = self
            .remembered
            .iter()
            .position(|r| (r.partition, r.id) == (partition, id));
        let mut remembered = found
            .map(|index| self.remembered.remove(index))
            .unwrap_or_else(|| Remembered {
                partition,
                id,
                epoch: -1,
                unbroken: 0,
                batches: Vec::new(),
            });
        let continues = remembered.epoch == header.producer_epoch
            && remembered.batches.last().map(|b| sequence_after(b.1)) == Some(header.base_sequence);
        if !continues {
            remembered.batches.clear();
            remembered.unbroken = 0;
        }
        remembered.epoch = header.producer_epoch;
        remembered.unbroken += u64::from(header.offsets());
        remembered
            .batches
            .push((header.base_sequence, header.last_sequence(), base));
        if remembered.batches.len() > 5 {
            remembered.batches.remove(0);
        }
        self.remembered.push(remembered);
        if self
            .remembered
            .iter()
            .filter(|r| r.partition == partition)
            .count()
            > 2
        {
            let oldest = self
                .remembered
                .iter()
                .position(|r| r.partition == partition)
                .unwrap();
            self.remembered.remove(oldest);
        }
        if self.remembered.len() > 4 {
            self.remembered.remove(0);
        }
    }
}

fn id(partition: u32) -> PartitionId {
    PartitionId::new(TopicNumber(5), partition)
}

fn apply(real: &mut Partitions, entry: &Entry) {
    match entry {
        Entry::Records {
            partition,
            base,
            header,
            ..
        } => {
            real.apply_records(id(*partition), Offset(*base), header);
        }
        Entry::Start { partition, start } => {
            real.apply_start_offset(id(*partition), Offset(*start));
        }
        Entry::Dropped { partition } => real.apply_dropped(id(*partition)),
    }
}

/// How the next batch's sequence is chosen.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Continue,
    Repeat(u8),
    NearWrap(u8),
    Small(i32),
    Gap(u8),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Prepare {
        partition: u32,
        producer: i64,
        epoch_up: bool,
        epoch_down: bool,
        choice: Choice,
        count: u8,
    },
    Start {
        partition: u32,
        back: u8,
    },
    Drop {
        partition: u32,
    },
    Apply,
    Abandon,
    Checkpoint,
    Crash,
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        12 => Just(Choice::Continue),
        4 => (0u8..12).prop_map(Choice::Repeat),
        1 => (0u8..6).prop_map(Choice::NearWrap),
        1 => (0i32..10).prop_map(Choice::Small),
        1 => (1u8..4).prop_map(Choice::Gap),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let prepare = (
        0..PARTITIONS,
        -1..PRODUCERS,
        proptest::bool::weighted(0.05),
        proptest::bool::weighted(0.05),
        choice(),
        1u8..4,
    );
    prop_oneof![
        20 => prepare.prop_map(|(partition, producer, epoch_up, epoch_down, choice, count)| {
            Step::Prepare { partition, producer, epoch_up, epoch_down, choice, count }
        }),
        12 => Just(Step::Apply),
        2 => Just(Step::Abandon),
        1 => (0..PARTITIONS, 0u8..6).prop_map(|(partition, back)| Step::Start { partition, back }),
        1 => (0..PARTITIONS).prop_map(|partition| Step::Drop { partition }),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

fn header(producer: i64, epoch: i16, sequence: i32, count: u8) -> BatchHeader {
    let mut builder = Builder::new();
    if producer >= 0 {
        builder = builder.producer(producer, epoch, sequence);
    }
    for index in 0..count {
        builder = builder.push(1_000 + i64::from(index), None, None, &[]);
    }
    BatchHeader::parse(&builder.build()).unwrap()
}

/// Every batch a producer sent, so that old ones can be sent again.
type History = BTreeMap<(u32, i64), Vec<BatchHeader>>;

fn next_header(model: &Model, history: &History, step: Step) -> BatchHeader {
    let Step::Prepare {
        partition,
        producer,
        epoch_up,
        epoch_down,
        choice,
        count,
    } = step
    else {
        unreachable!("only batches have headers")
    };
    let view = (producer >= 0)
        .then(|| model.view(partition, producer))
        .flatten();
    let (epoch, batches) = view.map_or((0, Vec::new()), |(epoch, batches, _)| (epoch, batches));
    let expected = batches.last().map_or(0, |batch| sequence_after(batch.1));
    let history = history
        .get(&(partition, producer))
        .map_or(&[][..], Vec::as_slice);
    let (sequence, count) = match choice {
        Choice::Continue if epoch_up => (0, count),
        Choice::Continue => (expected, count),
        Choice::Repeat(back) => {
            let index = history.len().checked_sub(usize::from(back) + 1);
            match index.and_then(|index| history.get(index)) {
                Some(header) => return *header,
                None => (expected, count),
            }
        }
        Choice::NearWrap(distance) => (i32::MAX - i32::from(distance), count),
        Choice::Small(sequence) => (sequence, count),
        Choice::Gap(gap) => (expected.checked_add(i32::from(gap)).unwrap_or(1), count),
    };
    let epoch = (epoch + i16::from(epoch_up) - i16::from(epoch_down)).max(0);
    header(producer, epoch, sequence, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_machine_does_what_the_model_does_and_replay_gives_the_live_state(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut real = Partitions::with_limits(LIMITS);
        let mut model = Model::default();
        let mut sent = History::new();
        let mut checkpoint = real.checkpoint();
        let mut log: Vec<Entry> = Vec::new();
        let mut leader_epoch = 3;
        for step in steps {
            let dropping = |partition: u32| {
                let mut entries = model.pending.iter();
                entries.any(|e| matches!(e, Entry::Dropped { partition: p } if *p == partition))
            };
            match step {
                Step::Prepare { partition, .. } if dropping(partition) => {}
                Step::Prepare { partition, producer, .. } => {
                    let mut header = next_header(&model, &sent, step);
                    header.partition_leader_epoch = leader_epoch;
                    let expected = model.prepare(partition, header);
                    let found = real.prepare(id(partition), &header, 1_000);
                    prop_assert_eq!(found, expected, "{:?}", header);
                    sent.entry((partition, producer)).or_default().push(header);
                }
                Step::Start { partition, .. } if dropping(partition) => {}
                Step::Start { partition, back } => {
                    let (_, end) = model.bounds.get(&partition).copied().unwrap_or_default();
                    let start = end.saturating_sub(back.into());
                    model.pending.push(Entry::Start { partition, start });
                }
                Step::Drop { partition } if dropping(partition) => {}
                Step::Drop { partition } => model.pending.push(Entry::Dropped { partition }),
                Step::Apply if model.pending.is_empty() => {}
                Step::Apply => {
                    let entry = model.pending.remove(0);
                    model.apply(&entry);
                    apply(&mut real, &entry);
                    log.push(entry);
                }
                Step::Abandon => match model.pending.pop() {
                    Some(Entry::Records { partition, base, .. }) => {
                        real.abandon(id(partition), Offset(base));
                    }
                    Some(other) => model.pending.push(other),
                    None => {}
                },
                Step::Checkpoint => {
                    checkpoint = real.checkpoint();
                    log.clear();
                }
                Step::Crash => {
                    model.pending.clear();
                    let live = real.checkpoint();
                    real = Partitions::with_limits(LIMITS);
                    real.restore(&checkpoint).unwrap();
                    log.iter().for_each(|entry| apply(&mut real, entry));
                    prop_assert_eq!(real.checkpoint(), live);
                    leader_epoch += 2;
                }
            }
            for partition in 0..PARTITIONS {
                let (start, end) = model.bounds.get(&partition).copied().unwrap_or_default();
                prop_assert_eq!(real.start_offset(id(partition)), Offset(start));
                prop_assert_eq!(real.end_offset(id(partition)), Offset(end));
                let next = Offset(model.next_offset(partition));
                prop_assert_eq!(real.next_offset(id(partition)), next);
                let epochs = model.epochs.get(&partition).map_or(&[][..], Vec::as_slice);
                // All that a crash left, and the one that is led.
                for asked in (leader_epoch - 8).max(0)..=leader_epoch {
                    let known = epochs.iter().filter(|epoch| **epoch <= asked);
                    let ended = (known.count() as u64).max(start);
                    let ended = if asked == leader_epoch { end } else { ended };
                    let found = real.epoch_end(id(partition), asked, leader_epoch);
                    prop_assert_eq!(found.map(|(_, ended)| ended), Some(Offset(ended)));
                }
                let above = real.epoch_end(id(partition), leader_epoch + 1, leader_epoch);
                prop_assert_eq!(above, None);
            }
            prop_assert_eq!(real.producer_count(), model.remembered.len());
        }
        let mut restored = Partitions::with_limits(LIMITS);
        restored.restore(&real.checkpoint()).unwrap();
        prop_assert_eq!(restored.checkpoint(), real.checkpoint());
    }
}
