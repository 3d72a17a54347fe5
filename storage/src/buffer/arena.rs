//! Where aligned memory comes from: one anonymous mapping for the arena, which a ring can
//! register whole, and single aligned allocations from the heap.
//!
//! Invariant: a [`Region`] is the only owner of its bytes, and the mapping lives as long as any
//! region of it. Called by the pool; nothing here knows of limits.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::ptr::NonNull;

use super::bitmap::Bitmap;

/// Memory aligned to a block, from one place or the other.
#[derive(Debug)]
pub(super) struct Region {
    pointer: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// `bytes` of zeroed heap memory aligned to `align`, or `None` when there is none.
    pub(super) fn from_heap(bytes: usize, align: usize) -> Option<Region> {
        debug_assert!(bytes > 0, "a region is never empty");
        let layout = Layout::from_size_align(bytes, align).ok()?;
        // SAFETY: the layout's size is not zero: callers round up to whole blocks.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Region { pointer, bytes })
    }

    /// Gives heap memory back.
    ///
    /// # Safety
    /// The region came from [`Region::from_heap`] with the same `align`.
    pub(super) unsafe fn free_to_heap(self, align: usize) {
        let layout = Layout::from_size_align(self.bytes, align)
            .expect("the layout was valid when the region was made with it");
        // SAFETY: the caller says that the memory was allocated with this layout; `self` is its
        // only owner and ends here.
        unsafe { dealloc(self.pointer.as_ptr(), layout) }
    }

    pub(super) fn pointer(&self) -> NonNull<u8> {
        self.pointer
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One long aligned stretch of memory, handed out in runs of units.
#[derive(Debug)]
pub(super) struct Arena {
    memory: Region,
    unit_bytes: usize,
    taken: RefCell<Bitmap>,
}

impl Arena {
    /// An arena of whole units, at least `arena_bytes` long; `None` when the system refuses the
    /// mapping or nothing is asked for. Pages become resident when they are first touched (or
    /// registered with a ring).
    pub(super) fn new(unit_bytes: usize, arena_bytes: usize) -> Option<Arena> {
        let units = arena_bytes.div_ceil(unit_bytes);
        if units == 0 {
            return None;
        }
        let memory = map(units.checked_mul(unit_bytes)?, unit_bytes)?;
        Some(Arena {
            memory,
            unit_bytes,
            taken: RefCell::new(Bitmap::new(units)),
        })
    }

    /// A run of whole units of `bytes` in all.
    pub(super) fn take(&self, bytes: usize) -> Option<Region> {
        debug_assert_eq!(bytes % self.unit_bytes, 0, "runs are whole units");
        let first = self.taken.borrow_mut().take(bytes / self.unit_bytes)?;
        // SAFETY: the bitmap hands out runs within the arena only, so the offset stays inside
        // the one mapping that `memory` points to.
        let pointer = unsafe { self.memory.pointer.add(first * self.unit_bytes) };
        Some(Region { pointer, bytes })
    }

    /// Gives a run back.
    pub(super) fn release(&self, region: Region) {
        let from_start = region.pointer.addr().get() - self.memory.pointer.addr().get();
        let first = from_start / self.unit_bytes;
        self.taken
            .borrow_mut()
            .release(first..first + region.bytes / self.unit_bytes);
    }

    pub(super) fn memory(&self) -> &Region {
        &self.memory
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        unmap(&self.memory, self.unit_bytes);
    }
}

#[cfg(not(miri))]
fn map(bytes: usize, align: usize) -> Option<Region> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

    // A page is the alignment a mapping has by itself; devices that ask for more get heap memory.
    if align > rustix::param::page_size() {
        return None;
    }
    // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that
    // exists.
    let pointer = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    let pointer = match pointer {
        Ok(pointer) => NonNull::new(pointer.cast::<u8>())?,
        Err(error) => {
            tracing::warn!(
                bytes,
                %error,
                "no arena for buffers could be mapped; they come from the heap, unregistered"
            );
            return None;
        }
    };
    // Advice only: without huge pages the arena works, with more page faults.
    // SAFETY: the range is the mapping made above.
    let _ = unsafe { madvise(pointer.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
    Some(Region { pointer, bytes })
}

#[cfg(not(miri))]
fn unmap(memory: &Region, _align: usize) {
    // SAFETY: the range is the whole mapping; the arena is its owner, regions keep the pool and
    // with it the arena alive, so none is left.
    let unmapped = unsafe { rustix::mm::munmap(memory.pointer.as_ptr().cast(), memory.bytes) };
    debug_assert!(
        unmapped.is_ok(),
        "a whole mapping can be unmapped: {unmapped:?}"
    );
}

#[cfg(miri)]
fn map(bytes: usize, align: usize) -> Option<Region> {
    Region::from_heap(bytes, align)
}

#[cfg(miri)]
fn unmap(memory: &Region, align: usize) {
    let region = Region {
        pointer: memory.pointer,
        bytes: memory.bytes,
    };
    // SAFETY: under Miri `map` takes the arena from the heap with this alignment.
    unsafe { region.free_to_heap(align) }
}
