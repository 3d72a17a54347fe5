//! The node: its cores, what runs on each, and what passes between them.
//!
//! | file | what |
//! |---|---|
//! | `supervisor`, `thread`, `status` | all cores up and down; the life of one; how they are |
//! | `directory`, `identity`, `directory_error` | the data directories, and what they are |
//! | `topology` | who owns what, and where |
//! | `migration` | a start with other logs than before |
//! | `core`, `append` | a core's state, records into it |
//! | `driver`, `polling` | what moves the log, how long it polls |
//! | `waiters`, `reach` | who waits for the log, and how far it has come |
//! | `mailbox`, `message`, `inbox`, `outbox` | between cores |
//! | `errand`, `errand_desk` | work that a core does for others |
//! | `control`, `decisions`, `retention` | topics, their configs, users; old records |
//! | `first_users` | users that the node is started with |
//! | `cleaner`, `compaction`, `helper` | rewriting old segments; the thread that works beside a core |
//! | `group_waits`, `group_upkeep` | who waits for a consumer group; what groups need by themselves |
//! | `accept`, `addresses`, `metrics` | connections; what a core counts |
//! | `budget` | memory for what clients are slow to send or to take |
//! | `step_watch`, `step_kind` | how long a core's steps take, and which work they are |
//!
//! Invariant: a core's state is touched by its own thread only, and only by synchronous code
//! between two waits ([`core::CoreHandle::with`]). Nothing here knows a protocol.

pub mod accept;
mod addresses;
pub mod append;
pub mod budget;
pub mod cleaner;
pub mod compaction;
pub mod control;
pub mod core;
pub mod decisions;
pub mod directory;
pub mod directory_error;
pub mod driver;
pub mod errand;
pub mod errand_desk;
pub mod first_users;
pub mod group_upkeep;
pub mod group_waits;
pub mod helper;
pub mod identity;
pub mod inbox;
pub mod mailbox;
pub mod message;
pub mod metrics;
pub mod migration;
pub mod outbox;
pub mod polling;
pub mod reach;
pub mod retention;
pub mod shares;
pub mod stages;
pub mod status;
pub mod step_kind;
pub mod step_watch;
pub mod supervisor;
pub mod thread;
pub mod topology;
pub mod waiters;

#[cfg(test)]
mod tests;
