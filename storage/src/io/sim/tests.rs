//! The simulated disk keeps its word: deterministic, honest without faults, wrong with them.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;
use crate::buffer::Buf;
use crate::io::FileId;

const BLOCK: usize = 4096;

struct Rig {
    disk: SimDisk,
    io: SimIo,
    next: u64,
}

impl Rig {
    fn new(seed: u64, faults: Faults) -> Rig {
        let disk = SimDisk::new(seed, faults);
        let io = disk.io();
        Rig { disk, io, next: 0 }
    }

    fn submit(&mut self, op: Op) -> Token {
        self.next += 1;
        self.io.submit(op, Token(self.next));
        Token(self.next)
    }

    fn finish_all(&mut self) -> Vec<Completion> {
        let mut all = Vec::new();
        while self.io.in_flight() > 0 {
            self.io.wait(Duration::from_secs(60));
            self.io.completions(&mut all);
        }
        all
    }

    fn run(&mut self, op: Op) -> Completion {
        self.submit(op);
        let mut all = self.finish_all();
        assert_eq!(all.len(), 1, "one operation, one completion: {all:?}");
        all.remove(0)
    }

    fn create(&mut self, name: &str, blocks: u64) -> FileId {
        let opened = self.run(open(name, true));
        opened.result.expect("a new file");
        let file = opened.file.expect("a file");
        let bytes = blocks * BLOCK as u64;
        self.run(Op::Allocate { file, bytes })
            .result
            .expect("space");
        self.run(Op::Flush { file }).result.expect("flushed");
        self.run(Op::SyncDir).result.expect("synced");
        file
    }

    fn write(&self, file: FileId, block: u64, fill: u8, durable: bool) -> Op {
        let offset = block * BLOCK as u64;
        Op::Write {
            file,
            offset,
            bufs: vec![self.block(fill)],
            durable,
        }
    }

    fn block(&self, fill: u8) -> Buf {
        let mut buf = self.io.pool().alloc(BLOCK).expect("memory");
        buf.fill(fill);
        buf.freeze()
    }

    fn read(&mut self, file: FileId, block: u64) -> io::Result<Vec<u8>> {
        let buf = self.io.pool().alloc(BLOCK).expect("memory");
        let read = self.run(Op::Read {
            file,
            offset: block * BLOCK as u64,
            buf,
        });
        let buf = read.buf.expect("the buffer comes back");
        read.result.map(|bytes| buf[..bytes].to_vec())
    }
}

fn open(name: &str, create: bool) -> Op {
    Op::Open {
        name: name.to_owned(),
        create,
    }
}

/// A busy history: what completed when, and what is on the disk at the end.
fn history(seed: u64) -> (Vec<String>, Image) {
    let faults = Faults {
        write_error: 0.02,
        short_write: 0.02,
        ..Faults::power_cuts_only()
    };
    let mut rig = Rig::new(seed, faults);
    let file = rig.create("a", 64);
    let mut lines = Vec::new();
    for round in 0..20_u64 {
        for block in 0..8 {
            let op = rig.write(file, (round * 5 + block) % 64, round as u8, block % 2 == 0);
            rig.submit(op);
        }
        rig.submit(Op::Flush { file });
        for completion in rig.finish_all() {
            let at = rig.io.monotonic();
            lines.push(format!(
                "{at:?} {:?} {:?}",
                completion.token, completion.result
            ));
        }
    }
    lines.push(format!("{} {}", rig.io.entropy(), rig.io.wall_ms()));
    lines.extend(rig.disk.injected().iter().map(ToString::to_string));
    rig.disk.power_cut();
    (lines, rig.disk.current_image())
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    assert_eq!(history(1), history(1));
    assert_ne!(history(1).0, history(2).0);
}

#[test]
fn without_faults_what_is_written_is_read_and_completions_overtake_each_other() {
    let mut rig = Rig::new(3, Faults::none());
    let file = rig.create("a", 16);
    let submitted: Vec<Token> = (0..16)
        .map(|block| {
            let op = rig.write(file, block, block as u8 + 1, false);
            rig.submit(op)
        })
        .collect();
    assert_eq!(rig.io.in_flight(), 16);
    let completed: Vec<Token> = rig
        .finish_all()
        .iter()
        .map(|completion| completion.token)
        .collect();
    assert_ne!(completed, submitted, "completions arrive in another order");
    assert_eq!(
        completed.iter().collect::<BTreeSet<_>>(),
        submitted.iter().collect::<BTreeSet<_>>()
    );
    for block in 0..16 {
        assert_eq!(
            rig.read(file, block).expect("readable"),
            vec![block as u8 + 1; BLOCK]
        );
    }
    assert_eq!(rig.read(file, 16).expect("behind the end"), []);
    assert_eq!(rig.io.pool().used_bytes(), 0);
    assert_eq!(rig.disk.injected(), []);
}

#[test]
fn nothing_starts_before_a_kick_and_time_stands_while_nobody_waits() {
    let mut rig = Rig::new(3, Faults::none());
    rig.submit(open("a", true));
    let before = rig.io.monotonic();
    rig.disk.advance(Duration::from_secs(1));
    let mut all = Vec::new();
    rig.io.completions(&mut all);
    assert!(all.is_empty());
    rig.io.kick();
    rig.io.wait(Duration::from_secs(1));
    rig.io.completions(&mut all);
    assert_eq!(all.len(), 1);
    assert!(rig.io.monotonic() - before < Duration::from_secs(2));
    let idle = rig.io.monotonic();
    rig.io.wait(Duration::from_secs(5));
    assert_eq!(
        rig.io.monotonic(),
        idle,
        "with nothing under way waiting returns at once"
    );
}

#[test]
fn wait_ends_with_its_timeout_when_the_disk_is_stuck() {
    let mut rig = Rig::new(
        3,
        Faults {
            stuck: 1.0,
            ..Faults::none()
        },
    );
    rig.submit(open("a", true));
    let start = rig.io.monotonic();
    rig.io.wait(Duration::from_secs(2));
    let mut all = Vec::new();
    rig.io.completions(&mut all);
    assert!(all.is_empty());
    assert!(rig.io.monotonic() - start >= Duration::from_secs(2));
    assert_eq!(rig.finish_all().len(), 1);
    assert!(rig.io.monotonic() - start >= Duration::from_secs(30));
}

#[test]
fn a_power_cut_keeps_what_is_durable_tears_the_rest_and_ends_every_handle() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let mut rig = Rig::new(seed, Faults::power_cuts_only());
        let file = rig.create("a", 4);
        let durable = rig.write(file, 0, 1, true);
        rig.run(durable).result.expect("written");
        let cached = rig.write(file, 1, 2, false);
        rig.run(cached).result.expect("written");
        let under_way = rig.write(file, 2, 3, true);
        rig.submit(under_way);
        rig.io.kick();
        let never_started = rig.write(file, 3, 4, true);
        rig.submit(never_started);
        rig.disk.power_cut();

        let failed = rig.finish_all();
        assert_eq!(failed.len(), 2);
        assert!(failed.iter().all(|completion| completion.result.is_err()));
        rig.run(Op::Flush { file })
            .result
            .expect_err("the handle is dead");
        rig.io.list().expect_err("the handle is dead");

        let content = rig
            .disk
            .current_image()
            .remove("a")
            .expect("its name is durable");
        assert!(content[..BLOCK].iter().all(|byte| *byte == 1));
        assert!(content[3 * BLOCK..].iter().all(|byte| *byte == 0));
        let sectors: Vec<u8> = content[BLOCK..3 * BLOCK]
            .chunks(512)
            .map(|part| part[0])
            .collect();
        outcomes.insert(sectors);

        rig.io = rig.disk.io();
        let opened = rig.run(open("a", false));
        let file = opened.file.expect("open after the restart");
        assert_eq!(rig.read(file, 0).expect("readable"), vec![1; BLOCK]);
    }
    assert!(
        outcomes.len() > 20,
        "many different tears: {}",
        outcomes.len()
    );
    assert!(
        outcomes
            .iter()
            .any(|sectors| sectors.iter().all(|fill| *fill == 0))
    );
    assert!(
        outcomes
            .iter()
            .any(|sectors| sectors.iter().all(|fill| *fill != 0))
    );
}

#[test]
fn a_flush_covers_what_completed_before_its_submission_even_when_started_later() {
    let lost = (0..40).any(|seed| {
        let mut rig = Rig::new(seed, Faults::none());
        let file = rig.create("a", 1);
        let write = rig.write(file, 0, 1, false);
        rig.submit(write);
        rig.io.kick();
        rig.submit(Op::Flush { file });
        let completed = rig.finish_all();
        assert!(completed.iter().all(|completion| completion.result.is_ok()));
        rig.disk.power_cut();
        rig.disk.current_image()["a"][0] == 0
    });
    assert!(
        lost,
        "a flush submitted before the write completed must not vouch for it"
    );
}

#[test]
fn a_scheduled_cut_falls_before_the_operation_it_names() {
    let mut rig = Rig::new(3, Faults::none());
    let file = rig.create("a", 8);
    rig.disk.power_cut_after(3);
    let results: Vec<bool> = (0..8)
        .map(|block| {
            let op = rig.write(file, block, 1, true);
            rig.run(op).result.is_ok()
        })
        .collect();
    assert_eq!(
        results,
        [true, true, true, false, false, false, false, false]
    );
}

#[test]
fn a_killed_process_leaves_the_cache_alone_and_whole_operations() {
    for seed in 0..30 {
        let mut rig = Rig::new(seed, Faults::none());
        let file = rig.create("a", 2);
        let cached = rig.write(file, 0, 1, false);
        rig.run(cached).result.expect("written");
        let under_way = rig.write(file, 1, 2, false);
        rig.submit(under_way);
        rig.io.kick();
        rig.disk.kill();
        for completion in rig.finish_all() {
            completion.result.expect_err("the dead learn nothing");
        }
        let content = rig.disk.current_image().remove("a").expect("there");
        assert_eq!(content[..BLOCK], [1; BLOCK]);
        let second = content[BLOCK];
        assert!(content[BLOCK..].iter().all(|byte| *byte == second));
        rig.run(Op::Flush { file })
            .result
            .expect_err("the handle is dead");
    }
}

#[test]
fn each_fault_shows_and_is_on_record() {
    let write_result = |faults: Faults| {
        let mut rig = Rig::new(5, Faults::none());
        let file = rig.create("a", 8);
        rig.disk.set_faults(faults);
        let op = Op::Write {
            file,
            offset: 0,
            bufs: vec![rig.block(9), rig.block(9)],
            durable: true,
        };
        let result = rig.run(op).result;
        let content = rig.disk.current_image().remove("a").expect("there");
        let injected: Vec<_> = rig
            .disk
            .injected()
            .into_iter()
            .map(|one| one.what)
            .collect();
        (result, content, injected)
    };
    let none = Faults::none;

    let (result, content, injected) = write_result(Faults {
        lost_write: 1.0,
        ..none()
    });
    assert_eq!(result.expect("it claims success"), 2 * BLOCK);
    assert!(content.iter().all(|byte| *byte == 0));
    assert!(matches!(
        injected[..],
        [Injection::LostWrite { offset: 0, .. }]
    ));
    assert!(injected[0].corrupts());

    let (result, content, injected) = write_result(Faults {
        short_write: 1.0,
        ..none()
    });
    let written = result.expect("short, not failed");
    assert!(written < 2 * BLOCK && written.is_multiple_of(512));
    assert_eq!(content.iter().filter(|byte| **byte == 9).count(), written);
    assert!(!injected[0].corrupts());

    let (result, content, injected) = write_result(Faults {
        misdirected_write: 1.0,
        ..none()
    });
    assert_eq!(result.expect("it claims success"), 2 * BLOCK);
    let [Injection::MisdirectedWrite { to, .. }] = injected[..] else {
        panic!("{injected:?}")
    };
    assert_eq!(
        content.iter().position(|byte| *byte == 9),
        Some(to as usize)
    );

    let (result, _, injected) = write_result(Faults {
        write_error: 1.0,
        ..none()
    });
    assert_eq!(result.expect_err("failed").raw_os_error(), Some(libc::EIO));
    assert!(matches!(injected[..], [Injection::WriteError { .. }]));

    let (result, _, injected) = write_result(Faults {
        disk_full: 1.0,
        ..none()
    });
    assert_eq!(result.expect_err("full").kind(), ErrorKind::StorageFull);
    assert!(matches!(injected[..], [Injection::DiskFull { .. }]));
}

#[test]
fn reads_and_flushes_fail_and_bits_rot_at_a_restart() {
    let mut rig = Rig::new(5, Faults::none());
    let file = rig.create("a", 1);
    rig.disk.set_faults(Faults {
        read_error: 1.0,
        flush_error: 1.0,
        ..Faults::none()
    });
    rig.read(file, 0).expect_err("the read fails");
    rig.run(Op::Flush { file })
        .result
        .expect_err("the flush fails");
    rig.run(Op::SyncDir)
        .result
        .expect_err("the directory's too");
    rig.disk.set_faults(Faults {
        bit_rot: 1.0,
        ..Faults::none()
    });
    rig.disk.power_cut();
    let content = &rig.disk.current_image()["a"];
    let flipped: u32 = content.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(flipped, 1);
    assert_eq!(*content, rig.disk.durable_image()["a"]);
}

#[test]
fn capacity_limits_allocation_and_removal_gives_space_back() {
    let mut rig = Rig::new(
        5,
        Faults {
            capacity_bytes: Some(8 * BLOCK as u64),
            ..Faults::none()
        },
    );
    rig.create("a", 6);
    let opened = rig.run(open("b", true)).file.expect("names cost nothing");
    let allocate = |bytes: u64| Op::Allocate {
        file: opened,
        bytes: bytes * BLOCK as u64,
    };
    let full = rig.run(allocate(3)).result.expect_err("does not fit");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    rig.run(allocate(2)).result.expect("fits");
    rig.run(Op::Remove {
        name: "a".to_owned(),
    })
    .result
    .expect("removed");
    rig.run(allocate(8))
        .result
        .expect("fits when the other is gone");
}

#[test]
fn what_is_not_aligned_is_refused_as_a_device_refuses_it() {
    let mut rig = Rig::new(5, Faults::none());
    let file = rig.create("a", 2);
    let block = rig.block(1);
    let half = block.slice(0..512);
    for (offset, buf) in [
        (512, block.clone()),
        (0, half),
        (0, Buf::from_vec(vec![0; 100])),
    ] {
        let op = Op::Write {
            file,
            offset,
            bufs: vec![buf],
            durable: true,
        };
        let error = rig.run(op).result.expect_err("not aligned");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    rig.run(Op::Write {
        file,
        offset: 0,
        bufs: vec![block],
        durable: true,
    })
    .result
    .expect("fine");
}

#[test]
fn names_behave_as_in_a_directory() {
    let mut rig = Rig::new(5, Faults::none());
    let kind = |rig: &mut Rig, op| rig.run(op).result.expect_err("refused").kind();
    assert_eq!(kind(&mut rig, open("a", false)), ErrorKind::NotFound);
    let file = rig.create("a", 1);
    assert_eq!(kind(&mut rig, open("a", true)), ErrorKind::AlreadyExists);
    assert_eq!(kind(&mut rig, open("a/b", true)), ErrorKind::InvalidInput);
    assert_eq!(
        rig.io.list().expect("listed"),
        [("a".to_owned(), BLOCK as u64)]
    );
    rig.run(Op::Remove {
        name: "a".to_owned(),
    })
    .result
    .expect("removed");
    let write = rig.write(file, 0, 1, true);
    rig.run(write)
        .result
        .expect("an open file outlives its name");
    assert_eq!(
        kind(
            &mut rig,
            Op::Remove {
                name: "a".to_owned()
            }
        ),
        ErrorKind::NotFound
    );
    rig.run(Op::Close { file }).result.expect("closed");
    let closed = rig.run(Op::Flush { file }).result.expect_err("closed");
    assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn images_go_in_and_come_out_and_tests_can_corrupt() {
    let image = Image::from([("a".to_owned(), vec![1; BLOCK])]);
    let disk = SimDisk::from_image(1, Faults::none(), image.clone());
    assert_eq!(disk.durable_image(), image);
    disk.corrupt("a", 10..12, |bytes| bytes.fill(0xff));
    disk.truncate("a", 100);
    assert_eq!(disk.files(), [("a".to_owned(), 100)]);
    assert_eq!(disk.current_image()["a"][9..13], [1, 0xff, 0xff, 1]);
}
