"""Topics and the cluster through confluent-kafka's admin client."""

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name, until
from confluent_session import (
    KafkaError,
    NewTopic,
    admin,
    consume,
    create_topic,
    produce,
    producer,
)
from confluent_kafka import ElectionType, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    OffsetSpec,
)


def refusal(future):
    """The error code a request was refused with."""
    try:
        future.result(DEADLINE_SECONDS)
    except KafkaException as refused:
        return refused.args[0].code()
    raise Failed("the request was accepted")


def metadata(bootstrap, topic):
    return admin(bootstrap).list_topics(topic, timeout=30).topics[topic]


@feature
def create_and_delete(bootstrap):
    client = admin(bootstrap)
    topic = create_topic(bootstrap, topic_name("made"), partitions=5)
    check_equal(sorted(metadata(bootstrap, topic).partitions), list(range(5)), "five partitions")
    check(
        all(p.leader >= 0 and p.error is None for p in metadata(bootstrap, topic).partitions.values()),
        "each has a leader",
    )
    again = client.create_topics([NewTopic(topic, 1, 1)])[topic]
    check_equal(refusal(again), KafkaError.TOPIC_ALREADY_EXISTS, "created twice: refused")
    produce(producer(bootstrap), [{"topic": topic, "value": "x", "partition": 0}])
    client.delete_topics([topic], operation_timeout=30)[topic].result(DEADLINE_SECONDS)
    until(
        lambda: topic not in client.list_topics(timeout=30).topics, "the deleted topic is gone"
    )
    check(True, "a deleted topic is no longer listed")
    gone = client.delete_topics([topic])[topic]
    check_equal(refusal(gone), KafkaError.UNKNOWN_TOPIC_OR_PART, "deleted twice: unknown topic")
    create_topic(bootstrap, topic, partitions=1)
    check_equal(consume(bootstrap, topic)[0], [], "made again under the same name it is empty")


@feature
def refused_topics(bootstrap):
    client = admin(bootstrap)

    def code(new):
        return refusal(client.create_topics([new])[new.topic])

    check_equal(code(NewTopic("no spaces", 1, 1)), KafkaError.TOPIC_EXCEPTION, "an invalid name")
    check_equal(code(NewTopic("x" * 250, 1, 1)), KafkaError.TOPIC_EXCEPTION, "a name too long")
    check_equal(
        code(NewTopic(topic_name("none"), 0, 1)), KafkaError.INVALID_PARTITIONS, "no partitions"
    )
    check_equal(
        code(NewTopic(topic_name("bad"), 1, 1, config={"retention.ms": "soon"})),
        KafkaError.INVALID_CONFIG,
        "a setting that is not a number",
    )
    check_equal(
        code(NewTopic(topic_name("bad"), 1, 1, config={"no.such.setting": "1"})),
        KafkaError.INVALID_CONFIG,
        "an unknown setting",
    )


@feature
def validate_only(bootstrap):
    client = admin(bootstrap)
    topic = topic_name("imagined")
    client.create_topics([NewTopic(topic, 3, 1)], validate_only=True)[topic].result(30)
    check(topic not in client.list_topics(timeout=30).topics, "validated, but not made")


@feature
def default_partition_count(bootstrap):
    topic = topic_name("default")
    admin(bootstrap).create_topics([NewTopic(topic, -1, -1)])[topic].result(DEADLINE_SECONDS)
    check(len(metadata(bootstrap, topic).partitions) >= 1, "the broker chose the partition count")


@feature
def replication_factor_three(bootstrap):
    """Many applications have the factor written into them: accepted, reported as one."""
    topic = create_topic(bootstrap, topic_name("three"), replication_factor=3)
    replicas = metadata(bootstrap, topic).partitions[0].replicas
    check_equal(len(replicas), 1, "factor 3 is accepted and reported as one replica")


@feature
def add_partitions(bootstrap):
    client = admin(bootstrap)
    topic = create_topic(bootstrap, topic_name("growing"), partitions=2)
    produce(producer(bootstrap), [{"topic": topic, "partition": n, "value": "old"} for n in (0, 1)])
    client.create_partitions([NewPartitions(topic, 6)])[topic].result(DEADLINE_SECONDS)
    until(lambda: len(metadata(bootstrap, topic).partitions) == 6, "six partitions")
    delivered = produce(
        producer(bootstrap), [{"topic": topic, "partition": n, "value": "new"} for n in range(6)]
    )
    check_equal(delivered.errors, [], "the new partitions take records")
    counts = {number: len(found) for number, found in consume(bootstrap, topic, 6).items()}
    check_equal(counts, {0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}, "and the old ones kept theirs")
    fewer = client.create_partitions([NewPartitions(topic, 3)])[topic]
    check_equal(refusal(fewer), KafkaError.INVALID_PARTITIONS, "fewer partitions: refused")
    unknown = client.create_partitions([NewPartitions("no-such-topic", 3)])["no-such-topic"]
    check_equal(refusal(unknown), KafkaError.UNKNOWN_TOPIC_OR_PART, "an unknown topic: refused")


@feature
def describe_topic_configs(bootstrap):
    topic = create_topic(
        bootstrap,
        topic_name("configured"),
        config={"retention.ms": "123456", "max.message.bytes": "65536"},
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entries = admin(bootstrap).describe_configs([resource])[resource].result(DEADLINE_SECONDS)
    check_equal(entries["retention.ms"].value, "123456", "retention.ms as set")
    check_equal(entries["retention.ms"].is_default, False, "and known as set")
    check_equal(entries["max.message.bytes"].value, "65536", "max.message.bytes as set")
    check_equal(entries["cleanup.policy"].value, "delete", "a default is listed")
    check_equal(entries["cleanup.policy"].is_default, True, "and known as a default")
    check_equal(entries["message.timestamp.type"].value, "CreateTime", "the timestamp type")
    unknown = ConfigResource(ConfigResource.Type.TOPIC, "no-such-topic")
    future = admin(bootstrap).describe_configs([unknown])[unknown]
    check_equal(refusal(future), KafkaError.UNKNOWN_TOPIC_OR_PART, "an unknown topic")


def described(bootstrap, kind, name):
    resource = ConfigResource(kind, name)
    return admin(bootstrap).describe_configs([resource])[resource].result(DEADLINE_SECONDS)


def altered(bootstrap, topic, *changes, **options):
    """The future of a change to a topic, by operation, name and value."""
    entries = [
        ConfigEntry(name, value, incremental_operation=operation)
        for operation, name, value in changes
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    return admin(bootstrap).incremental_alter_configs([resource], **options)[resource]


@feature
def alter_topic_configs(bootstrap):
    SET, DELETE = AlterConfigOpType.SET, AlterConfigOpType.DELETE
    APPEND, SUBTRACT = AlterConfigOpType.APPEND, AlterConfigOpType.SUBTRACT
    config = {"retention.ms": "1000000", "segment.ms": "60000"}
    topic = create_topic(bootstrap, topic_name("altered"), config=config)

    def value(name):
        return described(bootstrap, ConfigResource.Type.TOPIC, topic)[name].value

    changes = (
        (SET, "retention.ms", "2000000"),
        (DELETE, "segment.ms", None),
        (APPEND, "cleanup.policy", "compact"),
    )
    altered(bootstrap, topic, *changes, validate_only=True).result(DEADLINE_SECONDS)
    check_equal(value("retention.ms"), "1000000", "validated, but not changed")
    altered(bootstrap, topic, *changes).result(DEADLINE_SECONDS)
    check_equal(value("retention.ms"), "2000000", "set")
    check_equal(value("segment.ms"), "604800000", "back to the default")
    check_equal(value("cleanup.policy"), "delete,compact", "appended")
    altered(bootstrap, topic, (SUBTRACT, "cleanup.policy", "delete")).result(DEADLINE_SECONDS)
    check_equal(value("cleanup.policy"), "compact", "subtracted")

    def code(name, *change):
        return refusal(altered(bootstrap, name, change))

    invalid = KafkaError.INVALID_CONFIG
    check_equal(code(topic, SET, "retention.ms", "soon"), invalid, "no number: refused")
    check_equal(code(topic, SET, "no.such.setting", "1"), invalid, "an unknown setting: refused")
    check_equal(code(topic, APPEND, "retention.ms", "1"), invalid, "no list: refused")
    check_equal(
        code(topic, SET, "compression.type", "zstd"),
        KafkaError.POLICY_VIOLATION,
        "what this node cannot keep: refused by another code",
    )
    check_equal(
        code("no-such-topic", SET, "retention.ms", "1"),
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        "an unknown topic: refused",
    )
    check_equal(value("retention.ms"), "2000000", "and nothing changed")


@feature
def replace_topic_configs(bootstrap):
    config = {"retention.ms": "1000000", "segment.ms": "60000"}
    topic = create_topic(bootstrap, topic_name("replaced"), config=config)
    resource = ConfigResource(
        ConfigResource.Type.TOPIC, topic, set_config={"retention.bytes": "5000000"}
    )
    admin(bootstrap).alter_configs([resource])[resource].result(DEADLINE_SECONDS)
    entries = described(bootstrap, ConfigResource.Type.TOPIC, topic)
    set_now = sorted(name for name, entry in entries.items() if not entry.is_default)
    check_equal(set_now, ["retention.bytes"], "only what the request names is set")


@feature
def broker_configs(bootstrap):
    broker = ConfigResource.Type.BROKER
    entries = described(bootstrap, broker, "0")
    check_equal(entries["broker.id"].value, "0", "the broker's id")
    check(all(entry.is_read_only for entry in entries.values()), "nothing can be changed")
    retention = entries["log.retention.ms"]
    check_equal(retention.value, "604800000", "the default of topics")
    check_equal(retention.source, ConfigSource.DEFAULT_CONFIG.value, "and known as a default")
    change = ConfigEntry("num.partitions", "7", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(broker, "0", incremental_configs=[change])
    refused = admin(bootstrap).incremental_alter_configs([resource])[resource]
    check_equal(refusal(refused), KafkaError.INVALID_REQUEST, "a broker cannot be changed")


@feature
def elections(bootstrap):
    topic = create_topic(bootstrap, topic_name("led"), partitions=3)
    wanted = [TopicPartition(topic, number) for number in range(3)]
    for election in (ElectionType.PREFERRED, ElectionType.UNCLEAN):
        future = admin(bootstrap).elect_leaders(election, wanted)
        codes = {where.partition: error.code() for where, error in future.result(30).items()}
        not_needed = {number: KafkaError.ELECTION_NOT_NEEDED for number in range(3)}
        check_equal(codes, not_needed, f"{election.name}: every partition has its leader")


@feature
def listed_offsets(bootstrap):
    topic = create_topic(bootstrap, topic_name("listed"))
    where = TopicPartition(topic, 0)

    def listed(spec):
        future = admin(bootstrap).list_offsets({where: spec})[where]
        return future.result(DEADLINE_SECONDS).offset

    check_equal(listed(OffsetSpec.max_timestamp()), -1, "no record has the largest timestamp")
    for timestamp in (3000, 9000, 5000):
        record = {"topic": topic, "value": "x", "partition": 0, "timestamp": timestamp}
        check_equal(produce(producer(bootstrap), [record]).errors, [], "produced")
    check_equal(listed(OffsetSpec.earliest()), 0, "the earliest")
    check_equal(listed(OffsetSpec.latest()), 3, "the latest")
    check_equal(listed(OffsetSpec.max_timestamp()), 1, "the largest timestamp is in the middle")
    check_equal(listed(OffsetSpec.for_timestamp(4000)), 1, "the first at or after a time")
    check_equal(listed(OffsetSpec.for_timestamp(9001)), -1, "none so late")


@feature
def delete_records(bootstrap):
    client = admin(bootstrap)
    topic = create_topic(bootstrap, topic_name("trimmed"), partitions=2)
    records = [{"topic": topic, "partition": p, "value": str(n)} for p in (0, 1) for n in range(100)]
    check_equal(produce(producer(bootstrap), records).errors, [], "100 records in each partition")

    def deletion(partition, offset):
        where = TopicPartition(topic, partition, offset)
        return client.delete_records([where])[where]

    def offsets():
        found = consume(bootstrap, topic, 2)
        return [[message.offset() for message in found[number]] for number in (0, 1)]

    kept = deletion(0, 40).result(DEADLINE_SECONDS).low_watermark
    check_equal(kept, 40, "deleted up to an offset")
    check_equal(offsets(), [list(range(40, 100)), list(range(100))], "from there on it is read")
    check_equal(refusal(deletion(0, 101)), KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end: refused")
    check_equal(refusal(deletion(9, 1)), KafkaError._NOENT, "an unknown partition: refused")
    # -1 is the high watermark; the client library calls it OFFSET_END.
    whole = deletion(1, -1).result(DEADLINE_SECONDS).low_watermark
    check_equal(whole, 100, "everything deleted")
    check_equal(offsets(), [list(range(40, 100)), []], "the other partition keeps what it has")
    delivered = produce(producer(bootstrap), [{"topic": topic, "partition": 1, "value": "next"}])
    check_equal(delivered.messages[0].offset(), 100, "offsets go on")
    check_equal(offsets()[1], [100], "and what comes is read")


@feature
def durability_levels(bootstrap):
    client = admin(bootstrap)
    for level in ("flushed", "written", "buffered"):
        topic = create_topic(bootstrap, topic_name(level), config={"ringlog.durability": level})
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        entries = client.describe_configs([resource])[resource].result(DEADLINE_SECONDS)
        check_equal(entries["ringlog.durability"].value, level, "the level as set")
        records = [{"topic": topic, "value": str(n)} for n in range(500)]
        for idempotent in (False, True):
            delivered = produce(producer(bootstrap, enable_idempotence=idempotent), records)
            check_equal(delivered.errors, [], f"{level}, idempotent {idempotent}: delivered")
        # Consumers see what is durable: the end comes some milliseconds after the answer.
        until(
            lambda: len(consume(bootstrap, topic)[0]) == 1000, f"{level}: every record is read"
        )
        values = [int(message.value()) for message in consume(bootstrap, topic)[0]]
        check_equal(values, 2 * list(range(500)), f"{level}: in order")
    refused = client.create_topics([NewTopic("never", 1, 1, config={"ringlog.durability": "x"})])
    check_equal(refusal(refused["never"]), KafkaError.INVALID_CONFIG, "an unknown level: refused")


@feature
def cluster(bootstrap):
    client = admin(bootstrap)
    described = client.describe_cluster().result(DEADLINE_SECONDS)
    listed = client.list_topics(timeout=30)
    check(described.cluster_id, f"the cluster has an id: {described.cluster_id}")
    check_equal(listed.cluster_id, described.cluster_id, "the same one in the metadata")
    nodes = {node.id: (node.host, node.port) for node in described.nodes}
    brokers = {broker.id: (broker.host, broker.port) for broker in listed.brokers.values()}
    check_equal(nodes, brokers, f"{len(nodes)} brokers, the same by both requests")
    check(described.controller.id in nodes, "the controller is one of them")
    ports = {port for _, port in nodes.values()}
    check_equal(len(ports), len(nodes), "every broker has a port of its own")


@feature
def leaders_spread_over_brokers(bootstrap):
    topic = create_topic(bootstrap, topic_name("spread"), partitions=8)
    brokers = set(admin(bootstrap).list_topics(timeout=30).brokers)
    leaders = {p.leader for p in metadata(bootstrap, topic).partitions.values()}
    check_equal(leaders, brokers, f"8 partitions are led by all of the {len(brokers)} brokers")


@feature
def topic_ids(bootstrap):
    client = admin(bootstrap)

    def id_of(topic):
        futures = client.describe_topics(TopicCollection([topic]))
        return str(futures[topic].result(DEADLINE_SECONDS).topic_id)

    first = create_topic(bootstrap, topic_name("first"))
    second = create_topic(bootstrap, topic_name("second"))
    check(id_of(first) != id_of(second), "two topics have two ids")
    check_equal(id_of(first), id_of(first), "an id stays")
    old = id_of(first)
    client.delete_topics([first], operation_timeout=30)[first].result(DEADLINE_SECONDS)
    until(lambda: first not in client.list_topics(timeout=30).topics, "the topic is gone")
    create_topic(bootstrap, first)
    check(id_of(first) != old, "a topic made again under the old name has a new id")


if __name__ == "__main__":
    main()
