//! The seam on a simulated disk: deterministic under a seed, with virtual time and faults.
//!
//! Operations start with [`Io::kick`], take a seeded time and so complete in a seeded order;
//! [`Io::wait`] moves the clock to the next completion. What is durable, and what a power cut
//! leaves, is the rule book of `medium`. The same seed and the same calls give the same history.
//!
//! Invariant: nothing here depends on real time, addresses or hash order. Called by the log in
//! its tests and by the simulator.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::medium::{Image, Medium};
use super::random::Random;
use super::{Completion, Geometry, Io, Op, Token};
use crate::buffer::Pool;
pub use faults::{Faults, Injected, Injection};
pub use ledger::Corrupted;
use machine::{HandleId, Machine};
pub use options::SimOptions;

mod effect;
mod faults;
mod ledger;
mod machine;
mod options;

/// A simulated disk with its machine's clocks. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    machine: Rc<RefCell<Machine>>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimDisk {
        SimDisk::with(seed, faults, Image::new(), SimOptions::default())
    }

    /// A disk that durably holds these files.
    #[must_use]
    pub fn from_image(seed: u64, faults: Faults, image: Image) -> SimDisk {
        SimDisk::with(seed, faults, image, SimOptions::default())
    }

    /// A disk of another shape.
    #[must_use]
    pub fn with(seed: u64, faults: Faults, image: Image, options: SimOptions) -> SimDisk {
        let medium = Medium::new(options.sector_bytes as u64, image);
        let machine = Machine::new(Random::new(seed), faults, medium, options);
        SimDisk {
            machine: Rc::new(RefCell::new(machine)),
        }
    }

    /// A handle, as a process gets it that opens the log's directory.
    #[must_use]
    pub fn io(&self) -> SimIo {
        let mut machine = self.machine.borrow_mut();
        let options = machine.options();
        let pool = Pool::new(
            options.block_bytes,
            options.arena_bytes,
            options.memory_limit_bytes,
        );
        let handle = machine.new_handle();
        SimIo {
            machine: Rc::clone(&self.machine),
            handle,
            pool,
        }
    }

    /// The power goes now: all handles are dead, of what was not durable a seeded subset is left.
    /// [`SimDisk::io`] gives the disk after the restart.
    pub fn power_cut(&self) {
        self.machine.borrow_mut().power_cut();
    }

    /// The power goes by itself before the `operations`-th operation from now takes effect, so
    /// that a cut can fall within anything: recovery, say.
    pub fn power_cut_after(&self, operations: u64) {
        self.machine.borrow_mut().power_cut_after(operations);
    }

    /// The process is killed: all handles are dead, operations under way are done or not, whole;
    /// the disk's cache keeps what it has.
    pub fn kill(&self) {
        self.machine.borrow_mut().kill();
    }

    /// Changes what goes wrong from here on.
    pub fn set_faults(&self, faults: Faults) {
        self.machine.borrow_mut().set_faults(faults);
    }

    /// What went wrong so far, in order.
    #[must_use]
    pub fn injected(&self) -> Vec<Injected> {
        self.machine.borrow().injected().to_vec()
    }

    /// Where content is not what was written: after lost and misdirected writes and rot, until
    /// a later write to the same place is durable.
    #[must_use]
    pub fn corrupted(&self) -> Corrupted {
        self.machine.borrow().ledger.all()
    }

    /// Moves the clocks; operations that end by then complete.
    pub fn advance(&self, by: Duration) {
        self.machine.borrow_mut().advance(by);
    }

    /// Operations that took effect so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.machine.borrow().operations()
    }

    /// What would surely survive a power cut now.
    #[must_use]
    pub fn durable_image(&self) -> Image {
        self.machine.borrow().medium().durable_image()
    }

    /// What reads see.
    #[must_use]
    pub fn current_image(&self) -> Image {
        self.machine.borrow().medium().current_image()
    }

    /// Names and lengths, as reads see them.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        self.machine.borrow().medium().list()
    }

    /// Changes bytes of a file on the medium itself, as rot does.
    ///
    /// # Panics
    /// When there is no such file or range: a test that corrupts nothing tests nothing.
    pub fn corrupt(&self, name: &str, range: Range<usize>, mut change: impl FnMut(&mut [u8])) {
        let mut machine = self.machine.borrow_mut();
        let found = machine.medium_mut().corrupt(name, &mut |content| {
            // The durable content may be shorter than what reads see.
            let end = range.end.min(content.len());
            if range.start < end {
                change(&mut content[range.start..end]);
            }
        });
        assert!(found, "cannot corrupt {name}: no such file");
    }

    /// Cuts a file on the medium itself.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, name: &str, bytes: usize) {
        let mut machine = self.machine.borrow_mut();
        let found = machine
            .medium_mut()
            .corrupt(name, &mut |content| content.truncate(bytes));
        assert!(found, "cannot truncate {name}: no such file");
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk")
            .field("files", &self.files())
            .finish_non_exhaustive()
    }
}

/// A handle on a simulated disk.
pub struct SimIo {
    machine: Rc<RefCell<Machine>>,
    handle: HandleId,
    pool: Pool,
}

impl Io for SimIo {
    fn geometry(&self) -> Geometry {
        let block_bytes = self.machine.borrow().options().block_bytes;
        Geometry {
            block_bytes,
            memory_align: block_bytes.min(512),
            direct: true,
        }
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.machine.borrow().list(self.handle)
    }

    fn submit(&mut self, op: Op, token: Token) {
        self.machine.borrow_mut().submit(self.handle, op, token);
    }

    fn kick(&mut self) {
        self.machine.borrow_mut().kick(self.handle);
    }

    fn completions(&mut self, out: &mut Vec<Completion>) {
        self.machine.borrow_mut().completions(self.handle, out);
    }

    fn wait(&mut self, timeout: Duration) {
        self.machine.borrow_mut().wait(self.handle, timeout);
    }

    fn in_flight(&self) -> usize {
        self.machine.borrow().in_flight(self.handle)
    }

    fn wall_ms(&self) -> i64 {
        self.machine.borrow().wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.machine.borrow().now()
    }

    fn entropy(&mut self) -> u128 {
        self.machine.borrow_mut().entropy()
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        // A test that panics while it looks at the disk drops handles with the borrow held.
        if let Ok(mut machine) = self.machine.try_borrow_mut() {
            machine.drop_handle(self.handle);
        }
    }
}

impl fmt::Debug for SimIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimIo")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
