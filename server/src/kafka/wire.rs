//! The protocol's primitive types, for the requests that are read in place and the answers that
//! are written by hand.
//!
//! Invariant: nothing a reader returns was allocated by a number from the wire, and every length
//! is checked against the bytes that are there before it is used. Called by the codecs of
//! produce and fetch, by [`super::bounds`] and by [`super::request`].

use std::ops::Range;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("{wanted} bytes were expected at byte {at}, {left} are left")]
    CutOff {
        /// Where, counted from the start of what is read.
        at: usize,
        /// Length of the field.
        wanted: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A length or count below what its type allows.
    #[error("the length at byte {at} is {length}")]
    NegativeLength {
        /// Where.
        at: usize,
        /// What it says.
        length: i32,
    },
    /// More elements than bytes that could hold them, or than one request may have.
    #[error("an array of {count} elements was announced at byte {at}, {left} bytes are left")]
    TooMany {
        /// Where.
        at: usize,
        /// Elements announced.
        count: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A variable-length integer that does not end.
    #[error("the variable-length integer at byte {at} has more than 5 bytes")]
    Varint {
        /// Where.
        at: usize,
    },
    /// A field that may not be null is.
    #[error("the field at byte {at} is null")]
    Null {
        /// Where.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Text {
        /// Where.
        at: usize,
    },
}

/// Reads a request from its first byte to its last. Cheap to copy: a copy reads on its own.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at `at`. Positions, also in errors, count from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    /// Where the next field begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes behind the position.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return Err(WireError::CutOff {
                at: self.at,
                wanted: count,
                left: rest.len(),
            });
        };
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A byte.
    ///
    /// # Errors
    /// When it is not there. So for all below.
    pub fn i8(&mut self) -> Result<i8, WireError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When cut off.
    pub fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When cut off.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When cut off.
    pub fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A UUID.
    ///
    /// # Errors
    /// When cut off.
    pub fn uuid(&mut self) -> Result<[u8; 16], WireError> {
        self.array()
    }

    /// An unsigned variable-length integer of up to 32 bits.
    ///
    /// # Errors
    /// When cut off or too long.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, WireError> {
        let start = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint { at: start })
    }

    /// A length: `None` for null. Compact ones are one more than what they mean.
    #[inline]
    fn length(&mut self, compact: bool, short: bool) -> Result<Option<usize>, WireError> {
        let at = self.at;
        let length = if compact {
            i64::from(self.varint()?) - 1
        } else if short {
            i64::from(self.i16()?)
        } else {
            i64::from(self.i32()?)
        };
        match length {
            -1 => Ok(None),
            0.. => Ok(usize::try_from(length).ok()),
            // An i32 that is below -1 fits its own type.
            _ => Err(WireError::NegativeLength {
                at,
                length: length as i32,
            }),
        }
    }

    /// Text, or null. `compact`: the encoding of flexible versions.
    ///
    /// # Errors
    /// When cut off, or not UTF-8.
    pub fn nullable_text(&mut self, compact: bool) -> Result<Option<&'a str>, WireError> {
        let Some(length) = self.length(compact, true)? else {
            return Ok(None);
        };
        let at = self.at;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| WireError::Text { at })
    }

    /// Text.
    ///
    /// # Errors
    /// When cut off, null, or not UTF-8.
    pub fn text(&mut self, compact: bool) -> Result<&'a str, WireError> {
        let at = self.at;
        self.nullable_text(compact)?.ok_or(WireError::Null { at })
    }

    /// Steps over text, or null.
    ///
    /// # Errors
    /// When cut off.
    pub fn skip_text(&mut self, compact: bool) -> Result<(), WireError> {
        if let Some(length) = self.length(compact, true)? {
            self.take(length)?;
        }
        Ok(())
    }

    /// Where bytes lie, or null.
    ///
    /// # Errors
    /// When cut off.
    pub fn bytes_range(&mut self, compact: bool) -> Result<Option<Range<usize>>, WireError> {
        let Some(length) = self.length(compact, false)? else {
            return Ok(None);
        };
        let start = self.at;
        self.take(length)?;
        Ok(Some(start..start + length))
    }

    /// The number of elements of an array, or null. Every element has at least
    /// `element_bytes`; a count that cannot be true is refused here, before anybody makes room
    /// for it.
    ///
    /// # Errors
    /// When cut off, or more than fits.
    pub fn count(
        &mut self,
        compact: bool,
        element_bytes: usize,
    ) -> Result<Option<usize>, WireError> {
        let at = self.at;
        let Some(count) = self.length(compact, false)? else {
            return Ok(None);
        };
        let left = self.remaining();
        if count > left / element_bytes.max(1) {
            return Err(WireError::TooMany { at, count, left });
        }
        Ok(Some(count))
    }

    /// As [`Reader::count`], of an array that may not be null and may have `most` elements.
    ///
    /// # Errors
    /// Likewise, and for more elements than that.
    pub fn count_up_to(
        &mut self,
        most: usize,
        compact: bool,
        element_bytes: usize,
    ) -> Result<usize, WireError> {
        let (at, left) = (self.at, self.remaining());
        match self.count(compact, element_bytes)? {
            Some(count) if count <= most => Ok(count),
            Some(count) => Err(WireError::TooMany { at, count, left }),
            None => Err(WireError::Null { at }),
        }
    }

    /// The tagged fields at the end of a structure of a flexible version: gives each to `field`,
    /// which gets the tag and a reader of its bytes.
    ///
    /// # Errors
    /// When cut off, or what `field` finds.
    pub fn tagged(
        &mut self,
        mut field: impl FnMut(u32, Reader<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let start = self.at;
            self.take(length)?;
            field(
                tag,
                Reader {
                    bytes: &self.bytes[..start + length],
                    at: start,
                },
            )?;
        }
        Ok(())
    }

    /// Steps over tagged fields, where the version has them.
    ///
    /// # Errors
    /// When cut off.
    pub fn skip_tagged(&mut self, flexible: bool) -> Result<(), WireError> {
        if flexible {
            self.tagged(|_, _| Ok(()))
        } else {
            Ok(())
        }
    }
}

/// Appends fields to an answer. The caller knows the version; this knows its encoding.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    flexible: bool,
}

impl<'a> Writer<'a> {
    /// Writes behind what is there.
    pub fn new(out: &'a mut Vec<u8>, flexible: bool) -> Writer<'a> {
        Writer { out, flexible }
    }

    /// A byte.
    pub fn i8(&mut self, value: i8) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A UUID.
    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.out.extend_from_slice(value);
    }

    /// An unsigned variable-length integer.
    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            // Truncation is meant: seven bits at a time.
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Text, or null. Text longer than the old encoding can say is cut at a character: only
    /// messages for people get there.
    pub fn text(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            if self.flexible {
                self.varint(0);
            } else {
                self.i16(-1);
            }
            return;
        };
        let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
        if self.flexible {
            self.varint(text.len() as u32 + 1);
        } else {
            self.i16(text.len() as i16);
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// The number of elements of an array, or the length of bytes.
    ///
    /// # Panics
    /// When it passes `i32::MAX`: answers are bounded far below.
    pub fn count(&mut self, count: usize) {
        let count = i32::try_from(count).expect("answers are bounded far below 2 GiB");
        if self.flexible {
            self.varint(count as u32 + 1);
        } else {
            self.i32(count);
        }
    }

    /// A null array.
    pub fn null_array(&mut self) {
        if self.flexible {
            self.varint(0);
        } else {
            self.i32(-1);
        }
    }

    /// The end of a structure without tagged fields.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }

    /// The tagged field `tag`, made by `write`. The caller has written how many there are.
    pub fn tagged(&mut self, tag: u32, write: impl FnOnce(&mut Writer<'_>)) {
        let mut field = Vec::new();
        write(&mut Writer::new(&mut field, true));
        self.varint(tag);
        let length = u32::try_from(field.len()).expect("tagged fields are short");
        self.varint(length);
        self.out.extend_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            flexible: bool, number: u32, text in proptest::option::of(".{0,40}"), count in 0usize..9,
        ) {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, flexible);
            writer.varint(number);
            writer.text(text.as_deref());
            writer.count(count);
            for _ in 0..count { writer.i16(-7); }
            writer.no_tags();
            let mut reader = Reader::new(&out, 0);
            prop_assert_eq!(reader.varint().unwrap(), number);
            prop_assert_eq!(reader.nullable_text(flexible).unwrap(), text.as_deref());
            prop_assert_eq!(reader.count(flexible, 2).unwrap(), Some(count));
            for _ in 0..count { prop_assert_eq!(reader.i16().unwrap(), -7); }
            reader.skip_tagged(flexible).unwrap();
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, at in 0usize..9, flexible: bool) {
            let start = Reader::new(&bytes, at);
            let _ = start.clone().text(flexible);
            let _ = start.clone().bytes_range(flexible);
            let _ = start.clone().skip_tagged(true);
            if let Ok(Some(count)) = start.clone().count(flexible, 3) {
                prop_assert!(count * 3 <= bytes.len());
            }
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_room_is_made_for_it() {
        let bytes = i32::MAX.to_be_bytes();
        let refused = Reader::new(&bytes, 0).count(false, 1).unwrap_err();
        assert_eq!(
            refused,
            WireError::TooMany {
                at: 0,
                count: i32::MAX as usize,
                left: 0
            }
        );
        let bytes = (-2i32).to_be_bytes();
        assert!(Reader::new(&bytes, 0).count(false, 1).is_err());
    }

    #[test]
    fn a_message_too_long_for_the_old_encoding_is_cut_at_a_character() {
        let mut out = Vec::new();
        Writer::new(&mut out, false).text(Some(&"ä".repeat(20_000)));
        let text = Reader::new(&out, 0).text(false).unwrap();
        assert_eq!(text.len(), 32_766);
    }
}
