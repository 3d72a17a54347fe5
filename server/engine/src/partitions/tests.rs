use proptest::prelude::*;
use ringlog_types::batch::{BatchHeader, Builder};
use ringlog_types::snapshot::Pieces;
use ringlog_types::{Offset, PartitionId, TopicNumber};

use super::*;

mod checkpoints;

const P: PartitionId = PartitionId(0x0000_0003_0000_0001);
const NOW: i64 = 1_000_000;

fn batch(producer: i64, epoch: i16, sequence: i32, count: u32) -> BatchHeader {
    let mut builder = Builder::new().producer(producer, epoch, sequence);
    for _ in 0..count {
        builder = builder.push(500, None, Some(b"v"), &[]);
    }
    BatchHeader::parse(&builder.build()).unwrap()
}

fn appended(partitions: &mut Partitions, header: &BatchHeader) -> u64 {
    match partitions.prepare(P, header, NOW) {
        Ok(Prepared::Append { base_offset }) => base_offset.0,
        other => panic!("{header:?} gave {other:?}"),
    }
}

/// Prepared and durable at once.
fn write(partitions: &mut Partitions, header: &BatchHeader) -> u64 {
    let base = appended(partitions, header);
    partitions.apply_records(P, Offset(base), header);
    base
}

#[test]
fn offsets_are_reserved_densely_and_seen_when_durable() {
    let mut partitions = Partitions::new();
    let plain = batch(-1, -1, -1, 3);
    assert_eq!(appended(&mut partitions, &plain), 0);
    assert_eq!(appended(&mut partitions, &plain), 3);
    assert_eq!(partitions.end_offset(P), Offset(0));
    partitions.apply_records(P, Offset(0), &plain);
    assert_eq!(partitions.end_offset(P), Offset(3));
    partitions.abandon(P, Offset(3));
    assert_eq!(appended(&mut partitions, &plain), 3);
}

#[test]
fn a_repeat_gets_the_offset_of_the_first_time_pending_or_durable() {
    let mut partitions = Partitions::new();
    let first = batch(7, 0, 0, 2);
    let second = batch(7, 0, 2, 1);
    assert_eq!(appended(&mut partitions, &first), 0);
    assert_eq!(appended(&mut partitions, &second), 2);
    let again = partitions.prepare(P, &first, NOW);
    assert_eq!(
        again,
        Ok(Prepared::Duplicate {
            base_offset: Offset(0),
            pending: true
        })
    );
    partitions.apply_records(P, Offset(0), &first);
    let again = partitions.prepare(P, &first, NOW);
    assert_eq!(
        again,
        Ok(Prepared::Duplicate {
            base_offset: Offset(0),
            pending: false
        })
    );
    let again = partitions.prepare(P, &second, NOW);
    assert_eq!(
        again,
        Ok(Prepared::Duplicate {
            base_offset: Offset(2),
            pending: true
        })
    );
    assert_eq!(appended(&mut partitions, &batch(7, 0, 3, 1)), 3);
}

#[test]
fn a_gap_is_refused_and_the_missing_batch_is_taken_afterwards() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 0, 0, 2));
    let refused = partitions.prepare(P, &batch(7, 0, 5, 1), NOW);
    let expected = ProduceError::OutOfOrderSequence {
        producer_id: 7,
        expected: 2,
        found: 5,
    };
    assert_eq!(refused, Err(expected));
    assert_eq!(write(&mut partitions, &batch(7, 0, 2, 3)), 2);
    assert_eq!(write(&mut partitions, &batch(7, 0, 5, 1)), 5);
}

#[test]
fn after_a_refused_append_the_same_batch_is_new_again() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 0, 0, 1));
    let second = batch(7, 1, 0, 1);
    let base = appended(&mut partitions, &second);
    partitions.abandon(P, Offset(base));
    // The new epoch went with the reservation: the old one still continues.
    assert_eq!(write(&mut partitions, &batch(7, 0, 1, 1)), 1);
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let mut partitions = Partitions::new();
    assert_eq!(write(&mut partitions, &batch(7, 3, 1_234, 2)), 0);
    assert_eq!(write(&mut partitions, &batch(7, 3, 1_236, 2)), 2);
}

#[test]
fn a_new_epoch_begins_with_sequence_0_and_fences_the_old() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 1, 0, 4));
    let refused = partitions.prepare(P, &batch(7, 2, 4, 1), NOW);
    let expected = ProduceError::OutOfOrderSequence {
        producer_id: 7,
        expected: 0,
        found: 4,
    };
    assert_eq!(refused, Err(expected));
    assert_eq!(write(&mut partitions, &batch(7, 2, 0, 1)), 4);
    let refused = partitions.prepare(P, &batch(7, 1, 4, 1), NOW);
    let fenced = ProduceError::InvalidProducerEpoch {
        producer_id: 7,
        current: 2,
        found: 1,
    };
    assert_eq!(refused, Err(fenced));
    // Also a repeat of what the old epoch wrote.
    assert_eq!(partitions.prepare(P, &batch(7, 1, 0, 4), NOW), Err(fenced));
}

#[test]
fn a_new_epoch_fences_the_old_as_soon_as_it_is_pending() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 1, 0, 1));
    appended(&mut partitions, &batch(7, 2, 0, 1));
    let refused = partitions.prepare(P, &batch(7, 1, 1, 1), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::InvalidProducerEpoch { current: 2, .. })
    ));
}

#[test]
fn a_repeat_of_an_older_epoch_is_fenced_also_while_it_is_pending() {
    let mut partitions = Partitions::new();
    let old = batch(7, 1, 0, 1);
    appended(&mut partitions, &old);
    appended(&mut partitions, &batch(7, 2, 0, 1));
    let refused = partitions.prepare(P, &old, NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::InvalidProducerEpoch { current: 2, .. })
    ));
}

#[test]
fn repeats_older_than_five_batches_are_named_duplicates() {
    let mut partitions = Partitions::new();
    for sequence in 0..7 {
        write(&mut partitions, &batch(7, 0, sequence, 1));
    }
    for sequence in 2..7 {
        let base_offset = Offset(sequence as u64);
        let expected = Ok(Prepared::Duplicate {
            base_offset,
            pending: false,
        });
        assert_eq!(
            partitions.prepare(P, &batch(7, 0, sequence, 1), NOW),
            expected
        );
    }
    for sequence in 0..2 {
        let (first, last) = (sequence, sequence);
        let expected = Err(ProduceError::DuplicateSequence {
            producer_id: 7,
            first,
            last,
        });
        assert_eq!(
            partitions.prepare(P, &batch(7, 0, sequence, 1), NOW),
            expected
        );
    }
    // Other bounds than those of the remembered batches: not a repeat of any.
    let refused = partitions.prepare(P, &batch(7, 0, 2, 2), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::OutOfOrderSequence { .. })
    ));
    let refused = partitions.prepare(P, &batch(7, 0, 1, 2), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::OutOfOrderSequence { .. })
    ));
}

#[test]
fn nothing_is_called_a_duplicate_that_was_not_provably_appended() {
    let mut partitions = Partitions::new();
    // The producer is met in the middle of its epoch: what was before is not known.
    for sequence in 100..110 {
        write(&mut partitions, &batch(7, 0, sequence, 1));
    }
    let refused = partitions.prepare(P, &batch(7, 0, 99, 1), NOW);
    let expected = ProduceError::OutOfOrderSequence {
        producer_id: 7,
        expected: 110,
        found: 99,
    };
    assert_eq!(refused, Err(expected));
    let refused = partitions.prepare(P, &batch(7, 0, 100, 1), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::DuplicateSequence { .. })
    ));
}

#[test]
fn sequences_go_on_with_0_behind_the_largest() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 0, i32::MAX - 1, 2));
    assert_eq!(write(&mut partitions, &batch(7, 0, 0, 2)), 2);
    let across = batch(8, 0, i32::MAX - 1, 4);
    write(&mut partitions, &across);
    let again = partitions.prepare(P, &across, NOW);
    assert_eq!(
        again,
        Ok(Prepared::Duplicate {
            base_offset: Offset(4),
            pending: false
        })
    );
    assert_eq!(write(&mut partitions, &batch(8, 0, 2, 1)), 8);
    // A gap ahead across the wrap is no duplicate.
    let refused = partitions.prepare(P, &batch(8, 0, 4, 1), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::OutOfOrderSequence { expected: 3, .. })
    ));
}

#[test]
fn producers_of_other_partitions_do_not_matter() {
    let mut partitions = Partitions::new();
    let other = PartitionId::new(TopicNumber(3), 2);
    write(&mut partitions, &batch(7, 5, 0, 1));
    let taken = partitions.prepare(other, &batch(7, 0, 0, 1), NOW);
    assert_eq!(
        taken,
        Ok(Prepared::Append {
            base_offset: Offset(0)
        })
    );
}

#[test]
fn batches_that_no_client_may_write_are_refused() {
    let mut partitions = Partitions::new();
    let mut refuse = |change: &dyn Fn(&mut BatchHeader)| {
        let mut header = batch(7, 0, 0, 1);
        change(&mut header);
        partitions.prepare(P, &header, NOW).unwrap_err()
    };
    assert_eq!(
        refuse(&|h| h.attributes = 1 << 5),
        InvalidRecord::ControlBatch.into()
    );
    assert_eq!(
        refuse(&|h| h.base_sequence = -1),
        InvalidRecord::NegativeSequence {
            producer_id: 7,
            sequence: -1
        }
        .into()
    );
    assert_eq!(
        refuse(&|h| h.producer_epoch = -1),
        InvalidRecord::NegativeEpoch {
            producer_id: 7,
            epoch: -1
        }
        .into()
    );
    assert_eq!(
        refuse(&|h| h.attributes = 1 << 4),
        ProduceError::NotInTransaction { producer_id: 7 }
    );
    assert_eq!(
        refuse(&|h| h.last_offset_delta = -1),
        InvalidRecord::NoOffsets.into()
    );
    assert_eq!(partitions.next_offset(P), Offset(0), "nothing was reserved");
}

#[test]
fn the_longest_idle_producer_is_forgotten_first() {
    let limits = ProducerLimits {
        per_partition: 2,
        per_log: 100,
    };
    let mut partitions = Partitions::with_limits(limits);
    for producer in 1..=2 {
        write(&mut partitions, &batch(producer, 0, 0, 1));
    }
    write(&mut partitions, &batch(1, 0, 1, 1));
    write(&mut partitions, &batch(3, 0, 0, 1));
    assert_eq!(partitions.producer_count(), 2);
    let gap = |partitions: &mut Partitions, producer| {
        let header = batch(producer, 0, 77, 1);
        let taken = partitions.prepare(P, &header, NOW);
        if let Ok(Prepared::Append { base_offset }) = taken {
            partitions.abandon(P, base_offset);
        }
        taken.is_ok()
    };
    assert!(
        !gap(&mut partitions, 1),
        "producer 1 wrote after producer 2"
    );
    assert!(gap(&mut partitions, 2), "producer 2 is unknown now");
    assert!(!gap(&mut partitions, 3));
}

#[test]
fn a_producer_that_is_forgotten_while_it_writes_stays_in_order() {
    let limits = ProducerLimits {
        per_partition: 1,
        per_log: 100,
    };
    let mut partitions = Partitions::with_limits(limits);
    write(&mut partitions, &batch(1, 0, 0, 1));
    let second = batch(2, 0, 0, 1);
    let third = batch(1, 0, 1, 1);
    assert_eq!(appended(&mut partitions, &second), 1);
    assert_eq!(appended(&mut partitions, &third), 2);
    partitions.apply_records(P, Offset(1), &second);
    let gap = partitions.prepare(P, &batch(1, 0, 5, 1), NOW);
    assert!(matches!(
        gap,
        Err(ProduceError::OutOfOrderSequence { expected: 2, .. })
    ));
    let again = partitions.prepare(P, &third, NOW);
    assert_eq!(
        again,
        Ok(Prepared::Duplicate {
            base_offset: Offset(2),
            pending: true
        })
    );
    partitions.apply_records(P, Offset(2), &third);
    assert_eq!(partitions.producer_count(), 1);
    assert_eq!(write(&mut partitions, &batch(1, 0, 2, 1)), 3);
}

#[test]
fn producers_expire_by_the_nodes_clock_whatever_their_records_say() {
    let mut partitions = Partitions::new();
    // Records of long ago, written at NOW.
    write(&mut partitions, &batch(7, 0, 0, 1));
    partitions.expire_producers(NOW);
    assert_eq!(partitions.producer_count(), 1);
    appended(&mut partitions, &batch(7, 0, 1, 1));
    partitions.expire_producers(NOW + 1);
    assert_eq!(partitions.producer_count(), 1, "it has a batch in flight");
    partitions.apply_records(P, Offset(1), &batch(7, 0, 1, 1));
    partitions.expire_producers(NOW + 1);
    assert_eq!(partitions.producer_count(), 0);
    assert_eq!(write(&mut partitions, &batch(7, 0, 50, 1)), 2);
}

#[test]
fn after_a_restart_producers_expire_by_their_records_timestamps() {
    let mut partitions = Partitions::new();
    partitions.apply_records(P, Offset(0), &batch(7, 0, 0, 1));
    partitions.expire_producers(500);
    assert_eq!(partitions.producer_count(), 1);
    partitions.expire_producers(501);
    assert_eq!(partitions.producer_count(), 0);
}

#[test]
fn a_dropped_partition_is_forgotten_with_its_producers() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 4, 0, 3));
    appended(&mut partitions, &batch(7, 4, 3, 1));
    appended(&mut partitions, &batch(8, 0, 0, 1));
    partitions.apply_dropped(P);
    assert_eq!(partitions.producer_count(), 0);
    assert_eq!(
        (partitions.start_offset(P), partitions.end_offset(P)),
        (Offset(0), Offset(0))
    );
    assert_eq!(partitions.checkpoint(), Partitions::new().checkpoint());
    assert_eq!(write(&mut partitions, &batch(7, 0, 9, 1)), 0);
}

#[test]
fn offsets_of_damaged_batches_stay_taken() {
    let mut partitions = Partitions::new();
    partitions.apply_records(P, Offset(0), &batch(-1, -1, -1, 2));
    partitions.apply_damaged(P, Offset(2), 40);
    assert_eq!(partitions.end_offset(P), Offset(42));
    assert_eq!(appended(&mut partitions, &batch(-1, -1, -1, 1)), 42);
}

#[test]
fn the_start_moves_forward_only() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(-1, -1, -1, 10));
    partitions.apply_start_offset(P, Offset(6));
    partitions.apply_start_offset(P, Offset(2));
    assert_eq!(partitions.start_offset(P), Offset(6));
    assert_eq!(partitions.end_offset(P), Offset(10));
}

#[test]
#[should_panic(expected = "the newest reservation is given back first")]
fn reservations_are_given_back_newest_first() {
    let mut partitions = Partitions::new();
    let plain = batch(-1, -1, -1, 1);
    appended(&mut partitions, &plain);
    appended(&mut partitions, &plain);
    partitions.abandon(P, Offset(0));
}

#[test]
#[should_panic(expected = "batches become durable in order")]
fn batches_out_of_order_are_noticed() {
    let mut partitions = Partitions::new();
    let plain = batch(-1, -1, -1, 1);
    appended(&mut partitions, &plain);
    appended(&mut partitions, &plain);
    partitions.apply_records(P, Offset(1), &plain);
}

#[test]
fn a_replay_that_still_knows_an_expired_producer_claims_nothing_about_the_gap() {
    // Live: sequences 0 to 1, expired, then accepted again from 60.
    let mut replayed = Partitions::new();
    replayed.apply_records(P, Offset(0), &batch(7, 0, 0, 2));
    replayed.apply_records(P, Offset(2), &batch(7, 0, 60, 1));
    let refused = replayed.prepare(P, &batch(7, 0, 30, 1), NOW);
    assert!(matches!(
        refused,
        Err(ProduceError::OutOfOrderSequence { expected: 61, .. })
    ));
}

#[test]
fn the_time_of_a_first_copy_is_known_pending_durable_and_after_a_restart() {
    let mut partitions = Partitions::new();
    let batches: Vec<BatchHeader> = (0..6).map(|n| batch(7, 0, n, 1)).collect();
    for (header, n) in batches.iter().zip(0i64..) {
        let taken = partitions.prepare(P, header, 100 + n).unwrap();
        assert!(matches!(taken, Prepared::Append { .. }));
    }
    assert_eq!(partitions.time_of_first(P, &batches[5]), Some(105));
    for (header, n) in batches.iter().zip(0u64..) {
        // As it lies in the log: the node gave it its time.
        let stored = BatchHeader {
            max_timestamp: 100 + n as i64,
            ..*header
        };
        partitions.apply_records(P, Offset(n), &stored);
    }
    let mut restored = Partitions::new();
    restored.restore(&partitions.checkpoint()).unwrap();
    for partitions in [&partitions, &restored] {
        // The oldest is no longer among those that are remembered.
        let times = batches
            .iter()
            .map(|header| partitions.time_of_first(P, header));
        let wanted = [None, Some(101), Some(102), Some(103), Some(104), Some(105)];
        assert_eq!(times.collect::<Vec<_>>(), wanted);
    }
    assert_eq!(partitions.time_of_first(P, &batch(8, 0, 0, 1)), None);
}

#[test]
fn leader_epochs_are_known_after_a_restart_and_the_oldest_forgotten() {
    let mut partitions = Partitions::new();
    for epoch in 1..=20 {
        let mut header = batch(-1, -1, -1, 2);
        header.partition_leader_epoch = epoch;
        let end = partitions.end_offset(P);
        partitions.apply_records(P, end, &header);
    }
    let mut restored = Partitions::new();
    restored.restore(&partitions.checkpoint()).unwrap();
    for known in [&partitions, &restored] {
        assert_eq!(known.epoch_end(P, 19, 20), Some((19, Offset(38))));
        assert_eq!(known.epoch_end(P, 5, 20), Some((5, Offset(10))));
        assert_eq!(known.epoch_end(P, 4, 20), Some((4, Offset(8))));
        assert_eq!(known.epoch_end(P, 2, 20), Some((2, Offset(8))), "forgotten");
        assert_eq!(known.epoch_at(P, Offset(39)), Some(20));
    }
}

#[test]
fn producers_of_a_partition_are_listed_with_where_they_stand() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 1, 0, 4));
    write(&mut partitions, &batch(8, 0, 10, 1));
    write(&mut partitions, &batch(7, 2, 0, 3));
    appended(&mut partitions, &batch(9, 0, 0, 1));
    let views = |partitions: &Partitions, places: &[ProducerPlace]| {
        let views = places.iter();
        let views = views.filter_map(|place| partitions.producer_at(P, *place));
        views
            .map(|view| {
                (
                    view.id,
                    view.epoch,
                    view.last_sequence,
                    view.last_timestamp_ms,
                )
            })
            .collect::<Vec<_>>()
    };
    let places = partitions.producers_of(P);
    let wanted = [(8, 0, 10, 500), (7, 2, 2, 500)];
    assert_eq!(views(&partitions, &places), wanted, "what is committed");
    let other = PartitionId::new(TopicNumber(3), 2);
    assert_eq!(partitions.producers_of(other), []);
    assert_eq!(partitions.producer_at(other, places[0]), None);
    partitions.abandon(P, Offset(8));
    partitions.apply_dropped(P);
    assert_eq!(views(&partitions, &places), [], "they are gone");
}

#[test]
fn after_a_start_nobody_is_silent_for_longer_than_since_then() {
    let mut partitions = Partitions::new();
    write(&mut partitions, &batch(7, 0, 0, 1));
    let mut restored = Partitions::new();
    restored.restore(&partitions.checkpoint()).unwrap();
    restored.resume(NOW + 1_000);
    assert_eq!(
        restored.expire_producers(NOW + 1_000),
        0,
        "its records are of 500"
    );
    assert_eq!(restored.expire_producers(NOW + 1_001), 1);
}

#[test]
fn what_is_forgotten_is_counted_by_its_cause() {
    let limits = ProducerLimits {
        per_partition: 2,
        per_log: 100,
    };
    let mut partitions = Partitions::with_limits(limits);
    for producer in 1..=5 {
        write(&mut partitions, &batch(producer, 0, 0, 1));
    }
    assert_eq!(partitions.expire_producers(NOW + 1), 2);
    assert_eq!(partitions.expire_producers(NOW + 1), 0);
    let counts = partitions.producer_counts();
    assert_eq!((counts.remembered, counts.limit), (0, 100));
    assert_eq!((counts.displaced, counts.expired), (3, 2));
}
