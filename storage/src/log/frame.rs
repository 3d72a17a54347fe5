//! Frames: what was received, in memory that can go to the disk as it is.

use std::ops::Range;

use crate::format::entry_header::EntryMeta;

/// Frame buffers keep this much free before the frame, so that a block of one frame is written
/// where it was received: the block's header goes into the headroom.
pub const FRAME_HEADROOM_BYTES: usize = 4096;

/// An entry whose bytes lie in a frame buffer.
#[derive(Clone, Debug)]
pub struct FrameEntry {
    /// What it says of itself.
    pub meta: EntryMeta,
    /// Where its bytes lie in the frame buffer (counted from the buffer's start).
    pub range: Range<usize>,
}
