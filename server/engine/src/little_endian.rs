//! Bounded reading and writing of the machines' bytes: records in the log and checkpoints.
//! Little-endian; sequences and texts carry their count or length in front. A count is never
//! trusted further than the bytes behind it.

use ringlog_types::snapshot::Pieces;

/// Why bytes of the log are not what they should be. Their checksum held, so they are of another
/// version, or a defect wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A version that this build does not know.
    #[error(
        "{what} has version {found}, this build reads {known}: start the version of Ringlog that wrote it"
    )]
    UnknownVersion {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The version known here.
        known: u16,
    },
    /// The bytes end too early.
    #[error("{what} is cut off: {field} needs {needed_bytes} bytes, {available_bytes} are left")]
    CutOff {
        /// What was read.
        what: &'static str,
        /// Where in it.
        field: &'static str,
        /// Bytes it takes.
        needed_bytes: usize,
        /// Bytes there are.
        available_bytes: usize,
    },
    /// Bytes are left over.
    #[error("{what} has {bytes} bytes behind its end")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A value that cannot be.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Appends values.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(version: u16) -> Writer {
        Writer {
            bytes: version.to_le_bytes().to_vec(),
        }
    }

    /// Behind bytes that are there.
    pub(crate) fn behind(bytes: Vec<u8>) -> Writer {
        Writer { bytes }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn array<const N: usize>(&mut self, value: &[u8; N]) {
        self.bytes.extend_from_slice(value);
    }

    /// A count or length.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("the machines' limits keep counts within u32"));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }
}

/// Appends to a checkpoint that is taken in steps.
pub(crate) fn put(out: &mut Pieces, write: impl FnOnce(&mut Writer)) {
    out.add(|bytes| {
        let mut writer = Writer::behind(std::mem::take(bytes));
        write(&mut writer);
        *bytes = writer.into_bytes();
    });
}

/// Takes values from the front.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins with the version, which is given back: one of those up to `newest`.
    pub(crate) fn up_to(
        what: &'static str,
        bytes: &'a [u8],
        newest: u16,
    ) -> Result<(Reader<'a>, u16), DecodeError> {
        let mut reader = Reader { what, rest: bytes };
        let found = reader.u16("its version")?;
        let known = newest;
        if (1..=newest).contains(&found) {
            Ok((reader, found))
        } else {
            Err(DecodeError::UnknownVersion { what, found, known })
        }
    }

    /// Begins with the version, which must be `known`.
    pub(crate) fn new(
        what: &'static str,
        bytes: &'a [u8],
        known: u16,
    ) -> Result<Reader<'a>, DecodeError> {
        let mut reader = Reader { what, rest: bytes };
        let found = reader.u16("its version")?;
        if found == known {
            Ok(reader)
        } else {
            Err(DecodeError::UnknownVersion { what, found, known })
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.cut_off(field, N));
        };
        self.rest = tail;
        Ok(*head)
    }

    /// A count of things that take at least `minimum_bytes` each: so many are there, or it is an
    /// error before anything is allocated.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        minimum_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        let needed_bytes = count.saturating_mul(minimum_bytes);
        if needed_bytes > self.rest.len() {
            return Err(self.cut_off(field, needed_bytes));
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let head = self.bytes(field)?;
        str::from_utf8(head).map_err(|error| self.invalid(format!("{field}: {error}")))
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.count(field, 1)?;
        let (head, tail) = self.rest.split_at(length);
        self.rest = tail;
        Ok(head)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing {
                what: self.what,
                bytes,
            }),
        }
    }

    pub(crate) fn invalid(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::Invalid {
            what: self.what,
            reason: reason.into(),
        }
    }

    fn cut_off(&self, field: &'static str, needed_bytes: usize) -> DecodeError {
        let (what, available_bytes) = (self.what, self.rest.len());
        DecodeError::CutOff {
            what,
            field,
            needed_bytes,
            available_bytes,
        }
    }
}
