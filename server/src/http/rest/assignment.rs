//! What a member of a consumer group was assigned, as its client wrote it (`ConsumerProtocolAssignment`
//! of Kafka's clients): the broker keeps it as bytes.
//!
//! ```text
//! version i16, { topic, { partition i32 }* }*, user data          (strings and arrays not compact)
//! ```

use crate::kafka::limits::NAMED_PER_REQUEST;
use crate::kafka::wire::{Reader, WireError};

/// The partitions in an assignment, by topic; none if it cannot be read: other clients than
/// consumers may write what they like.
pub(super) fn partitions(assignment: &[u8]) -> Vec<(String, u32)> {
    read(assignment).unwrap_or_default()
}

fn read(assignment: &[u8]) -> Result<Vec<(String, u32)>, WireError> {
    let mut reader = Reader::new(assignment, 0);
    let _version = reader.i16()?;
    let mut partitions = Vec::new();
    for _ in 0..reader.count_up_to(NAMED_PER_REQUEST, false, 6)? {
        let topic = reader.text(false)?.to_owned();
        let most = NAMED_PER_REQUEST.saturating_sub(partitions.len());
        for _ in 0..reader.count_up_to(most, false, 4)? {
            // A negative number names no partition.
            if let Ok(partition) = u32::try_from(reader.i32()?) {
                partitions.push((topic.clone(), partition));
            }
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    #[test]
    fn an_assignment_of_the_reference_encoder_is_read_and_noise_is_none() {
        let of_topic = |name: &'static str, partitions: &[i32]| {
            TopicPartition::default()
                .with_topic(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(partitions.to_vec())
        };
        let assignment = ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![of_topic("a", &[0, 2]), of_topic("b", &[1])]);
        let mut bytes = vec![0, 1];
        assignment.encode(&mut bytes, 1).unwrap();
        let found = partitions(&bytes);
        let expected = [("a", 0), ("a", 2), ("b", 1)];
        assert_eq!(
            found,
            expected.map(|(topic, partition)| (topic.to_owned(), partition))
        );
        assert!(partitions(b"").is_empty());
        assert!(partitions(&[0xff; 40]).is_empty());
    }
}
