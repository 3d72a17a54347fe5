"""kafka-python as one of the clients of the matrix: see driver.py."""

import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

try:
    import kafka
    from kafka import (
        ConsumerRebalanceListener,
        KafkaConsumer,
        KafkaProducer,
        OffsetAndMetadata,
        TopicPartition,
    )
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.errors import KafkaError
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

import driver
from driver import DEADLINE_SECONDS, Credentials, Reader


class Listener(ConsumerRebalanceListener):
    """Notes what a member gets."""

    def __init__(self, reader):
        self._reader = reader

    def on_partitions_assigned(self, assigned):
        self._reader.assigned(assigned)

    def on_partitions_revoked(self, revoked):
        pass


class KafkaPython:
    def __init__(self, bootstrap, history):
        self._servers = {"bootstrap_servers": bootstrap.split(",")}
        credentials = Credentials()
        if credentials:
            self._servers |= credentials.for_python() | {"ssl_cafile": credentials.ca_file}
        self._history = history
        self._members = ThreadPoolExecutor()
        self._member = None
        self._known_admin = None

    @property
    def _admin(self):
        if self._known_admin is None:
            self._known_admin = KafkaAdminClient(**self._servers)
        return self._known_admin

    def version(self):
        return kafka.__version__

    def produce(self, topic, partitions, producer, first, count, codec="none", idempotent="", headers="", timestamps=""):
        client = KafkaProducer(
            **self._servers,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=bool(idempotent),
            linger_ms=5,
        )
        waiting = []
        for event in driver.events(producer, first, count, partitions, headers, timestamps):
            self._history.write("sent", **event.sent(topic))
            future = client.send(
                topic,
                partition=event.partition,
                key=event.key.encode(),
                value=event.value.encode(),
                headers=[(n, v.encode()) for n, v in event.headers.items()] if headers else None,
                timestamp_ms=event.timestamp,
            )
            waiting.append((event, future))
        client.flush(timeout=DEADLINE_SECONDS)
        for event, future in waiting:
            place = future.get(timeout=DEADLINE_SECONDS)
            where = {"topic": topic, "partition": place.partition, "offset": place.offset}
            self._history.write("acknowledged", id=event.id, **where)
        client.close()

    def consume(self, topic, partitions, group):
        client = KafkaConsumer(
            **self._servers, group_id=None, enable_auto_commit=False
        )
        places = [TopicPartition(topic, number) for number in range(int(partitions))]
        client.assign(places)
        client.seek_to_beginning(*places)
        since = driver.now()
        ends = client.end_offsets(places)
        reader = Reader(self._history, group, group)

        def ended():
            self._read(client, reader, 500)
            return all(client.position(place) >= end for place, end in ends.items())

        driver.within(ended, f"reading {topic} to its end")
        client.close()
        ends = {place.partition: end for place, end in ends.items()}
        driver.write_ends(self._history, group, topic, ends, since)

    def _read(self, client, reader, milliseconds):
        """Reads what has come, and returns what could be committed."""
        reached = {}
        for place, records in client.poll(timeout_ms=milliseconds).items():
            for record in records:
                content = (record.value, record.key, record.timestamp, record.headers)
                reader.read(*place, record.offset, *content)
            reached[place] = records[-1].offset + 1
        return reached

    def join(self, group, member, topic):
        leave = threading.Event()
        reader = Reader(self._history, group, member)
        living = self._members.submit(self._live, group, reader, topic, leave)
        self._member = (living, leave)

    def _live(self, group, reader, topic, leave):
        try:
            self._poll_until(leave, group, reader, topic)
        except Exception:
            # Said at once: whoever waits for what it reads looks here, and only `leave` raises it.
            traceback.print_exc()
            raise

    def _poll_until(self, leave, group, reader, topic):
        client = KafkaConsumer(
            **self._servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
            # So that a group of different clients agrees.
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        client.subscribe([topic], listener=Listener(reader))
        while not leave.is_set():
            try:
                reached = self._read(client, reader, 100)
            except KafkaError as away:
                # poll() looks for the coordinator by way of new metadata, and raises what its request for
                # these met: that the node is away (kafka-python 3.0.12, ensure_coordinator_ready_async).
                if not away.retriable:
                    raise
                print(f"polling: {away!r}", file=sys.stderr)
                continue
            for place, offset in reached.items():
                reader.committing(*place, offset)
            offsets = {place: OffsetAndMetadata(offset, "", -1) for place, offset in reached.items()}
            try:
                if offsets:
                    client.commit(offsets)
            except KafkaError as refused:
                # The group is rebalancing, or its node is away: what was read comes again.
                print(f"committing: {refused!r}", file=sys.stderr)
                continue
            for place, offset in reached.items():
                reader.committed(*place, offset)
        client.close(autocommit=False)

    def leave(self):
        living, leave = self._member
        leave.set()
        # With what it ended with, if it did so by itself.
        living.result(DEADLINE_SECONDS)

    def committed(self, group, topic, partitions):
        since = driver.now()
        places = [TopicPartition(topic, number) for number in range(int(partitions))]
        found = self._admin.list_group_offsets({group: places})[group]
        offsets = {}
        for place in places:
            at = found.get(place)
            offsets[place.partition] = -1 if at is None else at.offset
        driver.write_told(self._history, group, topic, offsets, since)
        return ",".join(str(offsets[number]) for number in sorted(offsets))

    def create(self, topic, partitions, settings=""):
        configs = driver.settings_of(settings)
        self._admin.create_topics([NewTopic(topic, int(partitions), 1, topic_configs=configs)])

    def describe(self, topic):
        return len(self._admin.describe_topics([topic])[0]["partitions"])

    def topics(self):
        return ",".join(self._admin.list_topics())

    def delete(self, topic):
        self._admin.delete_topics([topic])

    def config(self, topic, name):
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self._admin.describe_configs([asked], config_filter="all")
        return found["topic"][topic][name]["value"]

    def alter(self, topic, name, value):
        changed = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        self._admin.alter_configs([changed])

    def groups(self):
        return ",".join(found["group_id"] for found in self._admin.list_groups())

    def group(self, group):
        found = self._admin.describe_groups([group])[group]
        if found["error"]:
            raise RuntimeError(found["error"])
        return f"{found['group_state']} {len(found['members'])}"

    def delete_group(self, group):
        said = self._admin.delete_groups([group])[group]
        if said != "OK":
            raise RuntimeError(said)


if __name__ == "__main__":
    driver.serve(KafkaPython)
