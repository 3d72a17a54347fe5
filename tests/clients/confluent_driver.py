"""confluent-kafka (librdkafka) as one of the clients of the matrix: see driver.py."""

import collections
import logging
import os
import sys
import threading

try:
    import confluent_kafka
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewTopic,
    )
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

import driver
from driver import DEADLINE_SECONDS, Credentials, Reader


class Said(logging.Handler):
    """What librdkafka said last of itself, of the kinds in `DRIVER_DEBUG`: printed when events are refused."""

    LINES = 4000

    def __init__(self):
        super().__init__()
        self.kinds = os.environ.get("DRIVER_DEBUG")
        self._lines = collections.deque(maxlen=self.LINES)
        self._logger = logging.Logger("librdkafka")
        self._logger.addHandler(self)

    def producer(self, settings):
        if self.kinds is None:
            return Producer(settings)
        return Producer(settings | {"debug": self.kinds}, logger=self._logger)

    def emit(self, record):
        self._lines.append(f"{record.created:.3f} {record.getMessage()}")

    def print(self):
        print("\n".join(self._lines), file=sys.stderr, flush=True)


class Confluent:
    def __init__(self, bootstrap, history):
        self._servers = {"bootstrap.servers": bootstrap} | Credentials().for_librdkafka()
        self._history = history
        self._admin = AdminClient(self._servers)
        self._member = None

    def version(self):
        return f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"

    def produce(self, topic, partitions, producer, first, count, codec="none", idempotent="", headers="", timestamps=""):
        settings = {"acks": "all", "compression.type": codec, "message.timeout.ms": 60_000}
        settings |= {"enable.idempotence": bool(idempotent), "linger.ms": 5}
        # Without idempotence a repeated request may be stored twice; these tests do not provoke that.
        said = Said()
        client = said.producer(self._servers | settings)
        refused = []

        def told(event):
            def report(error, message):
                if error is not None:
                    return refused.append(error)
                where = {"topic": topic, "partition": message.partition()}
                self._history.write("acknowledged", id=event.id, **where, offset=message.offset())

            return report

        for event in driver.events(producer, first, count, partitions, headers, timestamps):
            self._history.write("sent", **event.sent(topic))
            record = {"partition": event.partition, "key": event.key, "value": event.value}
            if headers:
                record["headers"] = list(event.headers.items())
            if timestamps:
                record["timestamp"] = event.timestamp
            client.produce(topic, on_delivery=told(event), **record)
            client.poll(0)
        left = client.flush(130)
        if left or refused:
            said.print()
            raise RuntimeError(f"{left} records are left, refused: {refused[:3]}")

    def consume(self, topic, partitions, group):
        settings = {"group.id": group, "enable.auto.commit": False, "check.crcs": True}
        client = Consumer(self._servers | settings)
        since = driver.now()
        ends = {}
        for number in range(int(partitions)):
            where = TopicPartition(topic, number)
            ends[number] = client.get_watermark_offsets(where, DEADLINE_SECONDS)[1]
        client.assign([TopicPartition(topic, number, 0) for number in ends])
        reader = Reader(self._history, group, group)
        next_offsets = dict.fromkeys(ends, 0)

        def ended():
            for partition, offset in self._read(client, reader, 0.5).items():
                next_offsets[partition.partition] = offset
            return all(next_offsets[number] >= end for number, end in ends.items())

        driver.within(ended, f"reading {topic} to its end")
        client.close()
        driver.write_ends(self._history, group, topic, ends, since)

    def _read(self, client, reader, seconds):
        """Reads what has come, and returns what could be committed."""
        reached = {}
        for message in client.consume(500, seconds):
            if message.error():
                print(f"consuming: {message.error()}", file=sys.stderr)
                continue
            place = (message.topic(), message.partition(), message.offset())
            content = (message.value(), message.key(), message.timestamp()[1], message.headers())
            reader.read(*place, *content)
            reached[TopicPartition(*place[:2])] = place[2] + 1
        return reached

    def join(self, group, member, topic):
        settings = {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            # So that a group of different clients agrees.
            "partition.assignment.strategy": "range",
            "topic.metadata.refresh.interval.ms": 1000,
            "reconnect.backoff.max.ms": 500,
        }
        leave = threading.Event()
        arguments = (settings, Reader(self._history, group, member), topic, leave)
        thread = threading.Thread(target=self._live, args=arguments)
        thread.start()
        self._member = (thread, leave)

    def _live(self, settings, reader, topic, leave):
        client = Consumer(self._servers | settings)

        def assigned(_, partitions):
            reader.assigned([(p.topic, p.partition) for p in partitions])

        client.subscribe([topic], on_assign=assigned)
        while not leave.is_set():
            reached = self._read(client, reader, 0.1)
            for partition, offset in reached.items():
                reader.committing(partition.topic, partition.partition, offset)
            offsets = [TopicPartition(p.topic, p.partition, offset) for p, offset in reached.items()]
            try:
                answers = client.commit(offsets=offsets, asynchronous=False) if offsets else []
            except KafkaException as refused:
                # The group is rebalancing, or its node is away: what was read comes again.
                print(f"committing: {refused}", file=sys.stderr)
                continue
            for answer in answers:
                if answer.error is None:
                    reader.committed(answer.topic, answer.partition, answer.offset)
        client.close()

    def leave(self):
        thread, leave = self._member
        leave.set()
        thread.join(DEADLINE_SECONDS)
        if thread.is_alive():
            raise TimeoutError("the member does not leave")

    def committed(self, group, topic, partitions):
        client = Consumer(self._servers | {"group.id": group})
        since = driver.now()
        asked = [TopicPartition(topic, number) for number in range(int(partitions))]
        found = client.committed(asked, DEADLINE_SECONDS)
        client.close()
        offsets = {p.partition: p.offset if p.offset >= 0 else -1 for p in found}
        driver.write_told(self._history, group, topic, offsets, since)
        return ",".join(str(offsets[number]) for number in sorted(offsets))

    def create(self, topic, partitions, settings=""):
        new = NewTopic(topic, int(partitions), 1, config=driver.settings_of(settings))
        self._admin.create_topics([new])[topic].result(DEADLINE_SECONDS)

    def describe(self, topic):
        return len(self._admin.list_topics(topic, timeout=30).topics[topic].partitions)

    def topics(self):
        return ",".join(self._admin.list_topics(timeout=30).topics)

    def delete(self, topic):
        self._admin.delete_topics([topic])[topic].result(DEADLINE_SECONDS)

    def config(self, topic, name):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self._admin.describe_configs([resource])[resource].result(DEADLINE_SECONDS)
        return found[name].value

    def alter(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(
            ConfigResource.Type.TOPIC, topic, incremental_configs=[entry]
        )
        done = self._admin.incremental_alter_configs([resource])
        done[resource].result(DEADLINE_SECONDS)

    def groups(self):
        listed = self._admin.list_consumer_groups().result(DEADLINE_SECONDS)
        if listed.errors:
            raise RuntimeError(str(listed.errors))
        return ",".join(found.group_id for found in listed.valid)

    def group(self, group):
        found = self._admin.describe_consumer_groups([group])[group].result(DEADLINE_SECONDS)
        return f"{found.state.name} {len(found.members)}"

    def delete_group(self, group):
        self._admin.delete_consumer_groups([group])[group].result(DEADLINE_SECONDS)


if __name__ == "__main__":
    driver.serve(Confluent)
