//! Records as HTTP hands them out: opened batches, as JSON.
//!
//! Keys and values that are UTF-8 stand in `key` and `value`, others as base64 in `key_base64` and
//! `value_base64`; a missing one is `null`. Invariant: an answer has a bounded length, whatever the
//! batches grow to when they are decompressed; it says where to go on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kafka_protocol::error::ResponseError;
use ringlog_types::batch::{
    self, BatchHeader, HEADER_BYTES, HeaderView, RecordView, TimestampType,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::{ANSWER_BYTES, OPENED_BATCH_BYTES};
use super::problem::Problem;

/// A record as it is handed out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordOut<'a> {
    /// Its partition.
    partition: u32,
    /// Its offset.
    offset: i64,
    /// Milliseconds since 1970.
    timestamp: i64,
    /// Its key as text; null when it has none, or one that is no UTF-8.
    key: Option<&'a str>,
    /// Its key when that is no UTF-8: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// Its value as text; null when it has none, or one that is no UTF-8.
    value: Option<&'a str>,
    /// Its value when that is no UTF-8: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// Its headers, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderOut<'a>>,
}

/// A header.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeaderOut<'a> {
    /// Its name; bytes that are no UTF-8 are replaced.
    #[schema(value_type = String)]
    name: std::borrow::Cow<'a, str>,
    /// Its value as text; null when it has none, or one that is no UTF-8.
    value: Option<&'a str>,
    /// Its value when that is no UTF-8: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Records as text.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// A JSON object for each record, with a line end behind each.
    pub lines: Vec<u8>,
    pub record_count: usize,
    /// The first offset that is not in it.
    pub next_offset: i64,
}

/// Writes the records from `offset` on, at most so many.
///
/// # Errors
/// When a batch cannot be opened.
pub(super) fn write(
    partition: u32,
    batches: &[Vec<u8>],
    offset: i64,
    most_records: usize,
) -> Result<Text, Problem> {
    let mut text = Text {
        next_offset: offset,
        ..Text::default()
    };
    for bytes in batches {
        let header = BatchHeader::parse(bytes).map_err(|error| damaged(offset, &error))?;
        let end = header.base_offset + i64::from(header.last_offset_delta) + 1;
        if !header.is_control() && end > offset {
            let is_whole = add(&mut text, partition, &header, bytes, offset, most_records)?;
            if !is_whole {
                return Ok(text);
            }
        }
        text.next_offset = text.next_offset.max(end);
    }
    Ok(text)
}

/// Adds a batch's records; `false`: there was no room for all.
fn add(
    text: &mut Text,
    partition: u32,
    header: &BatchHeader,
    bytes: &[u8],
    from: i64,
    most_records: usize,
) -> Result<bool, Problem> {
    let failed = |error: &dyn std::fmt::Display| damaged(header.base_offset, error);
    let compression = header.compression().map_err(|error| failed(&error))?;
    let plain = batch::decompress(compression, &bytes[HEADER_BYTES..], OPENED_BATCH_BYTES)
        .map_err(|error| failed(&error))?;
    let own_clock = header.timestamp_type() == TimestampType::LogAppendTime;
    for record in batch::records(&plain) {
        let record = record.map_err(|error| failed(&error))?;
        let offset = header.base_offset + i64::from(record.offset_delta);
        if offset < from {
            continue;
        }
        if text.record_count == most_records || text.lines.len() >= ANSWER_BYTES {
            return Ok(false);
        }
        let timestamp = match own_clock {
            true => header.max_timestamp,
            false => header.base_timestamp.wrapping_add(record.timestamp_delta),
        };
        let record = out(partition, offset, timestamp, &record);
        serde_json::to_writer(&mut text.lines, &record).map_err(|error| failed(&error))?;
        text.lines.push(b'\n');
        text.record_count += 1;
        text.next_offset = offset + 1;
    }
    Ok(true)
}

fn out<'a>(partition: u32, offset: i64, timestamp: i64, record: &RecordView<'a>) -> RecordOut<'a> {
    let (key, key_base64) = text_or_base64(record.key);
    let (value, value_base64) = text_or_base64(record.value);
    let headers = record.headers.map(|HeaderView { key, value }| {
        let (value, value_base64) = text_or_base64(value);
        HeaderOut {
            name: String::from_utf8_lossy(key),
            value,
            value_base64,
        }
    });
    RecordOut {
        partition,
        offset,
        timestamp,
        key,
        key_base64,
        value,
        value_base64,
        headers: headers.collect(),
    }
}

fn text_or_base64(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn damaged(offset: i64, error: &dyn std::fmt::Display) -> Problem {
    let detail = format!(
        "the batch at offset {offset} cannot be opened: {error}; go on behind it, or read it with a \
         Kafka client"
    );
    Problem::of(ResponseError::CorruptMessage, detail)
}

#[cfg(test)]
mod tests {
    use ringlog_types::Offset;
    use ringlog_types::batch::{Builder, Compression, compress, set_base_offset};

    use super::*;

    fn lines(text: &Text) -> Vec<serde_json::Value> {
        let lines = text.lines.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn batch(base_offset: u64, values: &[&[u8]]) -> Vec<u8> {
        let builder = values.iter().fold(Builder::new(), |builder, value| {
            builder.push(1_000, Some(b"k"), Some(value), &[("h", b"\xff")])
        });
        let mut bytes = builder.build();
        set_base_offset(&mut bytes, Offset(base_offset));
        bytes
    }

    #[test]
    fn what_is_no_text_is_base64_and_what_is_missing_is_null() {
        let mut bytes = Builder::new()
            .push(5, None, Some(b"\xff\x00"), &[])
            .push(7, Some("ä".as_bytes()), None, &[("n", b"1")])
            .build();
        set_base_offset(&mut bytes, Offset(40));
        let text = write(3, &[bytes], 40, 10).unwrap();
        assert_eq!((text.record_count, text.next_offset), (2, 42));
        let lines = lines(&text);
        let first = serde_json::json!({"partition": 3, "offset": 40, "timestamp": 5,
            "key": null, "value": null, "value_base64": "/wA="});
        assert_eq!(lines[0], first);
        let second = serde_json::json!({"partition": 3, "offset": 41, "timestamp": 7,
            "key": "ä", "value": null, "headers": [{"name": "n", "value": "1"}]});
        assert_eq!(lines[1], second);
    }

    #[test]
    fn records_before_the_offset_are_left_out_and_the_answer_says_where_to_go_on() {
        let batches = [batch(0, &[b"a", b"b", b"c"]), batch(3, &[b"d", b"e"])];
        let text = write(0, &batches, 1, 3).unwrap();
        assert_eq!((text.record_count, text.next_offset), (3, 4));
        let offsets: Vec<_> = lines(&text)
            .iter()
            .map(|line| line["offset"].clone())
            .collect();
        assert_eq!(offsets, [1, 2, 3]);
        assert_eq!(write(0, &batches, 4, 3).unwrap().next_offset, 5);
    }

    #[test]
    fn a_batch_that_grows_beyond_what_is_opened_is_refused() {
        let bomb = Builder::new()
            .push(1, None, Some(&vec![0; OPENED_BATCH_BYTES + 1]), &[])
            .build_compressed(Compression::Zstd, |plain| {
                compress(Compression::Zstd, plain).unwrap()
            });
        let problem = write(0, &[bomb], 0, 10).unwrap_err();
        assert!(
            serde_json::to_string(&problem)
                .unwrap()
                .contains("CORRUPT_MESSAGE")
        );
    }

    #[test]
    fn an_answer_ends_when_it_is_long_enough() {
        let value = vec![b'x'; ANSWER_BYTES / 3];
        let text = write(0, &[batch(0, &[&value, &value, &value, &value])], 0, 10).unwrap();
        assert_eq!((text.record_count, text.next_offset), (3, 3));
    }
}
