"""Produce and consume with kafka-python: partitions assigned by hand, or by a group."""

import sys
import threading
import time

try:
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name


def create_topic(bootstrap, stem, partitions=1):
    topic = topic_name(stem)
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    client.create_topics([NewTopic(topic, partitions, 1)])
    client.close()
    return topic


def poll_until(members, is_done, failure):
    """Polls each member in a thread of its own. In turns, it can go on for ever: a rebalance that ends
    between two polls of a member is begun again by its next one (kafka-python 3.0.12, join_group_async)."""
    over = threading.Event()

    def poll(member):
        while not over.is_set():
            member.poll(timeout_ms=500)

    threads = [threading.Thread(target=poll, args=[member]) for member in members]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while not is_done():
            if time.monotonic() > deadline:
                raise Failed(failure)
            time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def consume(bootstrap, topic, partitions, count):
    client = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    assigned = [TopicPartition(topic, number) for number in range(partitions)]
    client.assign(assigned)
    client.seek_to_beginning(*assigned)
    found = {number: [] for number in range(partitions)}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while sum(len(records) for records in found.values()) < count:
        if time.monotonic() > deadline:
            raise Failed(f"{count} records were not read within {DEADLINE_SECONDS} s")
        for where, records in client.poll(timeout_ms=200).items():
            found[where.partition].extend(records)
    client.close()
    return found


@feature
def round_trip(bootstrap):
    topic = create_topic(bootstrap, "kafka-python", partitions=3)
    client = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    futures = [
        client.send(
            topic,
            partition=n % 3,
            key=None if n % 5 == 0 else f"k{n}".encode(),
            value=None if n % 7 == 0 and n % 5 else f"v{n}".encode(),
            headers=[("n", str(n).encode())],
            timestamp_ms=1_700_000_000_000 + n,
        )
        for n in range(600)
    ]
    client.flush(timeout=DEADLINE_SECONDS)
    places = [future.get(timeout=DEADLINE_SECONDS) for future in futures]
    check_equal([p.offset for p in places], [n // 3 for n in range(600)], "acknowledged offsets")
    client.close()
    for number, records in consume(bootstrap, topic, 3, 600).items():
        mine = range(number, 600, 3)
        check_equal([r.offset for r in records], list(range(200)), f"partition {number}: offsets")
        check_equal(
            [(r.key, r.value, list(r.headers), r.timestamp) for r in records],
            [
                (
                    None if n % 5 == 0 else f"k{n}".encode(),
                    None if n % 7 == 0 and n % 5 else f"v{n}".encode(),
                    [("n", str(n).encode())],
                    1_700_000_000_000 + n,
                )
                for n in mine
            ],
            f"partition {number}: keys, values, headers and timestamps, nulls too",
        )


@feature
def codecs(bootstrap):
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        topic = create_topic(bootstrap, f"kafka-python-{codec}")
        client = KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=20)
        values = [f"{n}-{'x' * 80}".encode() for n in range(500)]
        for value in values:
            client.send(topic, value)
        client.flush(timeout=DEADLINE_SECONDS)
        client.close()
        found = consume(bootstrap, topic, 1, 500)[0]
        check_equal([record.value for record in found], values, f"{codec}: as sent")


@feature
def idempotence(bootstrap):
    topic = create_topic(bootstrap, "kafka-python-idempotent")
    client = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    futures = [client.send(topic, str(n).encode()) for n in range(2000)]
    client.flush(timeout=DEADLINE_SECONDS)
    offsets = [future.get(timeout=DEADLINE_SECONDS).offset for future in futures]
    client.close()
    check_equal(offsets, list(range(2000)), "offsets as acknowledged")
    found = consume(bootstrap, topic, 1, 2000)[0]
    check_equal([int(r.value) for r in found], list(range(2000)), "each once, in order")


@feature
def offsets(bootstrap):
    topic = create_topic(bootstrap, "kafka-python-offsets")
    client = KafkaProducer(bootstrap_servers=bootstrap)
    for n in range(50):
        client.send(topic, b"x", timestamp_ms=1_700_000_000_000 + n * 100)
    client.flush(timeout=DEADLINE_SECONDS)
    client.close()
    reader = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    where = TopicPartition(topic, 0)
    check_equal(reader.beginning_offsets([where])[where], 0, "the beginning")
    check_equal(reader.end_offsets([where])[where], 50, "the end")
    at = reader.offsets_for_times({where: 1_700_000_000_000 + 1950})[where]
    check_equal(at.offset, 20, "by timestamp")
    check(topic in reader.topics(), "listed among the topics")
    check_equal(reader.partitions_for_topic(topic), {0}, "and its partitions")
    reader.close()


@feature
def groups(bootstrap):
    topic = create_topic(bootstrap, "kafka-python-groups", partitions=2)
    group = topic_name("kafka-python")
    client = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for n in range(20):
        client.send(topic, partition=n % 2, value=str(n).encode())
    client.flush(timeout=DEADLINE_SECONDS)
    client.close()

    def member():
        return KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        )

    def read(member, count):
        found = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(found) < count:
            if time.monotonic() > deadline:
                raise Failed(f"{count} records were not read within {DEADLINE_SECONDS} s")
            for records in member.poll(timeout_ms=200).values():
                found.extend(int(record.value) for record in records)
        return sorted(found)

    first = member()
    check_equal(read(first, 20), list(range(20)), "a member reads all")
    first.commit()
    second = member()
    poll_until(
        [first, second],
        lambda: len(first.assignment()) == len(second.assignment()) == 1,
        "two members do not share two partitions",
    )
    check(first.assignment() != second.assignment(), "two members share")
    first.close()
    where = [TopicPartition(topic, number) for number in range(2)]
    check_equal([second.committed(at) for at in where], [10, 10], "what was committed")
    poll_until(
        [second],
        lambda: len(second.assignment()) == 2,
        "the member that is left does not take over",
    )
    check_equal(set(second.assignment()), set(where), "the one that is left has both")
    second.close()


if __name__ == "__main__":
    main()
