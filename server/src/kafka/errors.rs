//! From what went wrong inside to what the protocol calls it: the one table. Also which counter
//! an error belongs to.

use kafka_protocol::error::ResponseError;
use ringlog_engine::groups::GroupError;
use ringlog_engine::partitions::ProduceError;
use ringlog_engine::topics::TopicError;
use ringlog_engine::users::UserError;
use ringlog_storage::log::AppendError;
use ringlog_types::batch::BatchError;

use super::records::OpenError;
use crate::node::append::ProduceFailure;
use crate::node::core::groups::GroupFailure;
use crate::node::message::ControlError;
use crate::node::metrics::ErrorKind;

/// A batch that fails its checks, as Kafka answers it for Produce since version 3.
#[must_use]
pub fn of_batch(error: &BatchError) -> ResponseError {
    match error {
        BatchError::CrcMismatch { .. }
        | BatchError::InvalidLength { .. }
        | BatchError::UnknownMagic { .. } => ResponseError::CorruptMessage,
        BatchError::UnknownCompression { .. } => ResponseError::UnsupportedCompressionType,
        // Old formats too: since Kafka 2.x a batch of magic 0 or 1 is an invalid record, where
        // earlier brokers converted it.
        _ => ResponseError::InvalidRecord,
    }
}

/// A batch that had to be opened and could not be.
#[must_use]
pub fn of_opening(error: &OpenError) -> ResponseError {
    match error {
        OpenError::Batch(error) => of_batch(error),
        OpenError::Codec(_) => ResponseError::CorruptMessage,
        // Nothing that another try would mend.
        OpenError::Window(_) | OpenError::TooLarge { .. } | OpenError::Record { .. } => {
            ResponseError::InvalidRecord
        }
    }
}

/// A batch that was refused before or by the log.
#[must_use]
pub fn of_produce(failure: &ProduceFailure) -> ResponseError {
    match failure {
        ProduceFailure::Producer(error) => of_producer(error),
        ProduceFailure::Log(error) => of_append(error),
    }
}

fn of_producer(error: &ProduceError) -> ResponseError {
    match error {
        ProduceError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        ProduceError::DuplicateSequence { .. } => ResponseError::DuplicateSequenceNumber,
        ProduceError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        ProduceError::NotInTransaction { .. } => ResponseError::InvalidTxnState,
        _ => ResponseError::InvalidRecord,
    }
}

/// What the log did not take.
#[must_use]
pub fn of_append(error: &AppendError) -> ResponseError {
    match error {
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        // Clients try again, without asking for metadata first.
        AppendError::Busy => ResponseError::RequestTimedOut,
        // Clients try again until space returns, or another broker leads.
        _ => ResponseError::KafkaStorageError,
    }
}

/// A change to the topics that was refused.
#[must_use]
pub fn of_topic(error: &TopicError) -> ResponseError {
    match error {
        TopicError::Exists { .. } => ResponseError::TopicAlreadyExists,
        TopicError::UnknownTopic { .. } => ResponseError::UnknownTopicOrPartition,
        TopicError::InvalidName { .. } | TopicError::Collides { .. } => {
            ResponseError::InvalidTopicException
        }
        TopicError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
        TopicError::InvalidConfig { .. } => ResponseError::InvalidConfig,
        TopicError::TooManyPending { .. } => ResponseError::ThrottlingQuotaExceeded,
        // Limits of the node.
        _ => ResponseError::PolicyViolation,
    }
}

/// A change to the users that was refused: KIP-554.
#[must_use]
pub fn of_user(error: &UserError) -> ResponseError {
    match error {
        UserError::NotFound { .. } => ResponseError::ResourceNotFound,
        UserError::TooManyPending { .. } => ResponseError::ThrottlingQuotaExceeded,
        UserError::TooMany { .. } => ResponseError::PolicyViolation,
        _ => ResponseError::UnacceptableCredential,
    }
}

/// A control command that was not carried out.
#[must_use]
pub fn of_control(error: &ControlError) -> ResponseError {
    match error {
        ControlError::Topic(error) => of_topic(error),
        ControlError::User(error) => of_user(error),
        ControlError::Refused { .. } => ResponseError::ThrottlingQuotaExceeded,
        ControlError::Stopping => ResponseError::BrokerNotAvailable,
        _ => ResponseError::KafkaStorageError,
    }
}

/// What a group refuses.
#[must_use]
pub fn of_group(error: GroupError) -> ResponseError {
    match error {
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::MaxSizeReached => ResponseError::GroupMaxSizeReached,
        // As Kafka answers for an assignment that does not fit its log.
        GroupError::AssignmentTooLarge => ResponseError::UnknownServerError,
        // As Kafka answers for a commit that does not fit a batch of its log.
        GroupError::CommitTooLarge | GroupError::TooManyOffsets => {
            ResponseError::InvalidCommitOffsetSize
        }
        // Clients look for the coordinator again, until the node was restarted.
        GroupError::Unavailable => ResponseError::CoordinatorNotAvailable,
        GroupError::NotFound => ResponseError::GroupIdNotFound,
        GroupError::NotEmpty => ResponseError::NonEmptyGroup,
        GroupError::Subscribed => ResponseError::GroupSubscribedToTopic,
    }
}

/// A decision about a group that was not carried out.
#[must_use]
pub fn of_group_failure(failure: &GroupFailure) -> ResponseError {
    match failure {
        GroupFailure::Group(error) => of_group(*error),
        GroupFailure::Storage(_) => ResponseError::CoordinatorNotAvailable,
    }
}

/// Where an error is counted.
#[must_use]
pub fn kind_of(code: ResponseError) -> ErrorKind {
    match code {
        ResponseError::UnknownTopicOrPartition
        | ResponseError::UnknownTopicId
        | ResponseError::OffsetOutOfRange => ErrorKind::UnknownPartition,
        ResponseError::NotLeaderOrFollower
        | ResponseError::FencedLeaderEpoch
        | ResponseError::UnknownLeaderEpoch => ErrorKind::NotLeader,
        ResponseError::OutOfOrderSequenceNumber
        | ResponseError::DuplicateSequenceNumber
        | ResponseError::InvalidProducerEpoch => ErrorKind::ProducerSequence,
        ResponseError::KafkaStorageError => ErrorKind::StorageFailed,
        ResponseError::RequestTimedOut
        | ResponseError::ThrottlingQuotaExceeded
        | ResponseError::BrokerNotAvailable => ErrorKind::Refused,
        ResponseError::UnsupportedVersion
        | ResponseError::InvalidRequest
        | ResponseError::InvalidRequiredAcks => ErrorKind::Malformed,
        _ => ErrorKind::InvalidBatch,
    }
}
