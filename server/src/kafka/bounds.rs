//! Looks over a request before the generated decoder gets it.
//!
//! That decoder makes room for as many elements as an array announces, and the announcement is
//! the client's: 2^31 elements in a frame of 20 bytes. Here every array of a request is walked
//! first, so that a count is only ever believed when its elements are there, and no request has
//! more of them than [`NAMED_PER_REQUEST`]. Each API file says what its request looks like, up to
//! its last array; what follows has no counts.

use std::ops::RangeInclusive;

use super::limits::NAMED_PER_REQUEST;
use super::wire::{Reader, WireError};

/// What a field looks like.
#[derive(Debug)]
pub enum Shape {
    /// As many bytes.
    Fixed(usize),
    /// Text that may be null.
    Text,
    /// Bytes that may be null.
    Bytes,
    /// An array of structures, each with tagged fields behind it in flexible versions.
    Structs(&'static [Field]),
    /// An array of plain values.
    Values(&'static Shape),
}

/// A field of a request, in the versions that have it.
#[derive(Debug)]
pub struct Field {
    /// Those versions.
    pub versions: RangeInclusive<i16>,
    /// What it looks like.
    pub shape: Shape,
}

/// A field of every version.
#[must_use]
pub const fn field(shape: Shape) -> Field {
    Field {
        versions: 0..=i16::MAX,
        shape,
    }
}

/// A field that came with a version.
#[must_use]
pub const fn field_since(version: i16, shape: Shape) -> Field {
    Field {
        versions: version..=i16::MAX,
        shape,
    }
}

/// A field that ended with a version.
#[must_use]
pub const fn field_until(version: i16, shape: Shape) -> Field {
    Field {
        versions: 0..=version,
        shape,
    }
}

/// Checks that every array in `body` has the elements it announces, and that there are not too
/// many of them.
///
/// # Errors
/// Where it is otherwise.
pub fn check(
    fields: &'static [Field],
    body: &[u8],
    version: i16,
    flexible: bool,
) -> Result<(), WireError> {
    let reader = Reader::new(body, 0);
    Walk {
        reader,
        version,
        flexible,
        room: NAMED_PER_REQUEST,
    }
    .fields(fields)
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    /// Elements that may still come.
    room: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), WireError> {
        for field in fields {
            if field.versions.contains(&self.version) {
                self.shape(&field.shape)?;
            }
        }
        Ok(())
    }

    fn shape(&mut self, shape: &'static Shape) -> Result<(), WireError> {
        match shape {
            Shape::Fixed(bytes) => self.reader.take(*bytes).map(|_| ()),
            Shape::Text => self.reader.skip_text(self.flexible),
            Shape::Bytes => self.reader.bytes_range(self.flexible).map(|_| ()),
            Shape::Structs(fields) => {
                for _ in 0..self.count()? {
                    self.fields(fields)?;
                    self.reader.skip_tagged(self.flexible)?;
                }
                Ok(())
            }
            Shape::Values(shape) => {
                for _ in 0..self.count()? {
                    self.shape(shape)?;
                }
                Ok(())
            }
        }
    }

    /// Elements of an array: at least a byte each, so that the loop over them ends.
    fn count(&mut self) -> Result<usize, WireError> {
        let (at, left) = (self.reader.position(), self.reader.remaining());
        let count = self.reader.count(self.flexible, 1)?.unwrap_or(0);
        self.room = self
            .room
            .checked_sub(count)
            .ok_or(WireError::TooMany { at, count, left })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NESTED: &[Field] = &[
        field_until(1, Shape::Fixed(3)),
        field(Shape::Structs(&[
            field(Shape::Text),
            field_since(2, Shape::Values(&Shape::Fixed(4))),
        ])),
    ];

    #[test]
    fn a_count_is_believed_only_when_its_elements_are_there() {
        let one = [0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 1, 1, 2, 3, 4];
        check(NESTED, &one, 2, false).unwrap();
        assert!(matches!(
            check(NESTED, &one[..14], 2, false),
            Err(WireError::CutOff { .. })
        ));
        let mut lying = one;
        lying[10] = 2;
        assert!(check(NESTED, &lying, 2, false).is_err());
        lying[0] = 0x7f;
        assert!(matches!(
            check(NESTED, &lying, 2, false),
            Err(WireError::TooMany { at: 0, .. })
        ));
    }

    #[test]
    fn fields_are_walked_in_their_versions_only() {
        let first = [9, 9, 9, 0, 0, 0, 1, 0, 1, b'x'];
        check(NESTED, &first, 1, false).unwrap();
        assert!(check(NESTED, &first, 2, false).is_err());
    }

    #[test]
    fn more_elements_than_a_request_may_have_are_refused() {
        let mut many = ((NAMED_PER_REQUEST + 1) as i32).to_be_bytes().to_vec();
        many.resize(4 + 2 * (NAMED_PER_REQUEST + 1), 0);
        assert!(matches!(
            check(&NESTED[1..], &many, 0, false),
            Err(WireError::TooMany { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(body: Vec<u8>, version in 0i16..4, flexible: bool) {
            let _ = check(NESTED, &body, version, flexible);
        }
    }
}
