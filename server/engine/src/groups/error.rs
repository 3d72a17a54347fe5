//! Why a group refuses what it is asked.

/// A refusal. Each has its own code in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group's id is empty.
    #[error("a group's id cannot be empty")]
    InvalidGroupId,
    /// The session timeout is outside of what the node allows.
    #[error("the session timeout is not within the limits of this node")]
    InvalidSessionTimeout,
    /// The member is not one of the group, or no longer.
    #[error("the group has no such member")]
    UnknownMember,
    /// The member's first join is answered with the id that it must join with (KIP-394).
    #[error("the member must join again under the id it was given")]
    MemberIdRequired,
    /// Another process joined under the same instance id (KIP-345).
    #[error("another process took this member's instance id over")]
    FencedInstance,
    /// The member knows another generation.
    #[error("the group has another generation")]
    IllegalGeneration,
    /// The members have to join again first.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The member speaks no protocol that all others speak, or one of another type.
    #[error("the group's members speak other protocols")]
    InconsistentProtocol,
    /// A limit of members, groups or bytes is reached.
    #[error("the group, or the node, has no room for this member")]
    MaxSizeReached,
    /// The assignment is larger than an entry of the log.
    #[error("the assignment is too large")]
    AssignmentTooLarge,
    /// The commit is larger than what goes into the log at once.
    #[error("the commit is too large: fewer partitions at once, or less metadata")]
    CommitTooLarge,
    /// The log has no room for more offsets.
    #[error("the node has no room for more committed offsets")]
    TooManyOffsets,
    /// The log is closed: what was asked cannot be made durable.
    #[error("the log of this group is closed")]
    Unavailable,
    /// There is no such group.
    #[error("there is no such group")]
    NotFound,
    /// The group has members.
    #[error("the group has members")]
    NotEmpty,
    /// A member reads the topic.
    #[error("a member of the group is subscribed to the topic")]
    Subscribed,
}
