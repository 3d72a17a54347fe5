//! Reading the records of an uncompressed batch, or of decompressed bytes. Every length is
//! checked against what holds it before it is used; nothing is copied or allocated.
//!
//! ```text
//! record = length, attributes i8, timestamp delta, offset delta,
//!          key length, key, value length, value, header count, { header }*
//! header = key length, key, value length, value        (lengths are varints, -1: null)
//! ```

use super::error::RecordError;
use super::varint;

/// The records in the bytes that follow a batch's header. After an error the iterator ends.
#[must_use]
pub fn records(payload: &[u8]) -> Records<'_> {
    Records { rest: payload }
}

/// Iterator of [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    pub(super) rest: &'a [u8],
}

/// A record, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// No bit has a meaning so far.
    pub attributes: i8,
    /// Timestamp, counted from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset, counted from the batch's base offset.
    pub offset_delta: i32,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none: a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, checked.
    pub headers: Headers<'a>,
}

/// The headers of a record, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: usize,
}

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// Its key: UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = take_record(&mut self.rest);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.count = self.count.checked_sub(1)?;
        let header = take_header(&mut self.rest);
        Some(header.expect("headers are walked once when their record is read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn take_record<'a>(rest: &mut &'a [u8]) -> Result<RecordView<'a>, RecordError> {
    let mut body = take_required(rest, "length")?;
    let Some((&attributes, behind)) = body.split_first() else {
        return Err(RecordError::BadLength {
            field: "length",
            length: 0,
            available_bytes: 0,
        });
    };
    body = behind;
    let timestamp_delta = varint::take_i64(&mut body).ok_or(RecordError::BadVarint {
        field: "timestamp delta",
    })?;
    let offset_delta = varint::take_i32(&mut body).ok_or(RecordError::BadVarint {
        field: "offset delta",
    })?;
    let key = take_nullable(&mut body, "key length")?;
    let value = take_nullable(&mut body, "value length")?;
    let headers = take_headers(&mut body)?;
    if !body.is_empty() {
        return Err(RecordError::TrailingBytes { bytes: body.len() });
    }
    let attributes = attributes as i8;
    Ok(RecordView {
        attributes,
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers,
    })
}

fn take_headers<'a>(body: &mut &'a [u8]) -> Result<Headers<'a>, RecordError> {
    const FIELD: &str = "header count";
    let stated = varint::take_i32(body).ok_or(RecordError::BadVarint { field: FIELD })?;
    // A header has two bytes at least: this bounds the loop by the bytes there are.
    let count = usize::try_from(stated)
        .ok()
        .filter(|count| *count <= body.len() / 2)
        .ok_or(RecordError::BadLength {
            field: FIELD,
            length: stated,
            available_bytes: body.len(),
        })?;
    let start = *body;
    for _ in 0..count {
        take_header(body)?;
    }
    Ok(Headers {
        rest: &start[..start.len() - body.len()],
        count,
    })
}

fn take_header<'a>(body: &mut &'a [u8]) -> Result<HeaderView<'a>, RecordError> {
    let key = take_required(body, "header key length")?;
    let value = take_nullable(body, "header value length")?;
    Ok(HeaderView { key, value })
}

fn take_required<'a>(bytes: &mut &'a [u8], field: &'static str) -> Result<&'a [u8], RecordError> {
    let available_bytes = bytes.len();
    take_nullable(bytes, field)?.ok_or(RecordError::BadLength {
        field,
        length: -1,
        available_bytes,
    })
}

fn take_nullable<'a>(
    bytes: &mut &'a [u8],
    field: &'static str,
) -> Result<Option<&'a [u8]>, RecordError> {
    let length = varint::take_i32(bytes).ok_or(RecordError::BadVarint { field })?;
    if length == -1 {
        return Ok(None);
    }
    let bad = RecordError::BadLength {
        field,
        length,
        available_bytes: bytes.len(),
    };
    let length = usize::try_from(length).map_err(|_| bad)?;
    let (piece, rest) = bytes.split_at_checked(length).ok_or(bad)?;
    *bytes = rest;
    Ok(Some(piece))
}
