//! AlterUserScramCredentials (KIP-554): users come, get other passwords, and go. The client salts
//! the password: it takes it longer than a core may be held.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::users::{Mechanism, UserCommand};

use super::bounds::{Field, Shape, field};
use super::errors;
use crate::node::core::CoreHandle;
use crate::security::keys;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Fixed(1)),
    ])),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Fixed(1)),
        field(Shape::Fixed(4)),
        field(Shape::Bytes),
        field(Shape::Bytes),
    ])),
];

type Refusal = (ResponseError, String);

/// What is asked for a user.
#[derive(Default)]
struct Asked {
    commands: Vec<UserCommand>,
    refusal: Option<Refusal>,
    seen: HashSet<i8>,
}

/// Answers a request, with one result for each user in it: of what is asked for a user everything
/// is done, or nothing where a part of it is known to be wrong beforehand.
///
/// Cancellation: what was begun is carried out all the same.
pub async fn handle(
    core: &CoreHandle,
    peer: SocketAddr,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut asked: BTreeMap<StrBytes, Asked> = BTreeMap::new();
    for deletion in request.deletions {
        let of_user = asked.entry(deletion.name.clone()).or_default();
        let user = deletion.name.to_string();
        let command = |mechanism| Ok(UserCommand::Remove { user, mechanism });
        of_user.add(deletion.mechanism, command);
    }
    for upsertion in request.upsertions {
        let of_user = asked.entry(upsertion.name.clone()).or_default();
        of_user.add(upsertion.mechanism, |mechanism| set(&upsertion, mechanism));
        tokio::task::yield_now().await;
    }
    let mut results = Vec::with_capacity(asked.len());
    for (name, asked) in asked {
        let result = AlterUserScramCredentialsResult::default().with_user(name.clone());
        results.push(match carry_out(core, asked).await {
            Ok(()) => {
                tracing::info!(core = %core.id(), %peer, user = name.as_str(), "changed a user's credentials");
                result.with_error_message(None)
            }
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_string(message))),
        });
    }
    AlterUserScramCredentialsResponse::default().with_results(results)
}

impl Asked {
    fn add(&mut self, number: i8, command: impl FnOnce(Mechanism) -> Result<UserCommand, Refusal>) {
        let mechanism = u8::try_from(number).ok().and_then(Mechanism::from_number);
        let command = match mechanism {
            None => {
                let message = format!("there is no SCRAM mechanism {number}");
                Err((ResponseError::UnsupportedSaslMechanism, message))
            }
            Some(_) if !self.seen.insert(number) => {
                let message = "the request alters this credential more than once";
                Err((ResponseError::DuplicateResource, message.to_owned()))
            }
            Some(mechanism) => command(mechanism),
        };
        match command {
            Ok(command) => self.commands.push(command),
            Err(refusal) => {
                self.refusal.get_or_insert(refusal);
            }
        }
    }
}

async fn carry_out(core: &CoreHandle, asked: Asked) -> Result<(), Refusal> {
    if let Some(refusal) = asked.refusal {
        return Err(refusal);
    }
    for command in asked.commands {
        let done = core.control(command).await;
        done.map_err(|error| (errors::of_control(&error), error.to_string()))?;
    }
    Ok(())
}

fn set(upsertion: &ScramCredentialUpsertion, mechanism: Mechanism) -> Result<UserCommand, Refusal> {
    let unacceptable = |message: String| (ResponseError::UnacceptableCredential, message);
    let salted = &upsertion.salted_password;
    if salted.len() != mechanism.key_bytes() {
        let (name, bytes) = (mechanism.name(), mechanism.key_bytes());
        return Err(unacceptable(format!(
            "a password salted for {name} has {bytes} bytes"
        )));
    }
    let iterations = u32::try_from(upsertion.iterations)
        .map_err(|_| unacceptable("a number of iterations below zero".to_owned()))?;
    let salt = upsertion.salt.to_vec();
    let credential = keys::of_salted_password(mechanism, salted, salt, iterations);
    Ok(UserCommand::Set {
        user: upsertion.name.to_string(),
        credentials: vec![(mechanism, credential)],
    })
}
