//! Consumer groups, in the classic protocol: one file for each API. A group is coordinated by one
//! core, which clients find with FindCoordinator; every other core says that it is not it.

pub mod delete_groups;
pub mod describe_groups;
pub mod find_coordinator;
pub mod heartbeat;
pub mod here;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod sync_group;
