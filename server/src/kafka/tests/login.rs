//! Logins that proper clients do not try: out of turn, too long, too late, by nobody.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, ApiKey,
    ApiVersionsRequest, ApiVersionsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, MetadataRequest, MetadataResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::users::Mechanism;

use super::client::{Client, with_node, with_node_in};

const ILLEGAL_STATE: i16 = 34;
const UNSUPPORTED_MECHANISM: i16 = 33;
const FAILED: i16 = 58;

/// Runs a test against a node whose clients have to log in, with alice as a user.
fn with_users(more: &[&str], test: impl FnOnce(&[std::net::SocketAddr]) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alice");
    std::fs::write(&file, "alice's secret\n").unwrap();
    let user = format!("alice={}", file.display());
    let all = [&["--kafka-auth", "sasl", "--user", &user], more].concat();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    with_node_in(Path::new(&data), &all, test);
}

fn handshake(client: &mut Client, mechanism: &'static str) -> SaslHandshakeResponse {
    let mechanism = StrBytes::from_static_str(mechanism);
    let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
    client.call(ApiKey::SaslHandshake, 1, &request)
}

fn authenticate(client: &mut Client, version: i16, token: &[u8]) -> SaslAuthenticateResponse {
    let token = Bytes::copy_from_slice(token);
    let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
    client.call(ApiKey::SaslAuthenticate, version, &request)
}

fn log_in(client: &mut Client) {
    assert_eq!(handshake(client, "PLAIN").error_code, 0);
    let response = authenticate(client, 2, b"\0alice\0alice's secret");
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    assert_eq!(response.session_lifetime_ms, 0);
}

#[test]
fn whoever_logged_in_is_served_by_every_core_and_may_be_asked_which_versions_before() {
    with_users(&[], |cores| {
        for core in cores {
            let mut client = Client::connect(*core);
            let versions: ApiVersionsResponse =
                client.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
            assert!(versions.api_keys.iter().any(|api| api.api_key == 17));
            log_in(&mut client);
            let topic = client.create(if *core == cores[0] { "a" } else { "b" }, &[]);
            assert!(topic.leader < 2);
            // Sessions have no end, and nobody logs in twice.
            assert_eq!(handshake(&mut client, "PLAIN").error_code, ILLEGAL_STATE);
            assert_eq!(authenticate(&mut client, 0, b"x").error_code, ILLEGAL_STATE);
            let _: MetadataResponse =
                client.call(ApiKey::Metadata, 12, &MetadataRequest::default());
        }
    });
}

#[test]
fn whoever_did_not_log_in_gets_nothing_but_the_door() {
    with_users(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        let frame = client.frame(ApiKey::Metadata, 12, &MetadataRequest::default());
        client.send(&frame);
        client.expect_closed();

        let mut client = Client::connect(cores[0]);
        assert_eq!(
            authenticate(&mut client, 2, b"\0alice\0alice's secret").error_code,
            ILLEGAL_STATE
        );
        client.expect_closed();

        let mut client = Client::connect(cores[1]);
        let response = handshake(&mut client, "GSSAPI");
        assert_eq!(response.error_code, UNSUPPORTED_MECHANISM);
        let names: Vec<&str> = response
            .mechanisms
            .iter()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(names, ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]);
        client.expect_closed();

        for token in [
            &b"\0alice\0wrong"[..],
            b"\0bob\0alice's secret",
            b"\0bob",
            b"bob\0alice\0x",
        ] {
            let mut client = Client::connect(cores[0]);
            handshake(&mut client, "PLAIN");
            let began = Instant::now();
            let response = authenticate(&mut client, 1, token);
            assert_eq!(response.error_code, FAILED);
            assert!(began.elapsed().as_millis() >= 100, "answered late");
            assert!(!response.error_message.unwrap().contains("bob"));
            client.expect_closed();
        }

        // Neither mechanism nor user: both are asked for a proof, and none is good.
        for user in ["alice", "nobody"] {
            let mut client = Client::connect(cores[0]);
            handshake(&mut client, "SCRAM-SHA-256");
            let first = format!("n,,n={user},r=abc");
            let challenge = authenticate(&mut client, 2, first.as_bytes());
            assert_eq!(challenge.error_code, 0);
            let challenge = String::from_utf8(challenge.auth_bytes.to_vec()).unwrap();
            assert!(
                challenge.starts_with("r=abc") && challenge.ends_with(",i=4096"),
                "{challenge}"
            );
            let nonce = challenge.split(',').next().unwrap();
            let answer = format!("c=biws,{nonce},p=AAAA");
            assert_eq!(
                authenticate(&mut client, 2, answer.as_bytes()).error_code,
                FAILED
            );
            client.expect_closed();
        }
    });
}

#[test]
fn a_client_of_the_oldest_handshake_sends_its_tokens_without_requests() {
    with_users(&[], |cores| {
        let raw = |mechanism: &'static str| {
            let mut client = Client::connect(cores[0]);
            let mechanism = StrBytes::from_static_str(mechanism);
            let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
            let response: SaslHandshakeResponse = client.call(ApiKey::SaslHandshake, 0, &request);
            assert_eq!(response.error_code, 0);
            client
        };
        let framed = |token: &[u8]| [&(token.len() as i32).to_be_bytes(), token].concat();
        let mut client = raw("PLAIN");
        client.send(&framed(b"\0alice\0alice's secret"));
        assert!(client.receive_token().is_empty());
        client.create("a", &[]);
        let mut client = raw("PLAIN");
        client.send(&framed(b"\0a\0b"));
        client.expect_closed();
        let mut client = raw("SCRAM-SHA-512");
        client.send(&framed(b"n,,n=alice,r=abc"));
        assert!(client.receive_token().starts_with(b"r=abc"));
        client.send(&framed(b"c=biws,r=abc,p=AAAA"));
        client.expect_closed();
    });
}

#[test]
fn before_a_login_requests_are_few_and_short() {
    with_users(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        client.send(&(9000i32).to_be_bytes());
        client.expect_closed();
        let mut client = Client::connect(cores[0]);
        for _ in 0..16 {
            let request = ApiVersionsRequest::default();
            let _: ApiVersionsResponse = client.call(ApiKey::ApiVersions, 0, &request);
        }
        client.expect_closed();
    });
}

#[test]
fn a_login_that_does_not_come_ends_with_its_connection() {
    with_users(&["--login-timeout-ms", "100"], |cores| {
        Client::connect(cores[0]).expect_closed();
        let mut client = Client::connect(cores[0]);
        handshake(&mut client, "SCRAM-SHA-512");
        client.expect_closed();
    });
}

#[test]
fn only_mechanisms_that_are_offered_are_spoken() {
    with_users(&["--sasl-mechanisms", "SCRAM-SHA-512"], |cores| {
        let mut client = Client::connect(cores[0]);
        assert_eq!(
            handshake(&mut client, "PLAIN").error_code,
            UNSUPPORTED_MECHANISM
        );
        client.expect_closed();
    });
}

fn upsert(name: &'static str, mechanism: Mechanism, iterations: i32) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_static_str(name))
        .with_mechanism(mechanism as i8)
        .with_iterations(iterations)
        .with_salt(Bytes::from_static(b"salt"))
        .with_salted_password(Bytes::from(vec![7; mechanism.key_bytes()]))
}

fn alter(client: &mut Client, request: &AlterUserScramCredentialsRequest) -> Vec<(String, i16)> {
    let key = ApiKey::AlterUserScramCredentials;
    let response: AlterUserScramCredentialsResponse = client.call(key, 0, request);
    let results = response.results.iter();
    let results = results.map(|result| (result.user.to_string(), result.error_code));
    results.collect()
}

#[test]
fn users_are_altered_and_described_and_what_cannot_be_is_refused_with_kafkas_codes() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        let (short, long) = (Mechanism::ScramSha256, Mechanism::ScramSha512);
        let delete = |name: &'static str, mechanism: i8| {
            ScramCredentialDeletion::default()
                .with_name(StrBytes::from_static_str(name))
                .with_mechanism(mechanism)
        };
        let unsalted = upsert("f", long, 4096).with_salted_password(Bytes::from_static(b"short"));
        let request = AlterUserScramCredentialsRequest::default()
            .with_deletions(vec![delete("missing", 1), delete("g", 3)])
            .with_upsertions(vec![
                upsert("a", short, 4096),
                upsert("a", long, 16_384),
                upsert("b", long, 8192),
                upsert("c", short, 4095),
                upsert("d", short, 16_385),
                upsert("e", short, 4096),
                upsert("e", short, 4096),
                unsalted,
                upsert("", short, 4096),
            ]);
        let results = alter(&mut client, &request);
        let expected = [
            ("", 93),
            ("a", 0),
            ("b", 0),
            ("c", 93),
            ("d", 93),
            ("e", 92),
            ("f", 93),
            ("g", 33),
            ("missing", 91),
        ];
        let expected = expected.map(|(user, code)| (user.to_owned(), code));
        assert_eq!(results, expected);

        let describe = |client: &mut Client, names: Option<&[&'static str]>| {
            let users = names.map(|names| {
                let names = names.iter().copied().map(StrBytes::from_static_str);
                names
                    .map(|name| UserName::default().with_name(name))
                    .collect()
            });
            let request = DescribeUserScramCredentialsRequest::default().with_users(users);
            let key = ApiKey::DescribeUserScramCredentials;
            let response: DescribeUserScramCredentialsResponse = client.call(key, 0, &request);
            assert_eq!(response.error_code, 0);
            let results = response.results.into_iter().map(|result| {
                let infos = result.credential_infos.iter();
                let infos = infos
                    .map(|info| (info.mechanism, info.iterations))
                    .collect();
                (result.user.to_string(), result.error_code, infos)
            });
            results.collect::<Vec<(String, i16, Vec<(i8, i32)>)>>()
        };
        let everybody = [
            ("a".to_owned(), 0, vec![(1, 4096), (2, 16_384)]),
            ("b".to_owned(), 0, vec![(2, 8192)]),
        ];
        assert_eq!(describe(&mut client, None), everybody);
        // Every core has its copy.
        let mut other = Client::connect(cores[0]);
        assert_eq!(describe(&mut other, Some(&[])), everybody);
        let named = describe(&mut client, Some(&["b", "x", "a", "a"]));
        let codes: Vec<(&str, i16)> = named
            .iter()
            .map(|(user, code, _)| (&user[..], *code))
            .collect();
        assert_eq!(codes, [("b", 0), ("x", 91), ("a", 92)]);

        let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![
            delete("a", 1),
            delete("a", 2),
            delete("b", 2),
        ]);
        let gone = alter(&mut client, &request);
        assert!(gone.iter().all(|(_, code)| *code == 0), "{gone:?}");
        assert_eq!(describe(&mut other, None), []);
    });
}

#[test]
fn a_first_user_is_made_once_and_keeps_a_password_that_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alice");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&file, "alice's secret").unwrap();
    let user = format!("alice={}", file.display());
    let settings = ["--kafka-auth", "sasl", "--user", &user];
    with_node_in(&data, &settings, |cores| {
        let mut client = Client::connect(cores[0]);
        log_in(&mut client);
        let upsertion = upsert("alice", Mechanism::ScramSha256, 4096);
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
        assert_eq!(alter(&mut client, &request), [("alice".to_owned(), 0)]);
    });
    with_node_in(&data, &settings, |cores| {
        let mut client = Client::connect(cores[0]);
        handshake(&mut client, "PLAIN");
        let refused = authenticate(&mut client, 2, b"\0alice\0alice's secret");
        assert_eq!(
            refused.error_code, FAILED,
            "the file says what she began with"
        );
    });
}
