//! Compressed record streams whose beginning stays readable: the first record lies in a stored
//! (uncompressed) block, everything behind it is compressed as usual.
//!
//! Both LZ4 frames and Zstandard frames may mix stored and compressed blocks, so this is an
//! ordinary stream to every decoder, and the stamp in it can be changed without compressing
//! again. No content checksum is asked for: it would cover the stamp.
//!
//! ```text
//!  frame header | stored block: first record | blocks of the other records … | end
//! ```

use std::io::Write;

use anyhow::{Context, ensure};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// Most bytes one stored block takes: below LZ4's smallest block maximum (64 KiB) and Zstandard's
/// (128 KiB).
const STORED_BLOCK_BYTES: usize = 60 << 10;

/// A stream and the place in it where `first` begins.
pub struct Spliced {
    /// The whole stream.
    pub bytes: Vec<u8>,
    /// Where the first stored byte lies; the first 60 KiB of `first` follow without a break.
    pub first_at: usize,
}

const LZ4_HEADER_BYTES: usize = 7; // magic, flags, block descriptor, header checksum

/// An LZ4 frame of `first` stored and `rest` compressed.
pub fn lz4(first: &[u8], rest: &[u8]) -> anyhow::Result<Spliced> {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB)
        .content_checksum(false)
        .block_checksums(false);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder
        .write_all(rest)
        .context("compressing records with LZ4")?;
    let frame = encoder.finish().context("finishing the LZ4 frame")?;
    let (header, blocks) = frame.split_at(LZ4_HEADER_BYTES);
    let mut bytes = header.to_vec();
    for chunk in first.chunks(STORED_BLOCK_BYTES) {
        let length = u32::try_from(chunk.len()).expect("a stored block is below 64 KiB");
        bytes.extend_from_slice(&(length | 1 << 31).to_le_bytes());
        bytes.extend_from_slice(chunk);
    }
    bytes.extend_from_slice(blocks);
    Ok(Spliced {
        bytes,
        first_at: LZ4_HEADER_BYTES + 4,
    })
}

const ZSTD_LEVEL: i32 = 3;
const ZSTD_HEADER_BYTES: usize = 6; // magic, frame header descriptor, window descriptor
const ZSTD_WINDOW_2_MIB: u8 = 11 << 3; // exponent above 1 KiB, mantissa 0
const ZSTD_BLOCK_HEADER_BYTES: usize = 3;

/// A Zstandard frame of `first` stored and `rest` compressed.
pub fn zstd(first: &[u8], rest: &[u8]) -> anyhow::Result<Spliced> {
    let mut encoder =
        zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).context("making an encoder")?;
    encoder
        .include_contentsize(false)
        .context("leaving out the content size")?;
    encoder
        .include_checksum(false)
        .context("leaving out the checksum")?;
    encoder
        .write_all(rest)
        .context("compressing records with Zstandard")?;
    let frame = encoder.finish().context("finishing the Zstandard frame")?;
    // Descriptor bits: content size 7-6, single segment 5, checksum 2, dictionary 1-0. With all of
    // them zero the header is exactly magic, descriptor and window.
    ensure!(
        frame.len() > ZSTD_HEADER_BYTES && frame[4] & 0b1110_0111 == 0,
        "the Zstandard encoder wrote a frame header of another shape"
    );
    let (header, blocks) = frame.split_at(ZSTD_HEADER_BYTES);
    let mut bytes = header.to_vec();
    // A frame of few bytes gets a small window, and no block may be larger than the window.
    bytes[ZSTD_HEADER_BYTES - 1] = bytes[ZSTD_HEADER_BYTES - 1].max(ZSTD_WINDOW_2_MIB);
    for chunk in first.chunks(STORED_BLOCK_BYTES) {
        // Not the last block (bit 0), raw (bits 2-1 zero), size from bit 3.
        let size = u32::try_from(chunk.len()).expect("a stored block is below 64 KiB") << 3;
        bytes.extend_from_slice(&size.to_le_bytes()[..ZSTD_BLOCK_HEADER_BYTES]);
        bytes.extend_from_slice(chunk);
    }
    bytes.extend_from_slice(blocks);
    Ok(Spliced {
        bytes,
        first_at: ZSTD_HEADER_BYTES + ZSTD_BLOCK_HEADER_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::codec::{Compression, records_plain};
    use proptest::prelude::*;

    fn check(compression: Compression, first: &[u8], rest: &[u8]) {
        let spliced = match compression {
            Compression::Lz4 => lz4(first, rest).unwrap(),
            Compression::Zstd => zstd(first, rest).unwrap(),
            Compression::None => unreachable!("only codecs are spliced"),
        };
        let start = &first[..first.len().min(STORED_BLOCK_BYTES)];
        assert_eq!(
            &spliced.bytes[spliced.first_at..spliced.first_at + start.len()],
            start
        );
        let plain = records_plain(compression.attribute_bits(), &spliced.bytes, 64 << 20).unwrap();
        assert_eq!(plain, [first, rest].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_spliced_stream_unfolds_to_its_parts(
            first in proptest::collection::vec(any::<u8>(), 1..200_000),
            seed in proptest::collection::vec(any::<u8>(), 0..300),
            repeats in 0_usize..3_000,
        ) {
            let rest = seed.repeat(repeats);
            check(Compression::Lz4, &first, &rest);
            check(Compression::Zstd, &first, &rest);
        }
    }

    #[test]
    fn a_stream_of_one_record_only_unfolds() {
        check(Compression::Lz4, b"only", b"");
        check(Compression::Zstd, b"only", b"");
    }
}
