//! Which requests are carried out elsewhere, and by what.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::{admin, fetch, groups, partitions};
use crate::kafka::answer::Answer;
use crate::kafka::decode::RequestError;
use crate::kafka::fetch::session::SessionSlot;
use crate::kafka::request::RequestHeader;
use crate::node::core::CoreHandle;

/// Whether a request may belong to other cores, here.
#[must_use]
pub fn is_forwarded(core: &CoreHandle, key: ApiKey) -> bool {
    core.topology().is_single_port()
        && (matches!(
            key,
            ApiKey::Fetch
                | ApiKey::ListOffsets
                | ApiKey::DeleteRecords
                | ApiKey::OffsetForLeaderEpoch
                | ApiKey::DescribeProducers
                | ApiKey::DescribeLogDirs
        ) || groups::is_about_groups(key))
}

/// Answers a request for which [`is_forwarded`] holds. `leaving` ends waits early.
///
/// Cancellation: what was asked of other cores ends at its next wait.
///
/// # Errors
/// When the request is malformed, or a core that it needs stops: the connection is closed.
pub async fn answer(
    core: &CoreHandle,
    peer: SocketAddr,
    header: &RequestHeader,
    frame: &Bytes,
    sessions: &SessionSlot,
    leaving: impl Future<Output = ()>,
) -> Result<Answer, RequestError> {
    match header.api.key {
        ApiKey::Fetch => fetch::answer(core, header, frame, sessions, leaving).await,
        ApiKey::ListOffsets => partitions::list_offsets(core, header, frame).await,
        ApiKey::DeleteRecords => partitions::delete_records(core, header, frame).await,
        ApiKey::OffsetForLeaderEpoch => admin::leader_epochs(core, header, frame).await,
        ApiKey::DescribeProducers => admin::producers(core, header, frame).await,
        ApiKey::DescribeLogDirs => admin::log_dirs(core, header, frame).await,
        _ => {
            tokio::select! {
                biased;
                answer = groups::answer(core, peer, header, frame) => answer,
                () = leaving => Err(RequestError::Elsewhere(
                    crate::node::errand::Unanswered::Gone,
                )),
            }
        }
    }
}
