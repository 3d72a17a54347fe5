//! What a rebuilt disk may and must hold.

use std::collections::BTreeSet;

use super::*;
use crate::io::sim::{Faults, SimDisk};

const BLOCK: usize = 4096;

fn recorder(seed: u64) -> Recorder<crate::io::sim::SimIo> {
    Recorder::new(SimDisk::new(seed, Faults::power_cuts_only()).io())
}

fn run(io: &mut impl Io, op: Op) -> Completion {
    io.submit(op, Token(1));
    let mut all = finish(io);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn finish(io: &mut impl Io) -> Vec<Completion> {
    let mut all = Vec::new();
    while io.in_flight() > 0 {
        io.wait(Duration::from_secs(60));
        io.completions(&mut all);
    }
    all
}

fn write(io: &impl Io, file: FileId, block: u64, fill: u8, durable: bool) -> Op {
    let mut buf = io.pool().alloc(BLOCK).expect("memory");
    buf.fill(fill);
    Op::Write {
        file,
        offset: block * BLOCK as u64,
        bufs: vec![buf.freeze()],
        durable,
    }
}

fn create(io: &mut impl Io, blocks: u64) -> FileId {
    let opened = run(
        io,
        Op::Open {
            name: "a".to_owned(),
            create: true,
        },
    );
    let file = opened.file.expect("a file");
    run(
        io,
        Op::Allocate {
            file,
            bytes: blocks * BLOCK as u64,
        },
    )
    .result
    .expect("space");
    run(io, Op::Flush { file }).result.expect("flushed");
    run(io, Op::SyncDir).result.expect("synced");
    file
}

#[test]
fn what_completed_durably_before_the_cut_is_in_every_image_and_the_rest_in_parts() {
    let mut io = recorder(1);
    let file = create(&mut io, 3);
    let op = write(&io, file, 0, 1, true);
    run(&mut io, op).result.expect("written");
    let op = write(&io, file, 1, 2, false);
    run(&mut io, op).result.expect("written");
    let before_flush = io.recording().position();
    let op = write(&io, file, 2, 3, true);
    io.submit(op, Token(7));
    run_flush_beside(&mut io, file);
    let recording = io.recording();
    let end = recording.position();
    let recording = recording.borrow();
    let mut torn = BTreeSet::new();
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let image = recording.image_at(before_flush, &mut random);
        assert_eq!(image["a"][..BLOCK], [1; BLOCK]);
        assert_eq!(image["a"][2 * BLOCK..], [0; BLOCK], "not submitted by then");
        torn.insert(image["a"][BLOCK..2 * BLOCK].to_vec());
        let image = recording.image_at(end, &mut random);
        let expected = [vec![1; BLOCK], vec![2; BLOCK], vec![3; BLOCK]].concat();
        assert_eq!(image["a"], expected);
    }
    assert!(torn.len() > 20, "{} different tears", torn.len());
    assert!(recording.image_at(0, &mut Random::new(1)).is_empty());
    assert_eq!(recording.recorded_bytes(), 3 * BLOCK as u64);
}

fn run_flush_beside(io: &mut impl Io, file: FileId) {
    io.submit(Op::Flush { file }, Token(8));
    assert!(
        finish(io)
            .iter()
            .all(|completion| completion.result.is_ok())
    );
}

#[test]
fn a_cut_between_submission_and_completion_of_a_durable_write_leaves_any_part_of_it() {
    let mut io = recorder(2);
    let file = create(&mut io, 1);
    let op = write(&io, file, 0, 9, true);
    io.submit(op, Token(1));
    let submitted = io.recording().position();
    finish(&mut io);
    let recording = io.recording();
    let recording = recording.borrow();
    let parts: BTreeSet<usize> = (0..300)
        .map(|seed| {
            let image = recording.image_at(submitted, &mut Random::new(seed));
            image["a"].iter().filter(|byte| **byte == 9).count()
        })
        .collect();
    assert!(
        parts.contains(&0) && parts.contains(&BLOCK) && parts.len() > 4,
        "{parts:?}"
    );
    assert_eq!(recording.durable_at(submitted)["a"], [0; BLOCK]);
    assert_eq!(recording.durable_at(recording.len())["a"], [9; BLOCK]);
}

#[test]
fn names_follow_the_directory_sync_and_a_base_is_there_from_the_start() {
    let base = Image::from([("old".to_owned(), vec![5; BLOCK])]);
    let disk = SimDisk::from_image(1, Faults::none(), base.clone());
    let mut io = Recorder::with_base(disk.io(), base.clone());
    run(
        &mut io,
        Op::Remove {
            name: "old".to_owned(),
        },
    )
    .result
    .expect("removed");
    let removed = io.recording().position();
    run(&mut io, Op::SyncDir).result.expect("synced");
    let recording = io.recording();
    let recording = recording.borrow();
    assert_eq!(recording.image_at(0, &mut Random::new(1)), base);
    let there = |cut: usize| -> BTreeSet<bool> {
        let image = |seed| recording.image_at(cut, &mut Random::new(seed));
        (0..100)
            .map(|seed| image(seed).contains_key("old"))
            .collect()
    };
    assert_eq!(there(removed), BTreeSet::from([false, true]));
    assert_eq!(there(recording.len()), BTreeSet::from([false]));
}

/// The recorder sees no more than the owner, so what it calls durable the disk does as well.
#[test]
fn the_recording_agrees_with_the_simulated_disk() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::power_cuts_only());
        let mut io = Recorder::new(disk.io());
        let file = create(&mut io, 16);
        let mut random = Random::new(seed);
        for round in 0..40_u64 {
            let durable = random.chance(0.4);
            let op = write(&io, file, random.within(0..16), round as u8, durable);
            run(&mut io, op).result.expect("written");
            if random.chance(0.2) {
                run(&mut io, Op::Flush { file }).result.expect("flushed");
            }
            let recording = io.recording();
            assert_eq!(
                recording.borrow().durable_at(recording.position()),
                disk.durable_image(),
                "seed {seed}, round {round}"
            );
        }
    }
}
