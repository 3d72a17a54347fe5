//! CRC-32C, and the algebra that lets a checksum follow a change of bytes without reading the
//! bytes that did not change. `patch` stands on it, and whoever stitches batches together.
//!
//! A CRC is a remainder modulo a polynomial P over GF(2). Appending n bytes multiplies it by
//! x^(8n) mod P; that factor is the product of squares x^(8·2^k), which are a table of 64.

/// The polynomial of CRC-32C, bit-reflected: bit 31 is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(8·2^k) mod P.
const BYTE_SHIFTS: [u32; 64] = {
    let mut table = [0; 64];
    // x^8.
    let mut power = 1 << (31 - 8);
    let mut k = 0;
    while k < 64 {
        table[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    table
};

/// CRC-32C (Castagnoli) of the bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of two pieces one after the other, from that of each: `a`, then `b`, which is
/// `b_len` bytes long. Costs about 30 ns for each bit set in `b_len`, whatever the length.
#[must_use]
pub fn crc32c_combine(a: u32, b: u32, b_len: u64) -> u32 {
    shift(a, b_len) ^ b
}

/// The CRC-32C of a message after a piece of it was replaced by one of the same length.
/// `old_piece` and `new_piece` are the checksums of the piece before and after, `bytes_behind`
/// what follows it. The checksum is affine: the difference of the pieces, moved to its place,
/// is the difference of the whole.
pub(super) fn replace_piece(whole: u32, old_piece: u32, new_piece: u32, bytes_behind: u64) -> u32 {
    whole ^ shift(old_piece ^ new_piece, bytes_behind)
}

fn shift(crc: u32, bytes: u64) -> u32 {
    let mut shifted = crc;
    let mut rest = bytes;
    while rest != 0 {
        shifted = multiply(BYTE_SHIFTS[rest.trailing_zeros() as usize], shifted);
        rest &= rest - 1;
    }
    shifted
}

/// a·b mod P.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut power = b;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= power & ((a >> bit) & 1).wrapping_neg();
        power = (power >> 1) ^ (POLYNOMIAL & (power & 1).wrapping_neg());
    }
    product
}
