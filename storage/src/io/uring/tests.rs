//! The ring on a real directory. Where the temporary directory has no O_DIRECT the tests run
//! through the page cache; the one about alignment says that it is skipped.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, epoll, poll};

use super::*;
use crate::buffer::{Buf, BufMut};

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    io: UringIo,
    next: u64,
    _root: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(&UringOptions {
            arena_bytes: 4 << 20,
            ..UringOptions::default()
        })
    }

    fn with(options: &UringOptions) -> Rig {
        let root = tempfile::tempdir().expect("a temporary directory");
        let options = UringOptions {
            allow_buffered: true,
            ..options.clone()
        };
        let io = UringIo::open(&root.path().join("log"), &options).expect("a ring");
        Rig {
            io,
            next: 0,
            _root: root,
        }
    }

    fn submit(&mut self, op: Op) -> Token {
        self.next += 1;
        self.io.submit(op, Token(self.next));
        Token(self.next)
    }

    fn run(&mut self, op: Op) -> Completion {
        let token = self.submit(op);
        let mut all = self.finish_all();
        assert_eq!(all.len(), 1, "one operation, one completion: {all:?}");
        let completion = all.remove(0);
        assert_eq!(completion.token, token);
        completion
    }

    fn finish_all(&mut self) -> Vec<Completion> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while self.io.in_flight() > 0 {
            assert!(
                Instant::now() < deadline,
                "operations do not end: {:?}",
                self.io
            );
            self.io.wait(Duration::from_millis(200));
            self.io.completions(&mut all);
        }
        all
    }

    fn create(&mut self, name: &str) -> FileId {
        let opened = self.run(Op::Open {
            name: name.to_owned(),
            create: true,
        });
        opened.result.expect("a new file");
        opened.file.expect("a file id")
    }

    fn block(&self, fill: u8) -> Buf {
        self.blocks(1, fill)
    }

    fn blocks(&self, count: usize, fill: u8) -> Buf {
        let mut buf = self.memory(count);
        buf.fill(fill);
        buf.freeze()
    }

    fn memory(&self, count: usize) -> BufMut {
        self.io
            .pool()
            .alloc(count * self.block_bytes())
            .expect("below the limit")
    }

    fn block_bytes(&self) -> usize {
        self.io.geometry().block_bytes
    }

    fn read(&mut self, file: FileId, offset: u64, count: usize) -> Vec<u8> {
        let buf = self.memory(count);
        let read = self.run(Op::Read { file, offset, buf });
        let bytes = read.result.expect("readable");
        read.buf.expect("the buffer comes back")[..bytes].to_vec()
    }
}

fn write(file: FileId, offset: u64, bufs: Vec<Buf>) -> Op {
    Op::Write {
        file,
        offset,
        bufs,
        durable: true,
    }
}

#[test]
fn the_machine_running_the_tests_permits_a_ring() {
    preflight().expect("io_uring is permitted");
}

#[test]
fn what_is_written_is_read_back_from_arena_heap_and_several_extents() {
    for register in [true, false] {
        let options = UringOptions {
            arena_bytes: 1 << 20,
            register,
            ..UringOptions::default()
        };
        let mut rig = Rig::with(&options);
        println!("{}", rig.io.report());
        let block_bytes = rig.block_bytes();
        let file = rig.create("a");
        let one = rig.blocks(2, 1);
        assert!(one.registered_in(rig.io.pool()));
        let written = rig.run(write(file, 0, vec![one])).result.expect("written");
        assert_eq!(written, 2 * block_bytes);
        // Two extents of the arena that are no neighbours, then one of the heap among them.
        let (first, _between, second) = (rig.block(2), rig.block(0), rig.block(3));
        let offset = 2 * block_bytes as u64;
        rig.run(write(file, offset, vec![first.clone(), second.clone()]))
            .result
            .expect("written");
        let heap = rig.blocks((1 << 20) / block_bytes + 1, 4);
        assert!(!heap.registered_in(rig.io.pool()));
        let offset = 4 * block_bytes as u64;
        let bufs = vec![second, heap.slice(0..block_bytes), first];
        rig.run(Op::Write {
            file,
            offset,
            bufs,
            durable: false,
        })
        .result
        .expect("written");
        rig.run(Op::Flush { file }).result.expect("flushed");
        let read = rig.read(file, 0, 16);
        let fills: Vec<u8> = read.chunks(block_bytes).map(|block| block[0]).collect();
        assert_eq!(fills, [1, 1, 2, 3, 3, 4, 2]);
        assert!(
            read.chunks(block_bytes)
                .all(|block| block.iter().all(|byte| *byte == block[0]))
        );
    }
}

#[test]
fn slices_that_are_neighbours_in_memory_are_written_in_order() {
    let mut rig = Rig::new();
    let block_bytes = rig.block_bytes();
    let mut memory = rig.memory(4);
    for (number, block) in memory.chunks_mut(block_bytes).enumerate() {
        block.fill(number as u8);
    }
    let memory = memory.freeze();
    let part = |from: usize, to: usize| memory.slice(from * block_bytes..to * block_bytes);
    let file = rig.create("a");
    let bufs = vec![part(0, 1), part(1, 3), part(0, 1), part(3, 4)];
    assert_eq!(
        rig.run(write(file, 0, bufs)).result.expect("written"),
        5 * block_bytes
    );
    let read = rig.read(file, 0, 5);
    let fills: Vec<u8> = read.chunks(block_bytes).map(|block| block[0]).collect();
    assert_eq!(fills, [0, 1, 2, 0, 3]);
}

#[test]
fn an_unaligned_write_is_an_error_and_not_a_silent_copy() {
    let mut rig = Rig::new();
    if !rig.io.geometry().direct {
        println!("skipped: {} has no O_DIRECT", rig.io.report().filesystem);
        return;
    }
    let file = rig.create("a");
    let unaligned = rig.block(1).slice(1..100);
    let error = rig
        .run(write(file, 0, vec![unaligned]))
        .result
        .expect_err("not aligned");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn opening_what_is_missing_and_creating_what_exists_fail_by_kind() {
    let mut rig = Rig::new();
    let open = |name: &str, create| Op::Open {
        name: name.to_owned(),
        create,
    };
    let missing = rig.run(open("a", false));
    assert_eq!(
        missing.result.expect_err("missing").kind(),
        ErrorKind::NotFound
    );
    assert!(missing.file.is_none());
    rig.create("a");
    let exists = rig.run(open("a", true)).result.expect_err("exists");
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
    let outside = rig.run(open("../a", true)).result.expect_err("outside");
    assert_eq!(outside.kind(), ErrorKind::InvalidInput);
    rig.run(open("a", false)).result.expect("it is there");
}

#[test]
fn allocation_sets_the_length_and_reads_as_zeroes_and_truncation_cuts() {
    let mut rig = Rig::new();
    let block_bytes = rig.block_bytes() as u64;
    let file = rig.create("a");
    rig.run(Op::Allocate {
        file,
        bytes: 8 * block_bytes,
    })
    .result
    .expect("allocated");
    assert_eq!(
        rig.io.list().expect("listed"),
        [("a".to_owned(), 8 * block_bytes)]
    );
    assert!(rig.read(file, 0, 8).iter().all(|byte| *byte == 0));
    let block = rig.block(9);
    rig.run(write(file, 0, vec![block]))
        .result
        .expect("written");
    rig.run(Op::Truncate {
        file,
        bytes: 2 * block_bytes,
    })
    .result
    .expect("cut");
    assert_eq!(rig.read(file, 0, 8).len() as u64, 2 * block_bytes);
    rig.run(Op::Allocate {
        file,
        bytes: block_bytes,
    })
    .result
    .expect("shorter");
    assert_eq!(rig.read(file, 0, 8), vec![9; block_bytes as usize]);
    assert_eq!(rig.read(file, block_bytes, 1), []);
}

#[test]
fn removed_files_are_gone_and_a_closed_file_is_not_the_next_one() {
    let mut rig = Rig::new();
    let first = rig.create("a");
    rig.run(Op::Close { file: first }).result.expect("closed");
    rig.run(Op::Remove {
        name: "a".to_owned(),
    })
    .result
    .expect("removed");
    rig.run(Op::SyncDir).result.expect("synced");
    assert_eq!(rig.io.list().expect("listed"), []);
    let second = rig.create("b");
    assert_ne!(first, second);
    let buf = rig.memory(1);
    let stale = rig.run(Op::Read {
        file: first,
        offset: 0,
        buf,
    });
    assert_eq!(
        stale.result.expect_err("closed").raw_os_error(),
        Some(libc::EBADF)
    );
    assert!(
        stale.buf.is_some(),
        "the buffer comes back with the failure"
    );
    let missing = rig
        .run(Op::Remove {
            name: "a".to_owned(),
        })
        .result
        .expect_err("gone");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn operations_before_a_close_reach_the_file_though_kicked_together() {
    let mut rig = Rig::new();
    let file = rig.create("a");
    let block = rig.block(5);
    let block_bytes = block.len();
    rig.submit(write(file, 0, vec![block]));
    rig.submit(Op::Close { file });
    for completion in rig.finish_all() {
        completion.result.expect("both succeed");
    }
    let opened = rig.run(Op::Open {
        name: "a".to_owned(),
        create: false,
    });
    assert_eq!(
        rig.read(opened.file.expect("open"), 0, 4),
        vec![5; block_bytes]
    );
}

/// How often this thread went to sleep by itself.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("proc is mounted");
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok())
        .expect("a count of switches")
}

/// Where the filesystem sleeps for it, which one mounted with `discard` does.
#[test]
fn letting_go_of_a_removed_file_does_not_put_this_thread_to_sleep() {
    let mut rig = Rig::new();
    let least = (0..5).map(|attempt| {
        let name = format!("large-{attempt}");
        let file = rig.create(&name);
        let bytes = 16 << 20;
        rig.run(Op::Allocate { file, bytes }).result.expect("room");
        let (offset, bufs, durable) = (0, vec![rig.blocks(16, 7)], true);
        let op = Op::Write {
            file,
            offset,
            bufs,
            durable,
        };
        rig.run(op).result.expect("written");
        rig.run(Op::Remove { name }).result.expect("removed");
        rig.submit(Op::Close { file });
        let before = sleeps();
        rig.io.kick();
        let mut all = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while all.is_empty() {
            assert!(Instant::now() < deadline, "{:?}", rig.io);
            std::hint::spin_loop();
            rig.io.completions(&mut all);
        }
        sleeps() - before
    });
    assert_eq!(least.min(), Some(0), "it slept each time");
}

#[test]
fn more_operations_than_the_ring_holds_all_complete_once() {
    let options = UringOptions {
        entries: 4,
        arena_bytes: 1 << 20,
        ..UringOptions::default()
    };
    let mut rig = Rig::with(&options);
    let block_bytes = rig.block_bytes() as u64;
    let file = rig.create("a");
    let mut expected = Vec::new();
    for number in 0..200_u64 {
        let block = rig.block(number as u8);
        let bufs = vec![block];
        let op = Op::Write {
            file,
            offset: number * block_bytes,
            bufs,
            durable: false,
        };
        expected.push(rig.submit(op));
        if number == 100 {
            // Half of them are on their way when the rest is accepted.
            rig.io.kick();
        }
    }
    assert_eq!(rig.io.in_flight(), 200);
    let mut tokens: Vec<Token> = rig
        .finish_all()
        .into_iter()
        .map(|completion| {
            assert_eq!(completion.result.expect("written") as u64, block_bytes);
            completion.token
        })
        .collect();
    tokens.sort();
    assert_eq!(tokens, expected);
    assert_eq!(
        rig.io.pool().used_bytes(),
        0,
        "completed writes hold no memory"
    );
    let read = rig.read(file, 0, 200);
    assert!(
        read.chunks(block_bytes as usize)
            .enumerate()
            .all(|(number, block)| block.iter().all(|byte| *byte == number as u8))
    );
}

#[test]
fn completions_wake_poll_and_epoll_on_the_descriptor_without_entering_the_ring() {
    let mut rig = Rig::new();
    let file = rig.create("a");
    // SAFETY: the descriptor belongs to the rig, which outlives the borrow.
    let ring = unsafe { BorrowedFd::borrow_raw(rig.io.as_raw_fd()) };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(
        &epoll,
        ring,
        epoll::EventData::new_u64(7),
        epoll::EventFlags::IN,
    )
    .expect("added");
    let patience = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    for round in 0..40_u64 {
        let block = rig.block(round as u8);
        // A refused operation completes without any I/O and must wake as well.
        let op = match round % 4 {
            3 => Op::Open {
                name: "a/b".to_owned(),
                create: false,
            },
            _ => write(file, round * rig.block_bytes() as u64, vec![block]),
        };
        rig.submit(op);
        rig.io.kick();
        let ready = loop {
            let result = if round % 2 == 0 {
                let mut events = Vec::with_capacity(4);
                epoll::wait(
                    &epoll,
                    rustix::buffer::spare_capacity(&mut events),
                    Some(&patience),
                )
            } else {
                poll(
                    &mut [PollFd::from_borrowed_fd(ring, PollFlags::IN)],
                    Some(&patience),
                )
            };
            match result {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.expect("waiting works"),
            }
        };
        assert_eq!(ready, 1, "round {round}: the descriptor becomes readable");
        let mut all = Vec::new();
        rig.io.completions(&mut all);
        assert_eq!(
            all.len(),
            1,
            "round {round}: a readable ring has a completion"
        );
    }
}

#[test]
fn spinning_on_completions_sees_them_without_sleeping() {
    let mut rig = Rig::new();
    let file = rig.create("a");
    let block = rig.block(1);
    rig.submit(write(file, 0, vec![block]));
    rig.io.kick();
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.is_empty() {
        assert!(
            Instant::now() < deadline,
            "a spinning owner never sees the completion"
        );
        rig.io.completions(&mut all);
    }
}

#[test]
fn dropping_waits_for_what_is_in_the_ring_and_returns_its_memory() {
    let mut rig = Rig::new();
    let file = rig.create("a");
    let pool = rig.io.pool().clone();
    for number in 0..32_u64 {
        let block = rig.blocks(16, 1);
        rig.submit(write(file, number * block.len() as u64, vec![block]));
    }
    let buf = rig.memory(4);
    rig.submit(Op::Read {
        file,
        offset: 0,
        buf,
    });
    rig.io.kick();
    assert!(pool.used_bytes() > 0);
    drop(rig);
    assert_eq!(pool.used_bytes(), 0);
}

#[test]
fn wait_returns_at_once_without_operations_and_in_time_with_a_slow_one() {
    let mut rig = Rig::new();
    let start = Instant::now();
    rig.io.wait(PATIENCE);
    assert!(start.elapsed() < PATIENCE / 4);
}

#[test]
fn a_locked_memory_limit_that_is_too_small_is_named_and_everything_works() {
    // Root is exempt from the limit, so the refusal is only seen by other users.
    let mut rig = Rig::with(&UringOptions {
        arena_bytes: 64 << 20,
        ..UringOptions::default()
    });
    match &rig.io.report().buffers {
        Registration::Refused(reason) => assert!(reason.contains("RLIMIT_MEMLOCK"), "{reason}"),
        other => println!("not refused here: {other}"),
    }
    let file = rig.create("a");
    let block = rig.block(1);
    rig.run(write(file, 0, vec![block]))
        .result
        .expect("written");
}

#[test]
fn entropy_and_clocks_move() {
    let mut rig = Rig::new();
    assert_ne!(rig.io.entropy(), rig.io.entropy());
    assert!(rig.io.wall_ms() > 1_600_000_000_000);
    let first = rig.io.monotonic();
    assert!(rig.io.monotonic() >= first);
}
