//! The machine around the disk: its clocks, its handles, and the operations on their way.
//!
//! ```text
//!   accepted ──kick──► started (due at a seeded time) ──clock──► done ──► completions
//! ```
//! Invariant: an operation takes effect exactly when the clock passes its time, in that order;
//! operations of dead handles never do. What the effect is stands in `effect`.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::super::medium::{Inode, Medium, Moment, Started};
use super::super::random::Random;
use super::super::{Completion, FileId, Op, Token};
use super::faults::{Faults, Injected, Injection};
use super::ledger::Ledger;
use super::options::SimOptions;

/// Time that passes with each turn of the caller, so that a caller that polls without waiting
/// gets on.
const TURN: Duration = Duration::from_micros(1);

const DESCRIBING_BYTES: u64 = 128;

const STUCK: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A handle. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandleId(u64);

/// An operation under way.
pub(super) struct Running {
    handle: HandleId,
    token: Token,
    op: Op,
    accepted_at: (Moment, u64),
    due: Duration,
    number: u64,
}

struct Accepted {
    op: Op,
    token: Token,
    /// What had completed by then, on the medium and in the ledger, is what a flush covers,
    /// however late it starts.
    at: (Moment, u64),
}

#[derive(Default)]
struct Handle {
    dead: bool,
    accepted: Vec<Accepted>,
    done: Vec<Completion>,
}

/// The machine.
pub(super) struct Machine {
    pub(super) medium: Medium,
    pub(super) faults: Faults,
    pub(super) random: Random,
    entropy: Random,
    options: SimOptions,
    now: Duration,
    wall_offset_ms: i64,
    handles: BTreeMap<HandleId, Handle>,
    running: Vec<Running>,
    pub(super) open_files: BTreeMap<FileId, OpenFile>,
    next_handle: u64,
    next_file: u32,
    next_number: u64,
    operations: u64,
    cut_at: Option<u64>,
    injected: Vec<Injected>,
    pub(super) ledger: Ledger,
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    handle: HandleId,
    pub(super) inode: Inode,
    pub(super) name: String,
}

impl Machine {
    pub(super) fn new(
        mut random: Random,
        faults: Faults,
        medium: Medium,
        options: SimOptions,
    ) -> Machine {
        let entropy = random.fork();
        Machine {
            medium,
            faults,
            entropy,
            random,
            now: Duration::ZERO,
            wall_offset_ms: options.wall_ms,
            options,
            handles: BTreeMap::new(),
            running: Vec::new(),
            open_files: BTreeMap::new(),
            next_handle: 0,
            next_file: 0,
            next_number: 0,
            operations: 0,
            cut_at: None,
            injected: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    pub(super) fn options(&self) -> &SimOptions {
        &self.options
    }

    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    pub(super) fn medium_mut(&mut self) -> &mut Medium {
        &mut self.medium
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn injected(&self) -> &[Injected] {
        &self.injected
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn wall_ms(&self) -> i64 {
        let since_start = i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX);
        self.wall_offset_ms.saturating_add(since_start)
    }

    pub(super) fn entropy(&mut self) -> u128 {
        u128::from(self.entropy.next_u64()) << 64 | u128::from(self.entropy.next_u64())
    }

    pub(super) fn inject(&mut self, what: Injection) {
        self.injected.push(Injected { at: self.now, what });
    }

    pub(super) fn new_handle(&mut self) -> HandleId {
        let handle = HandleId(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(handle, Handle::default());
        handle
    }

    pub(super) fn list(&self, handle: HandleId) -> io::Result<Vec<(String, u64)>> {
        if self.is_dead(handle) {
            Err(power_is_off())
        } else {
            Ok(self.medium.list())
        }
    }

    pub(super) fn submit(&mut self, handle: HandleId, op: Op, token: Token) {
        let at = (self.medium.moment(), self.ledger.moment());
        let Some(state) = self.handles.get_mut(&handle) else {
            return;
        };
        if state.dead {
            state.done.push(failed(token, op, power_is_off()));
        } else {
            state.accepted.push(Accepted { op, token, at });
        }
    }

    pub(super) fn kick(&mut self, handle: HandleId) {
        let Some(state) = self.handles.get_mut(&handle) else {
            return;
        };
        for Accepted { op, token, at } in std::mem::take(&mut state.accepted) {
            let due = self.now + self.duration_of(&op);
            let number = self.next_number;
            self.next_number += 1;
            self.running.push(Running {
                handle,
                token,
                op,
                accepted_at: at,
                due,
                number,
            });
        }
    }

    pub(super) fn completions(&mut self, handle: HandleId, out: &mut Vec<Completion>) {
        self.advance(TURN);
        if let Some(state) = self.handles.get_mut(&handle) {
            out.append(&mut state.done);
        }
    }

    pub(super) fn wait(&mut self, handle: HandleId, timeout: Duration) {
        self.kick(handle);
        let end = self.now + timeout;
        while self.in_flight(handle) > 0 && !self.has_done(handle) {
            match self.next_due() {
                Some(due) if due <= end => self.run_until(due),
                _ => {
                    self.run_until(end);
                    return;
                }
            }
        }
    }

    pub(super) fn in_flight(&self, handle: HandleId) -> usize {
        let Some(state) = self.handles.get(&handle) else {
            return 0;
        };
        let running = self
            .running
            .iter()
            .filter(|running| running.handle == handle)
            .count();
        state.accepted.len() + state.done.len() + running
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.run_until(self.now + by);
    }

    pub(super) fn power_cut_after(&mut self, operations: u64) {
        self.cut_at = Some(self.operations + operations);
    }

    pub(super) fn power_cut(&mut self) {
        self.cut_at = None;
        let under_way = std::mem::take(&mut self.running);
        self.inject(Injection::PowerCut {
            operations_under_way: under_way.len(),
        });
        let started: Vec<_> = under_way
            .iter()
            .filter_map(|running| self.change(&running.op))
            .collect();
        let left = self.medium.after_power_cut(&started, &mut self.random);
        self.medium = Medium::after(self.options.sector_bytes as u64, left);
        self.ledger.forget_unflushed();
        self.rot();
        self.end_handles(under_way);
    }

    pub(super) fn kill(&mut self) {
        self.cut_at = None;
        let under_way = std::mem::take(&mut self.running);
        self.inject(Injection::Kill {
            operations_under_way: under_way.len(),
        });
        let mut unfinished = Vec::new();
        for running in under_way {
            if self.random.chance(0.5) {
                self.take_effect(running);
            } else {
                unfinished.push(running);
            }
        }
        self.end_handles(unfinished);
        self.medium.forget_unnamed(|_| false);
    }

    /// What a real ring does when it is dropped: operations that were started end first.
    pub(super) fn drop_handle(&mut self, handle: HandleId) {
        let due = self
            .running
            .iter()
            .filter(|running| running.handle == handle);
        if let Some(last) = due.map(|running| running.due).max() {
            self.run_until(last);
        }
        self.handles.remove(&handle);
        self.open_files.retain(|_, file| file.handle != handle);
        self.forget_unnamed();
    }

    pub(super) fn forget_unnamed(&mut self) {
        let open_files = &self.open_files;
        self.medium
            .forget_unnamed(|inode| open_files.values().any(|file| file.inode == inode));
    }

    pub(super) fn open(&mut self, handle: HandleId, inode: Inode, name: String) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.open_files.insert(
            file,
            OpenFile {
                handle,
                inode,
                name,
            },
        );
        file
    }

    fn is_dead(&self, handle: HandleId) -> bool {
        self.handles.get(&handle).is_none_or(|state| state.dead)
    }

    fn has_done(&self, handle: HandleId) -> bool {
        self.handles
            .get(&handle)
            .is_some_and(|state| !state.done.is_empty())
    }

    fn next_due(&self) -> Option<Duration> {
        self.running.iter().map(|running| running.due).min()
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(next) = self.next_by(end) {
            if self.cut_at.is_some_and(|at| self.operations >= at) {
                self.power_cut();
                break;
            }
            let running = self.running.swap_remove(next);
            self.now = self.now.max(running.due);
            self.operations += 1;
            self.take_effect(running);
            self.jump_clock();
        }
        self.now = self.now.max(end);
    }

    fn next_by(&self, end: Duration) -> Option<usize> {
        let by_time = |(_, running): &(usize, &Running)| (running.due, running.number);
        let first = self.running.iter().enumerate().min_by_key(by_time)?;
        (first.1.due <= end).then_some(first.0)
    }

    fn take_effect(&mut self, running: Running) {
        let Running {
            handle,
            token,
            op,
            accepted_at,
            ..
        } = running;
        let completion = self.effect(handle, token, op, accepted_at);
        if let Some(state) = self.handles.get_mut(&handle) {
            state.done.push(completion);
        }
    }

    fn end_handles(&mut self, unfinished: Vec<Running>) {
        self.open_files.clear();
        for state in self.handles.values_mut() {
            state.dead = true;
            // Whoever asks after its own end learns nothing of what was not taken before.
            for completion in &mut state.done {
                completion.result = Err(power_is_off());
                completion.file = None;
            }
            for Accepted { op, token, .. } in std::mem::take(&mut state.accepted) {
                state.done.push(failed(token, op, power_is_off()));
            }
        }
        for Running {
            handle, token, op, ..
        } in unfinished
        {
            if let Some(state) = self.handles.get_mut(&handle) {
                state.done.push(failed(token, op, power_is_off()));
            }
        }
    }

    fn duration_of(&mut self, op: &Op) -> Duration {
        let micros = match op {
            Op::Read { buf, .. } => self.random.within(40..200) + buf.len() as u64 / 2000,
            Op::Write { bufs, .. } => {
                let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
                self.random.within(50..300) + bytes as u64 / 1000
            }
            Op::Flush { .. } => self.random.within(80..500),
            Op::Open { .. } | Op::Close { .. } => self.random.within(5..100),
            Op::Allocate { .. } | Op::Truncate { .. } | Op::SyncDir | Op::Remove { .. } => {
                self.random.within(50..1000)
            }
        };
        let duration = Duration::from_micros(micros);
        if self.random.chance(self.faults.stuck) {
            self.inject(Injection::Stuck);
            return duration + STUCK;
        }
        if self.random.chance(self.faults.slow) {
            self.inject(Injection::Slow);
            return duration * 100;
        }
        if self.random.chance(self.faults.reordered) {
            self.inject(Injection::Reordered);
            return duration * 10;
        }
        duration
    }

    fn jump_clock(&mut self) {
        if self.random.chance(self.faults.clock_jump) {
            // At most a day, which fits.
            let milliseconds = self.random.within(0..2 * DAY_MS) as i64 - DAY_MS as i64;
            self.wall_offset_ms = self.wall_offset_ms.saturating_add(milliseconds);
            self.inject(Injection::ClockJump { milliseconds });
        }
    }

    fn rot(&mut self) {
        for (name, bytes) in self.medium.list() {
            if bytes > 0 && self.random.chance(self.faults.bit_rot) {
                // Half of it where files keep what describes them: a bit anywhere hardly ever
                // meets one of these.
                let block_bytes = self.options.block_bytes as u64;
                let last = (bytes - 1) / block_bytes * block_bytes;
                let range = match self.random.within(0..4) {
                    0 => 0..bytes.min(DESCRIBING_BYTES),
                    1 => last..bytes.min(last + DESCRIBING_BYTES),
                    _ => 0..bytes,
                };
                let offset = self.random.within(range);
                let bit = self.random.within(0..8);
                self.medium
                    .corrupt(&name, &mut |content| content[offset as usize] ^= 1 << bit);
                self.ledger.corrupted(&name, offset..offset + 1);
                self.inject(Injection::BitRot { name, offset });
            }
        }
    }

    fn change(&self, op: &Op) -> Option<Started> {
        let inode = |file: &FileId| self.open_files.get(file).map(|file| file.inode);
        match op {
            Op::Write {
                file, offset, bufs, ..
            } => {
                let bytes = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
                Some(Started::Write {
                    inode: inode(file)?,
                    offset: *offset,
                    bytes,
                })
            }
            Op::Allocate { file, bytes } | Op::Truncate { file, bytes } => Some(Started::Length {
                inode: inode(file)?,
                bytes: *bytes,
            }),
            Op::Open { name, create: true } => Some(Started::Create { name: name.clone() }),
            Op::Remove { name } => Some(Started::Remove { name: name.clone() }),
            Op::Open { .. }
            | Op::Close { .. }
            | Op::Read { .. }
            | Op::Flush { .. }
            | Op::SyncDir => None,
        }
    }
}

/// A completion that brings nothing but its error and the operation's buffer.
pub(super) fn failed(token: Token, op: Op, error: io::Error) -> Completion {
    let buf = match op {
        Op::Read { buf, .. } => Some(buf),
        _ => None,
    };
    Completion {
        token,
        result: Err(error),
        buf,
        file: None,
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated machine lost power or was killed; open the disk again")
}
