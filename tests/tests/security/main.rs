//! Who gets in: TLS and SASL with clients that were not written here, and everybody else outside.

mod command_line;
mod rig;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::{PATIENCE, until};
use ringlog_tests::foreign::{self, Outcome};
use ringlog_tests::random::Random;
use ringlog_tests::{http, node::Node};

use self::rig::{PASSWORD, Rig};

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"];

const CONFLUENT: &str = "confluent_security.py";
const KAFKA_PYTHON: &str = "kafka_python_security.py";

/// A figure of both cores together. The listener of these nodes asks who comes.
fn figure(node: &Node, name: &str) -> Result<f64> {
    let (status, metrics) = http::get_as(node.http(), "/metrics", "alice", PASSWORD)?;
    ensure!(status == 200, "{status}: {metrics}");
    let of_cores = metrics.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.split_once(' ')?;
        labels.starts_with('{').then(|| value.parse::<f64>())
    });
    Ok(of_cores.sum::<Result<f64, _>>()?)
}

fn errors(node: &Node, kind: &str) -> Result<f64> {
    let mut sum = 0.0;
    let (_, metrics) = http::get_as(node.http(), "/metrics", "alice", PASSWORD)?;
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("ringlog_errors_total"))
    {
        if line.contains(&format!("kind=\"{kind}\"")) {
            sum += line.rsplit(' ').next().context("a value")?.parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// Waits until the node closes a connection on which nobody says anything.
fn waits_for_its_end(address: SocketAddr) -> Result<()> {
    let mut silent = TcpStream::connect(address)?;
    silent.set_read_timeout(Some(PATIENCE))?;
    let mut said = Vec::new();
    silent
        .read_to_end(&mut said)
        .context("the connection is kept")?;
    ensure!(said.is_empty(), "the node said {said:?} to a silent client");
    Ok(())
}

#[test]
fn confluent_kafka_logs_in_over_tls_by_every_mechanism() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    for mechanism in MECHANISMS {
        if rig.over_tls(CONFLUENT, "round_trip", mechanism, ("alice", PASSWORD))? == Outcome::Passed
        {
            ensure!(figure(&rig.node, "ringlog_logins_total")? > 0.0);
            ensure!(figure(&rig.node, "ringlog_tls_handshakes_total")? > 0.0);
        }
    }
    rig.node.check_running()
}

#[test]
fn groups_and_their_coordinators_are_found_over_tls() -> Result<()> {
    let rig = Rig::new(&[])?;
    rig.over_tls(CONFLUENT, "group", "SCRAM-SHA-512", ("alice", PASSWORD))?;
    Ok(())
}

#[test]
fn confluent_kafka_logs_in_without_tls_by_every_mechanism() -> Result<()> {
    let rig = Rig::new(&[])?;
    for mechanism in MECHANISMS {
        let settings = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanisms", mechanism),
            ("sasl.username", "alice"),
            ("sasl.password", PASSWORD),
        ];
        rig.with(CONFLUENT, "round_trip", &rig.node.bootstrap(), &settings)?;
    }
    Ok(())
}

#[test]
fn kafka_python_logs_in_over_tls_by_every_mechanism() -> Result<()> {
    let rig = Rig::new(&[])?;
    for mechanism in MECHANISMS {
        rig.over_tls(KAFKA_PYTHON, "round_trip", mechanism, ("alice", PASSWORD))?;
    }
    Ok(())
}

#[test]
fn kcat_reads_and_writes_over_tls_and_is_told_the_ports_of_tls() -> Result<()> {
    let Some(kcat) = foreign::kcat()? else {
        return Ok(());
    };
    let rig = Rig::new(&[])?;
    let kcat = |arguments: &[&str]| {
        let mut command = Command::new(&kcat);
        let authority = format!("ssl.ca.location={}", rig.certificates.file("authority.pem"));
        let password = format!("sasl.password={PASSWORD}");
        command.args([
            "-b",
            &rig.node.tls_bootstrap(),
            "-X",
            "security.protocol=SASL_SSL",
        ]);
        command.args([
            "-X",
            "sasl.mechanisms=SCRAM-SHA-512",
            "-X",
            "sasl.username=alice",
        ]);
        command
            .args(["-X", &password, "-X", &authority])
            .args(arguments);
        command
    };
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    foreign::run(&mut kcat(&["-P", "-t", "lines"]), lines.as_bytes())?;
    let read = foreign::run(&mut kcat(&["-C", "-t", "lines", "-e", "-q"]), b"")?;
    assert_eq!(String::from_utf8(read)?, lines);
    let listed = String::from_utf8(foreign::run(&mut kcat(&["-L"]), b"")?)?;
    for core in 0..2 {
        let (tls, plain) = (rig.node.kafka_tls(core), rig.node.kafka(core));
        ensure!(
            listed.contains(&tls.to_string()),
            "{tls} is not in {listed}"
        );
        ensure!(
            !listed.contains(&plain.to_string()),
            "{plain} is in {listed}"
        );
    }
    Ok(())
}

#[test]
fn a_wrong_password_is_refused_counted_and_never_logged() -> Result<()> {
    let rig = Rig::new(&[])?;
    let mut ran = false;
    for mechanism in MECHANISMS {
        let wrong = ("alice", "a-wrong-one");
        ran |= rig.over_tls(CONFLUENT, "refused", mechanism, wrong)? == Outcome::Passed;
        rig.over_tls(
            CONFLUENT,
            "refused",
            mechanism,
            ("mallory-or-her-password", PASSWORD),
        )?;
        rig.over_tls(KAFKA_PYTHON, "refused", mechanism, wrong)?;
    }
    if ran {
        ensure!(errors(&rig.node, "authentication")? >= 6.0);
        let log = rig.node.log()?;
        for mechanism in MECHANISMS {
            let line =
                format!("a login by {mechanism} failed for user \"alice\": the password is wrong");
            ensure!(log.contains(&line), "{line:?} is not in the log");
        }
        ensure!(log.contains("peer=127.0.0.1:"));
        for secret in [PASSWORD, "a-wrong-one", "mallory"] {
            ensure!(!log.contains(secret), "{secret:?} is in the log");
        }
    }
    Ok(())
}

#[test]
fn clients_that_do_not_log_in_or_speak_otherwise_stay_outside() -> Result<()> {
    let rig = Rig::new(&[])?;
    let (plain, tls) = (rig.node.bootstrap(), rig.node.tls_bootstrap());
    let scram = [
        ("sasl.mechanisms", "SCRAM-SHA-256"),
        ("sasl.username", "alice"),
        ("sasl.password", PASSWORD),
    ];
    for (protocol, bootstrap, line) in [
        (
            "PLAINTEXT",
            &plain,
            "before a login, which this listener wants first (SASL)",
        ),
        (
            "SSL",
            &tls,
            "before a login, which this listener wants first (SASL)",
        ),
        ("SASL_PLAINTEXT", &tls, "does the client speak TLS at all?"),
        (
            "SASL_SSL",
            &plain,
            "a TLS handshake came to a listener without TLS",
        ),
    ] {
        let from = rig.node.log_position()?;
        let settings = [&[("security.protocol", protocol)][..], &scram].concat();
        if rig.with(CONFLUENT, "stays_outside", bootstrap, &settings)? == Outcome::Passed {
            rig.node.log_line(from, &[line])?;
        }
    }
    Ok(())
}

#[test]
fn a_client_trusts_only_the_authority_it_was_given() -> Result<()> {
    let rig = Rig::new(&[])?;
    let other = Rig::new(&[])?;
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanisms", "PLAIN"),
        ("sasl.username", "alice"),
        ("sasl.password", PASSWORD),
    ];
    let bootstrap = other.node.tls_bootstrap();
    rig.with(CONFLUENT, "mistrusts", &bootstrap, &settings)?;
    Ok(())
}

#[test]
fn a_certificate_that_was_renewed_is_taken_without_a_restart() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let alice = ("alice", PASSWORD);
    rig.renew_certificates()?;
    rig.over_tls(CONFLUENT, "mistrusts", "PLAIN", alice)?;
    let from = rig.node.log_position()?;
    rig.node.hang_up()?;
    rig.node
        .log_line(from, &["read the certificate", "again"])?;
    rig.over_tls(CONFLUENT, "round_trip", "PLAIN", alice)?;
    std::fs::write(rig.certificates.file("node.pem"), "half a fi")?;
    rig.node.hang_up()?;
    rig.node
        .log_line(from, &["the certificate stays as it was", "node.pem"])?;
    rig.over_tls(CONFLUENT, "round_trip", "PLAIN", alice)?;
    rig.node.check_running()
}

#[test]
fn whoever_says_nothing_is_let_go() -> Result<()> {
    let rig = Rig::new(&["--login-timeout-ms=200"])?;
    waits_for_its_end(rig.node.kafka_tls(0))?;
    waits_for_its_end(rig.node.kafka(1))?;
    until("two timeouts to be counted", || {
        Ok((errors(&rig.node, "timeout")? >= 2.0).then_some(()))
    })
}

#[test]
fn nonsense_before_a_login_ends_its_connection_and_nothing_else() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let mut random = Random::new(20_261_130);
    for round in 0..120u64 {
        let count = usize::try_from(random.below(600))?;
        let bytes = random.bytes(count);
        // Some begin as a request does, or a TLS record, and go on as they like.
        let begin: &[u8] = match round % 4 {
            0 => &[0, 0, 0, 40, 0, 17, 0, 1, 0, 0, 0, 1],
            1 => &[0, 0, 1, 0, 0, 36, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0],
            2 => &[0x16, 3, 1, 1, 0, 1],
            _ => &[],
        };
        for address in [rig.node.kafka(0), rig.node.kafka_tls(1)] {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // It fails when the node has heard enough.
            let _ = stream.write_all(&[begin, &bytes].concat());
            let _ = stream.shutdown(Shutdown::Write);
            let ended = stream.read_to_end(&mut Vec::new());
            let ended = ended.map_err(|error| error.kind());
            ensure!(
                matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)),
                "round {round}: {ended:?}"
            );
        }
    }
    assert_eq!(errors(&rig.node, "panic")?, 0.0);
    rig.node.check_running()
}

#[test]
fn credentials_are_changed_survive_a_kill_and_are_not_set_back_by_the_first_password() -> Result<()>
{
    let mut rig = Rig::new(&[])?;
    let first = ("alice", PASSWORD);
    if rig.over_tls(CONFLUENT, "changes_passwords", "PLAIN", first)? != Outcome::Passed {
        return Ok(());
    }
    rig.node.kill9()?;
    rig.restart(&[])?;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        rig.over_tls(CONFLUENT, "round_trip", mechanism, ("alice", "changed"))?;
        rig.over_tls(CONFLUENT, "round_trip", mechanism, ("bob", "bob's"))?;
    }
    rig.over_tls(CONFLUENT, "refused", "SCRAM-SHA-512", first)?;
    rig.over_tls(CONFLUENT, "refused", "PLAIN", first)?;
    rig.over_tls(
        CONFLUENT,
        "removes_bob",
        "SCRAM-SHA-256",
        ("alice", "changed"),
    )?;
    for mechanism in MECHANISMS {
        rig.over_tls(CONFLUENT, "refused", mechanism, ("bob", "bob's"))?;
    }
    rig.node.terminate()?;
    rig.restart(&[])?;
    rig.over_tls(CONFLUENT, "refused", "PLAIN", ("bob", "bob's"))?;
    rig.over_tls(CONFLUENT, "round_trip", "PLAIN", ("alice", "changed"))?;
    Ok(())
}

#[test]
fn a_certificate_of_the_client_is_asked_for_where_its_authority_is_given() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.node.terminate()?;
    let authority = rig.certificates.file("authority.pem");
    rig.restart(&["--tls-client-ca", &authority, "--kafka-tls-auth=none"])?;
    let (certificate, key) = (
        rig.certificates.file("client.pem"),
        rig.certificates.file("client.key"),
    );
    let bootstrap = rig.node.tls_bootstrap();
    let without = [("security.protocol", "SSL")];
    let with = [
        without[0],
        ("ssl.certificate.location", &certificate),
        ("ssl.key.location", &key),
    ];
    rig.with(CONFLUENT, "round_trip", &bootstrap, &with)?;
    let from = rig.node.log_position()?;
    if rig.with(CONFLUENT, "stays_outside", &bootstrap, &without)? == Outcome::Passed {
        rig.node.log_line(
            from,
            &["the TLS handshake failed", "peer sent no certificates"],
        )?;
    }
    Ok(())
}

#[test]
fn http_asks_who_comes_but_for_health_and_readiness() -> Result<()> {
    let rig = Rig::new(&[])?;
    let address = rig.node.http();
    for open in ["/healthz", "/readyz"] {
        assert_eq!(http::get(address, open)?.0, 200, "{open}");
    }
    for closed in ["/metrics", "/no-such-route"] {
        assert_eq!(http::get(address, closed)?.0, 401, "{closed}");
        assert_eq!(
            http::get_as(address, closed, "alice", "wrong")?.0,
            401,
            "{closed}"
        );
        assert_eq!(
            http::get_as(address, closed, "nobody", PASSWORD)?.0,
            401,
            "{closed}"
        );
    }
    for _ in 0..20 {
        let (status, metrics) = http::get_as(address, "/metrics", "alice", PASSWORD)?;
        assert_eq!(status, 200);
        ensure!(metrics.contains("ringlog_logins_total"));
    }
    assert_eq!(
        http::get_as(address, "/no-such-route", "alice", PASSWORD)?.0,
        404
    );
    rig.node.log_line(0, &["an HTTP request was refused"])?;
    Ok(())
}

#[test]
fn http_is_spoken_over_tls_by_the_same_certificate() -> Result<()> {
    let rig = Rig::new(&["--http-tls"])?;
    let url = format!("https://{}", rig.node.http());
    let settings = [("sasl.username", "alice"), ("sasl.password", PASSWORD)];
    rig.with("https_client.py", "metrics", &url, &settings)?;
    // Plain HTTP gets nothing but an alert.
    ensure!(http::get(rig.node.http(), "/healthz").is_err());
    Ok(())
}
