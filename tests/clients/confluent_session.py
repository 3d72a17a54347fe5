"""Producers, consumers and topics by the confluent-kafka library, as its documentation shows them.

No consumer groups: partitions are assigned by hand, offsets are given.
"""

import functools
import json
import os
import sys
import time

try:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, Failed


def settings_of_all():
    """Settings of every client, of which the test says what they are: how to log in, for one."""
    return json.loads(os.environ.get("KAFKA_CLIENT", "{}"))


@functools.cache
def admin(bootstrap):
    """One admin client for the whole script: collecting it cancels its requests in progress."""
    return AdminClient({**settings_of_all(), "bootstrap.servers": bootstrap})


def create_topic(bootstrap, name, partitions=1, config=None, replication_factor=1):
    new = NewTopic(name, partitions, replication_factor, config=config or {})
    futures = admin(bootstrap).create_topics([new], operation_timeout=30)
    futures[name].result(DEADLINE_SECONDS)
    return name


def producer(bootstrap, **settings):
    merged = {
        **settings_of_all(),
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "message.timeout.ms": 50_000,
    }
    merged.update({name.replace("_", "."): value for name, value in settings.items()})
    return Producer(merged)


class Delivered:
    """What the delivery reports said, in the order in which they came."""

    def __init__(self):
        self.messages = []
        self.errors = []

    def __call__(self, error, message):
        if error is None:
            self.messages.append(message)
        else:
            self.errors.append(error)


def produce(client, records):
    """Produces keyword records, waits for all of them, and returns the reports."""
    delivered = Delivered()
    for record in records:
        while True:
            try:
                client.produce(on_delivery=delivered, **record)
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    left = client.flush(DEADLINE_SECONDS)
    if left:
        raise Failed(f"{left} records were not delivered within {DEADLINE_SECONDS} s")
    return delivered


def consumer(bootstrap, assignment, **settings):
    merged = {
        **settings_of_all(),
        "bootstrap.servers": bootstrap,
        "group.id": "assigned-by-hand",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "check.crcs": True,
    }
    merged.update({name.replace("_", "."): value for name, value in settings.items()})
    client = Consumer(merged)
    client.assign([TopicPartition(topic, number, offset) for topic, number, offset in assignment])
    return client


def consume(bootstrap, topic, partitions=1, start=OFFSET_BEGINNING, **settings):
    """Reads each partition up to its end and returns {partition: [messages]}."""
    client = consumer(
        bootstrap, [(topic, number, start) for number in range(partitions)], **settings
    )
    found = {number: [] for number in range(partitions)}
    ended = set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(ended) < partitions:
        if time.monotonic() > deadline:
            raise Failed(f"ends of partitions reached: {len(ended)} of {partitions}")
        for message in client.consume(1000, 0.2):
            error = message.error()
            if error is None:
                found[message.partition()].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise Failed(f"consuming {topic}: {error}")
    client.close()
    return found
