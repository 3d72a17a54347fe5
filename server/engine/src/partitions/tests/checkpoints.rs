//! What a checkpoint keeps, also an older one, and one that is damaged or taken in steps.

use super::*;

fn filled() -> Partitions {
    let mut partitions = Partitions::new();
    for producer in 0..4 {
        for sequence in 0..7 {
            write(&mut partitions, &batch(producer, 1, sequence, 1));
        }
    }
    partitions.apply_start_offset(P, Offset(5));
    partitions
}

#[test]
fn a_checkpoint_of_another_version_is_refused_by_name() {
    let mut checkpoint = filled().checkpoint();
    checkpoint[0] = 4;
    let refused = Partitions::new().restore(&checkpoint).unwrap_err();
    assert!(
        refused.contains("the partitions has version 4, this build reads 3"),
        "{refused}"
    );
}

#[test]
fn a_checkpoint_without_leader_epochs_is_read() {
    let mut old = 1u16.to_le_bytes().to_vec();
    old.extend(1u32.to_le_bytes());
    for number in [P.0, 5, 28] {
        old.extend(number.to_le_bytes());
    }
    old.extend(0u32.to_le_bytes());
    let mut partitions = Partitions::new();
    partitions.restore(&old).unwrap();
    assert_eq!(partitions.start_offset(P), Offset(5));
    assert_eq!(partitions.end_offset(P), Offset(28));
    assert_eq!(partitions.epoch_at(P, Offset(9)), None);
    assert_eq!(partitions.epoch_end(P, 2, 7), Some((2, Offset(28))));
}

#[test]
fn a_checkpoint_with_the_newest_batchs_timestamp_alone_is_read() {
    let mut old = 2u16.to_le_bytes().to_vec();
    old.extend(1u32.to_le_bytes());
    for number in [P.0, 0, 7] {
        old.extend(number.to_le_bytes());
    }
    old.push(0);
    old.extend(1u32.to_le_bytes());
    old.extend(P.0.to_le_bytes());
    old.extend(7i64.to_le_bytes());
    old.extend(3i16.to_le_bytes());
    old.extend(2u64.to_le_bytes());
    old.extend(1_234i64.to_le_bytes());
    old.push(2);
    for (sequence, offset) in [(0i32, 5u64), (1, 6)] {
        old.extend(sequence.to_le_bytes());
        old.extend(sequence.to_le_bytes());
        old.extend(offset.to_le_bytes());
    }
    let mut partitions = Partitions::new();
    partitions.restore(&old).unwrap();
    assert_eq!(partitions.time_of_first(P, &batch(7, 3, 0, 1)), None);
    assert_eq!(partitions.time_of_first(P, &batch(7, 3, 1, 1)), Some(1_234));
    let repeat = partitions.prepare(P, &batch(7, 3, 0, 1), NOW);
    let expected = Ok(Prepared::Duplicate {
        base_offset: Offset(5),
        pending: false,
    });
    assert_eq!(repeat, expected);
}

#[test]
fn a_cut_or_longer_checkpoint_is_refused_and_changes_nothing() {
    let checkpoint = filled().checkpoint();
    let mut partitions = filled();
    for cut in 0..checkpoint.len() {
        assert!(
            partitions.restore(&checkpoint[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    assert!(
        partitions
            .restore(&[&checkpoint[..], &[0]].concat())
            .is_err()
    );
    assert_eq!(partitions.checkpoint(), checkpoint);
}

#[test]
fn what_was_appended_long_ago_is_known_after_a_restart() {
    let mut partitions = Partitions::new();
    partitions.restore(&filled().checkpoint()).unwrap();
    for sequence in [0, 1] {
        let refused = partitions.prepare(P, &batch(2, 1, sequence, 1), NOW);
        assert!(
            matches!(refused, Err(ProduceError::DuplicateSequence { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn restoring_under_lower_limits_keeps_the_newest_producers() {
    let checkpoint = filled().checkpoint();
    let limits = ProducerLimits {
        per_partition: 10,
        per_log: 2,
    };
    let mut partitions = Partitions::with_limits(limits);
    partitions.restore(&checkpoint).unwrap();
    assert_eq!(partitions.producer_count(), 2);
    let gap = partitions.prepare(P, &batch(3, 1, 100, 1), NOW);
    assert!(matches!(
        gap,
        Err(ProduceError::OutOfOrderSequence { expected: 7, .. })
    ));
}

proptest! {
    #[test]
    fn altered_checkpoints_never_panic(
        place in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut checkpoint = filled().checkpoint();
        let at = 2 + place.index(checkpoint.len() - 2);
        for (byte, noise) in checkpoint[at..].iter_mut().zip(&noise) {
            *byte = *noise;
        }
        let mut partitions = Partitions::new();
        if partitions.restore(&checkpoint).is_ok() {
            let _ = partitions.prepare(P, &batch(3, 1, 7, 1), NOW);
        }
        let _ = partitions.restore(&[&[1, 0], &noise[..]].concat());
        let _ = partitions.restore(&[&[2, 0], &noise[..]].concat());
    }
}

#[derive(Clone, Debug)]
enum Meanwhile {
    Write { partition: u32, producer: i64 },
    Start { partition: u32 },
    Damaged { partition: u32 },
    Drop { partition: u32 },
    Expire { before_ms: i64 },
    Begin,
    Step { rows: usize },
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        8 => (0u32..6, -1i64..5).prop_map(|(partition, producer)| Meanwhile::Write {
            partition,
            producer
        }),
        1 => (0u32..6).prop_map(|partition| Meanwhile::Start { partition }),
        1 => (0u32..6).prop_map(|partition| Meanwhile::Damaged { partition }),
        1 => (0u32..6).prop_map(|partition| Meanwhile::Drop { partition }),
        1 => (0i64..200).prop_map(|before_ms| Meanwhile::Expire { before_ms }),
        1 => Just(Meanwhile::Begin),
        4 => (0usize..4).prop_map(|rows| Meanwhile::Step { rows }),
    ]
}

proptest! {
    #[test]
    fn a_checkpoint_taken_in_steps_is_the_one_of_its_begin(
        steps in proptest::collection::vec(meanwhile(), 0..150),
    ) {
        let limits = ProducerLimits { per_partition: 3, per_log: 8 };
        let mut partitions = Partitions::with_limits(limits);
        let (mut wanted, mut taken) = (None, Pieces::default());
        for (number, step) in (0i32..).zip(steps) {
            let at = |partition: u32| PartitionId::new(TopicNumber(1), partition);
            match step {
                Meanwhile::Write { partition, producer } => {
                    let batch = Builder::new().producer(producer, 0, number);
                    let batch = batch.push(number.into(), None, Some(b"v"), &[]).build();
                    let mut header = BatchHeader::parse(&batch).unwrap();
                    header.partition_leader_epoch = number / 10;
                    let end = partitions.end_offset(at(partition));
                    partitions.apply_records(at(partition), end, &header);
                }
                Meanwhile::Start { partition } => {
                    let end = partitions.end_offset(at(partition));
                    partitions.apply_start_offset(at(partition), end);
                }
                Meanwhile::Damaged { partition } => {
                    let end = partitions.end_offset(at(partition));
                    partitions.apply_damaged(at(partition), end, 2);
                }
                Meanwhile::Drop { partition } => partitions.apply_dropped(at(partition)),
                Meanwhile::Expire { before_ms } => {
                    partitions.expire_producers(before_ms);
                }
                Meanwhile::Begin => {
                    wanted = Some(partitions.checkpoint());
                    taken = Pieces::default();
                    partitions.begin_checkpoint();
                }
                Meanwhile::Step { rows } => {
                    partitions.checkpoint_step(rows, &mut taken);
                }
            }
        }
        while partitions.checkpoint_step(1, &mut taken) {}
        prop_assert!(!partitions.takes_checkpoint());
        if let Some(wanted) = wanted {
            prop_assert_eq!(taken.into_pieces().concat(), wanted);
        }
    }
}
