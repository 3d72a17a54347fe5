//! Users: listed, given passwords, deleted. The client salts the password, as Kafka's clients do, so
//! that it does not come here; what a user is verified by does not leave.

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::users::Mechanism;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::paging;
use super::problem::Problem;
use super::whereabouts::CONTROLLER;
use crate::http::listener::Peer;
use crate::kafka::alter_user_scram_credentials;
use crate::kafka::limits::STEP_PARTITIONS;
use crate::node::core::CoreHandle;

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsersQuery {
    /// Begin behind this name: the `next` of the answer before.
    after: Option<String>,
    /// How many; at most 10,000, 1,000 if it is not said.
    limit: Option<usize>,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedUser {
    name: String,
    /// How the password is kept, by mechanism.
    credentials: Vec<ListedCredential>,
}

/// How a password is kept; not what it is verified by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedCredential {
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[schema(value_type = String)]
    mechanism: &'static str,
    /// How often it was hashed.
    iterations: u32,
}

/// Users, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserList {
    users: Vec<ListedUser>,
    /// There are more: ask with `after` set to this.
    next: Option<String>,
}

/// Lists users, by name, with the mechanisms that they can log in by.
#[utoipa::path(
    get, path = "/users", tag = "users", operation_id = "listUsers", params(UsersQuery),
    responses((status = 200, description = "The users", body = UserList))
)]
pub(super) async fn list(
    State(face): State<Face>,
    QueryOf(page): QueryOf<UsersQuery>,
) -> Result<Json<UserList>, Problem> {
    let most = paging::most(page.limit);
    let found = face.ask(CONTROLLER, move |core| async move {
        // One more tells whether there are more.
        behind(&core, page.after, most + 1).await
    });
    let mut users = found.await?;
    let next = paging::cut(&mut users, most, |user| &user.name);
    Ok(Json(UserList { users, next }))
}

/// On core 0: so many users behind a name, in steps.
async fn behind(core: &CoreHandle, after: Option<String>, most: usize) -> Vec<ListedUser> {
    let mut users: Vec<ListedUser> = Vec::new();
    while users.len() < most {
        let last = users.last().map(|last| last.name.as_str());
        let last = last.or(after.as_deref());
        let step = STEP_PARTITIONS.min(most - users.len());
        let more: Vec<ListedUser> = core.with(|state| {
            let names = state.users.names_behind(last).take(step);
            let listed = names.map(|name| ListedUser {
                name: name.to_owned(),
                credentials: state
                    .users
                    .credentials(name)
                    .map(|(mechanism, credential)| ListedCredential {
                        mechanism: mechanism.name(),
                        iterations: credential.iterations,
                    })
                    .collect(),
            });
            listed.collect()
        });
        if more.is_empty() {
            break;
        }
        users.extend(more);
        tokio::task::yield_now().await;
    }
    users
}

/// What a user is to log in by. Whoever has a salted password can log in with it: not `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCredentials {
    /// Each mechanism once, one at least. A password checked by `PLAIN` or HTTP Basic is checked
    /// against the one of SCRAM-SHA-256, if there is one: set both for the same password.
    credentials: Vec<NewCredential>,
}

/// A password under a mechanism, salted by the client (RFC 5802, section 3: `SaltedPassword`).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCredential {
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    mechanism: String,
    /// How often the password was hashed: 4,096 to 16,384 times.
    iterations: i32,
    /// What it was hashed with: 1 to 256 bytes, other ones each time.
    salt_base64: String,
    /// PBKDF2 of password and salt with the mechanism's hash: 32 or 64 bytes.
    salted_password_base64: String,
}

/// Sets what a user logs in by, and makes the user who is not there. Credentials of other mechanisms
/// stay. Answered when it is durable and every core knows it; connections that are logged in stay.
#[utoipa::path(
    put, path = "/users/{user}", tag = "users", operation_id = "setUser", request_body = NewCredentials,
    params(("user" = String, Path, description = "Name of the user")),
    responses(
        (status = 204, description = "The user logs in by it"),
        (status = 400, description = "A name or a credential that cannot be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The node has as many users as it keeps", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    PathOf(user): PathOf<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let wanted: NewCredentials = face.json(&headers, body).await?;
    if wanted.credentials.is_empty() {
        return Err(Problem::wrong("credentials is empty: one is set at least"));
    }
    let upsertions = wanted
        .credentials
        .iter()
        .map(|credential| upsertion(&user, credential));
    let request = AlterUserScramCredentialsRequest::default()
        .with_upsertions(upsertions.collect::<Result<_, Problem>>()?);
    let answer = face.ask(CONTROLLER, move |core| async move {
        alter_user_scram_credentials::handle(&core, peer.0, request).await
    });
    done(answer.await?)
}

fn upsertion(user: &str, wanted: &NewCredential) -> Result<ScramCredentialUpsertion, Problem> {
    let bytes = |field: &str, text: &str| {
        let decoded = BASE64.decode(text);
        decoded.map_err(|_| Problem::wrong(format!("{field} is not base64")))
    };
    let salt = bytes("salt_base64", &wanted.salt_base64)?;
    let salted = bytes("salted_password_base64", &wanted.salted_password_base64)?;
    Ok(ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_string(user.to_owned()))
        .with_mechanism(mechanism(&wanted.mechanism)? as i8)
        .with_iterations(wanted.iterations)
        .with_salt(Bytes::from(salt))
        .with_salted_password(Bytes::from(salted)))
}

fn mechanism(name: &str) -> Result<Mechanism, Problem> {
    let mut known = Mechanism::ALL.into_iter();
    let found = known.find(|mechanism| mechanism.name() == name);
    found.ok_or_else(|| {
        let [first, second] = Mechanism::ALL.map(Mechanism::name);
        let detail = format!("there is no mechanism {name:?}; there are {first} and {second}");
        Problem::of(ResponseError::UnsupportedSaslMechanism, detail)
    })
}

fn done(answer: AlterUserScramCredentialsResponse) -> Result<StatusCode, Problem> {
    for result in answer.results {
        let message = result.error_message.as_ref();
        Problem::check(result.error_code, || {
            message
                .map_or("the user was refused", StrBytes::as_str)
                .to_owned()
        })?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What of a user is to go.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeletedQuery {
    /// Only the credential of this mechanism; a user without any is gone.
    mechanism: Option<String>,
}

/// Deletes a user, or a credential. Connections that are logged in stay.
#[utoipa::path(
    delete, path = "/users/{user}", tag = "users", operation_id = "deleteUser",
    params(("user" = String, Path, description = "Name of the user"), DeletedQuery),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "There is no such mechanism", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such user, or no such credential", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    PathOf(user): PathOf<String>,
    QueryOf(query): QueryOf<DeletedQuery>,
) -> Result<StatusCode, Problem> {
    let only = query.mechanism.as_deref().map(mechanism).transpose()?;
    let name = user.clone();
    let answer = face.ask(CONTROLLER, move |core| async move {
        let of_user: Vec<Mechanism> = core.with(|state| {
            let credentials = state.users.credentials(&name);
            credentials.map(|(mechanism, _)| mechanism).collect()
        });
        if of_user.is_empty() {
            return None;
        }
        let deleted = only.map_or(of_user, |only| vec![only]).into_iter();
        let deletions = deleted.map(|mechanism| {
            ScramCredentialDeletion::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_mechanism(mechanism as i8)
        });
        let request =
            AlterUserScramCredentialsRequest::default().with_deletions(deletions.collect());
        Some(alter_user_scram_credentials::handle(&core, peer.0, request).await)
    });
    let answer = answer.await?.ok_or_else(|| {
        let detail = format!("there is no user {user:?}; GET /users lists those there are");
        Problem::of(ResponseError::ResourceNotFound, detail)
    })?;
    done(answer)
}
