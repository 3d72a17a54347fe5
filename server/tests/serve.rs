//! The `ringlog` command as an operator meets it: started, asked, stopped, started again at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn ringlog(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlog"));
    command.args(arguments).stdin(Stdio::null());
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGLOG_")) {
        command.env_remove(variable);
    }
    command
}

struct Node {
    process: Child,
    ready_file: PathBuf,
}

#[derive(serde::Deserialize)]
struct Ready {
    pid: u32,
    kafka: Vec<SocketAddr>,
    http: SocketAddr,
}

impl Node {
    fn start(dir: &Path, kafka: &str, http: &str) -> Node {
        Node::start_with(dir, kafka, http, &[])
    }

    fn start_with(dir: &Path, kafka: &str, http: &str, more: &[&str]) -> Node {
        Node::start_saying(dir, kafka, http, more, Stdio::piped())
    }

    fn start_saying(dir: &Path, kafka: &str, http: &str, more: &[&str], said: Stdio) -> Node {
        let ready_file = dir.join("ready.json");
        let data_dir = dir.join("data");
        let _ = std::fs::remove_file(&ready_file);
        let process = ringlog(&["serve", "--cores=2", "--allow-buffered-io"])
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--ready-file")
            .arg(&ready_file)
            .args(["--kafka-addr", kafka, "--http-addr", http])
            .args(more)
            .stderr(said)
            .spawn()
            .unwrap();
        Node {
            process,
            ready_file,
        }
    }

    fn ready(&mut self) -> Ready {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(text) = std::fs::read_to_string(&self.ready_file) {
                return serde_json::from_str(&text).unwrap();
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!(
                    "the node ended with {status} before it was ready: {}",
                    self.said()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the node was not ready in time");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the node did not end in time");
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        said
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

#[test]
fn a_node_goes_on_when_nothing_takes_its_log() {
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::File::create("/dev/full").unwrap();
    for nowhere in [Stdio::from(full), Stdio::from(unread)] {
        let dir = tempfile::tempdir().unwrap();
        let (any, more) = ("127.0.0.1:0", []);
        let mut node = Node::start_saying(dir.path(), any, any, &more, nowhere);
        let ready = node.ready();
        assert!(get(ready.http, "/readyz").starts_with("HTTP/1.1 200"));
        node.signal(Signal::TERM);
        assert!(node.ended().success());
    }
}

#[test]
fn a_node_serves_until_told_to_stop_and_starts_again_at_once_on_the_same_ports() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "127.0.0.1:0", "127.0.0.1:0");
    let first = node.ready();
    assert_eq!(first.pid, node.process.id());
    assert_eq!(first.kafka.len(), 2);
    assert!(get(first.http, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(first.http, "/metrics").contains("ringlog_core_answers{core=\"1\"} 1"));
    // A connection that stays open does not hold up the stop for long.
    let idle = TcpStream::connect(first.kafka[1]).unwrap();
    node.signal(Signal::TERM);
    assert!(node.ended().success());
    let said = node.said();
    for line in [
        "Kafka on",
        "recovered:",
        "blocks of",
        "kernel",
        "ready after",
        "stopped",
    ] {
        assert!(said.contains(line), "{line:?} is missing in: {said}");
    }
    drop(idle);

    // Core n listens on port + n: the two free ports of the first run need not be neighbours.
    let base = neighbouring_ports();
    let kafka = format!("127.0.0.1:{base}");
    for _ in 0..3 {
        let mut node = Node::start(dir.path(), &kafka, &first.http.to_string());
        let again = node.ready();
        assert_eq!(again.kafka[0].port(), base);
        assert_eq!(again.kafka[1].port(), base + 1);
        assert_eq!(again.http, first.http);
        let open: Vec<_> = again
            .kafka
            .iter()
            .map(|address| TcpStream::connect(address).unwrap())
            .collect();
        node.signal(Signal::KILL);
        node.ended();
        drop(open);
    }
}

/// A huge page is cleared whole at its first touch, by a core's thread while its clients wait.
#[test]
fn a_node_that_is_ready_takes_no_more_huge_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "127.0.0.1:0", "127.0.0.1:0");
    let pid = node.ready().pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("THP_enabled:\t0"), "{status}");
}

#[test]
fn every_start_says_what_is_open_to_whoever_reaches_it() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut node = Node::start_with(dir.path(), "0.0.0.0:0", "127.0.0.1:0", &["--insecure"]);
        node.ready();
        node.signal(Signal::TERM);
        assert!(node.ended().success());
        let said = node.said();
        let line = said.lines().find(|line| line.contains("INSECURE"));
        let line = line.unwrap_or_else(|| panic!("no warning in: {said}"));
        assert!(line.contains("kafka_addr = 0.0.0.0:0") && line.contains("no authentication"));
    }
}

/// A port whose successor is free as well.
fn neighbouring_ports() -> u16 {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two neighbouring ports are free");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "127.0.0.1:0", "127.0.0.1:0");
    let ready = node.ready();
    let data_dir = dir.path().join("data");
    let second = ringlog(&[
        "serve",
        "--kafka-addr=127.0.0.1:0",
        "--http-addr=127.0.0.1:0",
    ])
    .arg("--data-dir")
    .arg(&data_dir)
    .output()
    .unwrap();
    refused(&second, 1, &["in use by process", &ready.pid.to_string()]);
    let same_port = ringlog(&["serve", "--kafka-addr=127.0.0.1:0", "--allow-buffered-io"])
        .arg(format!("--http-addr={}", ready.http))
        .arg("--data-dir")
        .arg(dir.path().join("other"))
        .output()
        .unwrap();
    refused(&same_port, 1, &["choose another port"]);
    node.signal(Signal::INT);
    assert!(node.ended().success());
}

#[test]
fn wrong_settings_are_refused_with_what_to_do() {
    let beyond = ringlog(&["serve", "--kafka-addr=0.0.0.0:9092"])
        .output()
        .unwrap();
    refused(&beyond, 2, &["--insecure", "no authentication"]);
    let in_the_clear = ringlog(&["serve", "--kafka-addr=0.0.0.0:9092", "--kafka-auth=sasl"])
        .output()
        .unwrap();
    refused(&in_the_clear, 2, &["PLAIN", "--insecure", "in the clear"]);
    let no_password = ringlog(&["serve", "--user", "alice=/no/such/file"])
        .env("RINGLOG_KAFKA_AUTH", "sasl")
        .output()
        .unwrap();
    refused(&no_password, 1, &["alice", "/no/such/file"]);
    let word = ringlog(&["serve"])
        .env("RINGLOG_LOG_FORMAT", "xml")
        .output()
        .unwrap();
    refused(
        &word,
        2,
        &["log_format", "RINGLOG_LOG_FORMAT", "text, json"],
    );
    let printed = ringlog(&["serve", "--print-config", "--cores=5"])
        .output()
        .unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    let cores = printed.lines().find(|line| line.starts_with("cores = 5"));
    assert!(
        cores.is_some_and(|line| line.ends_with("# command line")),
        "{printed}"
    );
}
