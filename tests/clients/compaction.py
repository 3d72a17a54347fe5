"""A compacted topic through confluent-kafka and kafka-python: the last value of each key stays, at
its own offset, whatever codec its producer used."""

import random

from checks import DEADLINE_SECONDS, check, check_equal, feature, main, until
from confluent_session import KafkaError, admin, consume, create_topic, produce, producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

TOPIC = "compacted"
KEYS = 50
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Each codec's part: with values of 4 KiB that nothing compresses, several segments.
RECORDS_PER_CODEC = 1200
VALUE_BYTES = 4096
# Every so many keys the last record is a tombstone.
TOMBSTONES = 10


def record(number):
    """Key and value at an offset: any run can tell what the topic must hold."""
    chance = random.Random(number)
    key = chance.randrange(KEYS)
    if key % TOMBSTONES == 3:
        return f"key-{key}".encode(), None
    return f"key-{key}".encode(), chance.randbytes(VALUE_BYTES)


def records():
    return [record(number) for number in range(len(CODECS) * RECORDS_PER_CODEC)]


def latest():
    """Offset and value of the last record of each key."""
    return {key: (offset, value) for offset, (key, value) in enumerate(records())}


@feature
def fill(bootstrap):
    config = {"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "3600000"}
    create_topic(bootstrap, TOPIC, config=config)
    everything = records()
    for place, codec in enumerate(CODECS):
        client = producer(bootstrap, compression_type=codec, linger_ms=20)
        part = everything[place * RECORDS_PER_CODEC : (place + 1) * RECORDS_PER_CODEC]
        made = [{"topic": TOPIC, "partition": 0, "key": k, "value": v} for k, v in part]
        delivered = produce(client, made)
        check_equal(delivered.errors, [], f"{codec}: all are taken")
        offsets = [message.offset() for message in delivered.messages]
        first = place * RECORDS_PER_CODEC
        check_equal(offsets, list(range(first, first + RECORDS_PER_CODEC)), f"{codec}: offsets")
        if place == 1:
            compact_from_now_on(bootstrap)


def compact_from_now_on(bootstrap):
    """What was written before is compacted too."""
    change = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[change])
    altered = admin(bootstrap).incremental_alter_configs([resource])[resource]
    altered.result(DEADLINE_SECONDS)


@feature
def other_traffic(bootstrap):
    """What fills segments behind the compacted topic's last records."""
    create_topic(bootstrap, "others")
    client = producer(bootstrap, linger_ms=20)
    value = random.Random(1).randbytes(16 << 10)
    made = [{"topic": "others", "partition": 0, "key": b"k", "value": value}] * 1600
    check_equal(produce(client, made).errors, [], "all are taken")


def check_compacted(found, who):
    """`found`: offset, key, value of each record, in the order in which they came."""
    offsets = [offset for offset, _, _ in found]
    check_equal(offsets, sorted(set(offsets)), f"{who}: offsets rise")
    everything = records()
    for offset, key, value in found:
        if (key, value) != everything[offset]:
            check_equal((key, value), everything[offset], f"{who}: the record at {offset}")
    check_equal(
        {key: (offset, value) for offset, key, value in found},
        latest(),
        f"{who}: the last value of each key, at its offset",
    )
    check(
        len(found) < len(everything) // 4,
        f"{who}: {len(found)} of {len(everything)} records are left",
    )


@feature
def wait_until_compacted(bootstrap):
    # The cleaner works at the lowest priority: on a busy machine it takes its time.
    few = len(records()) // 4
    until(lambda: len(consume(bootstrap, TOPIC)[0]) < few, "the topic to be compacted", 150)
    print("  ok: it is compacted")


@feature
def last_values(bootstrap):
    messages = consume(bootstrap, TOPIC)[0]
    found = [(message.offset(), message.key(), message.value()) for message in messages]
    check_compacted(found, "librdkafka")
    # From within a gap a reader goes on at the next record.
    there = {offset for offset, _, _ in found}
    gap = next(offset for offset in range(len(records())) if offset not in there)
    messages = consume(bootstrap, TOPIC, start=gap)[0]
    following = min(offset for offset in there if offset > gap)
    check_equal(messages[0].offset(), following, f"read from {gap}, in a gap")


@feature
def last_values_by_kafka_python(bootstrap):
    try:
        from kafka import KafkaConsumer, TopicPartition
    except ImportError as missing:
        print(f"  not installed: {missing}")
        return
    client = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    partition = TopicPartition(TOPIC, 0)
    client.assign([partition])
    client.seek_to_beginning(partition)
    end = client.end_offsets([partition])[partition]
    check_equal(end, len(records()), "the end is where it was")
    found = []
    while client.position(partition) < end:
        for message in client.poll(timeout_ms=1000).get(partition, []):
            found.append((message.offset, message.key, message.value))
    client.close()
    check_compacted(found, "kafka-python")


@feature
def keyless(bootstrap):
    for codec in CODECS:
        client = producer(bootstrap, compression_type=codec)
        refused = produce(client, [{"topic": TOPIC, "partition": 0, "value": b"no key"}])
        codes = [error.code() for error in refused.errors]
        check_equal(codes, [KafkaError.INVALID_RECORD], f"{codec}: a record without a key")


if __name__ == "__main__":
    main()
