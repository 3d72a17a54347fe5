//! Bounded reading and writing of little-endian fields, for the variable structures (footer,
//! manifest). Every read says whether the bytes were there.

use super::FormatError;

/// Reads fields from the front of a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of a structure named `what` in errors.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { rest: bytes, what }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            let detail = format!("{length} bytes wanted, {} left", self.rest.len());
            return Err(FormatError::Bounds {
                what: self.what,
                detail,
            });
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next 2 bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next 4 bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next 8 bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next 8 bytes, signed.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A count of items of at least `item_bytes` each, which therefore must fit what is left.
    ///
    /// # Errors
    /// They would not.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        if count
            .checked_mul(item_bytes)
            .is_none_or(|bytes| bytes > self.rest.len())
        {
            let detail = format!(
                "{count} items of {item_bytes} bytes, {} left",
                self.rest.len()
            );
            return Err(FormatError::Bounds {
                what: self.what,
                detail,
            });
        }
        Ok(count)
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N)?;
        Ok(bytes
            .try_into()
            .expect("bytes() returns the length asked for"))
    }
}
