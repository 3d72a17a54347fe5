use super::*;
use crate::limits;
use crate::topics::MetadataRecord;

/// A credential of nobody in particular.
pub(super) fn credential(mechanism: Mechanism, iterations: u32) -> Credential {
    let key = vec![iterations.to_le_bytes()[0]; mechanism.key_bytes()];
    Credential {
        iterations,
        salt: b"salt".to_vec(),
        stored_key: key.clone(),
        server_key: key,
    }
}

fn set(user: &str, credential: Credential) -> UserCommand {
    UserCommand::Set {
        user: user.to_owned(),
        credentials: vec![(Mechanism::ScramSha256, credential)],
    }
}

fn sound() -> Credential {
    credential(Mechanism::ScramSha256, 4096)
}

#[test]
fn what_no_client_could_use_is_refused() {
    let mut users = Users::new();
    let long = "x".repeat(limits::USER_NAME_BYTES + 1);
    for name in ["", &long] {
        let refused = users.prepare(&set(name, sound())).unwrap_err();
        assert!(matches!(refused, UserError::InvalidName { .. }));
    }
    for iterations in [0, 4095, 16_385] {
        let refused = users.prepare(&set(
            "a",
            Credential {
                iterations,
                ..sound()
            },
        ));
        assert!(matches!(refused, Err(UserError::InvalidIterations { .. })));
    }
    for salt in [Vec::new(), vec![1; limits::SCRAM_SALT_BYTES + 1]] {
        let refused = users.prepare(&set("a", Credential { salt, ..sound() }));
        assert!(matches!(refused, Err(UserError::InvalidSalt { .. })));
    }
    let short = Credential {
        stored_key: vec![1; 31],
        ..sound()
    };
    let refused = users.prepare(&set("a", short)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a key of SCRAM-SHA-256 has 32 bytes; this one has 31"
    );
    let twice = UserCommand::Set {
        user: "a".to_owned(),
        credentials: vec![(Mechanism::ScramSha256, sound()); 2],
    };
    assert_eq!(users.prepare(&twice), Err(UserError::InvalidMechanisms));
    users.prepare(&set("a", sound())).unwrap();
}

#[test]
fn as_many_users_as_the_limit_says_and_those_that_are_there_may_change() {
    let mut users = Users::new();
    for number in 0..limits::USERS {
        let record = UserRecord::Set {
            user: format!("user-{number}"),
            credentials: vec![(Mechanism::ScramSha256, sound())],
        };
        users.apply(&record);
    }
    let limit = limits::USERS;
    assert_eq!(
        users.prepare(&set("one more", sound())),
        Err(UserError::TooMany { limit })
    );
    let changed = users.prepare(&set("user-7", sound())).unwrap();
    users.apply(&changed);
    let remove = UserCommand::Remove {
        user: "user-7".to_owned(),
        mechanism: Mechanism::ScramSha256,
    };
    let removed = users.prepare(&remove).unwrap();
    users.apply(&removed);
    users.prepare(&set("one more", sound())).unwrap();
}

#[test]
fn records_are_read_back_and_damaged_ones_are_refused() {
    let credentials = Mechanism::ALL.map(|of| (of, credential(of, 5000))).to_vec();
    let records = [
        UserRecord::Set {
            user: "jürgen".to_owned(),
            credentials,
        },
        UserRecord::Removed {
            user: "jürgen".to_owned(),
            mechanism: Mechanism::ScramSha512,
        },
    ];
    for record in records {
        let record = MetadataRecord::User(record);
        let bytes = record.encode();
        assert_eq!(MetadataRecord::decode(&bytes).unwrap(), record);
        for cut in 0..bytes.len() {
            assert!(
                MetadataRecord::decode(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        let mut other = bytes.clone();
        *other.last_mut().unwrap() = 9;
        let decoded = MetadataRecord::decode(&other);
        assert!(decoded.is_err() || decoded.is_ok_and(|decoded| decoded != record));
    }
    let mut users = Users::new();
    users.apply(&UserRecord::Set {
        user: "a".to_owned(),
        credentials: vec![(Mechanism::ScramSha256, sound())],
    });
    let checkpoint = users.checkpoint();
    for cut in 0..checkpoint.len() {
        assert!(Users::new().restore(&checkpoint[..cut]).is_err());
    }
    let mut newer = checkpoint;
    newer[0] = 2;
    assert!(
        Users::new()
            .restore(&newer)
            .unwrap_err()
            .contains("version 2")
    );
}

#[test]
fn what_a_credential_holds_is_not_shown() {
    let shown = format!("{:?}", set("a", sound()));
    assert!(shown.contains("4096") && !shown.contains("key"), "{shown}");
}
