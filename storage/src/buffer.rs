//! Aligned memory for O_DIRECT: a pool carved from one arena (which the ring registers), and
//! ordinary aligned allocations beyond it.
//!
//! Invariants: a [`BufMut`] is the only way to its bytes; a [`Buf`] never changes; memory goes
//! back to its pool with the last reference and not before. What is handed out never passes the
//! pool's limit: beyond it there is `None`, and the caller waits.
//!
//! Single-threaded by design (`Rc`): a buffer never leaves its core.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;

use arena::{Arena, Region};

mod arena;
mod bitmap;

/// A pool of aligned memory: one arena, handed out in runs of blocks, and plain aligned
/// allocations beyond it up to a limit. Cheap to clone (shared).
#[derive(Clone)]
pub struct Pool {
    shared: Rc<Shared>,
}

struct Shared {
    block_bytes: usize,
    limit_bytes: usize,
    used_bytes: Cell<usize>,
    beyond_arena: Cell<u64>,
    arena: Option<Arena>,
}

impl Pool {
    /// A pool with an arena of `arena_bytes` and at most `limit_bytes` handed out in all
    /// (arena and beyond).
    ///
    /// # Panics
    /// When `block_bytes` is not a power of two.
    #[must_use]
    pub fn new(block_bytes: usize, arena_bytes: usize, limit_bytes: usize) -> Pool {
        assert!(
            block_bytes.is_power_of_two(),
            "a block of {block_bytes} bytes: not a power of 2"
        );
        Pool {
            shared: Rc::new(Shared {
                block_bytes,
                limit_bytes,
                used_bytes: Cell::new(0),
                beyond_arena: Cell::new(0),
                arena: Arena::new(block_bytes, arena_bytes),
            }),
        }
    }

    /// Aligned memory of at least `bytes`, rounded up to whole blocks (the length of the
    /// result is the rounded one), or `None` at the limit. Content is unspecified but
    /// initialised: the caller overwrites or zeroes what it hands to the disk.
    ///
    /// Costs a bitmap search from the arena; beyond it a zeroed heap allocation.
    #[must_use]
    pub fn alloc(&self, bytes: usize) -> Option<BufMut> {
        self.alloc_where(bytes, true)
    }

    /// As [`Pool::alloc`], but from the arena or not at all: for who can make room in it, which
    /// costs less than fresh pages do.
    #[must_use]
    pub fn alloc_in_arena(&self, bytes: usize) -> Option<BufMut> {
        self.alloc_where(bytes, false)
    }

    fn alloc_where(&self, bytes: usize, beyond: bool) -> Option<BufMut> {
        let shared = &self.shared;
        let bytes = bytes.max(1).checked_next_multiple_of(shared.block_bytes)?;
        let used_bytes = shared.used_bytes.get().checked_add(bytes)?;
        if used_bytes > shared.limit_bytes {
            return None;
        }
        let (region, from_arena) = match shared.arena.as_ref().and_then(|arena| arena.take(bytes)) {
            Some(region) => (region, true),
            None if beyond => (Region::from_heap(bytes, shared.block_bytes)?, false),
            None => return None,
        };
        if !from_arena {
            shared.beyond_arena.set(shared.beyond_arena.get() + 1);
        }
        shared.used_bytes.set(used_bytes);
        let (pointer, bytes) = (region.pointer(), region.bytes());
        let owner = Owner::Pooled {
            shared: Rc::clone(shared),
            region: Some(region),
            from_arena,
        };
        Some(BufMut {
            pointer,
            bytes,
            owner,
        })
    }

    /// Bytes handed out (arena and beyond).
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.shared.used_bytes.get()
    }

    /// The most bytes that may be handed out.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit_bytes
    }

    /// Alignment and granularity.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.shared.block_bytes
    }

    /// Length of the arena; 0 when there is none.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.shared
            .arena
            .as_ref()
            .map_or(0, |arena| arena.memory().bytes())
    }

    /// How many allocations the arena had no room for, ever. When it grows steadily the arena is
    /// too small for the load.
    #[must_use]
    pub fn allocations_beyond_arena(&self) -> u64 {
        self.shared.beyond_arena.get()
    }

    /// Start and length of the arena, for registration with a ring.
    pub(crate) fn arena(&self) -> Option<(NonNull<u8>, usize)> {
        self.shared
            .arena
            .as_ref()
            .map(|arena| (arena.memory().pointer(), arena.memory().bytes()))
    }

    fn arena_holds(&self, start: NonNull<u8>, bytes: usize) -> bool {
        self.arena().is_some_and(|(arena, arena_bytes)| {
            let (arena, start) = (arena.addr().get(), start.addr().get());
            start >= arena && start + bytes <= arena + arena_bytes
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("block_bytes", &self.block_bytes())
            .field("arena_bytes", &self.arena_bytes())
            .field("used_bytes", &self.used_bytes())
            .field("limit_bytes", &self.limit_bytes())
            .finish()
    }
}

/// Keeps bytes alive, and lets them go where they came from.
enum Owner {
    Pooled {
        shared: Rc<Shared>,
        /// `None` only while being dropped.
        region: Option<Region>,
        from_arena: bool,
    },
    /// Never touched through this field: the bytes are reached by pointer, and a `Vec` may be
    /// moved without moving its bytes.
    Heap { _bytes: Vec<u8> },
}

impl Drop for Owner {
    fn drop(&mut self) {
        let Owner::Pooled {
            shared,
            region,
            from_arena,
        } = self
        else {
            return;
        };
        let Some(region) = region.take() else { return };
        shared
            .used_bytes
            .set(shared.used_bytes.get() - region.bytes());
        match &shared.arena {
            Some(arena) if *from_arena => arena.release(region),
            // SAFETY: not from the arena, so `Pool::alloc` took it from the heap, aligned to the
            // pool's block.
            _ => unsafe { region.free_to_heap(shared.block_bytes) },
        }
    }
}

/// Aligned memory with one owner.
pub struct BufMut {
    pointer: NonNull<u8>,
    bytes: usize,
    owner: Owner,
}

impl BufMut {
    /// Gives up the right to change it; from here it can be shared.
    #[must_use]
    pub fn freeze(self) -> Buf {
        Buf {
            start: self.pointer,
            bytes: self.bytes,
            _owner: Rc::new(self.owner),
        }
    }

    /// Whether all of it lies in the arena of `pool`.
    pub(crate) fn registered_in(&self, pool: &Pool) -> bool {
        pool.arena_holds(self.pointer, self.bytes)
    }
}

impl Deref for BufMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `owner` keeps `bytes` initialised bytes alive at `pointer`, and the borrow of
        // `self` keeps others from changing them.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.bytes) }
    }
}

impl DerefMut for BufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and this is the only handle to the bytes.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} bytes at {:p})", self.bytes, self.pointer)
    }
}

/// A shared, immutable range of aligned memory. Cloning and slicing copy nothing; the memory
/// returns to its pool with the last reference.
#[derive(Clone)]
pub struct Buf {
    start: NonNull<u8>,
    bytes: usize,
    _owner: Rc<Owner>,
}

impl Buf {
    /// The part `range` of this one, by reference.
    ///
    /// # Panics
    /// When the range lies outside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Buf {
        assert!(
            range.start <= range.end && range.end <= self.bytes,
            "slice {range:?} of a buffer of {} bytes",
            self.bytes
        );
        // SAFETY: the start lies within the bytes, or one behind the last.
        let start = unsafe { self.start.add(range.start) };
        Buf {
            start,
            bytes: range.end - range.start,
            _owner: Rc::clone(&self._owner),
        }
    }

    /// Copies bytes into plain heap memory (for tests and small answers).
    #[must_use]
    pub fn from_vec(mut bytes: Vec<u8>) -> Buf {
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector's pointer is never null");
        Buf {
            start,
            bytes: bytes.len(),
            _owner: Rc::new(Owner::Heap { _bytes: bytes }),
        }
    }

    /// Whether all of it lies in the arena of `pool`.
    pub(crate) fn registered_in(&self, pool: &Pool) -> bool {
        pool.arena_holds(self.start, self.bytes)
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `_owner` keeps the bytes alive and initialised, and no handle that could change
        // them exists since `freeze` took the only one.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes at {:p})", self.bytes, self.start)
    }
}

#[cfg(test)]
mod tests;
