//! Bytes that grow a row at a time and are never moved again: a single buffer would copy all
//! there is each time it grows, which for a large checkpoint holds a core for milliseconds.

/// A piece is closed at this length; the row that passes it stays whole.
const PIECE_BYTES: usize = 64 << 10;
/// Room for the row that passes it.
const SLACK_BYTES: usize = 4 << 10;

/// Bytes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    full: Vec<Vec<u8>>,
    full_bytes: usize,
    open: Vec<u8>,
    numbers: Vec<Number>,
}

/// Where a number stands that is known later.
#[derive(Clone, Copy, Debug)]
struct Number {
    piece: usize,
    at: usize,
    bytes_to: usize,
}

impl Pieces {
    /// Appends what `write` adds to the end of the buffer that it is given.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.open.capacity() == 0 {
            self.open.reserve_exact(PIECE_BYTES + SLACK_BYTES);
        }
        write(&mut self.open);
        if self.open.len() >= PIECE_BYTES {
            let full = std::mem::take(&mut self.open);
            self.full_bytes += full.len();
            self.full.push(full);
        }
    }

    /// Leaves room for a `u32` in little-endian order that is known later. Such numbers nest.
    pub fn open_number(&mut self) {
        let (piece, at) = (self.full.len(), self.open.len());
        self.add(|out| out.extend([0; 4]));
        let bytes_to = self.bytes();
        self.numbers.push(Number {
            piece,
            at,
            bytes_to,
        });
    }

    /// Writes the number that was left room for last.
    ///
    /// # Panics
    /// When there is none.
    pub fn close_number(&mut self, value: u32) {
        let number = self.numbers.pop().expect("a number was opened before");
        self.write(number, value);
    }

    /// The same, with how many bytes follow it.
    ///
    /// # Panics
    /// When there is none, or at 4 GiB.
    pub fn close_length(&mut self) {
        let number = self.numbers.pop().expect("a number was opened before");
        let length = u32::try_from(self.bytes() - number.bytes_to);
        self.write(
            number,
            length.expect("a checkpoint's part is far below 4 GiB"),
        );
    }

    fn write(&mut self, number: Number, value: u32) {
        let piece = self.full.get_mut(number.piece).unwrap_or(&mut self.open);
        piece[number.at..number.at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.full_bytes + self.open.len()
    }

    /// The pieces, in order.
    ///
    /// # Panics
    /// When a number is still open.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Vec<u8>> {
        assert!(self.numbers.is_empty(), "every number is known by now");
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_whole_and_numbers_are_written_into_closed_pieces() {
        let mut pieces = Pieces::default();
        pieces.open_number();
        for number in 0..30_000u32 {
            if number == 20_000 {
                pieces.open_number();
            }
            pieces.add(|out| out.extend(number.to_le_bytes()));
        }
        pieces.close_number(7);
        pieces.close_length();
        let bytes = pieces.bytes();
        let pieces = pieces.into_pieces();
        assert!(pieces.len() > 1);
        let whole = pieces.concat();
        assert_eq!(whole.len(), bytes);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES + 4));
        let words: Vec<u32> = whole
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words[0] as usize, bytes - 4);
        assert_eq!(words[20_001], 7);
        let rows: Vec<u32> = (0..30_000).collect();
        assert_eq!([&words[1..20_001], &words[20_002..]].concat(), rows);
    }
}
