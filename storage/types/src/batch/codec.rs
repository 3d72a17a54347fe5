//! The codecs of a batch's records: a reader of the plain bytes, which holds a small window of
//! them, and both ways at once for log compaction.

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameDecoder, FrameEncoder, FrameInfo};

use super::header::Compression;

/// A reader of the plain bytes of compressed records. What it holds of them is bounded; how many
/// there are is not: the caller limits what it takes.
///
/// # Errors
/// When the codec cannot be set up.
pub fn decoder<'a>(compression: Compression, payload: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(payload),
        Compression::Gzip => Box::new(MultiGzDecoder::new(payload)),
        Compression::Snappy => Box::new(Snappy::new(payload)),
        Compression::Lz4 => Box::new(FrameDecoder::new(payload)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(payload)?),
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
            if bytes > SNAPPY_BLOCK_BYTES || bytes > compressed.len().saturating_mul(64) {
                let cause = format!("a snappy block announces {bytes} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
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
