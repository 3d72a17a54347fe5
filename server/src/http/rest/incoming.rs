//! Records as HTTP brings them: JSON, one JSON object a line, lines of text, or one value as it is.
//!
//! A `value` or `key` that is a JSON string is taken as its UTF-8 bytes; any other JSON is taken as
//! it is written, byte for byte; `null`, or nothing, is none. What is not UTF-8 comes in
//! `value_base64` and `key_base64`. What [`super::outgoing`] writes is read here.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::limits::{HEADERS_PER_RECORD, RECORDS_PER_REQUEST};
use super::problem::Problem;

/// A record to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Incoming<'a> {
    pub key: Option<Cow<'a, [u8]>>,
    pub value: Option<Cow<'a, [u8]>>,
    pub headers: Vec<Header<'a>>,
    /// The partition, when the record names one.
    pub partition: Option<u32>,
    /// Milliseconds since 1970, when the record says so.
    pub timestamp_ms: Option<i64>,
}

/// A name, and a value that may be missing.
pub(super) type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// How lines and plain values are to be read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// The partition of records that name none. Else Kafka's default: by the hash of the key;
    /// records without a key go to one partition together, another for each request.
    pub partition: Option<u32>,
    /// The key of records that have none.
    pub key: Option<String>,
    /// For `text/plain`: what stands between key and value in a line. A line without it has no
    /// key.
    pub key_separator: Option<String>,
}

/// A record as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    /// The value: a string is taken as its UTF-8 bytes, other JSON as it is written. Without a value
    /// the record is a tombstone.
    #[serde(borrow, default)]
    #[schema(value_type = Object, nullable)]
    value: Option<&'a RawValue>,
    /// The value, when it is not text: base64.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    value_base64: Option<Cow<'a, str>>,
    /// The key, read as the value is.
    #[serde(borrow, default)]
    #[schema(value_type = Object, nullable)]
    key: Option<&'a RawValue>,
    /// The key, when it is not text: base64.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    key_base64: Option<Cow<'a, str>>,
    /// Headers: a list of `name` with `value` or `value_base64`, or an object of names and
    /// strings.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<RecordHeader<'static>>)]
    headers: HeaderList<'a>,
    /// The partition, if it is not to be chosen by the key.
    #[serde(default)]
    partition: Option<u32>,
    /// Milliseconds since 1970; the node's clock if it is missing.
    #[serde(default)]
    timestamp: Option<i64>,
    /// Passed over, so that a record that was read can be written.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    #[expect(dead_code, reason = "it may be there and means nothing")]
    offset: Option<IgnoredAny>,
}

/// A header as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordHeader<'a> {
    /// Its name.
    #[serde(borrow)]
    #[schema(value_type = String)]
    name: Cow<'a, str>,
    /// Its value, when that is text.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    value: Option<Cow<'a, str>>,
    /// Its value, when it is not: base64.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    value_base64: Option<Cow<'a, str>>,
}

/// Reads the records of a request.
///
/// # Errors
/// When they are not what the content type says, or too many.
pub(super) fn read<'a>(
    headers: &HeaderMap,
    query: &'a WriteQuery,
    body: &'a [u8],
) -> Result<Vec<Incoming<'a>>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or("application/json").split(';').next();
    let media_type = media_type.unwrap_or_default().trim().to_ascii_lowercase();
    let mut records = match media_type.as_str() {
        "application/json" => json(body)?,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => ndjson(body)?,
        "text/plain" => lines(query.key_separator.as_deref(), body)?,
        "application/octet-stream" => vec![Incoming {
            value: Some(Cow::Borrowed(body)),
            ..Incoming::default()
        }],
        other => {
            let detail = format!(
                "records of type {other:?} cannot be read; send application/json, \
                 application/x-ndjson, text/plain (a record a line) or application/octet-stream \
                 (one record)"
            );
            return Err(Problem::wrong(detail).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
    };
    if records.is_empty() {
        return Err(Problem::wrong("the body holds no records"));
    }
    for record in &mut records {
        if let (None, Some(key)) = (&record.key, &query.key) {
            record.key = Some(Cow::Borrowed(key.as_bytes()));
        }
        record.partition = record.partition.or(query.partition);
    }
    Ok(records)
}

fn json(body: &[u8]) -> Result<Vec<Incoming<'_>>, Problem> {
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let wrong = |error| {
        Problem::wrong(format!(
            "the body is no record, or list of records: {error}"
        ))
    };
    let records = if is_list {
        let mut text = serde_json::Deserializer::from_slice(body);
        let records = Counted(RECORDS_PER_REQUEST).deserialize(&mut text);
        let records: Vec<Record<'_>> = records.map_err(wrong)?;
        text.end().map_err(wrong)?;
        records
    } else {
        vec![serde_json::from_slice(body).map_err(wrong)?]
    };
    let records = records.into_iter().enumerate();
    records
        .map(|(place, record)| {
            let read = record.read();
            read.map_err(|what| Problem::wrong(format!("record {place}: {what}")))
        })
        .collect()
}

fn ndjson(body: &[u8]) -> Result<Vec<Incoming<'_>>, Problem> {
    let mut records = Vec::new();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        bounded(records.len())?;
        let place = number + 1;
        let record: Record<'_> = serde_json::from_slice(line)
            .map_err(|error| Problem::wrong(format!("line {place} is no record: {error}")))?;
        let read = record.read();
        records.push(read.map_err(|what| Problem::wrong(format!("line {place}: {what}")))?);
    }
    Ok(records)
}

fn lines<'a>(separator: Option<&str>, body: &'a [u8]) -> Result<Vec<Incoming<'a>>, Problem> {
    if separator == Some("") {
        return Err(Problem::wrong("key_separator is empty"));
    }
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let mut records = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        bounded(records.len())?;
        let (key, value) = match separator.and_then(|separator| split(line, separator.as_bytes())) {
            Some((key, value)) => (Some(Cow::Borrowed(key)), value),
            None => (None, line),
        };
        records.push(Incoming {
            key,
            value: Some(Cow::Borrowed(value)),
            ..Incoming::default()
        });
    }
    Ok(records)
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut windows = line.windows(separator.len());
    let at = windows.position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

fn bounded(records: usize) -> Result<(), Problem> {
    if records < RECORDS_PER_REQUEST {
        return Ok(());
    }
    Err(Problem::wrong(format!(
        "a request has {RECORDS_PER_REQUEST} records at the most; send several"
    )))
}

impl<'a> Record<'a> {
    fn read(self) -> Result<Incoming<'a>, String> {
        Ok(Incoming {
            key: bytes("key", self.key, self.key_base64)?,
            value: bytes("value", self.value, self.value_base64)?,
            headers: self.headers.0,
            partition: self.partition,
            timestamp_ms: self.timestamp,
        })
    }
}

fn bytes<'a>(
    what: &str,
    json: Option<&'a RawValue>,
    base64: Option<Cow<'a, str>>,
) -> Result<Option<Cow<'a, [u8]>>, String> {
    match (json, base64) {
        (Some(_), Some(_)) => Err(format!("{what} and {what}_base64 exclude each other")),
        (None, Some(text)) => decode(what, &text).map(Some),
        (None, None) => Ok(None),
        (Some(json), None) if json.get().starts_with('"') => {
            let text: Text<'_> = serde_json::from_str(json.get())
                .map_err(|error| format!("{what} is no text: {error}"))?;
            Ok(Some(match text.0 {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }))
        }
        (Some(json), None) => Ok(Some(Cow::Borrowed(json.get().as_bytes()))),
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn decode<'a>(what: &str, text: &str) -> Result<Cow<'a, [u8]>, String> {
    let decoded = STANDARD.decode(text);
    let decoded = decoded.map_err(|error| format!("{what}_base64 is no base64: {error}"))?;
    Ok(Cow::Owned(decoded))
}

/// The headers of a record, as a list or an object.
#[derive(Debug, Default)]
struct HeaderList<'a>(Vec<Header<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for HeaderList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderList<'a>, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = HeaderList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of headers, or an object of names and strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HeaderList<'de>, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = list.next_element::<RecordHeader<'de>>()? {
            too_many(headers.len())?;
            let RecordHeader {
                name,
                value,
                value_base64,
            } = header;
            let value = match (value, value_base64) {
                (Some(_), Some(_)) => {
                    let cause = "a header's value and value_base64 exclude each other";
                    return Err(serde::de::Error::custom(cause));
                }
                (Some(text), None) => Some(into_bytes(text)),
                (None, Some(text)) => {
                    Some(decode("value", &text).map_err(serde::de::Error::custom)?)
                }
                (None, None) => None,
            };
            headers.push((name, value));
        }
        Ok(HeaderList(headers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList<'de>, A::Error> {
        let mut headers = Vec::new();
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, Option<Text<'de>>>()? {
            too_many(headers.len())?;
            headers.push((name, value.map(|Text(value)| into_bytes(value))));
        }
        Ok(HeaderList(headers))
    }
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn too_many<E: serde::de::Error>(headers: usize) -> Result<(), E> {
    if headers < HEADERS_PER_RECORD {
        return Ok(());
    }
    Err(E::custom(format!(
        "a record has {HEADERS_PER_RECORD} headers at the most"
    )))
}

/// A list that is given up when it has more elements than it may.
struct Counted(usize);

impl<'de> DeserializeSeed<'de> for Counted {
    type Value = Vec<Record<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Counted {
    type Value = Vec<Record<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} records", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut records = Vec::new();
        while let Some(record) = list.next_element()? {
            if records.len() == self.0 {
                let cause = format!("a request has {} records at the most; send several", self.0);
                return Err(serde::de::Error::custom(cause));
            }
            records.push(record);
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of_type(media_type: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static(media_type);
        HeaderMap::from_iter([(header::CONTENT_TYPE, value)])
    }

    fn values(media_type: &'static str, body: &str) -> Result<Vec<String>, String> {
        let query = WriteQuery::default();
        let records = read(&of_type(media_type), &query, body.as_bytes());
        let records = records.map_err(|problem| serde_json::to_string(&problem).unwrap())?;
        let text = |bytes: Option<Cow<'_, [u8]>>| {
            bytes.map_or("-".to_owned(), |bytes| {
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        Ok(records
            .into_iter()
            .map(|record| format!("{}={}", text(record.key), text(record.value)))
            .collect())
    }

    #[test]
    fn strings_are_taken_as_their_bytes_and_other_json_as_it_is_written() {
        let body = r#"[{"key":"k","value":"a\u00e4\n"},{"value":{"b": 1.50}},{"key":7,"value":null},
            {"key_base64":"/w==","value_base64":"aGk="}]"#;
        let read = values("application/json; charset=utf-8", body).unwrap();
        assert_eq!(read[0], "k=aä\n");
        assert_eq!(read[1], "-={\"b\": 1.50}");
        assert_eq!(read[2], "7=-");
        assert_eq!(read[3], "\u{fffd}=hi");
        assert_eq!(
            values("application/json", r#"{"value":"x"}"#).unwrap(),
            ["-=x"]
        );
    }

    #[test]
    fn headers_are_a_list_or_an_object() {
        let body = br#"[{"headers":[{"name":"a","value":"1"},{"name":"a"},{"name":"b","value_base64":"/w=="}]},
            {"headers":{"x":"y","n":null}}]"#;
        let query = WriteQuery::default();
        let records = read(&HeaderMap::new(), &query, body).unwrap();
        let headers = |place: usize| -> Vec<(&str, Option<&[u8]>)> {
            let headers = records[place].headers.iter();
            headers
                .map(|(name, value)| (&**name, value.as_deref()))
                .collect()
        };
        assert_eq!(
            headers(0),
            [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&[255][..]))]
        );
        assert_eq!(headers(1), [("x", Some(&b"y"[..])), ("n", None)]);
    }

    #[test]
    fn a_line_is_a_record_with_the_key_before_the_separator() {
        let query = WriteQuery {
            key_separator: Some("::".to_owned()),
            partition: Some(3),
            ..WriteQuery::default()
        };
        let records = read(&of_type("text/plain"), &query, b"k::v::w\n\nplain\n").unwrap();
        let found: Vec<_> = records
            .iter()
            .map(|record| {
                (
                    record.key.as_deref(),
                    record.value.as_deref(),
                    record.partition,
                )
            })
            .collect();
        let none: Option<&[u8]> = None;
        assert_eq!(
            found,
            [
                (Some(&b"k"[..]), Some(&b"v::w"[..]), Some(3)),
                (none, Some(&b""[..]), Some(3)),
                (none, Some(&b"plain"[..]), Some(3)),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let wrong = |media_type, body| values(media_type, body).unwrap_err();
        assert!(wrong("application/json", "[{},{\"valu\":1}]").contains("valu"));
        assert!(wrong("application/json", "[{}] x").contains("trailing"));
        assert!(wrong("application/json", "[]").contains("no records"));
        assert!(
            wrong(
                "application/json",
                r#"[{},{"value":1,"value_base64":"aGk="}]"#
            )
            .contains("record 1: value and value_base64")
        );
        assert!(wrong("application/x-ndjson", "{}\n\nnope\n").contains("line 3"));
        assert!(wrong("image/png", "x").contains("415"));
        let many = format!("[{}{{}}]", "{},".repeat(RECORDS_PER_REQUEST));
        assert!(wrong("application/json", &many).contains("at the most"));
        let header = r#"["h","x"],"#.repeat(HEADERS_PER_RECORD);
        let many = format!(r#"{{"value":"x","headers":[{header}["h","x"]]}}"#);
        assert!(wrong("application/json", &many).contains("headers at the most"));
        let many = "x\n".repeat(RECORDS_PER_REQUEST + 1);
        assert!(wrong("text/plain", &many).contains("at the most"));
    }
}
