//! The APIs this node speaks: the single source for what `ApiVersions` says and for what is
//! accepted.

use kafka_protocol::messages::ApiKey;

/// An API and the versions of it that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// Oldest version answered.
    pub min: i16,
    /// Newest version answered.
    pub max: i16,
    /// Oldest version told to clients. Older than `min` for Produce only: librdkafka before 2.8
    /// does not compress unless a broker says that it knows version 0 (KAFKA-18659).
    pub advertised_min: i16,
}

const fn api(key: ApiKey, min: i16, max: i16) -> Api {
    Api {
        key,
        min,
        max,
        advertised_min: min,
    }
}

/// Every API, by key.
pub const APIS: [Api; 36] = [
    // Versions 0 to 2 are read to be refused in their own format.
    Api {
        key: ApiKey::Produce,
        min: 0,
        max: 13,
        advertised_min: 0,
    },
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 10),
    api(ApiKey::Metadata, 0, 13),
    // Version 10 names topics by their ids (KIP-848).
    api(ApiKey::OffsetCommit, 2, 9),
    api(ApiKey::OffsetFetch, 1, 9),
    api(ApiKey::FindCoordinator, 0, 6),
    api(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    api(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::SaslHandshake, 0, 1),
    api(ApiKey::ApiVersions, 0, 4),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::DescribeLogDirs, 1, 4),
    api(ApiKey::SaslAuthenticate, 0, 2),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::ElectLeaders, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::AlterPartitionReassignments, 0, 1),
    api(ApiKey::ListPartitionReassignments, 0, 0),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeUserScramCredentials, 0, 0),
    api(ApiKey::AlterUserScramCredentials, 0, 0),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The row of an API key.
#[must_use]
pub fn find(key: i16) -> Option<Api> {
    APIS.iter().find(|api| api.key as i16 == key).copied()
}

impl Api {
    /// Whether a version is answered.
    #[must_use]
    pub fn speaks(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Whether requests of a version have tagged fields and compact lengths.
    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        self.key.request_header_version(version) >= 2
    }

    /// Whether the header of an answer has tagged fields.
    #[must_use]
    pub fn answers_flexible(&self, version: i16) -> bool {
        self.key.response_header_version(version) >= 1
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::VersionRange;

    use super::*;

    #[test]
    fn the_codecs_know_every_version_that_is_offered() {
        for api in APIS {
            let VersionRange { min, max } = api.key.valid_versions();
            assert!(api.max <= max, "{:?}", api.key);
            assert!(
                api.min >= min || api.key == ApiKey::Produce,
                "{:?}",
                api.key
            );
            assert!(api.advertised_min <= api.min);
        }
    }

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(APIS.is_sorted_by(|a, b| (a.key as i16) < (b.key as i16)));
        assert_eq!(find(1).unwrap().key, ApiKey::Fetch);
        assert_eq!(find(4), None);
        assert_eq!(find(-1), None);
    }
}
