"""Administration with kafka-python: configurations, directories, leaders, offsets."""

import sys

try:
    from kafka import KafkaProducer, TopicPartition
    from kafka.admin import (
        ConfigResource,
        ConfigResourceType,
        KafkaAdminClient,
        NewTopic,
        OffsetSpec,
    )
    from kafka.errors import (
        ElectionNotNeededError,
        InvalidReplicaAssignmentError,
        NoReassignmentInProgressError,
    )
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, check, check_equal, feature, main, topic_name


def create_topic(bootstrap, stem, partitions=1):
    topic = topic_name(stem)
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    client.create_topics([NewTopic(topic, partitions, 1)])
    client.close()
    return topic


def fill(bootstrap, topic, partition, count, **settings):
    client = KafkaProducer(bootstrap_servers=bootstrap, acks="all", **settings)
    futures = [
        client.send(topic, partition=partition, value=1000 * b"x", timestamp_ms=5000 - n)
        for n in range(count)
    ]
    client.flush(timeout=DEADLINE_SECONDS)
    for future in futures:
        future.get(timeout=DEADLINE_SECONDS)
    client.close()


@feature
def configurations(bootstrap):
    topic = create_topic(bootstrap, "configured")
    client = KafkaAdminClient(bootstrap_servers=bootstrap)

    def resource(configs=None):
        return ConfigResource(ConfigResourceType.TOPIC, topic, configs)

    def set_values():
        found = client.describe_configs([resource()], config_filter="modified")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def alter(configs, **options):
        return client.alter_configs([resource(configs)], **options)["topic"][topic]

    for incremental in (True, False):
        check_equal(alter({"retention.ms": "7000"}, incremental=incremental), "OK", "set")
        check_equal(
            alter({"retention.bytes": "8000"}, incremental=incremental),
            "OK",
            f"another one, incremental {incremental}",
        )
        both = {"retention.ms": "7000", "retention.bytes": "8000"}
        check_equal(set_values(), both, "both are set")
        client.reset_configs([resource(["retention.ms", "retention.bytes"])])
        check_equal(set_values(), {}, "both are reset")
    check_equal(alter({"cleanup.policy": ("APPEND", "compact")}), "OK", "appended")
    check_equal(set_values(), {"cleanup.policy": "delete,compact"}, "to the default")
    refused = alter({"retention.ms": "soon"})
    check("not an integer" in refused, f"refused with the reason: {refused}")
    client.close()


@feature
def log_directories(bootstrap):
    topic = create_topic(bootstrap, "sized", partitions=2)
    fill(bootstrap, topic, 0, 5)
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    sizes = {}
    for broker in client.describe_log_dirs({topic: [0, 1]}):
        (directory,) = broker["log_dirs"]
        check_equal(directory["error_code"], 0, f"broker {broker['broker']} has one directory")
        check(directory["total_bytes"] >= directory["usable_bytes"] > 0, "with some space")
        for found in directory["topics"]:
            for partition in found["partitions"]:
                sizes[partition["partition_index"]] = partition["partition_size"]
    check_equal(sorted(sizes), [0, 1], "each partition lies on one broker")
    check(sizes[0] > 5000 and sizes[1] == 0, f"and has its size: {sizes}")
    client.close()


@feature
def producers(bootstrap):
    topic = create_topic(bootstrap, "written", partitions=2)
    where = [TopicPartition(topic, number) for number in (0, 1)]
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    fill(bootstrap, topic, 0, 5, enable_idempotence=False)

    def described():
        found = client.describe_producers(where)
        return {at: found[at].active_producers for at in where}

    check_equal(described(), {at: [] for at in where}, "none that counts")
    for _ in range(2):
        fill(bootstrap, topic, 0, 5, enable_idempotence=True)
    found = described()
    check_equal(found[where[1]], [], "none in the other partition")
    ends = [(one.producer_epoch, one.last_sequence) for one in found[where[0]]]
    check_equal(ends, [(0, 4), (0, 4)], "two producers, each with its last sequence")
    check_equal(len({one.producer_id for one in found[where[0]]}), 2, "and its own id")
    client.close()


@feature
def elections_and_reassignments(bootstrap):
    topic = create_topic(bootstrap, "staying")
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    elected = client.elect_leaders(0, {topic: [0]})
    ((result,),) = [found.partition_result for found in elected.replica_election_results]
    check_equal(result.error_code, ElectionNotNeededError.errno, "no election is needed")
    where = TopicPartition(topic, 0)
    (described,) = client.describe_topics([topic])
    leader = described["partitions"][0]["leader_id"]

    def reassigned(replicas):
        return client.alter_partition_reassignments({where: replicas})[where]

    check_equal(reassigned([leader]), None, "where it is, it may be")
    check_equal(reassigned([1 - leader]), InvalidReplicaAssignmentError, "elsewhere it may not")
    check_equal(reassigned(None), NoReassignmentInProgressError, "it is not on its way")
    check_equal(client.list_partition_reassignments(), {}, "nothing is")
    client.close()


@feature
def pages_of_partitions(bootstrap):
    topics = sorted(create_topic(bootstrap, "paged", partitions=3) for _ in range(3))
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = client.describe_topic_partitions(topics, response_partition_limit=4, cursor=cursor)
        for topic in page["topics"]:
            found += [(topic["name"], part["partition_index"]) for part in topic["partitions"]]
        cursor, pages = page["next_cursor"], pages + 1
    check_equal(found, [(topic, n) for topic in topics for n in range(3)], "all, in order")
    check_equal(pages, 3, "nine partitions, four on a page")
    client.close()


@feature
def listed_offsets(bootstrap):
    topic = create_topic(bootstrap, "listed")
    fill(bootstrap, topic, 0, 4)
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    where = TopicPartition(topic, 0)

    def listed(spec):
        return client.list_partition_offsets({where: spec})[where].offset

    check_equal(listed(OffsetSpec.EARLIEST), 0, "the earliest")
    check_equal(listed(OffsetSpec.LATEST), 4, "the latest")
    check_equal(listed(OffsetSpec.MAX_TIMESTAMP), 0, "timestamps fall: the first has the largest")
    check_equal(listed(OffsetSpec.EARLIEST_LOCAL), 0, "everything is local")
    check_equal(listed(OffsetSpec.LATEST_TIERED), -1, "and nothing elsewhere")
    client.close()


if __name__ == "__main__":
    main()
