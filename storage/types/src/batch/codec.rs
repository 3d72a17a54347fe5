//! The codecs of a batch's records: a reader of the plain bytes, which holds a small window of
//! them, and both ways at once for log compaction.

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameDecoder, FrameEncoder, FrameInfo};

use super::header::Compression;

/// The largest window of a zstd frame that is opened: the most that its own tools open without being
/// asked to, and what its highest level makes.
pub const ZSTD_WINDOW_BYTES: usize = 1 << ZSTD_WINDOW_LOG;

const ZSTD_WINDOW_LOG: u32 = 27;

/// Memory that a [`decoder`] of these records takes for the plain bytes it holds, as their first frame
/// says. One that says so much and has less takes less.
#[must_use]
pub fn decoder_bytes(compression: Compression, payload: &[u8]) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 64 << 10,
        Compression::Snappy => SNAPPY_BLOCK_BYTES.min(payload.len().saturating_mul(64)),
        Compression::Lz4 => lz4_blocks_bytes(payload),
        Compression::Zstd => zstd_window(payload).min(ZSTD_WINDOW_BYTES),
    }
}

/// Two blocks, and what may lie before them (lz4_Frame_format.md).
fn lz4_blocks_bytes(payload: &[u8]) -> usize {
    const LEGACY_BLOCK_BYTES: usize = 8 << 20;
    let descriptor = payload.get(5).map(|byte| byte >> 4 & 7);
    let block = match descriptor {
        Some(size @ 4..=7) => 1 << (8 + 2 * size),
        _ => LEGACY_BLOCK_BYTES,
    };
    2 * block + (64 << 10)
}

/// The window of the first frame (RFC 8878, 3.1.1.1); of what is none, the largest.
fn zstd_window(payload: &[u8]) -> usize {
    zstd_frame_window(payload).map_or(ZSTD_WINDOW_BYTES, |window| {
        usize::try_from(window).unwrap_or(usize::MAX)
    })
}

fn zstd_frame_window(payload: &[u8]) -> Option<u64> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (descriptor, rest) = payload.strip_prefix(&MAGIC)?.split_first()?;
    if descriptor & SINGLE_SEGMENT == 0 {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // There is no window: all of the content, whose size stands behind the dictionary's number.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let field = rest.get(dictionary..)?;
    match descriptor >> 6 {
        0 => field.first().map(|size| u64::from(*size)),
        1 => {
            let size = field.first_chunk().copied().map(u16::from_le_bytes)?;
            Some(u64::from(size) + 256)
        }
        2 => field
            .first_chunk()
            .copied()
            .map(u32::from_le_bytes)
            .map(u64::from),
        _ => field.first_chunk().copied().map(u64::from_le_bytes),
    }
}

fn zstd_decoder(payload: &[u8]) -> io::Result<zstd::stream::read::Decoder<'_, &[u8]>> {
    let announced = zstd_window(payload);
    if announced > ZSTD_WINDOW_BYTES {
        let cause = format!("a zstd window of {announced} bytes, {ZSTD_WINDOW_BYTES} are opened");
        return Err(io::Error::new(TOO_LARGE, cause));
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
    // A frame behind the first may say more than that did.
    let window = announced.max(1 << 10);
    decoder.window_log_max(window.next_power_of_two().ilog2())?;
    Ok(decoder)
}

/// What errors of a [`decoder`] say of records that are sound for all that is known, and need more
/// memory than is given to them.
pub const TOO_LARGE: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// A reader of the plain bytes of compressed records. What it holds of them is bounded, see
/// [`decoder_bytes`]; how many there are is not: the caller limits what it takes.
///
/// # Errors
/// When the codec cannot be set up.
pub fn decoder<'a>(compression: Compression, payload: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(payload),
        Compression::Gzip => Box::new(MultiGzDecoder::new(payload)),
        Compression::Snappy => Box::new(Snappy::new(payload)),
        Compression::Lz4 => Box::new(FrameDecoder::new(payload)),
        Compression::Zstd => Box::new(zstd_decoder(payload)?),
    })
}

/// The plain bytes of compressed records.
///
/// # Errors
/// They are not what the codec makes, or are more than `limit_bytes`.
pub fn decompress(
    compression: Compression,
    payload: &[u8],
    limit_bytes: usize,
) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut source = decoder(compression, payload)?.take(limit_bytes as u64 + 1);
    source.read_to_end(&mut plain)?;
    if plain.len() > limit_bytes {
        let cause = format!("more than {limit_bytes} bytes when decompressed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
    }
    Ok(plain)
}

/// Records compressed as Kafka's clients read them.
///
/// # Errors
/// The codec's own.
pub fn compress(compression: Compression, plain: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Compression::Snappy => snappy(plain),
        Compression::Lz4 => {
            let frame = FrameInfo::new().block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd => zstd::stream::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

/// In the framing that every client reads, in blocks as its Java library makes them.
fn snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    const BLOCK_BYTES: usize = 32 << 10;
    const VERSION: i32 = 1;
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend(VERSION.to_be_bytes());
    out.extend(VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(BLOCK_BYTES) {
        let block = encoder.compress_vec(block)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend(length.to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

/// Snappy as Kafka clients write it: the framing of xerial's Java library, or (some C clients)
/// one raw block.
///
/// ```text
/// 82 "SNAPPY" 00, version i32, compatible version i32, { length i32, raw block }*
/// ```
struct Snappy<'a> {
    framed: bool,
    rest: &'a [u8],
    block: Vec<u8>,
    at: usize,
}

const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;

/// Largest decompressed block. Writers make blocks of 32 KiB, or one block of the whole batch.
const SNAPPY_BLOCK_BYTES: usize = 16 << 20;

impl<'a> Snappy<'a> {
    fn new(payload: &'a [u8]) -> Snappy<'a> {
        let framed = payload.starts_with(XERIAL_MAGIC) && payload.len() >= XERIAL_HEADER_BYTES;
        let rest = if framed {
            &payload[XERIAL_HEADER_BYTES..]
        } else {
            payload
        };
        Snappy {
            framed,
            rest,
            block: Vec::new(),
            at: 0,
        }
    }

    /// The next compressed block.
    fn take(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let cut_off = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| cut_off())?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(block)
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            let compressed = self.take()?;
            let bytes = snap::raw::decompress_len(compressed)?;
            // A byte of Snappy makes at most 64: a copy of 64 bytes takes at least two. What
            // announces more than that lies, and is not made room for.
            let cause = || format!("a snappy block announces {bytes} bytes");
            if bytes > compressed.len().saturating_mul(64) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, cause()));
            }
            if bytes > SNAPPY_BLOCK_BYTES {
                let cause = format!("{}, {SNAPPY_BLOCK_BYTES} are opened", cause());
                return Err(io::Error::new(TOO_LARGE, cause));
            }
            self.block.resize(bytes, 0);
            let written = snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
            self.block.truncate(written);
            self.at = 0;
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn what_is_compressed_decompresses_up_to_the_limit_and_not_beyond() {
        for length in [0, 1, 1000, 100_000] {
            let plain: Vec<u8> = (0..length).map(|n: u32| (n / 7) as u8).collect();
            for compression in ALL {
                let packed = compress(compression, &plain).unwrap();
                let again = decompress(compression, &packed, plain.len()).unwrap();
                assert_eq!(again, plain, "{compression:?}, {length} bytes");
                if length > 0 {
                    let refused = decompress(compression, &packed, plain.len() - 1);
                    assert!(refused.is_err(), "{compression:?}, {length} bytes");
                }
            }
        }
    }

    /// Plain bytes as a zstd stream with such a window, whose content's size nobody knows.
    fn zstd_with_window(plain: &[u8], log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_memory_of_a_decoder_is_what_its_frame_says() {
        for log in [10, 17, 23, 27] {
            let packed = zstd_with_window(b"plain", log);
            assert_eq!(decoder_bytes(Compression::Zstd, &packed), 1 << log);
            let again = decompress(Compression::Zstd, &packed, 5).unwrap();
            assert_eq!(again, b"plain", "a window of 2^{log} bytes is opened");
        }
        for length in [0, 200, 300, 70_000] {
            // All at once: the frame says how much it has, and needs no window.
            let packed = zstd::bulk::compress(&vec![7; length], 3).unwrap();
            assert_eq!(decoder_bytes(Compression::Zstd, &packed), length);
        }
        assert_eq!(
            decoder_bytes(Compression::Zstd, b"no frame"),
            ZSTD_WINDOW_BYTES
        );
        let lz4 = compress(Compression::Lz4, &[7; 1000]).unwrap();
        assert!(decoder_bytes(Compression::Lz4, &lz4) <= 9 << 20);
        let snappy = compress(Compression::Snappy, &[7; 1000]).unwrap();
        assert!(decoder_bytes(Compression::Snappy, &snappy) <= snappy.len() * 64);
    }

    #[test]
    fn a_larger_window_than_the_first_frame_said_is_refused() {
        let beyond = zstd_with_window(b"plain", 28);
        let refused = decompress(Compression::Zstd, &beyond, 5).unwrap_err();
        assert_eq!(refused.kind(), TOO_LARGE, "{refused}");
        let two = [zstd_with_window(b"a", 12), zstd_with_window(b"b", 12)].concat();
        assert_eq!(decompress(Compression::Zstd, &two, 5).unwrap(), b"ab");
        let rising = [zstd_with_window(b"a", 12), zstd_with_window(b"b", 27)].concat();
        assert!(decompress(Compression::Zstd, &rising, 5).is_err());
    }

    #[test]
    fn noise_is_refused_or_decompresses_within_the_limit() {
        let noise: Vec<u8> = (0..500u32).map(|n| ((n * n * 31) >> 3) as u8).collect();
        for compression in ALL {
            for from in 0..noise.len() {
                if let Ok(plain) = decompress(compression, &noise[from..], 10_000) {
                    assert!(plain.len() <= 10_000);
                }
            }
        }
    }
}
