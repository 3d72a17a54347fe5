//! Answers on their way out: bytes that were written here, and record batches by reference
//! between them. One [`Answer`] may hold several responses, which then leave with one write.
//!
//! ```text
//! bytes    [ length | header | … records length ]          [ … records length ]      [ tags ]
//! inserts                                        [Buf][Buf]                    [Buf]
//! ```

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Encodable;
use ringlog_storage::buffer::Buf;

use super::limits::STEP_BYTES;
use super::request::RequestHeader;
use crate::node::budget::{Budget, Held};

/// One or more responses.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Vec<u8>,
    /// Behind how many of `bytes` each buffer goes; in order.
    inserts: Vec<(usize, Buf)>,
    inserted_bytes: usize,
    /// What is counted of it as memory for answers, of whichever core.
    memory: Vec<Held>,
}

/// A response that was begun.
#[derive(Debug)]
#[must_use = "its length is written by Answer::finish"]
pub struct Begun {
    at: usize,
    inserted_before: usize,
}

impl Answer {
    /// Begins the response to a request: room for its length, and its header.
    pub fn begin(&mut self, request: &RequestHeader) -> Begun {
        let flexible = request.api.answers_flexible(request.version);
        self.begin_with(request.correlation_id, flexible)
    }

    /// The same for a request of which not more is known.
    pub fn begin_with(&mut self, correlation_id: i32, flexible: bool) -> Begun {
        let begun = Begun {
            at: self.bytes.len(),
            inserted_before: self.inserted_bytes,
        };
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&correlation_id.to_be_bytes());
        if flexible {
            self.bytes.push(0);
        }
        begun
    }

    /// Where the body is written.
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts a buffer behind what was written so far, without copying it.
    pub fn insert(&mut self, buf: Buf) {
        self.inserted_bytes += buf.len();
        self.inserts.push((self.bytes.len(), buf));
    }

    /// Writes the length of the response.
    ///
    /// # Panics
    /// When it passes 2 GiB: whoever builds an answer bounds it far below.
    pub fn finish(&mut self, begun: Begun) {
        let Begun {
            at,
            inserted_before,
        } = begun;
        let length = self.bytes.len() - at - 4 + self.inserted_bytes - inserted_before;
        let length = i32::try_from(length).expect("answers are bounded far below 2 GiB");
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The response `body` to `request`, by the generated encoder.
    ///
    /// # Errors
    /// When the message has something that its version cannot say: a defect of the handler.
    pub fn of(request: &RequestHeader, body: &impl Encodable) -> Result<Answer, EncodeError> {
        let mut answer = Answer::default();
        let begun = answer.begin(request);
        body.encode(&mut answer.bytes, request.version)
            .map_err(|error| EncodeError {
                request: *request,
                cause: error.to_string(),
            })?;
        answer.finish(begun);
        Ok(answer)
    }

    /// A SASL token behind its length, as answer to one that came so.
    ///
    /// # Panics
    /// When it passes 2 GiB; the longest has some hundred bytes.
    #[must_use]
    pub fn of_token(token: &[u8]) -> Answer {
        let length = i32::try_from(token.len()).expect("a token is short");
        let bytes = [&length.to_be_bytes(), token].concat();
        Answer {
            bytes,
            ..Answer::default()
        }
    }

    /// The same, which counts as so much more memory until it is sent.
    #[must_use]
    pub fn holding(mut self, memory: Held) -> Answer {
        if memory.bytes() > 0 {
            self.memory.push(memory);
        }
        self
    }

    /// All bytes, those by reference too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.inserted_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A response that could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("the answer to {:?} version {} could not be encoded: {cause}; this is a defect of the node", request.api.key, request.version)]
pub struct EncodeError {
    request: RequestHeader,
    cause: String,
}

/// What of an answer is not sent yet. Lets go of each buffer as soon as it is sent.
#[derive(Debug)]
pub struct Outgoing {
    answer: Answer,
    /// Of `answer.bytes`, sent.
    bytes_sent: usize,
    /// Of `answer.inserts`, sent whole.
    inserts_sent: usize,
    /// Of the next insert, sent.
    insert_sent: usize,
    left: usize,
    /// No buffer of a core's pool is left in it.
    is_detached: bool,
}

impl Outgoing {
    /// Nothing is sent.
    #[must_use]
    pub fn new(answer: Answer) -> Outgoing {
        let left = answer.len();
        Outgoing {
            answer,
            bytes_sent: 0,
            inserts_sent: 0,
            insert_sent: 0,
            left,
            is_detached: false,
        }
    }

    /// Bytes not sent.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Counts the bytes that were written here, too: its client does not take it at once.
    pub fn count(&mut self, budget: &Arc<Budget>) {
        let bytes = self.answer.bytes.len() - self.bytes_sent;
        self.answer.memory.push(budget.count(bytes));
    }

    /// Copies what is not sent of the buffers, so that a slow client does not hold memory that the log
    /// needs: a batch of a few bytes may keep a whole block. What it holds as an answer stays counted.
    /// `stepped` is told how long each step took.
    ///
    /// Cancellation: the answer is of no use then.
    pub async fn detach(&mut self, stepped: impl Fn(Duration)) {
        if std::mem::replace(&mut self.is_detached, true) {
            return;
        }
        for (_, buf) in &mut self.answer.inserts[self.inserts_sent..] {
            let mut copy = Vec::with_capacity(buf.len());
            for step in buf.chunks(STEP_BYTES) {
                let began = Instant::now();
                copy.extend_from_slice(step);
                stepped(began.elapsed());
                tokio::task::yield_now().await;
            }
            *buf = Buf::from_vec(copy);
        }
    }

    /// Lays the next pieces into `slices`, at most `most_bytes` of them; returns how many pieces.
    #[must_use]
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>], most_bytes: usize) -> usize {
        let (mut room, mut used) = (most_bytes, 0);
        let (mut at, mut skip) = (self.bytes_sent, self.insert_sent);
        let mut put = |piece: &'a [u8]| {
            let piece = &piece[..piece.len().min(room)];
            if piece.is_empty() {
                return true;
            }
            if used == slices.len() {
                return false;
            }
            slices[used] = IoSlice::new(piece);
            used += 1;
            room -= piece.len();
            room > 0
        };
        for (place, buf) in &self.answer.inserts[self.inserts_sent..] {
            if !put(&self.answer.bytes[at..*place]) || !put(&buf[skip..]) {
                return used;
            }
            (at, skip) = (*place, 0);
        }
        put(&self.answer.bytes[at..]);
        used
    }

    /// The socket took `count` bytes.
    ///
    /// # Panics
    /// When there were not so many.
    pub fn sent(&mut self, mut count: usize) {
        self.left -= count;
        while count > 0 {
            let place = self
                .answer
                .inserts
                .get(self.inserts_sent)
                .map(|(place, _)| *place);
            let until = place.unwrap_or(self.answer.bytes.len());
            let of_bytes = count.min(until - self.bytes_sent);
            self.bytes_sent += of_bytes;
            count -= of_bytes;
            if count == 0 {
                break;
            }
            let (_, buf) = &mut self.answer.inserts[self.inserts_sent];
            let of_insert = count.min(buf.len() - self.insert_sent);
            self.insert_sent += of_insert;
            count -= of_insert;
            release(&mut self.answer.memory, of_insert);
            if self.insert_sent == buf.len() {
                // Its memory goes back to the pool now, not with the end of the answer.
                *buf = Buf::from_vec(Vec::new());
                self.inserts_sent += 1;
                self.insert_sent = 0;
            }
        }
    }
}

/// Gives memory back, of whichever core.
fn release(memory: &mut Vec<Held>, mut bytes: usize) {
    while bytes > 0
        && let Some(held) = memory.last_mut()
    {
        bytes -= held.release(bytes);
        if held.bytes() == 0 {
            memory.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(answer: &Answer) -> Vec<u8> {
        let (mut all, mut at) = (Vec::new(), 0);
        for (place, buf) in &answer.inserts {
            all.extend_from_slice(&answer.bytes[at..*place]);
            all.extend_from_slice(buf);
            at = *place;
        }
        all.extend_from_slice(&answer.bytes[at..]);
        all
    }

    fn build(pieces: &[(bool, Vec<u8>)]) -> Answer {
        let mut answer = Answer::default();
        let begun = answer.begin_with(5, true);
        for (by_reference, piece) in pieces {
            if *by_reference {
                answer.insert(Buf::from_vec(piece.clone()));
            } else {
                answer.body().extend_from_slice(piece);
            }
        }
        answer.finish(begun);
        answer
    }

    proptest! {
        #[test]
        fn pieces_leave_in_order_however_the_socket_takes_them(
            pieces in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
            takes in proptest::collection::vec(1usize..60, 1..400),
            most in 1usize..100,
            width in 1usize..6,
        ) {
            let answer = build(&pieces);
            let expected = flat(&answer);
            let length = (expected.len() as i32 - 4).to_be_bytes();
            prop_assert_eq!(&expected[..4], &length);
            let mut outgoing = Outgoing::new(answer);
            let mut got = Vec::new();
            for take in takes.iter().cycle() {
                if outgoing.left() == 0 { break; }
                let mut slices = vec![IoSlice::new(&[]); width];
                let used = outgoing.gather(&mut slices, most);
                let offered: Vec<u8> =
                    slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(!offered.is_empty() && offered.len() <= most);
                let taken = offered.len().min(*take);
                got.extend_from_slice(&offered[..taken]);
                outgoing.sent(taken);
            }
            prop_assert_eq!(got, expected);
        }
    }

    fn finish<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
        }
    }

    #[test]
    fn an_answer_that_is_taken_slowly_lets_go_of_the_pool_and_stays_counted_until_it_is_sent() {
        const BATCH_BYTES: usize = 300_000;
        let pool = ringlog_storage::buffer::Pool::new(4096, 0, 8 << 20);
        let budget = Budget::new(1 << 20);
        let mut answer = Answer::default();
        let begun = answer.begin_with(5, true);
        for fill in [1, 2] {
            let mut block = pool.alloc(1 << 20).unwrap();
            block.fill(fill);
            answer.insert(block.freeze().slice(100..100 + BATCH_BYTES));
        }
        answer.finish(begun);
        let expected = flat(&answer);
        let answer = answer.holding(budget.count(2 * BATCH_BYTES));
        let mut outgoing = Outgoing::new(answer);
        outgoing.sent(1000);
        finish(outgoing.detach(|_| {}));
        assert_eq!(pool.used_bytes(), 0, "blocks are given back");
        let left = |outgoing: &Outgoing| {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = outgoing.gather(&mut slices, usize::MAX);
            let taken = slices[..used].iter();
            taken
                .flat_map(|slice| slice.iter().copied())
                .collect::<Vec<u8>>()
        };
        assert!(left(&outgoing) == expected[1000..]);
        outgoing.count(&budget);
        let used = budget.figures().used_bytes;
        assert!(
            (2 * BATCH_BYTES - 1000..2 * BATCH_BYTES).contains(&used),
            "{used}"
        );
        outgoing.sent(BATCH_BYTES);
        assert_eq!(budget.figures().used_bytes, used - BATCH_BYTES);
        drop(outgoing);
        assert_eq!(budget.figures().used_bytes, 0);
    }

    #[test]
    fn several_responses_in_one_answer_have_their_own_lengths() {
        let mut answer = Answer::default();
        for body in [b"a".as_slice(), b"bcd"] {
            let begun = answer.begin_with(1, false);
            answer.body().extend_from_slice(body);
            answer.insert(Buf::from_vec(vec![9, 9]));
            answer.finish(begun);
        }
        let all = flat(&answer);
        assert_eq!(all[..4], 7i32.to_be_bytes());
        assert_eq!(all[11..15], 9i32.to_be_bytes());
    }
}
