//! What a consumer says it reads: the first fields of its subscription, which all versions of the
//! consumer protocol have in common (`ConsumerProtocolSubscription.json`; KIP-211).
//!
//! ```text
//! subscription = version i16, topic count i32, { length i16, name }*, more       (big-endian)
//! ```

/// A member's subscription is none of the consumer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// How far a subscription was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: usize,
    left: u32,
}

/// The next topic of a subscription behind a place; none: that was all.
pub(super) fn next_topic<'a>(
    subscription: &'a [u8],
    place: &mut Option<Place>,
) -> Result<Option<&'a [u8]>, Unreadable> {
    let Place { at, left } = match *place {
        Some(place) => place,
        None => begin(subscription)?,
    };
    let Some(less) = left.checked_sub(1) else {
        *place = Some(Place { at, left });
        return Ok(None);
    };
    let rest = subscription.get(at..).ok_or(Unreadable)?;
    let (length, names) = rest.split_first_chunk::<2>().ok_or(Unreadable)?;
    let length = usize::try_from(i16::from_be_bytes(*length)).map_err(|_| Unreadable)?;
    let name = names.get(..length).ok_or(Unreadable)?;
    *place = Some(Place {
        at: at + 2 + length,
        left: less,
    });
    Ok(Some(name))
}

fn begin(subscription: &[u8]) -> Result<Place, Unreadable> {
    let (_, rest) = subscription.split_first_chunk::<2>().ok_or(Unreadable)?;
    let (count, _) = rest.split_first_chunk::<4>().ok_or(Unreadable)?;
    let left = u32::try_from(i32::from_be_bytes(*count)).map_err(|_| Unreadable)?;
    Ok(Place { at: 6, left })
}

/// Whether a subscription names a topic; what cannot be read may.
pub(super) fn may_name(subscription: &[u8], topic: &str) -> bool {
    let mut place = None;
    loop {
        match next_topic(subscription, &mut place) {
            Ok(Some(name)) if name == topic.as_bytes() => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(Unreadable) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscription(topics: &[String]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([255; 4]);
        bytes
    }

    proptest! {
        #[test]
        fn topics_are_read_one_by_one_and_what_is_cut_off_is_unreadable(
            topics in proptest::collection::vec("[a-c]{0,3}", 0..5),
        ) {
            let bytes = subscription(&topics);
            let (mut place, mut found) = (None, Vec::new());
            while let Some(topic) = next_topic(&bytes, &mut place).unwrap() {
                found.push(String::from_utf8(topic.to_vec()).unwrap());
            }
            prop_assert_eq!(&found, &topics);
            prop_assert_eq!(next_topic(&bytes, &mut place), Ok(None));
            for topic in ["", "a", "b", "abc"] {
                prop_assert_eq!(may_name(&bytes, topic), topics.iter().any(|one| one == topic));
            }
            for end in 0..bytes.len() - 4 {
                let mut place = None;
                let cut = loop {
                    match next_topic(&bytes[..end], &mut place) {
                        Ok(Some(_)) => {}
                        ended => break ended,
                    }
                };
                prop_assert_eq!(cut, Err(Unreadable), "cut at {}", end);
            }
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes: Vec<u8>) {
            let _ = may_name(&bytes, "topic");
        }
    }
}
