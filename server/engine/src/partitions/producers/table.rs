//! The table of producers: slots that are used again, a map to find them, and two orders of
//! idleness. A slot is taken by the first pending or committed batch, and given back when
//! neither is left.
//!
//! A checkpoint takes them in the order of idleness, a few at a time. Whoever is touched meanwhile
//! leaves its place in that order and is kept for it under its stamp, the number of the touch that
//! had put it there.
//!
//! Invariants: a slot is in both orders exactly when it has a committed window; the lengths of
//! the orders never pass the limits; stamps rise along the order.

use ringlog_types::batch::BatchHeader;
use ringlog_types::snapshot::{Next, Rows};
use ringlog_types::{Offset, PartitionId};

use crate::limits;
use ringlog_types::NumberMap;

use super::idle_order::{IdleOrder, Links};
use super::window::Window;

/// How many producers are remembered; one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerLimits {
    /// In one partition.
    pub per_partition: u32,
    /// In all partitions of a log.
    pub per_log: u32,
}

impl ProducerLimits {
    /// For who takes over what others remembered, and forgets nobody.
    pub const NONE: ProducerLimits = ProducerLimits {
        per_partition: u32::MAX,
        per_log: u32::MAX,
    };
}

impl Default for ProducerLimits {
    fn default() -> ProducerLimits {
        ProducerLimits {
            per_partition: limits::PRODUCERS_PER_PARTITION,
            per_log: limits::PRODUCERS_PER_LOG,
        }
    }
}

/// How many producers are remembered, and how many are not any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounts {
    /// Remembered, of all partitions.
    pub remembered: u64,
    /// The most that are.
    pub limit: u64,
    /// Forgotten because there were more than the limits allow, since the start.
    pub displaced: u64,
    /// Forgotten because they were silent for too long, since the start.
    pub expired: u64,
}

/// Where a producer is found again, as long as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerPlace(u32);

/// What is remembered of a producer in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Last sequence that is committed.
    pub last_sequence: i32,
    /// Largest timestamp of its newest batch, ms since the Unix epoch.
    pub last_timestamp_ms: i64,
}

/// A place in the table. Good as long as the producer has a pending batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partitions) struct Slot(u32);

/// All producers.
#[derive(Clone, Debug)]
pub(in crate::partitions) struct Producers {
    limits: ProducerLimits,
    slots: Vec<Producer>,
    free: Vec<u32>,
    by_id: NumberMap<(u64, i64), u32>,
    in_log: IdleOrder,
    log_links: Vec<Links>,
    in_partition: NumberMap<u64, IdleOrder>,
    partition_links: Vec<Links>,
    /// Touches so far.
    stamp: u64,
    taking: Option<Taking>,
    displaced: u64,
    expired: u64,
    /// Before this time nobody is taken for silent: who wrote then is not known by a clock.
    resumed_ms: i64,
}

/// A producer as a checkpoint has it.
pub(in crate::partitions) type ProducerRow = (PartitionId, i64, Window);

/// A checkpoint's walk along the order of idleness.
#[derive(Clone, Debug)]
struct Taking {
    /// The next slot of those that were not touched since the begin; what comes behind the last of
    /// them has a later stamp than `begun`.
    next: Option<u32>,
    begun: u64,
    rows: Rows<u64, ProducerRow>,
}

#[derive(Clone, Debug)]
struct Producer {
    partition: PartitionId,
    id: i64,
    /// The touch that put it where it is in the order of idleness.
    stamp: u64,
    /// Without batches: nothing committed is remembered.
    window: Window,
    /// The number of the newest pending batch in the partition's queue.
    newest_pending: Option<u64>,
    /// When it last wrote, by the node's clock. Not committed state: unknown after replay.
    active_ms: i64,
}

impl Producers {
    pub(in crate::partitions) fn new(limits: ProducerLimits) -> Producers {
        assert!(
            limits.per_partition > 0 && limits.per_log > 0,
            "a producer is remembered"
        );
        Producers {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: NumberMap::default(),
            in_log: IdleOrder::default(),
            log_links: Vec::new(),
            in_partition: NumberMap::default(),
            partition_links: Vec::new(),
            stamp: 0,
            taking: None,
            displaced: 0,
            expired: 0,
            resumed_ms: i64::MIN,
        }
    }

    pub(in crate::partitions) fn resume(&mut self, now_ms: i64) {
        self.resumed_ms = now_ms;
    }

    pub(in crate::partitions) fn counts(&self) -> ProducerCounts {
        ProducerCounts {
            remembered: self.in_log.length().into(),
            limit: self.limits.per_log.into(),
            displaced: self.displaced,
            expired: self.expired,
        }
    }

    /// Those of a partition with a committed window, longest idle first.
    pub(in crate::partitions) fn of_partition(&self, partition: PartitionId) -> Vec<ProducerPlace> {
        let order = self.in_partition.get(&partition.0);
        let oldest = order.and_then(IdleOrder::oldest);
        std::iter::successors(oldest, |slot| {
            IdleOrder::newer_than(&self.partition_links, *slot)
        })
        .map(ProducerPlace)
        .collect()
    }

    /// The producer of the partition in this place, if it has a committed window.
    pub(in crate::partitions) fn view(
        &self,
        partition: PartitionId,
        place: ProducerPlace,
    ) -> Option<ProducerView> {
        let producer = self.slots.get(place.0 as usize)?;
        let standing = producer.window.standing()?;
        (producer.partition == partition).then_some(ProducerView {
            id: producer.id,
            epoch: standing.epoch,
            last_sequence: standing.last_sequence,
            last_timestamp_ms: producer.window.max_timestamp(),
        })
    }

    pub(in crate::partitions) fn limits(&self) -> ProducerLimits {
        self.limits
    }

    /// Producers with a committed batch that is remembered.
    pub(in crate::partitions) fn length(&self) -> usize {
        self.in_log.length() as usize
    }

    pub(in crate::partitions) fn find(&self, partition: PartitionId, id: i64) -> Option<Slot> {
        self.by_id.get(&(partition.0, id)).map(|slot| Slot(*slot))
    }

    pub(in crate::partitions) fn find_or_take(&mut self, partition: PartitionId, id: i64) -> Slot {
        if let Some(slot) = self.find(partition, id) {
            return slot;
        }
        let producer = Producer {
            partition,
            id,
            stamp: 0,
            window: Window::default(),
            newest_pending: None,
            active_ms: i64::MIN,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = producer;
                slot
            }
            None => {
                self.slots.push(producer);
                self.log_links.push(Links::UNLISTED);
                self.partition_links.push(Links::UNLISTED);
                u32::try_from(self.slots.len() - 1).expect("limits keep slots within u32")
            }
        };
        self.by_id.insert((partition.0, id), slot);
        Slot(slot)
    }

    /// The committed batches that are remembered.
    pub(in crate::partitions) fn window(&self, slot: Slot) -> &Window {
        &self.slots[slot.0 as usize].window
    }

    pub(in crate::partitions) fn newest_pending(&self, slot: Slot) -> Option<u64> {
        self.slots[slot.0 as usize].newest_pending
    }

    /// Notes the newest pending batch, or that there is none; then the slot is given back if
    /// nothing committed is remembered either.
    pub(in crate::partitions) fn set_newest_pending(&mut self, slot: Slot, number: Option<u64>) {
        self.slots[slot.0 as usize].newest_pending = number;
        self.give_back_if_empty(slot.0);
    }

    /// The producer's pending batch was committed; `number` is its number in the queue, and
    /// `active_ms` when it came.
    pub(in crate::partitions) fn settle(&mut self, slot: Slot, number: u64, active_ms: i64) {
        let producer = &mut self.slots[slot.0 as usize];
        producer.active_ms = producer.active_ms.max(active_ms);
        if producer.newest_pending == Some(number) {
            producer.newest_pending = None;
        }
    }

    /// Adds a committed batch, and forgets who has been idle for longest beyond the limits.
    pub(in crate::partitions) fn commit(
        &mut self,
        slot: Slot,
        base_offset: Offset,
        header: &BatchHeader,
    ) {
        self.keep(slot.0);
        self.slots[slot.0 as usize].window.push(base_offset, header);
        self.make_newest(slot.0);
    }

    /// Puts a producer there as a checkpoint has it: newer than all before.
    pub(in crate::partitions) fn restore(
        &mut self,
        partition: PartitionId,
        id: i64,
        window: Window,
    ) {
        let slot = self.find_or_take(partition, id);
        self.keep(slot.0);
        self.slots[slot.0 as usize].window = window;
        self.make_newest(slot.0);
    }

    /// Forgets all producers of a partition. None has a pending batch.
    pub(in crate::partitions) fn drop_partition(&mut self, partition: PartitionId) {
        while let Some(slot) = self
            .in_partition
            .get(&partition.0)
            .and_then(IdleOrder::oldest)
        {
            self.forget(slot);
        }
    }

    /// Forgets producers that wrote nothing since `before_ms`, among those idle for longest.
    pub(in crate::partitions) fn expire(&mut self, before_ms: i64) -> usize {
        let (mut next, mut forgotten) = (self.in_log.oldest(), 0);
        for _ in 0..limits::PRODUCERS_PER_EXPIRY_STEP {
            let Some(slot) = next else { break };
            next = IdleOrder::newer_than(&self.log_links, slot);
            let producer = &self.slots[slot as usize];
            let written_ms = producer.active_ms.max(producer.window.max_timestamp());
            let last_ms = written_ms.max(self.resumed_ms);
            if last_ms < before_ms && producer.newest_pending.is_none() {
                self.forget(slot);
                forgotten += 1;
            }
        }
        self.expired += forgotten as u64;
        forgotten
    }

    /// All with a committed window, longest idle first.
    pub(in crate::partitions) fn iter(&self) -> impl Iterator<Item = (PartitionId, i64, &Window)> {
        std::iter::successors(self.in_log.oldest(), |slot| {
            IdleOrder::newer_than(&self.log_links, *slot)
        })
        .map(|slot| {
            let producer = &self.slots[slot as usize];
            (producer.partition, producer.id, &producer.window)
        })
    }

    /// From now on [`Producers::take_row`] gives them as they are now, longest idle first.
    pub(in crate::partitions) fn begin_rows(&mut self) {
        self.taking = Some(Taking {
            next: self.in_log.oldest(),
            begun: self.stamp,
            rows: Rows::default(),
        });
    }

    /// The next since [`Producers::begin_rows`].
    pub(in crate::partitions) fn take_row(&mut self) -> Next<ProducerRow> {
        let Some(taking) = &mut self.taking else {
            return Next::End;
        };
        let (slots, begun, next) = (&self.slots, taking.begun, taking.next);
        let stamp_of = |slot: u32| slots[slot as usize].stamp;
        let mut taken_live = false;
        let row = taking.rows.take(
            |_| next.map(stamp_of).filter(|stamp| *stamp <= begun),
            |_| {
                taken_live = true;
                row(&slots[next.expect("its stamp was just seen") as usize])
            },
        );
        if taken_live {
            taking.next = next.and_then(|slot| IdleOrder::newer_than(&self.log_links, slot));
        }
        if row == Next::End {
            self.taking = None;
        }
        row
    }

    /// A producer is about to change and to leave its place in the order of idleness.
    fn keep(&mut self, slot: u32) {
        let Some(taking) = &mut self.taking else {
            return;
        };
        if taking.next == Some(slot) {
            taking.next = IdleOrder::newer_than(&self.log_links, slot);
        }
        let producer = &self.slots[slot as usize];
        let is_listed = !producer.window.batches().is_empty();
        if is_listed && producer.stamp <= taking.begun {
            taking.rows.keep(producer.stamp, || Some(row(producer)));
        }
    }

    fn make_newest(&mut self, slot: u32) {
        self.stamp += 1;
        self.slots[slot as usize].stamp = self.stamp;
        let partition = self.slots[slot as usize].partition;
        self.in_log.touch(&mut self.log_links, slot);
        let order = self.in_partition.entry(partition.0).or_default();
        order.touch(&mut self.partition_links, slot);
        if order.length() > self.limits.per_partition
            && let Some(oldest) = order.oldest()
        {
            self.displaced += 1;
            self.forget(oldest);
        }
        if self.in_log.length() > self.limits.per_log
            && let Some(oldest) = self.in_log.oldest()
        {
            self.displaced += 1;
            self.forget(oldest);
        }
    }

    fn forget(&mut self, slot: u32) {
        self.keep(slot);
        let producer = &mut self.slots[slot as usize];
        producer.window = Window::default();
        self.in_log.remove(&mut self.log_links, slot);
        if let Some(order) = self.in_partition.get_mut(&producer.partition.0) {
            order.remove(&mut self.partition_links, slot);
            if order.length() == 0 {
                self.in_partition.remove(&producer.partition.0);
            }
        }
        self.give_back_if_empty(slot);
    }

    fn give_back_if_empty(&mut self, slot: u32) {
        let producer = &self.slots[slot as usize];
        if producer.newest_pending.is_none() && producer.window.batches().is_empty() {
            self.by_id.remove(&(producer.partition.0, producer.id));
            self.free.push(slot);
        }
    }
}

fn row(producer: &Producer) -> ProducerRow {
    (producer.partition, producer.id, producer.window)
}
