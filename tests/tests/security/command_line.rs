//! `ringlog topic, produce, consume, user …` over HTTPS: whom they trust, and users that they make, who
//! log in by clients that were not written here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use ringlog_tests::certificates::Certificates;
use ringlog_tests::foreign::{self, Outcome};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::workdir::WorkDir;
use ringlog_tests::{binaries, deadline};
use serde_json::{Value, json};

use super::rig::{PASSWORD, Rig};
use super::{CONFLUENT, KAFKA_PYTHON, MECHANISMS};

/// Alice and her password, as they stand in a URL.
const ALICE: &str = "alice:alice%27s%20s%C3%A9cret";

/// `ringlog` with these arguments, and nothing of this process's settings for it.
fn ringlog(arguments: &[&str], url: &str) -> Result<Command> {
    let mut command = Command::new(binaries::ringlog()?);
    command.args(arguments).args(["--url", url]);
    for variable in [
        "RINGLOG_URL",
        "RINGLOG_CA_CERT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// What it prints on standard error when it ends with this status.
fn refused(command: &mut Command, status: i32) -> Result<String> {
    let output = foreign::output(command, b"")?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(status),
        "{command:?} ended with {}, not {status}: {said}",
        output.status
    );
    Ok(said)
}

/// That each of these words is said.
fn check_says(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in {said:?}");
    }
    Ok(())
}

fn over_tls(rig: &Rig, arguments: &[&str]) -> Result<Command> {
    let mut command = ringlog(arguments, &format!("https://{ALICE}@{}", rig.node.http()))?;
    command.args(["--ca-cert", &rig.certificates.file("authority.pem")]);
    Ok(command)
}

fn run(rig: &Rig, arguments: &[&str], input: &str) -> Result<String> {
    let printed = foreign::run(&mut over_tls(rig, arguments)?, input.as_bytes())?;
    Ok(String::from_utf8(printed)?)
}

#[test]
fn the_commands_speak_https_with_whoever_the_authority_vouches_for() -> Result<()> {
    let rig = Rig::new(&["--http-tls"])?;
    run(&rig, &["topic", "create", "t", "--partitions", "2"], "")?;
    let lines: String = (0..3000).map(|n| format!("k{n}:value {n}\n")).collect();
    run(&rig, &["produce", "t", "--key-separator", ":"], &lines)?;
    let read = [
        "consume",
        "t",
        "--exit",
        "--key-separator",
        ":",
        "--group",
        "g",
    ];
    let read = run(&rig, &read, "")?;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&read), sorted(&lines));
    let described = run(&rig, &["group", "describe", "g", "--json"], "")?;
    assert_eq!(serde_json::from_str::<Value>(&described)?["lag"], 0);
    // By another name of the certificate; by the variable; by the authorities of the system.
    let port = rig.node.http().port();
    let url = format!("https://{ALICE}@localhost:{port}");
    let authority = rig.certificates.file("authority.pem");
    for variable in ["RINGLOG_CA_CERT", "SSL_CERT_FILE"] {
        let mut list = ringlog(&["topic", "list"], &url)?;
        list.env(variable, &authority);
        let listed = String::from_utf8(foreign::run(&mut list, b"")?)?;
        ensure!(listed.starts_with("NAME"), "{listed}");
    }
    Ok(())
}

#[test]
fn whoever_is_not_trusted_gets_nothing_and_the_words_say_what_to_do() -> Result<()> {
    let rig = Rig::new(&["--http-tls"])?;
    let folder = WorkDir::new()?;
    let others = Certificates::make(folder.path())?;
    let http = rig.node.http();
    let (tls, plain) = (
        format!("https://{ALICE}@{http}"),
        format!("http://{ALICE}@{http}"),
    );
    let list = |url: &str, authority: &str| -> Result<Command> {
        let mut list = ringlog(&["topic", "list"], url)?;
        list.args(["--ca-cert", authority]);
        Ok(list)
    };
    let (own, other) = (
        rig.certificates.file("authority.pem"),
        others.file("authority.pem"),
    );
    let said = refused(&mut list(&tls, &other)?, 3)?;
    check_says(&said, &["not of an authority in", &other, "--ca-cert"])?;
    // Neither name nor password is shown to whoever reads over a shoulder.
    ensure!(!said.contains("alice"), "{said}");
    let mut by_system = ringlog(&["topic", "list"], &tls)?;
    let said = refused(by_system.env("SSL_CERT_FILE", &other), 3)?;
    check_says(&said, &["this system does not trust", "--ca-cert"])?;
    let mut by_nobody = ringlog(&["topic", "list"], &tls)?;
    by_nobody.env("SSL_CERT_FILE", folder.join("not-there.pem"));
    let said = refused(&mut by_nobody, 2)?;
    check_says(&said, &["no authorities", "--ca-cert"])?;
    // Files that are none.
    let missing = folder.join("missing.pem").to_string_lossy().into_owned();
    let said = refused(&mut list(&tls, &missing)?, 2)?;
    check_says(&said, &["--ca-cert cannot be used", &missing, "PEM"])?;
    let said = refused(&mut list(&tls, &rig.certificates.file("node.key"))?, 2)?;
    check_says(
        &said,
        &["--ca-cert cannot be used", "node.key", "none in it"],
    )?;
    // TLS where there is none, and the reverse.
    let said = refused(&mut list(&plain, &own)?, 3)?;
    check_says(&said, &["not HTTP", "say https://"])?;
    let open = Node::start(1)?;
    let said = refused(&mut list(&format!("https://{}", open.http()), &own)?, 3)?;
    check_says(&said, &["not TLS", "say http://"])?;
    // A certificate of the right authority for another name: a client's.
    let (chain, key) = (
        rig.certificates.file("client.pem"),
        rig.certificates.file("client.key"),
    );
    let arguments = ["--http-tls", "--tls-cert", &chain, "--tls-key", &key];
    let misnamed = Node::with(NodeOptions::new(1).arguments(arguments))?;
    let said = refused(&mut list(&format!("https://{}", misnamed.http()), &own)?, 3)?;
    check_says(
        &said,
        &["is for no name at all, not for 127.0.0.1", "--url"],
    )?;
    // Who may not come in.
    let said = refused(&mut list(&format!("https://{http}"), &own)?, 1)?;
    check_says(&said, &["none was given", "--url"])?;
    let said = refused(&mut list(&format!("https://alice:wrong@{http}"), &own)?, 1)?;
    check_says(&said, &["the password is another"])
}

fn listed(rig: &Rig) -> Result<Value> {
    Ok(serde_json::from_str(&run(
        rig,
        &["user", "list", "--json"],
        "",
    )?)?)
}

#[test]
fn users_that_the_command_line_makes_log_in_by_other_clients() -> Result<()> {
    let mut rig = Rig::new(&["--http-tls"])?;
    let made = run(&rig, &["user", "set", "bob"], "bob's pässword\n")?;
    assert_eq!(
        made,
        "set the password of user bob for SCRAM-SHA-256, SCRAM-SHA-512\n"
    );
    let file = rig.node.scratch("password");
    std::fs::write(&file, "carol's\r\n")?;
    let file = file.to_string_lossy().into_owned();
    let set = ["user", "set", "carol", "--password-file", &file, "--json"];
    let only = ["--mechanism", "SCRAM-SHA-512", "--iterations", "5000"];
    let made = run(&rig, &[&set[..], &only].concat(), "")?;
    let of_carol = json!([{"mechanism": "SCRAM-SHA-512", "iterations": 5000}]);
    let carol = json!({"name": "carol", "credentials": of_carol});
    assert_eq!(serde_json::from_str::<Value>(&made)?, carol);
    let users = listed(&rig)?;
    assert_eq!(users[1]["name"], "bob");
    assert_eq!(users[1]["credentials"][1]["iterations"], 8192);
    assert_eq!(users[2], carol);
    let table = run(&rig, &["user", "list"], "")?;
    ensure!(
        table.contains("carol  SCRAM-SHA-512        5000\n"),
        "{table}"
    );
    for mechanism in MECHANISMS {
        let bob = ("bob", "bob's pässword");
        rig.over_tls(CONFLUENT, "round_trip", mechanism, bob)?;
        rig.over_tls(KAFKA_PYTHON, "round_trip", mechanism, bob)?;
    }
    let carol = ("carol", "carol's");
    rig.over_tls(CONFLUENT, "round_trip", "SCRAM-SHA-512", carol)?;
    rig.over_tls(CONFLUENT, "refused", "SCRAM-SHA-256", carol)?;
    // Another password, also after a kill.
    run(
        &rig,
        &["user", "set", "bob", "--iterations", "4096"],
        "other",
    )?;
    rig.node.kill9()?;
    rig.restart(&["--http-tls"])?;
    for mechanism in MECHANISMS {
        rig.over_tls(CONFLUENT, "refused", mechanism, ("bob", "bob's pässword"))?;
        rig.over_tls(CONFLUENT, "round_trip", mechanism, ("bob", "other"))?;
    }
    let url = format!("https://bob:other@{}", rig.node.http());
    let mut as_bob = ringlog(&["user", "list"], &url)?;
    as_bob.args(["--ca-cert", &rig.certificates.file("authority.pem")]);
    foreign::run(&mut as_bob, b"")?;
    // And gone.
    let deleted = run(&rig, &["user", "delete", "bob", "carol", "--json"], "")?;
    assert_eq!(
        serde_json::from_str::<Value>(&deleted)?,
        json!(["bob", "carol"])
    );
    rig.over_tls(CONFLUENT, "refused", "SCRAM-SHA-256", ("bob", "other"))?;
    assert_eq!(listed(&rig)?.as_array().map(Vec::len), Some(1));
    let log = rig.node.log()?;
    for secret in ["bob's pässword", "carol's", "other\"", PASSWORD] {
        ensure!(!log.contains(secret), "{secret:?} is in the log");
    }
    let line = "changed a user's credentials";
    ensure!(log.contains(line), "{line:?} is not in the log");
    Ok(())
}

#[test]
fn a_password_is_no_argument_and_what_cannot_be_is_refused() -> Result<()> {
    let rig = Rig::new(&["--http-tls"])?;
    let refused = |arguments: &[&str], input: &[u8], status: i32| -> Result<String> {
        let mut command = over_tls(&rig, arguments)?;
        let output = foreign::output(&mut command, input)?;
        let said = String::from_utf8(output.stderr)?;
        let found = output.status.code();
        ensure!(found == Some(status), "{arguments:?}: {found:?}, {said}");
        Ok(said)
    };
    refused(&["user", "set", "bob", "--password", "secret"], b"", 2)?;
    refused(&["user", "set", "bob", "secret"], b"", 2)?;
    refused(&["user", "set", ""], b"secret", 2)?;
    refused(
        &["user", "set", "bob", "--iterations", "4095"],
        b"secret",
        2,
    )?;
    refused(
        &["user", "set", "bob", "--iterations", "16385"],
        b"secret",
        2,
    )?;
    refused(
        &["user", "set", "bob", "--mechanism", "PLAIN"],
        b"secret",
        2,
    )?;
    let said = refused(&["user", "set", "bob"], b"\n", 2)?;
    check_says(
        &said,
        &["standard input has no password", "--password-file"],
    )?;
    let missing = ["user", "set", "bob", "--password-file", "/no/such/file"];
    check_says(&refused(&missing, b"secret", 2)?, &["/no/such/file"])?;
    let long = "x".repeat(256);
    let said = refused(&["user", "set", &long], b"secret", 1)?;
    check_says(&said, &["1 to 255 bytes", "UNACCEPTABLE_CREDENTIAL"])?;
    let said = refused(&["user", "delete", "bob"], b"", 1)?;
    check_says(&said, &["there is no user \"bob\"", "RESOURCE_NOT_FOUND"])?;
    let said = run(&rig, &["user", "delete", "bob", "--if-exists"], "")?;
    assert_eq!(said, "");
    assert_eq!(
        listed(&rig)?.as_array().map(Vec::len),
        Some(1),
        "only alice"
    );
    Ok(())
}

#[test]
fn a_password_is_typed_at_a_terminal_that_does_not_show_it() -> Result<()> {
    let rig = Rig::new(&["--http-tls"])?;
    let command = over_tls(&rig, &["user", "set", "bob"])?;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Option<Vec<&str>> = words.map(|word| word.to_str()).collect();
    let words = serde_json::to_string(&words.context("arguments in UTF-8")?)?;
    let typing = [("COMMAND", words.as_str()), ("TYPED", "bob's pässword")];
    let feature = |feature| foreign::python_feature_with("terminal.py", "", feature, &typing);
    feature("goes_away")?;
    assert_eq!(
        listed(&rig)?.as_array().map(Vec::len),
        Some(1),
        "only alice"
    );
    if feature("sets_a_password")? == Outcome::Passed {
        let bob = ("bob", "bob's pässword");
        rig.over_tls(CONFLUENT, "round_trip", "SCRAM-SHA-512", bob)?;
    }
    Ok(())
}

#[test]
fn what_the_tls_library_says_of_clients_is_not_in_the_log() -> Result<()> {
    use std::io::{Read, Write};
    let rig = Rig::new(&["--http-tls"])?;
    for address in [rig.node.kafka_tls(0), rig.node.http()] {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(deadline::PATIENCE))?;
        // The last message of a handshake in place of its first one.
        stream.write_all(&[0x16, 3, 1, 0, 4, 0x14, 0, 0, 0])?;
        // Whatever it answers: it ends.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    rig.node.log_line(0, &["the TLS handshake failed"])?;
    let log = rig.node.log()?;
    let said = "handshake message while expecting";
    ensure!(!log.contains(said), "{said:?} is in the log:\n{log}");
    Ok(())
}
