//! Producer ids: unique over logs, restarts and crashes. An id is the log's number above 40 bits
//! of a counter. The counter is logged in blocks: an id may be told when its block is durable;
//! after a restart the rest of the last block is skipped.
//!
//! Re-exported by `partitions`, whose producers carry the ids.

use ringlog_types::LogId;

use crate::limits::PRODUCER_IDS_PER_BLOCK;
use crate::little_endian::{DecodeError, Reader, Writer};

const COUNTER_BITS: u32 = 40;
const VERSION: u16 = 1;

/// Hands out the producer ids of one log.
///
/// ```text
/// record, checkpoint = version u16 = 1, log u32, end u64     (ids up to end are taken)
/// ```
#[derive(Clone, Debug)]
pub struct ProducerIds {
    log: LogId,
    /// Committed: every id below was or may have been handed out.
    end: u64,
    /// Next id's counter.
    next: u64,
    /// End of the newest block that was asked to be logged.
    reserved_end: u64,
}

/// A producer id, and what must be logged before it may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The id.
    pub id: i64,
    /// A record for the log, when this id begins a new block. The id, and all that follow from
    /// the block, may be told when it is durable. It also covers every block before it.
    pub record: Option<Vec<u8>>,
}

impl ProducerIds {
    /// None handed out.
    ///
    /// # Panics
    /// When the log's number does not fit above the counter (2^23 logs).
    #[must_use]
    pub fn new(log: LogId) -> ProducerIds {
        assert!(
            log.0 < 1 << (63 - COUNTER_BITS),
            "a producer id is a positive i64"
        );
        ProducerIds {
            log,
            end: 0,
            next: 0,
            reserved_end: 0,
        }
    }

    /// The next id.
    ///
    /// # Panics
    /// After 2^40 ids of one log: a million a second for twelve days without a pause.
    pub fn prepare(&mut self) -> Grant {
        let counter = self.next;
        assert!(
            counter < 1 << COUNTER_BITS,
            "a log's producer ids are used up"
        );
        self.next += 1;
        let record = (counter >= self.reserved_end).then(|| {
            self.reserved_end = (counter + PRODUCER_IDS_PER_BLOCK).min(1 << COUNTER_BITS);
            encode(self.log, self.reserved_end)
        });
        // The counter has 40 bits and the log 23.
        Grant {
            id: (u64::from(self.log.0) << COUNTER_BITS | counter) as i64,
            record,
        }
    }

    /// A block of ids is durable.
    ///
    /// # Errors
    /// Bytes that are not such a record of this log.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let end = decode("a block of producer ids", self.log, record)?;
        self.advance(end);
        Ok(())
    }

    /// Committed state.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        encode(self.log, self.end)
    }

    /// Starts from a checkpoint.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let end = decode("the checkpoint of producer ids", self.log, checkpoint)
            .map_err(|error| error.to_string())?;
        *self = ProducerIds::new(self.log);
        self.advance(end);
        Ok(())
    }

    fn advance(&mut self, end: u64) {
        self.end = self.end.max(end);
        // Live, the block was reserved by `prepare` and its ids go on; in replay nobody here
        // knows which of them were told.
        if self.end > self.reserved_end {
            self.reserved_end = self.end;
            self.next = self.end;
        }
    }
}

fn encode(log: LogId, end: u64) -> Vec<u8> {
    let mut out = Writer::new(VERSION);
    out.u32(log.0);
    out.u64(end);
    out.into_bytes()
}

fn decode(what: &'static str, log: LogId, bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(what, bytes, VERSION)?;
    let found = LogId(reader.u32("the log")?);
    let end = reader.u64("the end")?;
    if found != log {
        return Err(reader.invalid(format!("it is of log {found}, this is log {log}")));
    }
    if end > 1 << COUNTER_BITS {
        return Err(reader.invalid(format!("it ends at {end}, beyond {COUNTER_BITS} bits")));
    }
    reader.finish()?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Grant(u16),
        Flush,
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1u16..700).prop_map(Step::Grant),
            3 => Just(Step::Flush),
            1 => Just(Step::Crash),
        ]
    }

    proptest! {
        /// The model of uniqueness is a set of all ids ever told; told is what was durable.
        #[test]
        fn no_id_is_told_twice_over_crashes(
            steps in proptest::collection::vec(step(), 1..60),
            log in 0u32..1 << 23,
        ) {
            let mut ids = ProducerIds::new(LogId(log));
            let mut told = HashSet::new();
            let mut waiting: Vec<Grant> = Vec::new();
            let mut checkpoint = ids.checkpoint();
            let mut durable: Vec<Vec<u8>> = Vec::new();
            for (index, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Grant(count) => waiting.extend((0..count).map(|_| ids.prepare())),
                    Step::Flush => {
                        for grant in waiting.drain(..) {
                            if let Some(record) = grant.record {
                                ids.apply(&record).unwrap();
                                durable.push(record);
                            }
                            prop_assert!(grant.id >= 0);
                            prop_assert_eq!(grant.id >> 40, i64::from(log));
                            prop_assert!(told.insert(grant.id), "{} was told before", grant.id);
                        }
                        if index % 3 == 0 {
                            checkpoint = ids.checkpoint();
                            durable.clear();
                        }
                    }
                    Step::Crash => {
                        waiting.clear();
                        let live = ids.checkpoint();
                        ids = ProducerIds::new(LogId(log));
                        ids.restore(&checkpoint).unwrap();
                        for record in &durable {
                            ids.apply(record).unwrap();
                        }
                        prop_assert_eq!(ids.checkpoint(), live);
                    }
                }
            }
        }
    }

    #[test]
    fn one_record_covers_a_thousand_ids() {
        let mut ids = ProducerIds::new(LogId(3));
        let records = (0..2_500)
            .filter(|_| ids.prepare().record.is_some())
            .count();
        assert_eq!(records, 3);
    }

    #[test]
    fn records_of_other_logs_versions_or_lengths_are_refused() {
        let mut ids = ProducerIds::new(LogId(3));
        let record = ids.prepare().record.unwrap();
        let mut other = ProducerIds::new(LogId(4));
        assert!(
            other
                .apply(&record)
                .unwrap_err()
                .to_string()
                .contains("it is of log 3")
        );
        for cut in 0..record.len() {
            assert!(ids.apply(&record[..cut]).is_err());
        }
        assert!(ids.apply(&[&record[..], &[0]].concat()).is_err());
        let mut newer = record.clone();
        newer[0] = 9;
        assert!(ids.restore(&newer).unwrap_err().contains("version 9"));
        let mut beyond = record;
        beyond[13] = 1;
        assert!(
            ids.apply(&beyond)
                .unwrap_err()
                .to_string()
                .contains("40 bits")
        );
    }
}
