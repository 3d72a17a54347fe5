//! One record of a Kafka v2 batch, written when a template is made.

/// Appends one record without headers. `delta` is its place in the batch; all records of a batch
/// have the same timestamp.
pub fn append_record(out: &mut Vec<u8>, delta: u32, key: Option<&[u8]>, value: &[u8]) {
    let mut body = Vec::with_capacity(value.len() + 32);
    body.push(0); // attributes
    put_varint(&mut body, 0); // timestamp delta
    put_varint(&mut body, i64::from(delta));
    match key {
        Some(key) => {
            put_varint(&mut body, signed_length(key));
            body.extend_from_slice(key);
        }
        None => put_varint(&mut body, -1),
    }
    put_varint(&mut body, signed_length(value));
    body.extend_from_slice(value);
    put_varint(&mut body, 0); // no headers
    put_varint(out, signed_length(&body));
    out.extend_from_slice(&body);
}

fn signed_length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).expect("memory is smaller than 2^63 bytes")
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        // Truncation is meant: seven bits at a time.
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringlog_types::batch::records;

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(
            delta in 0_u32..1_000_000,
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
            value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = Vec::new();
            append_record(&mut bytes, delta, key.as_deref(), &value);
            let found: Vec<_> = records(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].offset_delta, delta.cast_signed());
            prop_assert_eq!(found[0].key, key.as_deref());
            prop_assert_eq!(found[0].value, Some(value.as_slice()));
            prop_assert_eq!(found[0].headers.len(), 0);
        }
    }
}
