//! DescribeUserScramCredentials (KIP-554): which users there are, and how their passwords are kept.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::bounds::{Field, Shape, field};
use super::limits::STEP_PARTITIONS;
use crate::node::core::{Core, CoreHandle};

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[field(Shape::Text)]))];

/// Answers a request.
///
/// Cancellation: nothing is lost.
pub async fn handle(
    core: &CoreHandle,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let named = request.users.filter(|users| !users.is_empty());
    let results = match named {
        None => all(core).await,
        Some(users) => {
            let names: Vec<StrBytes> = users.into_iter().map(|user| user.name).collect();
            by_name(core, &names).await
        }
    };
    DescribeUserScramCredentialsResponse::default()
        .with_error_message(None)
        .with_results(results)
}

async fn all(core: &CoreHandle) -> Vec<DescribeUserScramCredentialsResult> {
    let mut results: Vec<DescribeUserScramCredentialsResult> = Vec::new();
    loop {
        let last = results.last().map(|last| last.user.clone());
        let more = core.with(|core| {
            let names = core.users.names_behind(last.as_deref());
            let some = names.take(STEP_PARTITIONS);
            some.filter_map(|name| describe(core, name))
                .collect::<Vec<_>>()
        });
        if more.is_empty() {
            return results;
        }
        results.extend(more);
        tokio::task::yield_now().await;
    }
}

async fn by_name(core: &CoreHandle, names: &[StrBytes]) -> Vec<DescribeUserScramCredentialsResult> {
    let (mut once, mut twice) = (HashSet::new(), HashSet::new());
    for name in names {
        if !once.insert(name) {
            twice.insert(name);
        }
    }
    let mut seen = HashSet::new();
    let mut results = Vec::new();
    for names in names.chunks(STEP_PARTITIONS) {
        for name in names.iter().filter(|name| seen.insert(*name)) {
            let found = core.with(|core| describe(core, name));
            results.push(match found {
                _ if twice.contains(name) => refused(
                    name,
                    ResponseError::DuplicateResource,
                    "the request names this user more than once",
                ),
                Some(found) => found,
                None => refused(
                    name,
                    ResponseError::ResourceNotFound,
                    "there are no SCRAM credentials for this user",
                ),
            });
        }
        tokio::task::yield_now().await;
    }
    results
}

fn describe(core: &Core, name: &str) -> Option<DescribeUserScramCredentialsResult> {
    let infos = core.users.credentials(name).map(|(mechanism, credential)| {
        let iterations = i32::try_from(credential.iterations);
        CredentialInfo::default()
            .with_mechanism(mechanism as i8)
            .with_iterations(iterations.unwrap_or(i32::MAX))
    });
    let infos: Vec<CredentialInfo> = infos.collect();
    (!infos.is_empty()).then(|| {
        DescribeUserScramCredentialsResult::default()
            .with_user(StrBytes::from_string(name.to_owned()))
            .with_error_message(None)
            .with_credential_infos(infos)
    })
}

fn refused(
    name: &StrBytes,
    code: ResponseError,
    message: &'static str,
) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult::default()
        .with_user(name.clone())
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_static_str(message)))
}
