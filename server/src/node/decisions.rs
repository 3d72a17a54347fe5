//! Core 0's list of control commands that are on their way: logged, durable, applied by every
//! core, answered. A pure ledger; [`super::control`] does what it says.
//!
//! Invariant: a command is answered after every core has acknowledged a version of the topics
//! that contains it, and commands are answered in the order of their versions.

use std::collections::VecDeque;

use ringlog_engine::topics::MetadataRecord;
use ringlog_types::CoreId;

/// Who asked, and the asker's number for it. `None`: the node itself.
pub type Asker = Option<(CoreId, u64)>;

#[derive(Debug)]
struct Waiting {
    version: u64,
    asker: Asker,
    record: Option<MetadataRecord>,
}

/// The ledger.
#[derive(Debug)]
pub struct Decisions {
    /// Version of the topics when everything appended is applied.
    appended: u64,
    waiting: VecDeque<Waiting>,
    /// Version that each core has applied, by core id.
    applied: Vec<u64>,
}

impl Decisions {
    /// A ledger in which all of `cores` cores have applied `version`.
    #[must_use]
    pub fn new(version: u64, cores: usize) -> Decisions {
        Decisions {
            appended: version,
            waiting: VecDeque::new(),
            applied: vec![version; cores],
        }
    }

    /// A record was appended to the metadata log for this asker.
    pub fn appended(&mut self, asker: Asker) {
        self.appended += 1;
        self.waiting.push_back(Waiting {
            version: self.appended,
            asker,
            record: None,
        });
    }

    /// The record that makes `version` is durable.
    ///
    /// # Panics
    /// When it is not the next one: the log gives entries in their order.
    pub fn durable(&mut self, version: u64, record: MetadataRecord) {
        let next = self
            .waiting
            .iter_mut()
            .find(|waiting| waiting.record.is_none());
        let next = next.expect("a durable record was appended before");
        assert_eq!(
            next.version, version,
            "records become durable in the order of their versions"
        );
        next.record = Some(record);
    }

    /// A core has applied everything up to `version`.
    pub fn applied(&mut self, core: CoreId, version: u64) {
        let place = &mut self.applied[usize::from(core.0)];
        *place = (*place).max(version);
    }

    /// Commands that every core has applied since the last call, in order.
    pub fn take_done(&mut self) -> Vec<(Asker, MetadataRecord)> {
        let everywhere = self.applied.iter().copied().min().unwrap_or(0);
        let mut done = Vec::new();
        while let Some(first) = self.waiting.front()
            && first.version <= everywhere
            && first.record.is_some()
        {
            if let Some(Waiting {
                asker,
                record: Some(record),
                ..
            }) = self.waiting.pop_front()
            {
                done.push((asker, record));
            }
        }
        done
    }

    /// The metadata log closed: nobody gets an answer any more but that.
    pub fn take_all(&mut self) -> Vec<Asker> {
        self.waiting
            .drain(..)
            .map(|waiting| waiting.asker)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cluster_id: &str) -> MetadataRecord {
        MetadataRecord::ClusterCreated {
            cluster_id: cluster_id.to_owned(),
        }
    }

    #[test]
    fn a_command_is_done_when_durable_and_applied_by_every_core_in_order() {
        let mut decisions = Decisions::new(7, 2);
        decisions.appended(Some((CoreId(1), 40)));
        decisions.appended(None);
        assert!(decisions.take_done().is_empty());
        decisions.durable(8, record("a"));
        decisions.applied(CoreId(0), 8);
        assert!(
            decisions.take_done().is_empty(),
            "core 1 has not applied it"
        );
        decisions.durable(9, record("b"));
        decisions.applied(CoreId(0), 9);
        decisions.applied(CoreId(1), 9);
        let askers: Vec<_> = decisions
            .take_done()
            .into_iter()
            .map(|(asker, _)| asker)
            .collect();
        assert_eq!(askers, vec![Some((CoreId(1), 40)), None]);
        assert!(decisions.take_done().is_empty());
    }

    #[test]
    fn a_closed_log_leaves_every_asker_to_be_told() {
        let mut decisions = Decisions::new(0, 1);
        decisions.appended(Some((CoreId(0), 1)));
        decisions.appended(Some((CoreId(0), 2)));
        assert_eq!(
            decisions.take_all(),
            vec![Some((CoreId(0), 1)), Some((CoreId(0), 2))]
        );
        assert!(decisions.take_done().is_empty());
    }

    #[test]
    #[should_panic(expected = "in the order of their versions")]
    fn a_record_out_of_order_is_a_defect() {
        let mut decisions = Decisions::new(0, 1);
        decisions.appended(None);
        decisions.appended(None);
        decisions.durable(2, record("b"));
    }
}
