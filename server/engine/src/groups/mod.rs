//! Consumer groups: who is in a group, which generation its members are in, what each was
//! assigned, and the offsets that it committed. A group lives in one log, found by its id.
//!
//! ```text
//!  join, sync, leave, timers ──► group (rebalance) ──► answers, at once or when durable
//!                                       │ record                    ▲
//!                                       ▼                           │
//!  commit ──► record ──────────────► the log ──► apply ──► table ───┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `state` | all groups of a log: commands, timers, what is logged and applied |
//! | `group`, `rebalance`, `member` | a group that lives |
//! | `table` | what is committed, and its checkpoints |
//! | `record`, `stored`, `offset` | what the log holds |
//! | `commit` | offsets on their way into the log |
//! | `subscription` | what a member says it reads |
//! | `sweep` | what is forgotten |
//! | `describe` | for operators |
//! | `coordinator`, `split` | which log a group is in, and when that changes |
//! | `command`, `error` | what is asked and answered |

mod command;
mod commit;
mod coordinator;
mod describe;
mod error;
mod group;
mod member;
mod offset;
mod rebalance;
mod record;
mod split;
mod state;
mod stored;
mod subscription;
mod sweep;
mod table;

#[cfg(test)]
mod tests;

pub use command::{
    GroupAnswer, GroupSettings, Identity, Join, JoinRefused, Joined, JoinedMember, Now, Protocol,
    Sync, Synced, Ticket,
};
pub use commit::Commit;
pub use coordinator::coordinator;
pub use describe::{DescribedGroup, DescribedMember, GroupCounts, GroupState, ListedGroup};
pub use error::GroupError;
pub use offset::CommittedOffset;
pub use record::GroupRecord;
pub use state::Groups;
pub use stored::{StoredGroup, StoredMember};
pub use sweep::Sweep;
