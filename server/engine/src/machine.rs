//! Numbers of the machines in log entries. A number is on disk for ever: none is used again for
//! something else.

/// [`crate::topics::Topics`]: metadata records, in the metadata log only. Those about users change
/// [`crate::users::Users`].
pub const METADATA: u16 = 1;
/// [`crate::partitions::ProducerIds`]: blocks of producer ids, in every log.
pub const PRODUCER_IDS: u16 = 2;
/// [`crate::groups::Groups`]: consumer groups and their offsets, in the log that coordinates them.
pub const GROUPS: u16 = 3;
/// [`crate::users::Users`]: in checkpoints of the metadata log only; its entries are those of
/// [`METADATA`].
pub const USERS: u16 = 4;
