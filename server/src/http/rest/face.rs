//! The node as a request over HTTP reaches it: its cores, memory, limits, and what is counted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::FromRef;
use axum::http::{HeaderMap, StatusCode};
use kafka_protocol::error::ResponseError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ringlog_types::CoreId;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::limits::CONTROL_BODY_BYTES;
use super::memory::{HeldBody, Memory};
use super::problem::Problem;
use crate::config::Settings;
use crate::node::core::CoreHandle;
use crate::node::errand::Unanswered;
use crate::node::status::{NodeStatus, Phase};

/// The state behind every route.
#[derive(Clone, Debug)]
pub(crate) struct Face(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeStatus,
    memory: Memory,
    max_body_bytes: usize,
    figures: Figures,
    next_keyless: AtomicU32,
    document: OnceLock<String>,
}

/// Which requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// The route, not the path: there are few.
    pub route: String,
    /// The method.
    pub method: String,
    /// The status of the answer.
    pub status: u32,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Requests by route, method and status.
    pub requests: Family<RequestLabels, Counter>,
    refused_bodies: Counter,
    records_in: Counter,
    records_out: Counter,
    memory_refused: Counter,
    connections: OnceLock<Gauge>,
}

impl Figures {
    fn register(&self, registry: &mut Registry) {
        let mut show = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        let help = "Bodies of HTTP requests refused with 413: above http_max_body_bytes";
        show("ringlog_http_refused_bodies", help, &self.refused_bodies);
        let help = "Records taken in over HTTP";
        show("ringlog_http_records_in", help, &self.records_in);
        let help = "Records handed out over HTTP";
        show("ringlog_http_records_out", help, &self.records_out);
        let help =
            "HTTP requests refused with 503: no memory for their bodies or answers (http_memory)";
        show("ringlog_http_memory_refused", help, &self.memory_refused);
        let help = "HTTP connections open";
        let open = self.connections.get().cloned().unwrap_or_default();
        registry.register("ringlog_http_connections", help, open);
        let help = "HTTP requests by route, method and status";
        registry.register("ringlog_http_requests", help, self.requests.clone());
    }

    /// Shows this as the number of connections.
    pub(crate) fn count_connections(&self, open: Gauge) {
        let _ = self.connections.set(open);
    }

    /// So many records came in.
    pub(super) fn took(&self, records: usize) {
        self.records_in.inc_by(records as u64);
    }

    /// So many were handed out.
    pub(super) fn gave(&self, records: usize) {
        self.records_out.inc_by(records as u64);
    }
}

impl FromRef<Face> for NodeStatus {
    fn from_ref(face: &Face) -> NodeStatus {
        face.0.node.clone()
    }
}

impl Face {
    /// The face of a node.
    pub(crate) fn new(node: NodeStatus, settings: &Settings) -> Face {
        let figures = Figures::default();
        Face(Arc::new(Inner {
            node,
            memory: Memory::new(settings.http_memory_bytes, figures.memory_refused.clone()),
            max_body_bytes: settings.http_max_body_bytes,
            figures,
            next_keyless: AtomicU32::new(0),
            document: OnceLock::new(),
        }))
    }

    /// Shows what is counted, and the memory that requests take.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.figures().register(registry);
        let used: Gauge = Gauge::default();
        used.set(i64::try_from(self.memory().used_bytes()).unwrap_or(i64::MAX));
        let help = "Memory of bodies and answers of HTTP requests, a body counted four times";
        registry.register("ringlog_http_memory_used_bytes", help, used);
    }

    /// What is counted.
    pub(crate) fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// The description of all routes; empty until it is set.
    pub(crate) fn document(&self) -> &str {
        self.0.document.get().map_or("", String::as_str)
    }

    /// Sets the description, once.
    pub(crate) fn set_document(&self, document: String) {
        let _ = self.0.document.set(document);
    }

    /// Memory of all requests.
    pub(super) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// A number that is another for each request: where its records without a key go.
    pub(super) fn next_keyless(&self) -> u32 {
        self.0.next_keyless.fetch_add(1, Ordering::Relaxed)
    }

    /// A body with records.
    pub(super) async fn body(&self, headers: &HeaderMap, body: Body) -> Result<HeldBody, Problem> {
        self.bounded(headers, body, self.0.max_body_bytes).await
    }

    /// A body of JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, Problem> {
        let most_bytes = self.0.max_body_bytes.min(CONTROL_BODY_BYTES);
        let body = self.bounded(headers, body, most_bytes).await?;
        serde_json::from_slice(&body.bytes)
            .map_err(|error| Problem::wrong(format!("the body is not what is expected: {error}")))
    }

    async fn bounded(
        &self,
        headers: &HeaderMap,
        body: Body,
        most_bytes: usize,
    ) -> Result<HeldBody, Problem> {
        let read = self.memory().body(headers, body, most_bytes).await;
        if let Err(problem) = &read
            && problem.has_status(StatusCode::PAYLOAD_TOO_LARGE)
        {
            self.figures().refused_bodies.inc();
        }
        read
    }

    /// How many cores there are.
    pub(super) fn core_ids(&self) -> impl Iterator<Item = CoreId> {
        self.0.node.cores.iter().map(|core| core.id)
    }

    /// Has a core do something, and waits for its answer.
    ///
    /// Cancellation: see [`crate::node::errand::Door::ask`].
    pub(super) async fn ask<R, F, Fut>(&self, core: CoreId, work: F) -> Result<R, Problem>
    where
        F: FnOnce(CoreHandle) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let status = &self.0.node.cores[usize::from(core.0)];
        let phase = status.phase();
        if phase != Phase::Serving {
            let detail = format!("core {core} is {}; try again", phase.name());
            return Err(Problem::of(ResponseError::BrokerNotAvailable, detail));
        }
        status.door.ask(work).await.map_err(|unanswered| {
            let code = match unanswered {
                Unanswered::Busy => ResponseError::ThrottlingQuotaExceeded,
                Unanswered::Gone => ResponseError::BrokerNotAvailable,
            };
            Problem::of(code, format!("core {core}: {unanswered}"))
        })
    }

    /// Has several cores do something at the same time; answers in the order of the errands.
    ///
    /// Cancellation: as of each.
    pub(super) async fn ask_each<R, F, Fut>(
        &self,
        errands: Vec<(CoreId, F)>,
    ) -> Result<Vec<R>, Problem>
    where
        F: FnOnce(CoreHandle) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let mut answers: Vec<Option<R>> = Vec::new();
        answers.resize_with(errands.len(), || None);
        let mut asked = JoinSet::new();
        for (place, (core, work)) in errands.into_iter().enumerate() {
            let face = self.clone();
            asked.spawn(async move { (place, face.ask(core, work).await) });
        }
        while let Some(ended) = asked.join_next().await {
            let (place, answer) = ended.map_err(|error| {
                let detail = format!("asking a core failed: {error}; this is a defect of the node");
                Problem::of(ResponseError::UnknownServerError, detail)
            })?;
            answers[place] = Some(answer?);
        }
        Ok(answers.into_iter().flatten().collect())
    }
}
