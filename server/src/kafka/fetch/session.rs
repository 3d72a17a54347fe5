//! Fetch sessions (KIP-227): a consumer of many partitions says once what it wants, then only what
//! changed, and is told only of partitions that have something new.
//!
//! A session belongs to its connection and ends with it: clients begin a new one with every new
//! connection anyway, and so nothing has to be evicted. Invariants: a session is out of its slot
//! while a request of it is handled, so that one that is given up takes its session with it; the
//! partitions of all sessions of a core are bounded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka_protocol::error::ResponseError;

use super::request::{FetchPartition, FetchRequest};
use super::response::{FetchAnswer, PartitionAnswer};
use crate::kafka::endpoints::Endpoint;
use crate::kafka::limits::NAMED_PER_REQUEST;
use crate::kafka::topic_ref::TopicRef;
use crate::node::metrics::CoreMetrics;

/// Partitions whose places are noted in one step.
const STEP_PLACES: usize = 4096;

/// The number of the session that was begun last.
static NEWEST: AtomicU32 = AtomicU32::new(0);

/// What a partition's last answer said: high watermark and first offset. Negative: to be said again.
type Said = (i64, i64);

const NOTHING_SAID: Said = (-1, -1);

/// The session of a connection, if it has one.
#[derive(Default)]
pub struct SessionSlot(RefCell<Option<Session>>);

/// A request with all it wants, whether it or its session says so.
pub struct Turn {
    request: FetchRequest,
    session: Option<Session>,
    /// All partitions are answered.
    is_full: bool,
}

struct Session {
    id: i32,
    next_epoch: i32,
    /// Its requests name topics by id.
    by_id: bool,
    /// Each topic, and how many of `partitions` are its. As in a request; in the order in which they
    /// are read next.
    topics: Vec<(TopicRef, usize)>,
    partitions: Vec<FetchPartition>,
    said: Vec<Said>,
    places: Places,
    room: Room,
}

/// Where the partitions of a session stood when they were noted.
#[derive(Default)]
struct Places {
    topics: HashMap<TopicRef, u32>,
    of: HashMap<(u32, i32), usize>,
    /// By so many places the partitions were rotated since.
    rotated: usize,
}

/// Partitions of a session, counted with those of the core.
struct Room {
    metrics: Arc<CoreMetrics>,
    /// The most that all may have.
    most: u64,
    partitions: u64,
}

impl Room {
    /// `None`: the core's sessions have as many as they may.
    fn take(metrics: &Arc<CoreMetrics>, most: usize, partitions: usize) -> Option<Room> {
        let mut room = Room {
            metrics: Arc::clone(metrics),
            most: most as u64,
            partitions: 0,
        };
        metrics.fetch_sessions.add(1);
        room.resize(partitions).then_some(room)
    }

    /// `false`: there is no room for so many.
    fn resize(&mut self, partitions: usize) -> bool {
        let counted = &self.metrics.fetch_session_partitions;
        let partitions = partitions as u64;
        let others = counted.get() - self.partitions;
        let fits = others + partitions <= self.most;
        if fits {
            counted.sub(self.partitions);
            counted.add(partitions);
            self.partitions = partitions;
        } else {
            self.metrics.fetch_sessions_refused.add(1);
        }
        fits
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        metrics.fetch_session_partitions.sub(self.partitions);
        metrics.fetch_sessions.sub(1);
    }
}

impl SessionSlot {
    /// What a request of this version wants. A full one ends the connection's session if it names it
    /// or begins another, for which there may be no room: the sessions of the core have `most` partitions.
    ///
    /// Cancellation: the session ends.
    ///
    /// # Errors
    /// The code with which the request is refused: it is not the next of this session.
    pub async fn begin(
        &self,
        metrics: &Arc<CoreMetrics>,
        most: usize,
        by_id: bool,
        request: FetchRequest,
    ) -> Result<Turn, ResponseError> {
        if request.is_full() {
            let is_own = |open: &Session| open.id == request.session_id;
            if request.session_epoch == 0 || self.0.borrow().as_ref().is_some_and(is_own) {
                let _ended = self.0.take();
            }
            let session = (request.session_epoch == 0)
                .then(|| Session::new(metrics, most, by_id, request.partitions.len()))
                .flatten();
            return Ok(Turn {
                request,
                session,
                is_full: true,
            });
        }
        {
            let open = self.0.borrow();
            let open = open.as_ref().filter(|open| open.id == request.session_id);
            let open = open.ok_or(ResponseError::FetchSessionIdNotFound)?;
            if open.by_id != by_id {
                return Err(ResponseError::FetchSessionTopicIdError);
            }
            if open.next_epoch != request.session_epoch {
                return Err(ResponseError::InvalidFetchSessionEpoch);
            }
        }
        let session = self.0.take();
        let mut session = session.ok_or(ResponseError::FetchSessionIdNotFound)?;
        if !session.take_changes(&request).await {
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        session.next_epoch = next_epoch(session.next_epoch);
        let request = FetchRequest {
            topics: std::mem::take(&mut session.topics),
            partitions: std::mem::take(&mut session.partitions),
            forgotten: Vec::new(),
            ..request
        };
        Ok(Turn {
            request,
            session: Some(session),
            is_full: false,
        })
    }

    /// The answer of a turn, and the session back in its place.
    pub fn end(
        &self,
        turn: Turn,
        found: Vec<PartitionAnswer>,
        endpoints: Vec<Endpoint>,
    ) -> FetchAnswer {
        let Turn {
            request,
            session,
            is_full,
        } = turn;
        let Some(mut session) = session else {
            return FetchAnswer {
                error: None,
                session_id: 0,
                topics: request.topics,
                partitions: found,
                endpoints,
            };
        };
        session.topics = request.topics;
        session.partitions = request.partitions;
        let (topics, partitions) = session.say(found, is_full);
        // Without partitions there is nothing to go on with.
        let goes_on = !session.partitions.is_empty();
        let session_id = if goes_on { session.id } else { 0 };
        self.0.replace(goes_on.then_some(session));
        FetchAnswer {
            error: None,
            session_id,
            topics,
            partitions,
            endpoints,
        }
    }
}

impl Turn {
    /// All that is wanted.
    pub fn request(&self) -> &FetchRequest {
        &self.request
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Session {
    fn new(
        metrics: &Arc<CoreMetrics>,
        most: usize,
        by_id: bool,
        partitions: usize,
    ) -> Option<Session> {
        if partitions == 0 {
            return None;
        }
        let room = Room::take(metrics, most, partitions)?;
        let number = NEWEST.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
        let id = i32::try_from(number).unwrap_or_default().max(1);
        Some(Session {
            id,
            next_epoch: 1,
            by_id,
            topics: Vec::new(),
            partitions: Vec::new(),
            said: Vec::new(),
            places: Places::default(),
            room,
        })
    }

    /// Takes over what a request says anew. `false`: there is no room for it.
    async fn take_changes(&mut self, request: &FetchRequest) -> bool {
        if !request.forgotten.is_empty() {
            self.forget(&request.forgotten);
        }
        if self.places.of.is_empty() {
            self.note_places().await;
        }
        let mut added = Vec::new();
        let mut wanted = request.partitions.iter();
        for (topic, count) in &request.topics {
            for partition in wanted.by_ref().take(*count) {
                match self
                    .places
                    .of(topic, partition.index, self.partitions.len())
                {
                    Some(at) => self.partitions[at] = *partition,
                    None => added.push((topic, *partition)),
                }
            }
        }
        if added.is_empty() {
            return true;
        }
        let count = self.partitions.len() + added.len();
        if count > NAMED_PER_REQUEST || !self.room.resize(count) {
            return false;
        }
        for (topic, partition) in added {
            push_run(&mut self.topics, topic, 1);
            self.partitions.push(partition);
            self.said.push(NOTHING_SAID);
        }
        self.note_places().await;
        true
    }

    fn forget(&mut self, forgotten: &[(TopicRef, Vec<i32>)]) {
        let forgotten = forgotten.iter().flat_map(|(topic, partitions)| {
            let partitions = partitions.iter();
            partitions.map(move |partition| (topic, *partition))
        });
        let forgotten: std::collections::HashSet<(&TopicRef, i32)> = forgotten.collect();
        let mut topics = Vec::new();
        let (mut partitions, mut said) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (topic, count) in &self.topics {
            for place in at..at + count {
                let partition = self.partitions[place];
                if !forgotten.contains(&(topic, partition.index)) {
                    push_run(&mut topics, topic, 1);
                    partitions.push(partition);
                    said.push(self.said[place]);
                }
            }
            at += count;
        }
        // Fewer always fit.
        self.room.resize(partitions.len());
        (self.topics, self.partitions, self.said) = (topics, partitions, said);
        self.places = Places::default();
    }

    async fn note_places(&mut self) {
        let mut places = Places::default();
        let mut at = 0;
        for (topic, count) in &self.topics {
            let next = u32::try_from(places.topics.len()).unwrap_or(u32::MAX);
            let number = *places.topics.entry(topic.clone()).or_insert(next);
            let of_topic: Vec<usize> = (at..at + count).collect();
            for step in of_topic.chunks(STEP_PLACES) {
                for place in step {
                    let index = self.partitions[*place].index;
                    places.of.insert((number, index), *place);
                }
                if step.len() == STEP_PLACES {
                    tokio::task::yield_now().await;
                }
            }
            at += count;
        }
        self.places = places;
    }

    /// What is to be told of what was found, and notes that it was.
    fn say(
        &mut self,
        found: Vec<PartitionAnswer>,
        is_full: bool,
    ) -> (Vec<(TopicRef, usize)>, Vec<PartitionAnswer>) {
        self.said.resize(found.len(), NOTHING_SAID);
        let mut behind_last = 0;
        let mut topics = Vec::new();
        let mut partitions = Vec::new();
        let mut found = found.into_iter().zip(&mut self.said).enumerate();
        for (topic, count) in &self.topics {
            let before = partitions.len();
            for (at, (answer, said)) in found.by_ref().take(*count) {
                let (now, has_records) = match &answer.outcome {
                    Ok(found) => {
                        let bounds = (found.high_watermark, found.log_start_offset);
                        (bounds, !found.batches.is_empty())
                    }
                    // Whatever comes next is news.
                    Err(_) => (NOTHING_SAID, true),
                };
                if has_records {
                    behind_last = at + 1;
                }
                if is_full || has_records || *said != now {
                    partitions.push(answer);
                }
                *said = now;
            }
            let told = partitions.len() - before;
            if told > 0 || is_full {
                push_run(&mut topics, topic, told);
            }
        }
        drop(found);
        // The next answer begins with those that this one did not come to.
        self.rotate(behind_last);
        (topics, partitions)
    }

    fn rotate(&mut self, by: usize) {
        if by == 0 || by >= self.partitions.len() {
            return;
        }
        self.partitions.rotate_left(by);
        self.said.rotate_left(by);
        self.places.rotated = (self.places.rotated + by) % self.partitions.len();
        let mut left = by;
        let split = self.topics.iter().position(|(_, count)| {
            let is_in = left < *count;
            left -= if is_in { 0 } else { *count };
            is_in
        });
        let mut topics: Vec<(TopicRef, usize)> = Vec::with_capacity(self.topics.len() + 1);
        let split = split.unwrap_or(0);
        let (before, after) = self.topics.split_at(split);
        if let Some(((topic, count), whole)) = after.split_first() {
            push_run(&mut topics, topic, count - left);
            topics.extend_from_slice(whole);
            for (topic, count) in before {
                push_run(&mut topics, topic, *count);
            }
            if left > 0 {
                push_run(&mut topics, topic, left);
            }
        }
        self.topics = topics;
    }
}

impl Places {
    /// Where a partition of a session of so many stands now.
    fn of(&self, topic: &TopicRef, partition: i32, count: usize) -> Option<usize> {
        let topic = *self.topics.get(topic)?;
        let noted = *self.of.get(&(topic, partition))?;
        Some((noted + count - self.rotated) % count)
    }
}

/// Adds partitions of a topic behind the others.
fn push_run(topics: &mut Vec<(TopicRef, usize)>, topic: &TopicRef, count: usize) {
    match topics.last_mut() {
        Some((last, of)) if last == topic => *of += count,
        _ => topics.push((topic.clone(), count)),
    }
}

#[cfg(test)]
mod tests;
