//! The storage engine on a simulated disk, under fixed seeds. More of them: the `sim` program.

use ringlog_storage::io::sim::{Faults, Injection};
use ringlog_storage::log::SeededBug;
use ringlog_tests::sim::compaction::{Compacted, CompactionMistake, run_compaction};
use ringlog_tests::sim::machines::{Lived, Mistake, run_machines};
use ringlog_tests::sim::{Failure, Outcome, Settings, mix_histories, run};

/// With the cleaner at work, all that a run without it does stays the same.
fn with_cleaner(faults: Faults, bug: Option<SeededBug>) -> Settings {
    Settings {
        cleaning: true,
        ..settings(faults, bug)
    }
}

fn settings(faults: Faults, bug: Option<SeededBug>) -> Settings {
    Settings {
        lives: 8,
        steps: 300,
        faults,
        cleaning: false,
        bug,
        scrub: false,
        trace: false,
    }
}

fn seeds(range: impl IntoIterator<Item = u64>, faults: Faults) -> Outcome {
    let settings = settings(faults, None);
    let mut total = Outcome::default();
    for seed in range {
        match run(seed, &settings) {
            Ok(outcome) => total.add(&outcome),
            Err(broken) => panic!("{broken}"),
        }
    }
    println!("{total:?}");
    total
}

#[test]
fn power_cuts_at_any_operation_lose_nothing_acknowledged() {
    let total = seeds(0..50, Faults::power_cuts_only());
    assert!(
        total.power_cuts > 50 && total.acknowledged > 1_000,
        "the runs did little: {total:?}"
    );
}

#[test]
fn failing_writes_and_flushes_close_the_log_and_lose_nothing_acknowledged() {
    let total = seeds(1_000..1_050, Settings::failing_disk());
    assert!(
        total.closed_by_failure > 5,
        "hardly a write failed: {total:?}"
    );
}

#[test]
fn silent_corruption_is_named_and_never_served_and_what_it_spared_reads_back() {
    let total = seeds(2_000..2_100, Settings::silent_corruption());
    assert!(
        total.corruptions > 200 && total.reported > 10 && total.damaged_reads > 100,
        "hardly anything was corrupted: {total:?}"
    );
}

#[test]
fn everything_at_once_is_survived_or_named() {
    let total = seeds(3_032..3_082, Settings::everything());
    assert!(
        total.corruptions > 100 && total.closed_by_failure > 20,
        "hardly anything went wrong: {total:?}"
    );
    let kinds = Injection::KINDS.iter().zip(total.injected);
    let never: Vec<&str> = kinds
        .filter(|(_, count)| *count == 0)
        .map(|(kind, _)| *kind)
        .collect();
    assert!(never.is_empty(), "never injected: {never:?}");
}

/// Each of these seeds found a defect when it was first run: 4 and 5, a block that cannot be read was
/// read again without end instead of being named; 127, a footer without the rows of a partition
/// whose end was lost; 166, an intact block behind one that went astray was passed over.
/// A segment's cut that came late took the space of the segment that followed it in the file. 6, 605,
/// 872: pieces of blocks pushed each other out of a small cache, and a read never ended.
#[test]
fn seeds_of_power_cuts_that_found_defects_stay_clean() {
    seeds(
        [6, 605, 872, 1641, 1898, 2181, 2663],
        Faults::power_cuts_only(),
    );
}

/// 20190, segments that a lost record had ended, removed since: the checker did not know of removals.
/// 74, the same, and a checkpoint was taken before all that was lost with them had been named. 399, a
/// read never ended that had met a damaged index run.
#[test]
fn seeds_of_silent_corruption_that_found_defects_stay_clean() {
    seeds(
        [4, 5, 74, 127, 166, 182, 399, 20190],
        Settings::silent_corruption(),
    );
}

/// 115, offsets of blocks behind an open group were taken before the group's own; 155, 495, 595 and
/// 5127, a block that stands elsewhere in its segment was not found when the segment was read again;
/// 497, read-ahead ended within a block upon which another had gone astray; 5056 and 851, a
/// footer's rows were believed where the block stood elsewhere; 476, a clean stop whose
/// trailer was lost could not be started again.
#[test]
fn seeds_where_blocks_went_astray_or_were_lost_within_groups_stay_clean() {
    seeds(
        [115, 155, 476, 495, 497, 595, 851, 5056, 5127],
        Settings::silent_corruption(),
    );
}

/// 445, what a group held that was never committed was named as damaged; 182 and 312, offsets named
/// at the end of the log; 100 and 153, what was let go under a trim that is lost; 368, a start that
/// failed had erased what stated a block to have been durable; 353, as 20190 of silent corruption;
/// 570, a segment was sealed over what told the offsets of its last block.
#[test]
fn seeds_where_corruptions_meet_that_found_defects_stay_clean() {
    seeds(
        [100, 153, 182, 312, 353, 368, 445, 570],
        Settings::rotten_disk(),
    );
}

/// What was read ahead, of blocks that had gone astray, took the room of the one that was needed,
/// and a read never ended.
#[test]
fn seeds_where_several_blocks_went_astray_stay_clean() {
    seeds([203, 283, 791, 866], Settings::rotten_disk());
}

fn without_a_failure(range: impl IntoIterator<Item = u64>, settings: &Settings) {
    for seed in range {
        if let Err(broken) = run(seed, settings) {
            panic!("{broken}");
        }
    }
}

/// 326, rows of a segment that was on its way into an index run were made again twice over, and records
/// were not found; 310, 227, 350 and 919, the checker did not know what a start that did not come to
/// serve had written, batches that came as damaged alone, and blocks that stand where they went astray.
#[test]
fn seeds_where_footers_and_runs_are_damaged_together_stay_clean() {
    without_a_failure(
        [41, 227, 233, 310, 326, 350, 430, 511],
        &settings(Settings::rotten_disk(), None),
    );
}

/// 779, what a group held that was never committed was served, by rows made again from blocks; 846, a run
/// was made anew from a footer without rows that live again; 384, 894, 912, why a run could not be made
/// anew was told to nobody who read; 55 and 533, a cold segment that is lost names the blocks it was made of;
/// 609, offsets were taken as lost of a block that stood elsewhere in its segment.
#[test]
fn seeds_where_damaged_runs_meet_cold_segments_stay_clean() {
    without_a_failure(
        [55, 384, 533, 609, 779, 846, 894, 912, 919],
        &with_cleaner(Settings::rotten_disk(), None),
    );
}

/// 708, what lies behind the block that a reader needed first took its room, again and again.
#[test]
fn a_reader_gets_the_block_it_needs_first_whatever_follows() {
    without_a_failure([708], &with_cleaner(Faults::power_cuts_only(), None));
}

/// Segments on both sides of one that was lost became one, and the damage between them was forgotten.
#[test]
fn what_is_lost_between_segments_that_are_cleaned_stays_named() {
    without_a_failure([732, 1141], &with_cleaner(Settings::rotten_disk(), None));
}

/// 31 and 113, half of a group that had lost its beginning; 44, blocks behind one that nothing
/// stated to have been durable came back; 3, a block ahead that could not be read kept the one that
/// was needed from being read.
#[test]
fn seeds_of_everything_that_found_defects_stay_clean() {
    seeds([3, 31, 44, 113], Settings::everything());
}

/// A checker that cannot fail proves nothing: the log makes a mistake, and one of these seeds must
/// show it.
fn caught(bug: SeededBug, faults: Faults, range: std::ops::Range<u64>) {
    let settings = settings(faults, Some(bug));
    let seeds = range.end - range.start;
    let failure = range.clone().find_map(|seed| run(seed, &settings).err());
    let Some(Failure { seed, what, .. }) = failure else {
        panic!("{bug:?} was not caught in {seeds} seeds");
    };
    println!("{bug:?} is caught at seed {seed}: {what}");
}

#[test]
fn mistakes_in_acknowledging_and_flushing_are_caught() {
    let power = Faults::power_cuts_only;
    caught(SeededBug::SkipFlush, power(), 0..5);
    caught(SeededBug::AckEarly, power(), 0..10);
    caught(SeededBug::AckOutOfOrder, power(), 0..20);
    caught(SeededBug::ServeTailUnflushed, power(), 0..30);
    caught(SeededBug::ForgetDirectory, power(), 0..10);
}

#[test]
fn mistakes_in_recycling_are_caught() {
    let power = Faults::power_cuts_only;
    caught(SeededBug::RecycleLiveSegments, power(), 0..5);
    caught(SeededBug::AcceptStaleBlocks, power(), 0..5);
    caught(SeededBug::ReuseNonce, power(), 0..5);
    caught(
        SeededBug::DropPredecessorEarly,
        Settings::failing_disk(),
        136..137,
    );
}

#[test]
fn mistakes_in_recognising_damage_are_caught() {
    let silent = Settings::silent_corruption;
    caught(SeededBug::IgnoreChecksums, Settings::everything(), 0..10);
    caught(SeededBug::EndAtDamage, silent(), 0..100);
}

/// These show only where corruptions meet.
#[test]
fn mistakes_with_headers_stray_blocks_and_broken_groups_are_caught() {
    let rotten = Settings::rotten_disk;
    caught(SeededBug::TrustHeaders, rotten(), 0..20);
    caught(SeededBug::ApplyBrokenGroups, rotten(), 0..40);
    // The log without the mistake passes this one.
    seeds([260], rotten());
    caught(SeededBug::ServeStrayBlocks, rotten(), 260..261);
}

/// What a crash leaves behind is erased, so that under faults of the disk the chain of checksums is
/// never the only guard. It is where a segment comes from another copy of the same log.
#[test]
fn a_segment_of_another_history_is_named_and_ignoring_the_chain_is_caught() {
    for seed in 0..50 {
        if let Err(broken) = mix_histories(seed, None) {
            panic!("{broken}");
        }
    }
    let mut failures =
        (0..5).filter_map(|seed| mix_histories(seed, Some(SeededBug::IgnoreChain)).err());
    let Some(Failure { seed, what, .. }) = failures.next() else {
        panic!("the chain is ignored and nobody notices");
    };
    println!("IgnoreChain is caught at seed {seed}: {what}");
}

fn machines(range: std::ops::Range<u64>, faults: Faults) -> Lived {
    let settings = settings(faults, None);
    let mut total = Lived::default();
    for seed in range {
        match run_machines(seed, &settings, None) {
            Ok(lived) => total.add(&lived),
            Err(broken) => panic!("{broken}"),
        }
    }
    println!("{total:?}");
    total
}

/// Topics, idempotent producers, trims, producer ids and committed offsets come back as they were acknowledged, and of
/// weaker topics nothing is lost but what their level says.
#[test]
fn the_machines_of_a_node_come_back_after_kills_and_power_cuts_as_they_were_acknowledged() {
    let total = machines(0..40, Faults::power_cuts_only());
    assert!(
        total.repeats_of_pending > 500
            && total.refused > 1_000
            && total.commands > 1_000
            && total.commits > 1_000
            && total.large_commits > 100,
        "the runs did little: {total:?}"
    );
    let crew = total.crew;
    assert!(
        crew.parts > 300
            && crew.generations > 60
            && crew.replaced > 30
            && crew.commits > 500
            && crew.given_up > 10,
        "the members of the group did little: {crew:?}"
    );
    let lost = [
        total.buffered_lost_by_kill,
        total.buffered_lost_by_power_cut,
        total.written_lost_by_power_cut,
    ];
    assert!(
        lost.iter().all(|lost| *lost > 50),
        "each level below flushed loses what it may: {total:?}"
    );
}

#[test]
fn the_machines_of_a_node_survive_a_failing_disk() {
    machines(1_000..1_040, Settings::failing_disk());
}

#[test]
fn mistakes_of_a_node_with_its_machines_are_caught() {
    let settings = settings(Faults::power_cuts_only(), None);
    for (name, mistake) in Mistake::ALL {
        let failure = (0..40).find_map(|seed| run_machines(seed, &settings, Some(mistake)).err());
        let Some(Failure { seed, what, .. }) = failure else {
            panic!("{name} was not caught in 40 seeds");
        };
        println!("{name} is caught at seed {seed}: {what}");
    }
}

/// Scrubbing reads all the time in these runs, and names nothing but what is corrupted.
#[test]
fn scrubbing_under_silent_corruption_names_only_what_is_corrupted() {
    let settings = Settings {
        scrub: true,
        ..settings(Settings::silent_corruption(), None)
    };
    let mut total = Outcome::default();
    for seed in 0..60 {
        match run(seed, &settings) {
            Ok(outcome) => total.add(&outcome),
            Err(broken) => panic!("{broken}"),
        }
    }
    assert!(
        total.scrubbed_bytes > 100 << 20 && total.scrub_damage > 20,
        "hardly anything was scrubbed: {total:?}"
    );
}

#[test]
fn segments_are_cleaned_under_power_cuts_and_failures_and_nothing_is_lost() {
    for faults in [Faults::power_cuts_only(), Settings::failing_disk()] {
        // Lives that are long enough for a run, which goes on in small pieces.
        let settings = Settings {
            steps: 900,
            ..with_cleaner(faults, None)
        };
        let mut total = Outcome::default();
        for seed in 0..50 {
            match run(seed, &settings) {
                Ok(outcome) => total.add(&outcome),
                Err(broken) => panic!("{broken}"),
            }
        }
        println!("{total:?}");
        assert!(total.cleaned > 3, "hardly anything was cleaned: {total:?}");
    }
}

#[test]
fn freeing_what_was_cleaned_too_early_is_caught() {
    let bug = Some(SeededBug::CleanFreesEarly);
    let settings = with_cleaner(Faults::power_cuts_only(), bug);
    let failure = (0..60).find_map(|seed| run(seed, &settings).err());
    let Failure { seed, what, .. } = failure.expect("it is caught within 60 seeds");
    println!("caught at seed {seed}: {what}");
}

fn compaction(range: impl IntoIterator<Item = u64>, faults: Faults) -> Compacted {
    let settings = settings(faults, None);
    let mut total = Compacted::default();
    for seed in range {
        match run_compaction(seed, &settings, None) {
            Ok(compacted) => total.add(&compacted),
            Err(broken) => panic!("{broken}"),
        }
    }
    println!("{total:?}");
    total
}

/// A record is gone only where a later one of its key stands, or, a tombstone, after its
/// retention; all others are where they were, byte for byte. 8 and 18: a reader went over removed
/// offsets again and again, because the blocks on the way did not fit a small cache together.
#[test]
fn compaction_under_power_cuts_and_failures_takes_nothing_but_what_it_may() {
    for faults in [Faults::power_cuts_only(), Settings::failing_disk()] {
        let total = compaction(0..25, faults);
        assert!(
            total.passes > 100 && total.compacted_batches > 5_000 && total.gone > 50_000,
            "hardly anything was compacted: {total:?}"
        );
    }
}

#[test]
fn mistakes_in_compaction_are_caught() {
    let right = settings(Faults::power_cuts_only(), None);
    for (name, mistake) in CompactionMistake::ALL {
        let failure = (0..5).find_map(|seed| run_compaction(seed, &right, Some(mistake)).err());
        let Some(Failure { seed, what, .. }) = failure else {
            panic!("{name} was not caught in 5 seeds");
        };
        println!("{name} is caught at seed {seed}: {what}");
    }
    let unflushed = settings(Faults::power_cuts_only(), Some(SeededBug::SwitchUnflushed));
    let failure = (0..5).find_map(|seed| run_compaction(seed, &unflushed, None).err());
    let Failure { seed, what, .. } = failure.expect("it is caught within 5 seeds");
    println!("SwitchUnflushed is caught at seed {seed}: {what}");
}
