//! The compression codecs of a batch, by their number in the batch's attributes.

use std::io::Read;

use anyhow::{Context, bail};

/// What a batch's records are compressed with.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The codec's bits in the attributes.
    #[must_use]
    pub fn attribute_bits(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }
}

/// The records of a batch with these attributes, uncompressed. At most `limit_bytes`: more is an
/// error, so that a corrupt stream cannot fill the memory.
pub fn records_plain(
    attributes: i16,
    records: &[u8],
    limit_bytes: usize,
) -> anyhow::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = limit_bytes as u64 + 1;
    match attributes & 7 {
        0 => plain.extend_from_slice(records),
        3 => {
            lz4_flex::frame::FrameDecoder::new(records)
                .take(limit)
                .read_to_end(&mut plain)
                .context("opening the batch's LZ4 frame")?;
        }
        4 => {
            zstd::stream::read::Decoder::new(records)
                .context("making a Zstandard decoder")?
                .take(limit)
                .read_to_end(&mut plain)
                .context("opening the batch's Zstandard frame")?;
        }
        other => bail!("codec {other} is none that this generator writes (0, 3 or 4)"),
    }
    if plain.len() > limit_bytes {
        bail!("the batch's records unfold to more than {limit_bytes} bytes");
    }
    Ok(plain)
}
