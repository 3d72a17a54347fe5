//! DescribeCluster: the brokers, one per core.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds::Field;
use super::metadata::{CONTROLLER, cluster_id};
use crate::node::core::CoreHandle;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

const BROKERS: i8 = 1;

/// Answers a request.
#[must_use]
pub fn handle(core: &CoreHandle, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    if request.endpoint_type != BROKERS {
        let message = "this endpoint serves brokers; there are no controllers apart from them";
        return response
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str(message)));
    }
    let brokers = core.topology().brokers().iter().map(|broker| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(i32::from(broker.id.0)))
            .with_host(StrBytes::from_string(broker.host.clone()))
            .with_port(i32::from(broker.port))
    });
    response
        .with_cluster_id(cluster_id(core).unwrap_or_default())
        .with_controller_id(CONTROLLER)
        .with_brokers(brokers.collect())
}
