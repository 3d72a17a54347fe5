"""What clients meet at the limits of a node, with confluent-kafka (librdkafka)."""

import threading

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name
from confluent_session import TopicPartition, consume, consumer, create_topic, produce, producer

# The protocol's number.
INVALID_RECORD = 87

# More than a node opens of a batch (128 MiB), in a few hundred kilobytes when compressed.
BOMB_BYTES = 140 << 20


def sent(bootstrap, topic, codec, value):
    """What became of one record with a key: an error, or None."""
    outcome = []
    client = producer(
        bootstrap,
        compression_type=codec,
        message_max_bytes=200 << 20,
        queue_buffering_max_kbytes=1 << 20,
    )
    client.produce(topic, key=b"k", value=value, on_delivery=lambda error, _: outcome.append(error))
    client.flush(DEADLINE_SECONDS)
    check_equal(len(outcome), 1, f"a record of {len(value)} bytes, {codec}, came to an end")
    return outcome[0]


@feature
def bombs(bootstrap):
    """A topic that is compacted wants a key of every record, so its batches are opened."""
    compacted = create_topic(
        bootstrap,
        topic_name("bombs"),
        config={"cleanup.policy": "compact", "max.message.bytes": str(15 << 20)},
    )
    bomb = bytes(BOMB_BYTES)
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        error = sent(bootstrap, compacted, codec, bomb)
        check(error is not None, f"{codec}: refused with {error}")
        check_equal(error.code(), INVALID_RECORD, f"{codec}: a code with which clients do not try again")
        error = sent(bootstrap, compacted, codec, bytes(1 << 20))
        check(error is None, f"{codec}: what is as compressible and within the limit is stored")


@feature
def a_time_within_a_bomb(bootstrap):
    """A topic that takes everything; the batch is opened only to find a time in it."""
    topic = create_topic(bootstrap, topic_name("time-in-a-bomb"))
    early, late = 1_700_000_000_000, 1_700_000_060_000
    client = producer(
        bootstrap,
        compression_type="zstd",
        message_max_bytes=200 << 20,
        queue_buffering_max_kbytes=1 << 20,
        batch_size=200 << 20,
        linger_ms=30_000,
    )
    records = [(bytes(BOMB_BYTES), early), (b"behind it", late)]
    both = [{"topic": topic, "value": value, "timestamp": at} for value, at in records]
    check_equal(len(produce(client, both).messages), 2, "both records of a batch are stored")
    asking = consumer(bootstrap, [(topic, 0, 0)])
    wanted = TopicPartition(topic, 0, early + 1)
    found = asking.offsets_for_times([wanted], timeout=DEADLINE_SECONDS)[0].offset
    check_equal(found, 0, "a reader that begins with the batch misses nothing")
    asking.close()


@feature
def many_consumers(bootstrap):
    """Together they ask for far more at a time than the node gives to answers."""
    topic = create_topic(bootstrap, topic_name("many-consumers"))
    count, value = 60, bytes(500_000)
    produce(producer(bootstrap), [{"topic": topic, "value": value} for _ in range(count)])
    found, readers = {}, 8

    def read(number):
        # Of its fetches each may bring all there is.
        most = 50 << 20
        messages = consume(bootstrap, topic, fetch_max_bytes=most, max_partition_fetch_bytes=most)
        found[number] = [message.offset() for message in messages[0]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(readers):
        if found.get(number) != list(range(count)):
            raise Failed(f"reader {number} found {found.get(number)}")
    check(True, f"{readers} consumers read all {count} records, in order")


if __name__ == "__main__":
    main()
