use std::sync::Arc;

use clap::Command;
use ringlog_engine::groups::GroupCounts;
use ringlog_engine::partitions::ProducerCounts;
use ringlog_engine::topics::Durability;
use ringlog_types::CoreId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::options::add_flags;
use crate::config::{Layers, Settings};
use crate::node::budget::BudgetFigures;
use crate::node::errand::Door;
use crate::node::mailbox::{Mailbox, Receiver};
use crate::node::message::{Message, Snapshot};
use crate::node::metrics::ErrorKind;
use crate::node::stages::{Stage, Stages};
use crate::node::status::{CoreStatus, Phase};

fn node(cores: u16) -> NodeStatus {
    let cores = (0..cores)
        .map(|id| {
            let mailbox = Arc::new(Mailbox::new(4).unwrap());
            CoreStatus::new(CoreId(id), mailbox, Door::new(4).unwrap())
        })
        .collect();
    NodeStatus { cores }
}

fn settings(arguments: &[&str]) -> Settings {
    let command = add_flags(Command::new("serve"));
    let all = std::iter::once(&"serve").chain(arguments);
    let flags = command.try_get_matches_from(all).unwrap();
    Settings::from_layers(&Layers::read(&flags, |_| None, None).unwrap()).unwrap()
}

fn security(arguments: &[&str]) -> Arc<Security> {
    Arc::new(Security::open(&settings(arguments)).unwrap())
}

async fn start(status: NodeStatus) -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener, status, &settings(&[]), security(&[])).await });
    address
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn on_runtime<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn readiness_names_what_is_missing_and_health_does_not_depend_on_it() {
    on_runtime(async {
        let status = node(2);
        let address = start(status.clone()).await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("core 1 is recovering"));
        for core in status.cores.iter() {
            core.enter(Phase::Serving);
        }
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        status.cores[1].fail("writing block 7: EIO".to_owned());
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("core 1: its log"));
    });
}

#[test]
fn metrics_show_each_core_and_do_not_wait_for_one_that_is_silent() {
    on_runtime(async {
        let status = node(2);
        let mut log = ringlog_storage::log::Stats {
            blocks: 42,
            ..Default::default()
        };
        log.write_latency.record(100_000);
        log.write_latency.record(200_000);
        log.device_latency.record(90_000);
        log.device_latency.record(150_000);
        let stages = Stages::default();
        stages.lap(&mut stages.draw(), Stage::Check);
        status.cores[0].enter(Phase::Serving);
        status.cores[0].metrics.bytes_in.add(1000);
        status.cores[0].metrics.request(0);
        status.cores[0].metrics.acknowledge(Durability::Written, 7);
        status.cores[1].metrics.error(ErrorKind::Malformed);
        let mut receiver = Receiver::new(Arc::clone(&status.cores[0].mailbox)).unwrap();
        tokio::spawn(async move {
            while let Ok(message) = receiver.take().await {
                if let Message::Snapshot { reply } = message {
                    let _ = reply.send(Box::new(Snapshot {
                        log: log.clone(),
                        blocks_in_flight: 3,
                        durable: 42,
                        appended: 44,
                        pending_bytes: 5,
                        cached_bytes: 6,
                        memory_used_bytes: 7,
                        memory_limit_bytes: 8,
                        request_memory: BudgetFigures {
                            used_bytes: 21,
                            limit_bytes: 22,
                            waits: 23,
                            given_up: 0,
                        },
                        answer_memory: BudgetFigures {
                            used_bytes: 31,
                            limit_bytes: 32,
                            waits: 33,
                            given_up: 34,
                        },
                        opening_memory: BudgetFigures::default(),
                        security_jobs: 17,
                        metadata_version: 9,
                        topics: 1,
                        partitions: 2,
                        producers: ProducerCounts {
                            remembered: 12,
                            limit: 200,
                            displaced: 1,
                            expired: 6,
                        },
                        groups: GroupCounts {
                            live: 3,
                            bytes: 4,
                            offsets: 55,
                        },
                        stages: stages.times(),
                    }));
                }
            }
        });
        let address = start(status).await;
        let answer = get(address, "/metrics").await;
        for line in [
            "ringlog_bytes_in_total{core=\"0\"} 1000",
            "ringlog_blocks_total{core=\"0\"} 42",
            "ringlog_blocks_in_flight{core=\"0\"} 3",
            "ringlog_producers{core=\"0\"} 12",
            "ringlog_producers_limit{core=\"0\"} 200",
            "ringlog_producers_displaced_total{core=\"0\"} 1",
            "ringlog_producers_expired_total{core=\"0\"} 6",
            "ringlog_request_memory_used_bytes{core=\"0\"} 21",
            "ringlog_request_memory_waits_total{core=\"0\"} 23",
            "ringlog_answer_memory_used_bytes{core=\"0\"} 31",
            "ringlog_answer_memory_limit_bytes{core=\"0\"} 32",
            "ringlog_answer_memory_waits_total{core=\"0\"} 33",
            "ringlog_answer_memory_given_up_total{core=\"0\"} 34",
            "ringlog_security_jobs 17",
            "ringlog_http_connections 1",
            "ringlog_http_memory_used_bytes 0",
            "ringlog_index_runs{core=\"0\"} 0",
            "ringlog_groups{core=\"0\"} 3",
            "ringlog_committed_offsets{core=\"0\"} 55",
            "ringlog_requests_total{core=\"0\",api_key=\"0\"} 1",
            "ringlog_errors_total{core=\"1\",kind=\"malformed\"} 1",
            "ringlog_acknowledged_batches_total{core=\"0\",durability=\"written\"} 7",
            "ringlog_acknowledged_batches_total{core=\"0\",durability=\"flushed\"} 0",
            "ringlog_core_answers{core=\"0\"} 1",
            "ringlog_core_answers{core=\"1\"} 0",
            "ringlog_commit_write_seconds_count{core=\"0\"} 2",
            "ringlog_produce_stage_seconds_count{core=\"0\",stage=\"check\"} 1",
            "ringlog_produce_stage_seconds_count{core=\"0\",stage=\"receive\"} 0",
            "ringlog_produce_stage_seconds_count{core=\"0\",stage=\"write\"} 2",
            "ringlog_written_bytes_total{core=\"0\",space=\"recycled\"} 0",
            "ringlog_build_info{version=",
        ] {
            assert!(answer.contains(line), "{line} is missing in:\n{answer}");
        }
        let last = |line: &&str| {
            line.starts_with("ringlog_commit_write_seconds_bucket") && line.contains("+Inf")
        };
        assert!(
            answer
                .lines()
                .find(last)
                .is_some_and(|line| line.ends_with(" 2")),
            "{answer}"
        );
    });
}

#[test]
fn a_silent_connection_gives_its_place_back() {
    on_runtime(async {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let idle = Duration::from_millis(100);
        let limited = Limited::new(socket, 1, idle, None);
        tokio::spawn(serve_limited(
            limited,
            Face::new(node(1), &settings(&[])),
            None,
        ));
        // Takes the only place and says nothing; the request behind it is answered all the same.
        let mut silent = TcpStream::connect(address).await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(30), get(address, "/healthz"));
        assert!(
            answered
                .await
                .expect("a place becomes free")
                .starts_with("HTTP/1.1 200")
        );
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut rest));
        assert!(closed.await.is_ok(), "the silent connection is closed");
    });
}

#[test]
fn a_core_that_does_not_serve_or_has_no_place_is_told_with_when_to_come_again() {
    on_runtime(async {
        let status = node(1);
        let address = start(status.clone()).await;
        let refused = |answer: &str, what: &str| {
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            let said = answer.to_lowercase();
            assert!(said.contains("retry-after: 1") && said.contains("application/problem+json"));
            assert!(answer.contains(what), "{answer}");
        };
        let answer = get(address, "/topics").await;
        refused(&answer, "core 0 is recovering");
        status.cores[0].enter(Phase::Serving);
        // Nobody does the errands of this core: four wait, and there is no place for a fifth.
        let waiting: Vec<_> = (0..4)
            .map(|_| tokio::spawn(get(address, "/topics")))
            .collect();
        while status.cores[0].door.in_progress() < 4 {
            tokio::task::yield_now().await;
        }
        let answer = get(address, "/topics").await;
        refused(&answer, "THROTTLING_QUOTA_EXCEEDED");
        let answer = get(address, "/metrics").await;
        for line in [
            "ringlog_errands_refused_total{core=\"0\"} 1",
            "ringlog_errands_in_progress{core=\"0\"} 4",
            "ringlog_http_requests_total{route=\"/topics\",method=\"GET\",status=\"503\"} 2",
        ] {
            assert!(answer.contains(line), "{line} is missing in:\n{answer}");
        }
        status.cores[0].door.close();
        for waiting in waiting {
            refused(&waiting.await.unwrap(), "BROKER_NOT_AVAILABLE");
        }
    });
}

#[test]
fn the_description_names_every_route() {
    on_runtime(async {
        let address = start(node(1)).await;
        let answer = get(address, "/openapi.json").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let description: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        let paths = description["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        });
        let mut operations: Vec<String> = operations.collect();
        operations.sort_unstable();
        let partition = "/topics/{topic}/partitions/{partition}";
        let mut expected = [
            "get /healthz",
            "get /readyz",
            "get /metrics",
            "get /openapi.json",
            "get /topics",
            "post /topics",
            "get /topics/{topic}",
            "patch /topics/{topic}",
            "delete /topics/{topic}",
            "get /topics/{topic}/configs",
            "patch /topics/{topic}/configs",
            "post /topics/{topic}/records",
            &format!("get {partition}/records"),
            &format!("delete {partition}/records"),
            &format!("get {partition}/offsets"),
            "get /groups",
            "get /groups/{group}",
            "delete /groups/{group}",
            "post /groups/{group}/offsets",
            "delete /groups/{group}/offsets",
            "get /users",
            "put /users/{user}",
            "delete /users/{user}",
        ];
        expected.sort_unstable();
        assert_eq!(operations, expected);
    });
}

#[test]
fn what_is_not_there_is_a_problem_that_says_where_to_look() {
    on_runtime(async {
        let address = start(node(1)).await;
        let answer = get(address, "/nothing").await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("/openapi.json"));
        let answer = get(address, "/topics/t/records").await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("problem+json"));
    });
}
