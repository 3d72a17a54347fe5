//! Users that a node is started with: made on core 0 before anybody is served, if nobody of that
//! name is there. So the first user can get in, and a password that was changed since is not set
//! back.

use ringlog_engine::users::{Credential, Mechanism, UserCommand};

use super::core::CoreHandle;

/// Makes the users that are not there. One that cannot be made is told to people: the node serves
/// all the same.
pub async fn make(core: &CoreHandle) {
    for (name, password) in core.security().take_first_users() {
        if core.with(|core| core.users.has(&name)) {
            tracing::info!(
                user = name,
                "the user is there already; the password stays as it is"
            );
            continue;
        }
        let Some(credentials) = core.security().credentials_of(password).await else {
            tracing::error!(
                user = name,
                "the user was not made: no thread hashes passwords"
            );
            continue;
        };
        let credentials: Vec<(Mechanism, Credential)> = credentials;
        let user = name.clone();
        match core.control(UserCommand::Set { user, credentials }).await {
            Ok(_) => tracing::info!(user = name, "made a first user"),
            Err(error) => tracing::error!(user = name, %error, "the user was not made"),
        }
    }
    let count = core.with(|core| core.users.count());
    if count == 0 && core.settings().access.asks() {
        tracing::warn!(
            "clients are asked to log in, and there are no users: give --user NAME=FILE, or make \
             users over a listener that does not ask"
        );
    }
}
