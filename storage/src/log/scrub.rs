//! Scrubbing: reads sealed segments in the background, slowly, and checks everything in them that has
//! a checksum, so that rot is found while a good copy may still exist elsewhere, and not by the
//! reader who needs the record.
//!
//! ```text
//! segment header ─► block: header ─► table ─► payloads ─► next block … ─► footer ─► trailer ─► next segment
//! ```
//! What is found is named as a reader would have named it, and counted. Invariants: one small read
//! is under way at a time; readers and writes go first, as far as they leave anything; a
//! step checks at most a window.

use std::time::Duration;

use ringlog_types::Sequence;

use super::scrub_state::{Found, Payloads, Place, What};
use super::segments::Stage;
use super::work::Work;
use super::{EntryKind, EntryMeta, Log, Read};
use crate::buffer::Buf;
use crate::format::block_header::BlockHeader;
use crate::format::checksum::{Hasher, Key};
use crate::format::entry_header::EntryHeader;
use crate::format::segment_header::SegmentHeader;
use crate::format::trailer::Trailer;
use crate::io::{Completion, Io};

/// Most bytes of one read, but for an entry table.
const WINDOW_BYTES: u64 = 256 << 10;
/// How long a read of the scrubber waits for others to leave the device alone.
const PATIENCE: Duration = Duration::from_millis(100);
/// Until the first pass begins.
const SOON: Duration = Duration::from_millis(10);

impl<I: Io> Log<I> {
    /// Starts the next read, if it is time for one.
    pub(super) fn scrub(&mut self) {
        let now = self.submitter.io.monotonic();
        if self.config.scrub_bytes_per_second == 0 || self.scrub.is_reading {
            return;
        }
        self.name_found();
        if self.scrub.found.is_some() || !self.is_scrub_due(now) {
            return;
        }
        let since = *self.scrub.wants_since.get_or_insert(now);
        let is_busy = !self.in_flight.is_empty()
            || !self.ready.is_empty()
            || self.submitter.any(Work::is_for_a_reader);
        if is_busy && now < since + PATIENCE {
            return;
        }
        let Some((segment, position, bytes)) = self.next_scrub_read(now) else {
            return;
        };
        if self.submit_read(segment, position, bytes, Work::Scrub) {
            self.scrub.is_reading = true;
            self.scrub.wants_since = None;
            self.scrub.allowance_bytes -= bytes as i64;
        }
    }

    /// From now: when the next read is due, if nothing else happens.
    pub(super) fn scrub_deadline(&self, now: Duration) -> Option<Duration> {
        let rate = self.config.scrub_bytes_per_second;
        if rate == 0 || self.scrub.is_reading {
            return None;
        }
        if self.scrub.place.is_none() && self.next_to_scrub().is_none() {
            let began = self.scrub.pass_began;
            let next_pass = began.map(|began| began + self.config.scrub_every);
            return Some(next_pass.map_or(SOON, |next| next.saturating_sub(now)));
        }
        let owed = u64::try_from(-self.scrub.allowance_bytes).unwrap_or(0) + 1;
        let filled = self.scrub.filled_at + Duration::from_nanos(owed * 1_000_000_000 / rate);
        let patient = self.scrub.wants_since.map(|since| since + PATIENCE);
        Some(patient.unwrap_or(filled).saturating_sub(now))
    }

    fn is_scrub_due(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.scrub.filled_at);
        let rate = self.config.scrub_bytes_per_second;
        let more = u128::from(rate) * passed.as_nanos() / 1_000_000_000;
        if more > 0 {
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            let most = i64::try_from(WINDOW_BYTES).expect("a window is small");
            let allowance = self.scrub.allowance_bytes.saturating_add(more);
            self.scrub.allowance_bytes = allowance.min(most);
            self.scrub.filled_at = now;
        }
        self.scrub.allowance_bytes > 0
    }

    fn next_to_scrub(&self) -> Option<u64> {
        let (done, until) = (self.scrub.done, self.scrub.until?);
        let left = (done < until).then(|| self.segments.live.range(done + 1..=until))?;
        let mut sealed = left.filter(|(_, segment)| segment.stage == Stage::Sealed);
        sealed.next().map(|(id, _)| *id)
    }

    /// What to read next. A segment that was let go meanwhile is left.
    fn next_scrub_read(&mut self, now: Duration) -> Option<(u64, u64, usize)> {
        let lives = |place: &Place| self.segments.live.contains_key(&place.segment);
        if self.scrub.place.as_ref().is_some_and(|place| !lives(place)) {
            self.scrub.place = None;
        }
        if self.scrub.place.is_none() {
            self.begin_pass(now);
            let Some(segment) = self.next_to_scrub() else {
                self.stats.scrub_passes += u64::from(self.scrub.until.take().is_some());
                return None;
            };
            self.scrub.done = segment;
            self.scrub.place = Some(Place {
                segment,
                key: self.segments.live[&segment].key.clone(),
                last: Sequence::NONE,
                what: What::SegmentHeader,
            });
        }
        let place = self.scrub.place.as_ref().expect("it was just seen or made");
        let segment = &self.segments.live[&place.segment];
        let unit = self.unit as u64;
        let (position, bytes) = match &place.what {
            What::SegmentHeader => (0, unit),
            What::Head { at } => (*at, unit),
            What::Table { at, header } => {
                let start = u64::from(header.table_offset) / unit * unit;
                let table = u64::from(header.entry_count) * EntryHeader::BYTES as u64;
                let end = u64::from(header.table_offset) + table;
                (at + start, end.next_multiple_of(unit) - start)
            }
            What::Payloads(payloads) => payloads.next_window(unit),
            What::Search { at } => (*at, (segment.position - at).min(WINDOW_BYTES)),
            What::Footer { place, at, .. } => {
                let left = u64::from(place.bytes) - at;
                let bytes = left.next_multiple_of(unit).max(unit);
                (place.position + at, bytes.min(WINDOW_BYTES))
            }
            What::Trailer => (segment.file_bytes - unit, unit),
        };
        let bytes = usize::try_from(bytes).expect("a window fits memory");
        Some((place.segment, position, bytes))
    }

    /// A pass is over the segments that there are when it begins.
    fn begin_pass(&mut self, now: Duration) {
        let every = self.config.scrub_every;
        let is_time = self
            .scrub
            .pass_began
            .is_none_or(|began| now >= began + every);
        if self.scrub.until.is_none() && is_time {
            self.scrub.pass_began = Some(now);
            self.scrub.done = 0;
            self.scrub.until = self.segments.live.last_key_value().map(|(id, _)| *id);
        }
    }

    pub(super) fn scrubbed(&mut self, completion: Completion) {
        self.scrub.is_reading = false;
        let Some(mut place) = self.scrub.place.take() else {
            return;
        };
        let Some(segment) = self.segments.live.get_mut(&place.segment) else {
            return;
        };
        segment.reads -= 1;
        let (end, footer) = (segment.position, segment.footer);
        let bytes = match (completion.result, completion.buf) {
            (Ok(read), Some(buf)) => buf.freeze().slice(0..read),
            (result, _) => {
                let id = place.segment;
                tracing::warn!(
                    log = %self.id, segment = id, ?result,
                    "scrubbing could not read a segment; the rest of it is left for the next pass"
                );
                return;
            }
        };
        self.stats.scrubbed_bytes += bytes.len() as u64;
        let unit = self.unit as u64;
        let mut found = None;
        let behind = |at: u64| match footer {
            _ if at < end => What::Head { at },
            Some(footer) => What::Footer {
                place: footer,
                at: 0,
                hasher: Box::new(place.key.hasher()),
            },
            None => What::Trailer,
        };
        let next = match place.what {
            What::SegmentHeader => {
                let same =
                    |header: &SegmentHeader| header.key().checksum(&[]) == place.key.checksum(&[]);
                if !SegmentHeader::decode(&bytes).is_ok_and(|header| same(&header)) {
                    self.scrub_found(place.segment, 0, "the segment's header");
                }
                Some(behind(unit))
            }
            What::Head { at } => match BlockHeader::decode(&place.key, &bytes) {
                Ok((header, _)) if header.sequence > place.last && fits(&header, at, end) => {
                    place.last = header.sequence;
                    Some(What::Table { at, header })
                }
                _ => {
                    self.scrub_found(place.segment, at, "a block's header");
                    found = Some(Found::Block(at));
                    Some(search_or(at + unit, end, behind))
                }
            },
            What::Table { at, header } => {
                let from = header.table_offset as usize % self.unit;
                let length = header.entry_count as usize * EntryHeader::BYTES;
                let table = bytes.get(from..from + length);
                let table =
                    table.filter(|table| place.key.checksum(table) == header.table_checksum);
                let block_bytes = header.block_bytes;
                let entries = table
                    .and_then(|table| EntryHeader::decode_table(table, block_bytes as usize).ok());
                let behind_it = at + u64::from(block_bytes);
                match entries {
                    Some(entries) if entries.is_empty() => Some(behind(behind_it)),
                    Some(entries) => Some(What::Payloads(Box::new(Payloads {
                        at,
                        block_bytes: block_bytes.into(),
                        entries,
                        next: 0,
                        hashed: 0,
                        hasher: Hasher::plain(),
                    }))),
                    None => {
                        self.scrub_found(place.segment, at, "a block's entry table");
                        found = Some(Found::Block(at));
                        Some(behind(behind_it))
                    }
                }
            }
            What::Payloads(mut payloads) => {
                let (position, _) = payloads.next_window(unit);
                let damaged = payloads.check(position, &bytes);
                if let Some(meta) = damaged {
                    self.scrub_found(place.segment, payloads.at, "a payload");
                    found = Some(Found::Entry(payloads.at, meta));
                }
                if payloads.next < payloads.entries.len() {
                    Some(What::Payloads(payloads))
                } else {
                    Some(behind(payloads.at + payloads.block_bytes))
                }
            }
            What::Search { at } => {
                let next = next_header(&place.key, &bytes, self.unit, place.last);
                match next {
                    Some(offset) => Some(What::Head {
                        at: at + offset as u64,
                    }),
                    None => Some(search_or(
                        at + bytes.len().max(self.unit) as u64,
                        end,
                        behind,
                    )),
                }
            }
            What::Footer {
                place: footer,
                at,
                mut hasher,
            } => {
                let left = footer.bytes as usize - usize::try_from(at).expect("it is below a u32");
                let part = bytes.len().min(left);
                hasher.update(&bytes[..part]);
                let at = at + part as u64;
                if at < u64::from(footer.bytes) && part > 0 {
                    Some(What::Footer {
                        place: footer,
                        at,
                        hasher,
                    })
                } else {
                    if hasher.digest() != footer.checksum {
                        self.scrub_found(place.segment, footer.position, "the footer");
                    }
                    Some(What::Trailer)
                }
            }
            What::Trailer => {
                if Trailer::decode(&place.key, &bytes).is_err() {
                    self.scrub_found(place.segment, end, "the trailer");
                }
                None
            }
        };
        if let Some(found) = found {
            self.scrub.found = Some((place.segment, found));
        }
        if let Some(what) = next {
            place.what = what;
            self.scrub.place = Some(place);
        }
        self.release_dead_segments();
    }

    fn scrub_found(&mut self, segment: u64, position: u64, what: &str) {
        self.stats.scrub_damage += 1;
        tracing::error!(
            log = %self.id, segment, position,
            "scrubbing found {what} damaged: restore what it held from its source, retention \
             removes it otherwise"
        );
    }

    /// Names what was found, once the rows that say which offsets stand there are in memory.
    fn name_found(&mut self) {
        let Some((segment, found)) = self.scrub.found else {
            return;
        };
        if let Some(from) = self.segments.live.get(&segment)
            && !from.index.resident
        {
            match self.footer(segment) {
                Ok(_) => {}
                Err(Read::Pending(_)) => return,
                Err(_) => {
                    self.scrub.found = None;
                    return;
                }
            }
        }
        self.scrub.found = None;
        if !self.segments.live.contains_key(&segment) {
            return;
        }
        match found {
            Found::Block(at) => self.name_unreadable(segment, at, "found by scrubbing"),
            Found::Entry(at, meta) if meta.kind == EntryKind::Records => {
                self.add_read_damage(segment, at, |partition, _| {
                    (partition == meta.partition).then_some((meta.base_offset, meta.end_offset()))
                });
            }
            Found::Entry(..) => {}
        }
    }
}

fn fits(header: &BlockHeader, at: u64, end: u64) -> bool {
    let table = u64::from(header.entry_count) * EntryHeader::BYTES as u64;
    let table_end = u64::from(header.table_offset) + table;
    header.block_bytes > 0
        && table_end <= u64::from(header.block_bytes)
        && at + u64::from(header.block_bytes) <= end
}

fn search_or(at: u64, end: u64, behind: impl Fn(u64) -> What) -> What {
    if at < end {
        What::Search { at }
    } else {
        behind(at)
    }
}

/// Where in a window the next block begins.
fn next_header(key: &Key, bytes: &Buf, unit: usize, last: Sequence) -> Option<usize> {
    let is_next = |at: &usize| {
        let head = &bytes[*at..];
        BlockHeader::maybe(head)
            && BlockHeader::decode(key, head).is_ok_and(|(header, _)| header.sequence > last)
    };
    (0..bytes.len()).step_by(unit).find(is_next)
}

impl Payloads {
    /// Where the next window begins and how long it is.
    fn next_window(&self, unit: u64) -> (u64, u64) {
        let range = self.entries[self.next].range();
        let from = (range.start as u64 + self.hashed) / unit * unit;
        let bytes = (self.block_bytes - from).min(WINDOW_BYTES);
        (self.at + from, bytes.next_multiple_of(unit))
    }

    /// Checks what a window holds, up to the first entry that fails. Goes on behind it.
    fn check(&mut self, position: u64, bytes: &[u8]) -> Option<EntryMeta> {
        let window = position - self.at;
        while let Some(entry) = self.entries.get(self.next) {
            let range = entry.range();
            let from = range.start as u64 + self.hashed;
            let Some(offset) = from
                .checked_sub(window)
                .filter(|at| *at <= bytes.len() as u64)
            else {
                return None; // It lies elsewhere: another window.
            };
            let rest = &bytes[offset as usize..];
            let left = (range.end as u64 - from) as usize;
            let part = &rest[..rest.len().min(left)];
            self.hasher.update(part);
            self.hashed += part.len() as u64;
            if part.len() < left {
                // A file that ends here holds no more: nothing would ever come.
                if part.is_empty() {
                    return self.ended(true);
                }
                return None;
            }
            if let Some(damaged) = self.ended(false) {
                return Some(damaged);
            }
        }
        None
    }

    /// The entry is through. Returns it if it is damaged.
    fn ended(&mut self, is_cut: bool) -> Option<EntryMeta> {
        let entry = self.entries[self.next];
        let hasher = std::mem::replace(&mut self.hasher, Hasher::plain());
        self.hashed = 0;
        self.next += 1;
        (is_cut || hasher.digest() != entry.checksum).then_some(entry.meta)
    }
}
