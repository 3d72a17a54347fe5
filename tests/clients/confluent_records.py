"""Produce and consume with confluent-kafka (librdkafka): every shape a record can have."""

import threading
import time

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name
from confluent_session import (
    KafkaError,
    OFFSET_BEGINNING,
    TopicPartition,
    consume,
    consumer,
    create_topic,
    produce,
    producer,
)
from confluent_kafka import (
    OFFSET_END,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaException,
)


@feature
def round_trip(bootstrap):
    """Keys, values and order over several partitions."""
    topic = create_topic(bootstrap, topic_name("round-trip"), partitions=4)
    records = [
        {"topic": topic, "partition": n % 4, "key": f"key-{n}", "value": f"value-{n}"}
        for n in range(2000)
    ]
    delivered = produce(producer(bootstrap), records)
    check_equal(len(delivered.messages), 2000, "2000 records were acknowledged")
    found = consume(bootstrap, topic, 4)
    for number in range(4):
        expected = [(f"key-{n}".encode(), f"value-{n}".encode()) for n in range(number, 2000, 4)]
        check_equal(
            [(m.key(), m.value()) for m in found[number]], expected, f"partition {number} in order"
        )
        check_equal([m.offset() for m in found[number]], list(range(500)), "dense offsets from 0")
    reported = sorted((m.partition(), m.offset()) for m in delivered.messages)
    check_equal(
        reported,
        [(number, offset) for number in range(4) for offset in range(500)],
        "each acknowledgement named the record's own offset",
    )


@feature
def by_key_partitioning(bootstrap):
    """Records of one key stay in one partition, in order (the client's own partitioner)."""
    topic = create_topic(bootstrap, topic_name("by-key"), partitions=8)
    records = [{"topic": topic, "key": f"k{n % 50}", "value": str(n)} for n in range(1000)]
    produce(producer(bootstrap), records)
    home, last = {}, {}
    for number, messages in consume(bootstrap, topic, 8).items():
        for message in messages:
            if home.setdefault(message.key(), number) != number:
                raise Failed(f"{message.key()} lies in partitions {home[message.key()]}, {number}")
            value = int(message.value())
            if last.get(message.key(), -1) >= value:
                raise Failed(f"{message.key()}: {value} behind {last[message.key()]}")
            last[message.key()] = value
    check_equal(len(home), 50, "50 keys, each in one partition and in order")
    check(len(set(home.values())) > 1, "the keys spread over several partitions")


@feature
def headers(bootstrap):
    topic = create_topic(bootstrap, topic_name("headers"))
    sent = [("trace", b"\x00\x01\xff"), ("empty", b""), ("absent", None), ("trace", b"again")]
    produce(
        producer(bootstrap),
        [
            {"topic": topic, "value": "with", "headers": sent},
            {"topic": topic, "value": "without"},
            {"topic": topic, "value": "many", "headers": [(f"h{n}", b"x" * n) for n in range(100)]},
        ],
    )
    found = consume(bootstrap, topic)[0]
    check_equal(found[0].headers(), sent, "headers keep order, repeats, empty and null values")
    check_equal(found[1].headers(), None, "no headers stay no headers")
    check_equal(
        found[2].headers(), [(f"h{n}", b"x" * n) for n in range(100)], "a hundred headers"
    )


@feature
def nulls_and_empties(bootstrap):
    """A null is not an empty string, neither as key nor as value."""
    topic = create_topic(bootstrap, topic_name("nulls"))
    pairs = [(None, None), (None, b""), (b"", None), (b"", b""), (b"k", None), (None, b"v")]
    produce(
        producer(bootstrap), [{"topic": topic, "key": key, "value": value} for key, value in pairs]
    )
    found = [(m.key(), m.value()) for m in consume(bootstrap, topic)[0]]
    check_equal(found, pairs, "null and empty keys and values are told apart (tombstones)")


@feature
def binary_values(bootstrap):
    topic = create_topic(bootstrap, topic_name("binary"))
    values = [bytes(range(256)), b"\x00" * 1000, b"\xff" * 1000, b"\r\n\x00\n"]
    produce(producer(bootstrap), [{"topic": topic, "key": v, "value": v} for v in values])
    found = [(m.key(), m.value()) for m in consume(bootstrap, topic)[0]]
    check_equal(found, [(v, v) for v in values], "every byte value survives")


@feature
def create_time(bootstrap):
    topic = create_topic(
        bootstrap, topic_name("create-time"), config={"message.timestamp.type": "CreateTime"}
    )
    now_ms = int(time.time() * 1000)
    stamps = [now_ms, now_ms - 86_400_000, now_ms - 5, 1]
    produce(
        producer(bootstrap),
        [{"topic": topic, "value": str(stamp), "timestamp": stamp} for stamp in stamps],
    )
    found = [m.timestamp() for m in consume(bootstrap, topic)[0]]
    check_equal(
        found,
        [(TIMESTAMP_CREATE_TIME, stamp) for stamp in stamps],
        "the producer's timestamps come back, out of order ones too",
    )


@feature
def log_append_time(bootstrap):
    topic = create_topic(
        bootstrap, topic_name("append-time"), config={"message.timestamp.type": "LogAppendTime"}
    )
    before_ms = int(time.time() * 1000)
    for codec in ("none", "lz4"):
        delivered = produce(
            producer(bootstrap, compression_type=codec),
            [{"topic": topic, "value": "x" * 100, "timestamp": 1000 + n} for n in range(50)],
        )
        kinds = {m.timestamp()[0] for m in delivered.messages}
        check_equal(kinds, {TIMESTAMP_LOG_APPEND_TIME}, f"{codec}: the answer names append time")
    after_ms = int(time.time() * 1000)
    found = [m.timestamp() for m in consume(bootstrap, topic)[0]]
    check_equal(len(found), 100, "all records are there, their checksums hold")
    check_equal({kind for kind, _ in found}, {TIMESTAMP_LOG_APPEND_TIME}, "the type is append time")
    check(
        all(before_ms - 1000 <= stamp <= after_ms + 1000 for _, stamp in found),
        "the times are the broker's, not the producer's",
    )


def codec(bootstrap, name):
    topic = create_topic(bootstrap, topic_name(f"codec-{name}"), partitions=2)
    client = producer(bootstrap, compression_type=name, linger_ms=50)
    values = [f"{n}:{'abc' * 50}".encode() for n in range(3000)]
    produce(
        client, [{"topic": topic, "partition": n % 2, "value": v} for n, v in enumerate(values)]
    )
    found = consume(bootstrap, topic, 2)
    for number in range(2):
        check_equal([m.value() for m in found[number]], values[number::2], f"{name}: as sent")
    # From the middle of a compressed batch: the client gets the whole batch and skips.
    middle = consume(bootstrap, topic, 2, start=777)
    check_equal([m.offset() for m in middle[0]][:1], [777], f"{name}: a read from the middle")
    check_equal(len(middle[0]), 723, f"{name}: and everything behind it")


@feature
def codec_none(bootstrap):
    codec(bootstrap, "none")


@feature
def codec_gzip(bootstrap):
    codec(bootstrap, "gzip")


@feature
def codec_snappy(bootstrap):
    codec(bootstrap, "snappy")


@feature
def codec_lz4(bootstrap):
    codec(bootstrap, "lz4")


@feature
def codec_zstd(bootstrap):
    codec(bootstrap, "zstd")


@feature
def idempotence(bootstrap):
    topic = create_topic(bootstrap, topic_name("idempotence"), partitions=3)
    client = producer(
        bootstrap,
        enable_idempotence=True,
        max_in_flight_requests_per_connection=5,
        linger_ms=1,
        batch_num_messages=50,
    )
    delivered = produce(
        client, [{"topic": topic, "partition": n % 3, "value": str(n)} for n in range(15_000)]
    )
    check_equal(len(delivered.messages), 15_000, "15000 acknowledged, five requests in flight")
    for number, messages in consume(bootstrap, topic, 3).items():
        check_equal(
            [int(m.value()) for m in messages],
            list(range(number, 15_000, 3)),
            f"partition {number}: each once, in order",
        )


@feature
def several_idempotent_producers(bootstrap):
    topic = create_topic(bootstrap, topic_name("idempotent-producers"))
    clients = [producer(bootstrap, enable_idempotence=True, linger_ms=0) for _ in range(4)]
    for n in range(50):
        for which, client in enumerate(clients):
            client.produce(topic, value=f"{which}:{n}", partition=0)
    for client in clients:
        check_equal(client.flush(DEADLINE_SECONDS), 0, "a producer has everything acknowledged")
    found = [m.value().decode().split(":") for m in consume(bootstrap, topic)[0]]
    for which in range(4):
        check_equal(
            [int(n) for sender, n in found if int(sender) == which],
            list(range(50)),
            f"producer {which}: each once, in order",
        )


@feature
def acknowledgement_levels(bootstrap):
    """acks 0, 1 and all; with 0 nothing is promised, but on a healthy node it arrives."""
    topic = create_topic(bootstrap, topic_name("acks"))
    for level in ("0", "1", "all"):
        produce(
            producer(bootstrap, acks=level),
            [{"topic": topic, "value": f"{level}-{n}"} for n in range(100)],
        )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = [m.value().decode() for m in consume(bootstrap, topic)[0]]
        if len(found) == 300 or time.monotonic() > deadline:
            break
    for level in ("0", "1", "all"):
        values = [value for value in found if value.startswith(f"{level}-")]
        check_equal(values, [f"{level}-{n}" for n in range(100)], f"acks={level} arrived in order")


@feature
def automatic_creation(bootstrap):
    topic = topic_name("created-by-use")
    delivered = produce(producer(bootstrap), [{"topic": topic, "value": "first", "key": "k"}])
    check_equal(delivered.errors, [], "producing to an unknown topic creates it")
    metadata = producer(bootstrap).list_topics(topic, timeout=DEADLINE_SECONDS).topics[topic]
    found = consume(bootstrap, topic, len(metadata.partitions))
    values = [m.value() for messages in found.values() for m in messages]
    check_equal(values, [b"first"], "and the record is there")


@feature
def watermarks_and_seeking(bootstrap):
    topic = create_topic(bootstrap, topic_name("watermarks"))
    client = consumer(bootstrap, [(topic, 0, OFFSET_BEGINNING)])
    where = TopicPartition(topic, 0)
    check_equal(client.get_watermark_offsets(where, timeout=30), (0, 0), "an empty partition")
    produce(producer(bootstrap), [{"topic": topic, "value": str(n)} for n in range(100)])
    check_equal(client.get_watermark_offsets(where, timeout=30), (0, 100), "a hundred records")
    check_equal([int(m.value()) for m in consume(bootstrap, topic, start=40)[0]],
                list(range(40, 100)), "from offset 40")
    check_equal(consume(bootstrap, topic, start=OFFSET_END)[0], [], "nothing behind the end")
    try:
        consume(bootstrap, topic, start=5000)
        raise AssertionError("an offset beyond the end was accepted")
    except Failed as failed:
        check("out of range" in str(failed).lower(), "an offset beyond the end is out of range")


@feature
def offsets_by_timestamp(bootstrap):
    topic = create_topic(bootstrap, topic_name("by-time"), partitions=2)
    base_ms = int(time.time() * 1000) - 1_000_000
    client = producer(bootstrap)
    # Several batches, so that the lookup has to choose between them and then within one.
    for first in range(0, 300, 100):
        produce(
            client,
            [
                {"topic": topic, "partition": 0, "value": "x", "timestamp": base_ms + n * 10}
                for n in range(first, first + 100)
            ],
        )
    reader = consumer(bootstrap, [(topic, 0, OFFSET_BEGINNING)])

    def offset_at(stamp_ms, partition=0):
        asked = [TopicPartition(topic, partition, stamp_ms)]
        return reader.offsets_for_times(asked, timeout=30)[0].offset

    check_equal(offset_at(base_ms), 0, "the first record's time")
    check_equal(offset_at(base_ms - 50_000), 0, "before everything")
    check_equal(offset_at(base_ms + 1), 1, "between two records: the later one")
    check_equal(offset_at(base_ms + 1000), 100, "the first of a batch")
    check_equal(offset_at(base_ms + 1555), 156, "inside a batch")
    check_equal(offset_at(base_ms + 2990), 299, "the last record")
    check_equal(offset_at(base_ms + 2991), OFFSET_END, "behind everything: none")
    check_equal(offset_at(base_ms, partition=1), OFFSET_END, "an empty partition: none")


@feature
def large_messages(bootstrap):
    topic = create_topic(
        bootstrap, topic_name("large"), config={"max.message.bytes": str(12_000_000)}
    )
    client = producer(bootstrap, message_max_bytes=11_000_000)
    values = [bytes([n]) * size for n, size in enumerate((1, 900_000, 10_000_000, 3, 5_000_000))]
    for value in values:
        delivered = produce(client, [{"topic": topic, "value": value}])
        check_equal(delivered.errors, [], f"{len(value)} bytes acknowledged")
    found = consume(bootstrap, topic, fetch_message_max_bytes=1_000_000)[0]
    check_equal(
        [(len(m.value()), m.value()[:1]) for m in found],
        [(len(v), v[:1]) for v in values],
        "all come back, also through fetches smaller than a message",
    )
    check(all(m.value() == v for m, v in zip(found, values)), "byte for byte")


@feature
def oversize_messages_are_refused(bootstrap):
    topic = create_topic(bootstrap, topic_name("small"), config={"max.message.bytes": "10000"})
    client = producer(bootstrap, message_max_bytes=5_000_000)
    delivered = produce(client, [{"topic": topic, "value": b"x" * 20_000}])
    check_equal(
        [error.code() for error in delivered.errors],
        [KafkaError.MSG_SIZE_TOO_LARGE],
        "20000 bytes into a topic with max.message.bytes=10000",
    )
    delivered = produce(client, [{"topic": topic, "value": b"x" * 5000}])
    check_equal(delivered.errors, [], "and a small one goes in afterwards")


@feature
def unknown_partition_is_refused(bootstrap):
    topic = create_topic(bootstrap, topic_name("two"), partitions=2)
    client = producer(bootstrap, message_timeout_ms=10_000)
    try:
        errors = produce(client, [{"topic": topic, "partition": 7, "value": "x"}]).errors
        codes = [error.code() for error in errors]
    except KafkaException as refused:
        codes = [refused.args[0].code()]
    check_equal(codes, [KafkaError._UNKNOWN_PARTITION], "partition 7 of a topic with two")


@feature
def long_poll(bootstrap):
    """A waiting consumer is woken by the record, long before its fetch would time out."""
    topic = create_topic(bootstrap, topic_name("long-poll"))
    client = producer(bootstrap, linger_ms=0)
    reader = consumer(
        bootstrap, [(topic, 0, OFFSET_BEGINNING)], fetch_wait_max_ms=30_000,
        socket_timeout_ms=60_000,
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    waits = []
    # The first record shows that the consumer is there; from then on it waits at the end.
    for n in range(21):
        started = time.monotonic()
        thread = threading.Thread(target=lambda: produce(client, [{"topic": topic, "value": "x"}]))
        thread.start()
        while True:
            message = reader.poll(1.0)
            if message is not None and message.error() is None:
                break
            check_deadline(deadline, f"record {n}")
        waits.append(time.monotonic() - started)
        thread.join()
    waits = sorted(waits[1:])
    print(f"  produce to consume: median {waits[10] * 1000:.1f} ms, worst {waits[-1] * 1000:.1f} ms")
    check(waits[-1] < 10.0, "each of 20 records came well before the 30 s wait of the fetch")


def check_deadline(deadline, what):
    if time.monotonic() > deadline:
        raise Failed(f"{what}: not within {DEADLINE_SECONDS} s")


@feature
def many_partitions(bootstrap):
    topic = create_topic(bootstrap, topic_name("wide"), partitions=300)
    delivered = produce(
        producer(bootstrap),
        [
            {"topic": topic, "partition": n % 300, "value": f"{n % 300}/{n // 300}"}
            for n in range(900)
        ],
    )
    check_equal(len(delivered.messages), 900, "three records into each of 300 partitions")
    found = consume(bootstrap, topic, 300)
    for number in range(300):
        if [m.value().decode() for m in found[number]] != [f"{number}/{n}" for n in range(3)]:
            raise Failed(f"partition {number} holds {[m.value() for m in found[number]]}")
    check(True, "each partition holds its own three")


@feature
def many_topics(bootstrap):
    names = [create_topic(bootstrap, topic_name(f"t{n}")) for n in range(40)]
    delivered = produce(producer(bootstrap), [{"topic": name, "value": name} for name in names])
    check_equal(len(delivered.messages), 40, "one producer writes to 40 topics")
    for name in names[::8]:
        check_equal([m.value().decode() for m in consume(bootstrap, name)[0]], [name], name)


@feature
def read_while_written(bootstrap):
    """A consumer that follows a producer sees every record once, in order, while it is running."""
    topic = create_topic(bootstrap, topic_name("follow"), partitions=2)
    client = producer(bootstrap, linger_ms=2)
    reader = consumer(bootstrap, [(topic, n, OFFSET_BEGINNING) for n in range(2)])
    count = 20_000
    thread = threading.Thread(
        target=lambda: produce(
            client, [{"topic": topic, "partition": n % 2, "value": str(n)} for n in range(count)]
        )
    )
    thread.start()
    seen = {0: [], 1: []}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while sum(len(values) for values in seen.values()) < count:
        check_deadline(deadline, f"{count} records")
        for message in reader.consume(1000, 0.2):
            if message.error() is None:
                seen[message.partition()].append(int(message.value()))
    thread.join()
    for number in range(2):
        check_equal(seen[number], list(range(number, count, 2)), f"partition {number} as written")


if __name__ == "__main__":
    main()
