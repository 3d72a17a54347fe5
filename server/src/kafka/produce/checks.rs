//! What is checked of a partition's records before they go to the log: one whole batch that a
//! client may write, within the topic's rules. The codes are those of Kafka's broker
//! (`ProduceRequest.validateRecords`, `LogValidator`, `UnifiedLog.analyzeAndValidateRecords`).

use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::TopicConfig;
use ringlog_types::batch::{
    self, BatchError, BatchHeader, Compression, HEADER_BYTES, TimestampType,
};

use super::response::Refusal;
use crate::kafka::errors;

/// Zstandard came with this version of Produce (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// What a topic allows.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Largest batch.
    pub max_message_bytes: usize,
    /// How far producers' timestamps may lie behind and ahead of the node's clock; none where the
    /// node stamps records itself.
    pub timestamps: Option<TimestampRules>,
    /// Every record needs a key: the topic is compacted.
    pub keys: bool,
}

/// Bounds for the timestamps of producers.
#[derive(Clone, Copy, Debug)]
pub struct TimestampRules {
    /// Behind, milliseconds.
    pub before_max_ms: i64,
    /// Ahead, milliseconds.
    pub after_max_ms: i64,
}

impl Rules {
    /// The rules of a topic.
    #[must_use]
    pub fn of(config: &TopicConfig) -> Rules {
        let own_clock = config.timestamp_type() == TimestampType::LogAppendTime;
        Rules {
            max_message_bytes: config.max_message_bytes(),
            timestamps: (!own_clock).then(|| TimestampRules {
                before_max_ms: config.message_timestamp_before_max_ms(),
                after_max_ms: config.message_timestamp_after_max_ms(),
            }),
            keys: config.cleanup_policy().compacts(),
        }
    }
}

/// Checks the records of a partition: one CRC-32C over them, and a walk over the records of an
/// uncompressed batch.
///
/// # Errors
/// What is wrong, as it is answered.
pub fn check(records: &[u8], version: i16, rules: &Rules) -> Result<BatchHeader, Refusal> {
    check_extent(records, rules)?;
    let header = batch::validate(records).map_err(|error| of_batch(&error))?;
    check_flags(&header, version, rules)?;
    Ok(header)
}

/// One batch, whole, and not too large: before its bytes are looked at.
fn check_extent(records: &[u8], rules: &Rules) -> Result<(), Refusal> {
    if records.is_empty() {
        return Err(invalid(
            "a partition in a Produce request needs a record batch, found none",
        ));
    }
    let header = BatchHeader::parse(records).map_err(|error| of_batch(&error))?;
    let (stated, found) = (header.total_bytes(), records.len());
    if stated > found {
        return Err(invalid(format!(
            "the record batch is cut off: it says that it has {stated} bytes, {found} are there"
        )));
    }
    if stated > rules.max_message_bytes {
        let most = rules.max_message_bytes;
        return Err(Refusal::new(
            ResponseError::MessageTooLarge,
            format!(
                "the record batch has {stated} bytes, the topic's max.message.bytes is {most}; \
                 send smaller batches or raise it"
            ),
        ));
    }
    if stated < found {
        let what = if found - stated >= HEADER_BYTES {
            "another batch"
        } else {
            "bytes"
        };
        return Err(invalid(format!(
            "a partition in a Produce request has exactly one record batch; {what} follows after \
             {stated} of {found} bytes"
        )));
    }
    Ok(())
}

fn check_flags(header: &BatchHeader, version: i16, rules: &Rules) -> Result<(), Refusal> {
    if version < ZSTD_SINCE && matches!(header.compression(), Ok(Compression::Zstd)) {
        return Err(Refusal::new(
            ResponseError::UnsupportedCompressionType,
            format!("Produce version {version} does not know zstd; {ZSTD_SINCE} and later do"),
        ));
    }
    if header.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.is_transactional() {
        return Err(Refusal::new(
            ResponseError::InvalidTxnState,
            "the record batch belongs to a transaction; this node has no transactions",
        ));
    }
    if rules.timestamps.is_some() && header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Refusal::new(
            ResponseError::InvalidTimestamp,
            "a producer may not set the timestamp type LogAppendTime; the topic has CreateTime",
        ));
    }
    Ok(())
}

/// Checks the timestamps that a batch's header states, once the largest is known.
///
/// # Errors
/// When they lie too far from the node's clock.
pub fn check_timestamps(header: &BatchHeader, rules: &Rules, now_ms: i64) -> Result<(), Refusal> {
    let Some(TimestampRules {
        before_max_ms,
        after_max_ms,
    }) = rules.timestamps
    else {
        return Ok(());
    };
    for timestamp_ms in [header.base_timestamp, header.max_timestamp] {
        // A producer that gives no timestamps writes −1.
        if timestamp_ms < 0 {
            continue;
        }
        let behind = now_ms.saturating_sub(timestamp_ms);
        let ahead = timestamp_ms.saturating_sub(now_ms);
        if behind > before_max_ms || ahead > after_max_ms {
            return Err(Refusal::new(
                ResponseError::InvalidTimestamp,
                format!(
                    "timestamp {timestamp_ms} is out of range: the node's clock is at {now_ms}, \
                     and the topic allows {before_max_ms} ms before and {after_max_ms} ms after it"
                ),
            ));
        }
    }
    Ok(())
}

/// A record of a compacted topic has no key: what would it be compacted by?
#[must_use]
pub fn keyless(index: i32) -> Refusal {
    Refusal {
        record: Some(index),
        ..invalid("the topic is compacted (cleanup.policy), so every record needs a key")
    }
}

fn invalid(message: impl Into<Box<str>>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, message)
}

fn of_batch(error: &BatchError) -> Refusal {
    let record = match error {
        BatchError::Record { index, .. } | BatchError::RecordOffsetDelta { index, .. } => {
            Some(*index)
        }
        _ => None,
    };
    Refusal {
        record,
        ..Refusal::new(errors::of_batch(error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ringlog_types::batch::Builder;

    use super::*;

    const RULES: Rules = Rules {
        max_message_bytes: 1000,
        timestamps: Some(TimestampRules {
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
        }),
        keys: false,
    };

    fn batch() -> Builder {
        Builder::new()
            .push(1000, Some(b"k"), Some(b"v"), &[])
            .push(2000, None, Some(b"w"), &[])
    }

    fn code(records: &[u8]) -> ResponseError {
        check(records, 9, &RULES).unwrap_err().code
    }

    #[test]
    fn a_sound_batch_passes() {
        let header = check(&batch().build(), 9, &RULES).unwrap();
        assert_eq!(header.record_count, 2);
    }

    #[test]
    fn each_bad_batch_gets_the_code_that_kafka_gives_it() {
        let good = batch().build();
        assert_eq!(code(&[]), ResponseError::InvalidRecord, "nothing");
        assert_eq!(
            code(&good[..good.len() - 1]),
            ResponseError::InvalidRecord,
            "cut off"
        );
        let twice = [good.clone(), good.clone()].concat();
        assert_eq!(code(&twice), ResponseError::InvalidRecord, "two batches");
        let mut wrong_crc = good.clone();
        *wrong_crc.last_mut().unwrap() ^= 1;
        assert_eq!(code(&wrong_crc), ResponseError::CorruptMessage, "wrong CRC");
        let mut old = good.clone();
        old[16] = 1;
        assert_eq!(code(&old), ResponseError::InvalidRecord, "magic 1");
        old[16] = 3;
        assert_eq!(code(&old), ResponseError::CorruptMessage, "magic 3");
        assert_eq!(
            code(&Builder::new().build()),
            ResponseError::InvalidRecord,
            "no records"
        );
        let large = Builder::new().push(1, None, Some(&[0; 1000]), &[]).build();
        assert_eq!(code(&large), ResponseError::MessageTooLarge, "too large");
        let control = batch().attributes(32).build();
        assert_eq!(code(&control), ResponseError::InvalidRecord, "control");
        let transactional = batch().producer(1, 0, 0).attributes(16).build();
        assert_eq!(
            code(&transactional),
            ResponseError::InvalidTxnState,
            "transactional"
        );
        let stamped = batch().attributes(8).build();
        assert_eq!(
            code(&stamped),
            ResponseError::InvalidTimestamp,
            "LogAppendTime"
        );
        let unknown_codec = batch().attributes(5).build();
        assert_eq!(
            code(&unknown_codec),
            ResponseError::UnsupportedCompressionType,
            "codec 5"
        );
    }

    #[test]
    fn a_record_count_that_lies_is_found_and_the_record_is_named() {
        let mut lying = batch().build();
        lying[57..61].copy_from_slice(&3i32.to_be_bytes());
        lying[23..27].copy_from_slice(&2i32.to_be_bytes());
        let crc = batch::crc32c(&lying[21..]);
        lying[17..21].copy_from_slice(&crc.to_be_bytes());
        let refusal = check(&lying, 9, &RULES).unwrap_err();
        assert_eq!(refusal.code, ResponseError::InvalidRecord);
        assert!(
            refusal.message.contains("counts 3 records"),
            "{}",
            refusal.message
        );
        // The second record's own length reaches beyond the batch.
        let mut cut = batch().build();
        let second = cut.len() - 9;
        cut[second] = 100;
        let crc = batch::crc32c(&cut[21..]);
        cut[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(check(&cut, 9, &RULES).unwrap_err().record, Some(1));
    }

    #[test]
    fn zstd_needs_the_version_that_knows_it() {
        let records = batch().build_compressed(Compression::Zstd, |plain| {
            zstd::stream::encode_all(plain, 3).unwrap()
        });
        check(&records, 7, &RULES).unwrap();
        let refusal = check(&records, 6, &RULES).unwrap_err();
        assert_eq!(refusal.code, ResponseError::UnsupportedCompressionType);
    }

    #[test]
    fn timestamps_far_from_the_clock_are_refused() {
        let header = check(&batch().build(), 9, &RULES).unwrap();
        check_timestamps(&header, &RULES, 1500).unwrap();
        check_timestamps(&header, &RULES, i64::MAX).unwrap();
        let ahead = check_timestamps(&header, &RULES, 2000 - 3_600_001).unwrap_err();
        assert_eq!(ahead.code, ResponseError::InvalidTimestamp);
        let strict = TimestampRules {
            before_max_ms: 10,
            after_max_ms: 10,
        };
        let strict = Rules {
            timestamps: Some(strict),
            ..RULES
        };
        assert!(check_timestamps(&header, &strict, 1500).is_err());
        let own_clock = Rules {
            timestamps: None,
            ..RULES
        };
        check_timestamps(&header, &own_clock, 0).unwrap();
    }
}
