"""Consumer groups by the confluent-kafka library: subscribing, rebalancing, committing."""

import multiprocessing
import os
import signal
import sys
import time

try:
    from confluent_kafka import Consumer, ConsumerGroupState, TopicPartition
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name, until
from confluent_session import admin, create_topic, produce, producer


def member(bootstrap, group, topic, **settings):
    merged = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
    }
    merged.update({name.replace("_", "."): value for name, value in settings.items()})
    client = Consumer(merged)
    client.subscribe([topic])
    return client


def read(client, count, commit=False):
    """Values of so many records."""
    found = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(found) < count:
        if time.monotonic() > deadline:
            raise Failed(f"{len(found)} of {count} records within {DEADLINE_SECONDS} s")
        for message in client.consume(count - len(found), 0.2):
            if message.error():
                raise Failed(f"consuming: {message.error()}")
            found.append(int(message.value()))
            if commit:
                client.commit(message=message, asynchronous=False)
    return found


def settle(clients, partitions, what):
    """Polls all until each partition is with exactly one of them, and returns who has what."""

    def assigned():
        for client in clients:
            client.poll(0.05)
        parts = [sorted(p.partition for p in client.assignment()) for client in clients]
        together = sorted(number for part in parts for number in part)
        return parts if together == list(range(partitions)) and all(parts) else None

    return until(assigned, what)


def fill(bootstrap, topic, numbers, partitions=1):
    records = [
        {"topic": topic, "partition": n % partitions, "value": str(n).encode()} for n in numbers
    ]
    delivered = produce(producer(bootstrap), records)
    check_equal(delivered.errors, [], f"{len(records)} records are delivered")


def live_and_be_killed(bootstrap, group, topic, ready):
    client = member(bootstrap, group, topic)
    while True:
        client.poll(0.1)
        if client.assignment():
            ready.set()


@feature
def three_members_and_one_is_killed(bootstrap):
    topic = create_topic(bootstrap, topic_name("groups-three"), partitions=6)
    group = topic_name("three")
    ready = multiprocessing.Event()
    arguments = (bootstrap, group, topic, ready)
    doomed = multiprocessing.Process(target=live_and_be_killed, args=arguments, daemon=True)
    doomed.start()
    check(ready.wait(DEADLINE_SECONDS), "the first member has all partitions")
    others = [member(bootstrap, group, topic) for _ in range(2)]

    def shared():
        for client in others:
            client.poll(0.05)
        return [len(client.assignment()) for client in others] == [2, 2]

    until(shared, "three members share six partitions")
    os.kill(doomed.pid, signal.SIGKILL)
    parts = settle(others, 6, "the two others take over when its session ends")
    check_equal([len(part) for part in parts], [3, 3], "three partitions each")
    fill(bootstrap, topic, range(60), partitions=6)
    found = []

    def all_read():
        for client in others:
            for message in client.consume(100, 0.1):
                found.append(int(message.value()))
        return len(found) >= 60

    until(all_read, "all records are read")
    check_equal(sorted(found), list(range(60)), "each once")
    for client in others:
        client.close()


@feature
def a_group_resumes_where_it_committed(bootstrap):
    topic = create_topic(bootstrap, topic_name("groups-resume"))
    group = topic_name("resume")
    fill(bootstrap, topic, range(20))
    client = member(bootstrap, group, topic)
    check_equal(read(client, 7, commit=True), list(range(7)), "the first seven")
    client.close()
    client = member(bootstrap, group, topic)
    check_equal(read(client, 13), list(range(7, 20)), "the rest, by the next member")
    where = client.committed([TopicPartition(topic, 0)], DEADLINE_SECONDS)[0]
    check_equal(where.offset, 7, "what was committed")
    client.commit(offsets=[TopicPartition(topic, 0, 9, "a note")], asynchronous=False)
    where = client.committed([TopicPartition(topic, 0)], DEADLINE_SECONDS)[0]
    check_equal((where.offset, where.metadata), (9, "a note"), "with metadata")
    client.close()


@feature
def cooperative_members_keep_what_they_have(bootstrap):
    topic = create_topic(bootstrap, topic_name("groups-cooperative"), partitions=4)
    group = topic_name("cooperative")
    strategy = {"partition.assignment.strategy": "cooperative-sticky"}
    first = member(bootstrap, group, topic, **strategy)
    settle([first], 4, "one member has all")
    second = member(bootstrap, group, topic, **strategy)
    parts = settle([first, second], 4, "two share")
    check_equal([len(part) for part in parts], [2, 2], "two partitions each")
    second.close()
    settle([first], 4, "one has all again")
    first.close()


@feature
def a_static_member_returns_without_a_rebalance(bootstrap):
    topic = create_topic(bootstrap, topic_name("groups-static"), partitions=2)
    group = topic_name("static")
    other = member(bootstrap, group, topic, group_instance_id="other")
    first = member(bootstrap, group, topic, group_instance_id="first")
    before = settle([first, other], 2, "two static members share")
    # A static member that closes does not leave.
    first.close()
    first = member(bootstrap, group, topic, group_instance_id="first")
    after = settle([first, other], 2, "it is back")
    check_equal(after, before, "with the same partitions")
    first.close()
    other.close()


@feature
def operators_see_and_delete_groups(bootstrap):
    topic = create_topic(bootstrap, topic_name("groups-admin"), partitions=2)
    group = topic_name("admin")
    client = member(bootstrap, group, topic)
    settle([client], 2, "a member has all")
    fill(bootstrap, topic, range(4), partitions=2)
    read(client, 4, commit=True)
    operator = admin(bootstrap)
    described = operator.describe_consumer_groups([group])[group].result(DEADLINE_SECONDS)
    check_equal(described.state, ConsumerGroupState.STABLE, "it is stable")
    check_equal(len(described.members), 1, "it has a member")
    partitions = described.members[0].assignment.topic_partitions
    check_equal(sorted(p.partition for p in partitions), [0, 1], "with both partitions")
    listed = operator.list_consumer_groups().result(DEADLINE_SECONDS)
    check(group in [found.group_id for found in listed.valid], "it is listed")
    client.close()
    operator.delete_consumer_groups([group])[group].result(DEADLINE_SECONDS)
    listed = operator.list_consumer_groups().result(DEADLINE_SECONDS)
    check(group not in [found.group_id for found in listed.valid], "it is gone")


if __name__ == "__main__":
    main()
