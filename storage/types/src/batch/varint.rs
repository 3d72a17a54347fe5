//! Zigzag variable-length integers, as records use them: little-endian groups of seven bits,
//! the high bit says that another follows. Reading takes from the front of a slice and never
//! beyond its end.

/// Takes a 32-bit integer. `None`: cut off, or longer than its type.
#[inline]
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (&first, rest) = bytes.split_first()?;
    // Nearly every length below 64 and every small delta.
    if first < 0x80 {
        *bytes = rest;
        return Some(unzigzag_32(u32::from(first)));
    }
    let mut value = u32::from(first & 0x7f);
    for (index, &byte) in rest.iter().enumerate().take(4) {
        let bits = u32::from(byte & 0x7f);
        if index == 3 && bits > 0x0f {
            return None;
        }
        value |= bits << (7 * (index + 1));
        if byte < 0x80 {
            *bytes = &rest[index + 1..];
            return Some(unzigzag_32(value));
        }
    }
    None
}

/// Takes a 64-bit integer. `None`: cut off, or longer than its type.
#[inline]
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Steps over an integer of at most 64 bits without its value.
#[inline]
pub(super) fn skip_i64(bytes: &mut &[u8]) -> Option<()> {
    let length = bytes.iter().take(10).position(|byte| *byte < 0x80)? + 1;
    *bytes = &bytes[length..];
    Some(())
}

/// Appends an integer of up to 64 bits; a 32-bit one has the same bytes.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        // Truncation is meant: seven bits at a time.
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn unzigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}
