//! How the process's allocator treats memory that was freed.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc 2 and 3; the binding names only some options.
const PURGE_DELAY: mi_option_t = 15;

/// Never.
const NO_PURGE: libc::c_long = -1;

/// Keeps memory that was freed, for what is allocated next: the process is as large as it was at
/// its largest, which its limits bound. Given back, memory has to be had again page by page on a
/// core's thread; on a virtual machine whose host takes back what is free, one such page took
/// tens of milliseconds. `MIMALLOC_PURGE_DELAY` in the environment has precedence.
pub fn keep_freed_memory() {
    // SAFETY: sets a number in a table of the allocator, which checks the index. Another thread
    // may only see the old number for a moment: it is one aligned word.
    unsafe { mi_option_set_default(PURGE_DELAY, NO_PURGE) }
}
