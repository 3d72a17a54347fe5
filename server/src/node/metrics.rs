//! What a core counts. Written by the core's own thread with plain relaxed loads and stores (no
//! locked instruction on the produce and fetch path), read by whoever renders `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringlog_engine::topics::Durability;

use super::step_kind::StepKind;

/// Kafka API keys that are counted one by one; larger ones share the last place.
pub const API_KEYS: usize = 96;

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning core may call this.
    pub fn add(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `count`. Only the owning core may call this.
    pub fn add(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    /// Takes `count` away. Only the owning core may call this.
    pub fn sub(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(count),
            Ordering::Relaxed,
        );
    }

    /// Raises it to `value` if it is lower.
    pub fn raise_to(&self, value: u64) {
        if self.0.load(Ordering::Relaxed) < value {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a request or a connection ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ErrorKind {
    /// A frame longer than `max_request_bytes`, or of a negative length.
    FrameLength,
    /// A request that cannot be decoded.
    Malformed,
    /// An API key or version that is not there.
    UnsupportedApi,
    /// A record batch that fails its checks.
    InvalidBatch,
    /// A topic or partition that does not exist.
    UnknownPartition,
    /// A partition that another core leads.
    NotLeader,
    /// An idempotent producer out of sequence or fenced.
    ProducerSequence,
    /// The log refused records: no space, or too much waits to be written.
    Refused,
    /// The log is closed.
    StorageFailed,
    /// A connection was closed because it sent nothing, or not the rest of a frame, in time.
    Timeout,
    /// A connection was refused because the core has as many as it keeps.
    TooManyConnections,
    /// The same because it has as many as it keeps of the peer's address.
    TooManyOfAddress,
    /// The peer closed or reset a connection in the middle of a frame.
    Disconnected,
    /// A client that could not say who it is, or did not.
    Authentication,
    /// A TLS handshake that failed, or one that came where there is no TLS.
    TlsHandshake,
    /// A task of the node panicked: a defect.
    Panic,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 16] = [
        ErrorKind::FrameLength,
        ErrorKind::Malformed,
        ErrorKind::UnsupportedApi,
        ErrorKind::InvalidBatch,
        ErrorKind::UnknownPartition,
        ErrorKind::NotLeader,
        ErrorKind::ProducerSequence,
        ErrorKind::Refused,
        ErrorKind::StorageFailed,
        ErrorKind::Timeout,
        ErrorKind::TooManyConnections,
        ErrorKind::TooManyOfAddress,
        ErrorKind::Disconnected,
        ErrorKind::Authentication,
        ErrorKind::TlsHandshake,
        ErrorKind::Panic,
    ];

    /// Its name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            ErrorKind::FrameLength => "frame_length",
            ErrorKind::Malformed => "malformed",
            ErrorKind::UnsupportedApi => "unsupported_api",
            ErrorKind::InvalidBatch => "invalid_batch",
            ErrorKind::UnknownPartition => "unknown_partition",
            ErrorKind::NotLeader => "not_leader",
            ErrorKind::ProducerSequence => "producer_sequence",
            ErrorKind::Refused => "refused",
            ErrorKind::StorageFailed => "storage_failed",
            ErrorKind::Timeout => "timeout",
            ErrorKind::TooManyConnections => "too_many_connections",
            ErrorKind::TooManyOfAddress => "too_many_connections_of_address",
            ErrorKind::Disconnected => "disconnected",
            ErrorKind::Authentication => "authentication",
            ErrorKind::TlsHandshake => "tls_handshake",
            ErrorKind::Panic => "panic",
        }
    }
}

/// Everything one core counts outside its log (which keeps its own figures).
#[derive(Debug)]
pub struct CoreMetrics {
    /// Records taken in (acknowledged or with `acks=0`).
    pub records_in: Counter,
    /// Bytes of record batches taken in.
    pub bytes_in: Counter,
    /// Record batches taken in.
    pub batches_in: Counter,
    /// Record batches recognised as repeats of an idempotent producer.
    pub duplicate_batches: Counter,
    /// Bytes of record batches handed out to consumers.
    pub bytes_out: Counter,
    /// Record batches handed out to consumers.
    pub batches_out: Counter,
    /// Bytes received on all connections.
    pub received_bytes: Counter,
    /// Bytes sent on all connections.
    pub sent_bytes: Counter,
    /// Connections open.
    pub connections: Gauge,
    /// Connections ever accepted.
    pub connections_accepted: Counter,
    /// TLS handshakes that were completed.
    pub tls_handshakes: Counter,
    /// Logins that were completed.
    pub logins: Counter,
    /// Requests whose answer is not sent yet.
    pub requests_in_progress: Gauge,
    /// Fetch sessions (KIP-227) of connections.
    pub fetch_sessions: Gauge,
    /// Partitions in them.
    pub fetch_session_partitions: Gauge,
    /// Fetch sessions that were not begun, or could not grow, because the core has as many partitions
    /// in sessions as it may.
    pub fetch_sessions_refused: Counter,
    longest_step_ns: Gauge,
    longest_preempted_step_ns: Gauge,
    long_steps: [Counter; StepKind::COUNT],
    longest_of_kind_ns: [Gauge; StepKind::COUNT],
    /// Turns of the core's driver.
    pub driver_turns: Counter,
    /// Times a wait for frame memory was necessary.
    pub memory_waits: Counter,
    /// Times a request waited for its turn, or for room, before its records went into the log.
    pub room_waits: Counter,
    /// Errands begun: commands that arrived at another thread.
    pub errands: Counter,
    requests: [Counter; API_KEYS],
    errors: [Counter; ErrorKind::ALL.len()],
    acknowledged_batches: [Counter; Durability::ALL.len()],
}

impl Default for CoreMetrics {
    fn default() -> CoreMetrics {
        CoreMetrics {
            records_in: Counter::default(),
            bytes_in: Counter::default(),
            batches_in: Counter::default(),
            duplicate_batches: Counter::default(),
            bytes_out: Counter::default(),
            batches_out: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            tls_handshakes: Counter::default(),
            logins: Counter::default(),
            requests_in_progress: Gauge::default(),
            fetch_sessions: Gauge::default(),
            fetch_session_partitions: Gauge::default(),
            fetch_sessions_refused: Counter::default(),
            longest_step_ns: Gauge::default(),
            longest_preempted_step_ns: Gauge::default(),
            long_steps: Default::default(),
            longest_of_kind_ns: Default::default(),
            driver_turns: Counter::default(),
            memory_waits: Counter::default(),
            room_waits: Counter::default(),
            errands: Counter::default(),
            requests: std::array::from_fn(|_| Counter::default()),
            errors: std::array::from_fn(|_| Counter::default()),
            acknowledged_batches: Default::default(),
        }
    }
}

impl CoreMetrics {
    /// Counts a request by its API key.
    pub fn request(&self, api_key: i16) {
        self.requests[api_place(api_key)].add(1);
    }

    /// Requests with this API key so far.
    #[must_use]
    pub fn requests(&self, api_key: i16) -> u64 {
        self.requests[api_place(api_key)].get()
    }

    /// Counts an error.
    pub fn error(&self, kind: ErrorKind) {
        self.errors[kind as usize].add(1);
    }

    /// Errors of a kind so far.
    #[must_use]
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize].get()
    }

    /// Counts batches whose acknowledgement leaves, by what it means.
    pub fn acknowledge(&self, durability: Durability, batches: u64) {
        self.acknowledged_batches[durability as usize].add(batches);
    }

    /// Batches acknowledged so far with this meaning.
    #[must_use]
    pub fn acknowledged_batches(&self, durability: Durability) -> u64 {
        self.acknowledged_batches[durability as usize].get()
    }

    /// Notes that a synchronous step took this long, by itself or because the kernel gave the
    /// CPU to somebody else meanwhile. See [`super::step_watch`].
    pub fn step(&self, took: Duration, was_preempted: bool) {
        let longest = if was_preempted {
            &self.longest_preempted_step_ns
        } else {
            &self.longest_step_ns
        };
        longest.raise_to(nanoseconds(took));
    }

    /// Notes that a step of a kind of work held the core by itself for longer than it may.
    pub fn long_step(&self, kind: StepKind, took: Duration) {
        let place = kind.place();
        self.long_steps[place].add(1);
        self.longest_of_kind_ns[place].raise_to(nanoseconds(took));
    }

    /// Steps of a kind that held the core for longer than they may.
    #[must_use]
    pub fn long_steps(&self, kind: StepKind) -> u64 {
        self.long_steps[kind.place()].get()
    }

    /// The longest of them; zero, if there is none.
    #[must_use]
    pub fn longest_of(&self, kind: StepKind) -> Duration {
        Duration::from_nanos(self.longest_of_kind_ns[kind.place()].get())
    }

    /// Longest time one synchronous step held the core by itself.
    #[must_use]
    pub fn longest_step(&self) -> Duration {
        Duration::from_nanos(self.longest_step_ns.get())
    }

    /// Longest time of a step during which the thread lost its CPU.
    #[must_use]
    pub fn longest_preempted_step(&self) -> Duration {
        Duration::from_nanos(self.longest_preempted_step_ns.get())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn api_place(api_key: i16) -> usize {
    usize::try_from(api_key).map_or(API_KEYS - 1, |key| key.min(API_KEYS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_kind_has_a_place_and_a_name_of_its_own() {
        let metrics = CoreMetrics::default();
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            metrics.error(kind);
        }
        let mut labels: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().all(|kind| metrics.errors(*kind) == 1));
    }

    #[test]
    fn strange_api_keys_are_counted_in_the_last_place() {
        let metrics = CoreMetrics::default();
        metrics.request(-1);
        metrics.request(i16::MAX);
        metrics.request(0);
        assert_eq!(metrics.requests(95), 2);
        assert_eq!(metrics.requests(0), 1);
    }
}
