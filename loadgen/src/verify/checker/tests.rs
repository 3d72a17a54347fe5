//! Each fault, planted in an otherwise good partition, is found; and nothing else is.

use super::*;
use crate::verify::ledger::Ledger;
use proptest::prelude::*;

const RUN: RunId = RunId(42);
const PARTITION: u32 = 3;
const RECORDS: u64 = 10;
const START: u64 = 1_000;

fn stamp(number: u64) -> Stamp {
    Stamp {
        run: RUN,
        connection: 0,
        partition: PARTITION,
        number,
        scheduled_ns: 0,
    }
}

/// A log as a good broker keeps it, and the promise that goes with it.
fn good(batches: u64) -> (Vec<(u64, Content)>, PartitionExpectation) {
    let mut ledger = Ledger::new(10);
    let mut log = Vec::new();
    for number in 0..batches {
        let offset = START + number * RECORDS;
        ledger.acknowledge(number, Some(offset));
        log.push((offset, Content::Intact(stamp(number))));
    }
    let expected = PartitionExpectation {
        start_offset: START.cast_signed(),
        ledger,
        sent: Some(batches),
    };
    (log, expected)
}

fn walk(log: &[(u64, Content)], expected: &PartitionExpectation) -> Findings {
    let mut checker = PartitionChecker::new(RUN, PARTITION, expected);
    for (offset, content) in log {
        checker.batch(*offset, RECORDS, *content);
    }
    checker.finish()
}

/// Offsets as a broker that stored exactly these batches would give them.
fn renumber(log: &mut [(u64, Content)]) {
    for (place, (offset, _)) in (0_u64..).zip(log) {
        *offset = START + place * RECORDS;
    }
}

fn has(findings: &Findings, wanted: impl Fn(&Fault) -> bool) -> bool {
    findings.faults.iter().any(wanted)
}

#[test]
fn a_good_partition_has_no_fault() {
    let (log, expected) = good(50);
    let findings = walk(&log, &expected);
    assert_eq!(findings.faults, []);
    assert_eq!(findings.confirmed_batches, 50);
    assert_eq!(findings.unacknowledged_batches, 0);
}

proptest! {
    #[test]
    fn a_lost_batch_is_found(batches in 1_u64..50, pick: prop::sample::Index, close_gap: bool) {
        let (mut log, expected) = good(batches);
        let victim = pick.index(log.len());
        log.remove(victim);
        if close_gap {
            renumber(&mut log);
        }
        let findings = walk(&log, &expected);
        let number = victim as u64;
        assert!(has(&findings, |fault|
            *fault == Fault::Lost { number, offset: Some(START + number * RECORDS) }));
    }

    #[test]
    fn a_duplicated_batch_is_found(batches in 1_u64..50, from: prop::sample::Index, distance in 1_usize..9) {
        let (mut log, expected) = good(batches);
        let source = from.index(log.len());
        let copy = log[source];
        let place = (source + distance).min(log.len());
        log.insert(place, copy);
        renumber(&mut log);
        let findings = walk(&log, &expected);
        assert!(has(&findings, |fault|
            *fault == Fault::Duplicate {
                number: source as u64, offset: START + place as u64 * RECORDS }));
    }

    #[test]
    fn a_reordered_batch_is_found(batches in 2_u64..50, from: prop::sample::Index, distance in 1_usize..9) {
        let (mut log, expected) = good(batches);
        let source = from.index(log.len() - 1);
        let batch = log.remove(source);
        let place = (source + distance).min(log.len());
        log.insert(place, batch);
        renumber(&mut log);
        let findings = walk(&log, &expected);
        assert!(has(&findings, |fault|
            matches!(fault, Fault::Reordered { number, .. } if *number == source as u64)));
        assert!(!has(&findings, |fault| matches!(fault, Fault::Lost { .. })));
    }

    #[test]
    fn an_altered_batch_is_found(batches in 1_u64..50, pick: prop::sample::Index, stampless: bool) {
        let (mut log, expected) = good(batches);
        let victim = pick.index(log.len());
        log[victim].1 = if stampless {
            Content::Foreign
        } else {
            Content::Altered(stamp(victim as u64), "planted")
        };
        let findings = walk(&log, &expected);
        let offset = log[victim].0;
        assert!(has(&findings, |fault|
            matches!(fault, Fault::Altered { offset: at, .. } if *at == offset)));
        prop_assert_eq!(has(&findings, |fault| matches!(fault, Fault::Lost { .. })), stampless);
    }

    #[test]
    fn a_phantom_is_found(batches in 1_u64..50, pick: prop::sample::Index, elsewhere: bool) {
        let (mut log, expected) = good(batches);
        let mut phantom = stamp(batches + 3);
        if elsewhere {
            phantom = Stamp { partition: PARTITION + 1, ..stamp(0) };
        }
        let place = pick.index(log.len() + 1);
        log.insert(place, (0, Content::Intact(phantom)));
        renumber(&mut log);
        let findings = walk(&log, &expected);
        assert!(has(&findings, |fault| matches!(fault, Fault::Phantom { .. })));
    }

    #[test]
    fn batches_nobody_acknowledged_are_accepted_where_they_keep_the_order(
        acknowledged in proptest::collection::vec(any::<bool>(), 1..50)
    ) {
        let mut ledger = Ledger::new(10);
        let mut log = Vec::new();
        for (number, acknowledged) in (0_u64..).zip(&acknowledged) {
            let offset = START + number * RECORDS;
            if *acknowledged {
                ledger.acknowledge(number, Some(offset));
            }
            log.push((offset, Content::Intact(stamp(number))));
        }
        let expected = PartitionExpectation {
            start_offset: START.cast_signed(), ledger, sent: Some(acknowledged.len() as u64) };
        let findings = walk(&log, &expected);
        prop_assert_eq!(&findings.faults, &[]);
        let unacknowledged = acknowledged.iter().filter(|yes| !**yes).count() as u64;
        prop_assert_eq!(findings.unacknowledged_batches, unacknowledged);
    }

    #[test]
    fn batches_of_other_runs_between_ours_are_passed_over(others in proptest::collection::vec(any::<bool>(), 1..60)) {
        let mut ledger = Ledger::new(10);
        let mut log = Vec::new();
        let mut number = 0;
        for (place, other) in (0_u64..).zip(&others) {
            let offset = START + place * RECORDS;
            if *other {
                log.push((offset, Content::Intact(Stamp { run: RunId(7), ..stamp(0) })));
            } else {
                ledger.acknowledge(number, Some(offset));
                log.push((offset, Content::Intact(stamp(number))));
                number += 1;
            }
        }
        let expected = PartitionExpectation {
            start_offset: START.cast_signed(), ledger, sent: Some(number) };
        let findings = walk(&log, &expected);
        prop_assert_eq!(&findings.faults, &[]);
        prop_assert_eq!(findings.confirmed_batches, number);
    }
}

#[test]
fn a_batch_elsewhere_than_acknowledged_and_a_gap_are_found() {
    let (mut log, expected) = good(5);
    for (offset, _) in &mut log[3..] {
        *offset += 5;
    }
    let findings = walk(&log, &expected);
    assert!(has(&findings, |fault| *fault
        == Fault::NotDense {
            expected: 1_030,
            found: 1_035
        }));
    assert!(has(&findings, |fault| *fault
        == Fault::Moved {
            number: 3,
            acknowledged: 1_030,
            found: 1_035
        }));
}

#[test]
fn every_fault_is_counted_though_only_some_are_kept() {
    let (_, expected) = good(1_000);
    let findings = walk(&[], &expected);
    assert_eq!(findings.fault_count, 1_000);
    assert_eq!(findings.faults.len(), FAULTS_KEPT);
}
