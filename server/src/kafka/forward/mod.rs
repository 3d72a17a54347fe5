//! Behind a single port (`--single-port`): a client speaks to one broker, and what belongs to other
//! cores is done there, by errands. Without a single port nothing comes here.
//!
//! | file | what |
//! |---|---|
//! | `there` | asking owners |
//! | `produce`, `fetch` | the hot pair: records are copied once on their way to another core |
//! | `partitions` | other requests about partitions, taken apart by owner |
//! | `admin` | what administrators ask of partitions and directories |
//! | `groups` | requests about groups, to their coordinators |
//! | `answer` | which of these a request is |
//!
//! Invariants: a connection's batches reach each log in the order in which they came, because the
//! next request is read when all of the one before are appended; answers are put together in the
//! order of the request.

pub mod admin;
pub mod answer;
pub mod fetch;
pub mod groups;
pub mod partitions;
pub mod produce;
pub mod there;
