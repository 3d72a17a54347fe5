//! InitProducerId: an id for an idempotent producer, never given out before.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::bounds::Field;
use crate::node::core::CoreHandle;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

const NONE: i64 = -1;

/// Answers a request.
///
/// Cancellation: an id may be given to nobody.
pub async fn handle(core: &CoreHandle, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(NONE))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        // There are no transactions: clients stop with this, where the codes of a coordinator
        // would make them try for ever.
        tracing::debug!(core = %core.id(), "a producer id for a transaction was refused");
        return refused(ResponseError::UnsupportedVersion);
    }
    // Both or neither: the id that an idempotent producer has and wants to go on from (KIP-360).
    // Without a transactional id Kafka looks at neither and gives a fresh id of epoch 0
    // (`TransactionCoordinator.handleInitProducerId`); what is one without the other it refuses
    // before (`KafkaApis.handleInitProducerIdRequest`).
    if (request.producer_id.0 == NONE) != (request.producer_epoch == -1) {
        return refused(ResponseError::InvalidRequest);
    }
    match core.new_producer_id().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(core = %core.id(), %error, "a producer id could not be given out");
            // Clients ask again, until the node was restarted.
            refused(ResponseError::CoordinatorLoadInProgress)
        }
    }
}
