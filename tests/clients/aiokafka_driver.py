"""aiokafka as one of the clients of the matrix: see driver.py."""

import asyncio
import sys
import threading
import time

try:
    import aiokafka
    from aiokafka import (
        AIOKafkaConsumer,
        AIOKafkaProducer,
        ConsumerRebalanceListener,
        TopicPartition,
    )
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.errors import KafkaError, for_code
    from aiokafka.helpers import create_ssl_context
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

import driver
from driver import DEADLINE_SECONDS, Credentials, Reader, Unsupported


class Listener(ConsumerRebalanceListener):
    """Notes what a member gets."""

    def __init__(self, reader):
        self._reader = reader

    def on_partitions_assigned(self, assigned):
        self._reader.assigned(assigned)

    def on_partitions_revoked(self, revoked):
        pass


class Aiokafka:
    """Its clients live in a loop of their own thread; the commands wait for it."""

    def __init__(self, bootstrap, history):
        self._servers = {"bootstrap_servers": bootstrap.split(",")}
        credentials = Credentials()
        if credentials:
            context = create_ssl_context(cafile=credentials.ca_file)
            self._servers |= credentials.for_python() | {"ssl_context": context}
        self._history = history
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._member = None

    def _wait(self, coroutine, seconds=150):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def version(self):
        return aiokafka.__version__

    def produce(self, topic, partitions, producer, first, count, codec="none", idempotent="", headers="", timestamps=""):
        sent = driver.events(producer, first, count, partitions, headers, timestamps)

        async def run():
            client = AIOKafkaProducer(
                **self._servers,
                acks="all",
                compression_type=None if codec == "none" else codec,
                enable_idempotence=bool(idempotent),
                linger_ms=5,
            )
            await client.start()
            try:
                waiting = []
                for event in sent:
                    self._history.write("sent", **event.sent(topic))
                    named = [(n, v.encode()) for n, v in event.headers.items()] if headers else None
                    future = await client.send(
                        topic,
                        partition=event.partition,
                        key=event.key.encode(),
                        value=event.value.encode(),
                        headers=named,
                        timestamp_ms=event.timestamp,
                    )
                    waiting.append((event, future))
                for event, future in waiting:
                    place = await future
                    where = {"topic": topic, "partition": place.partition, "offset": place.offset}
                    self._history.write("acknowledged", id=event.id, **where)
            finally:
                await client.stop()

        self._wait(run())

    def consume(self, topic, partitions, group):
        async def run():
            client = AIOKafkaConsumer(
                **self._servers, group_id=None, enable_auto_commit=False
            )
            await client.start()
            try:
                places = [TopicPartition(topic, number) for number in range(int(partitions))]
                client.assign(places)
                await client.seek_to_beginning(*places)
                since = driver.now()
                ends = await client.end_offsets(places)
                reader = Reader(self._history, group, group)
                deadline = time.monotonic() + DEADLINE_SECONDS
                while True:
                    await self._read(client, reader, 500)
                    reached = [await client.position(place) >= end for place, end in ends.items()]
                    if all(reached):
                        break
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"reading {topic} to its end")
                ends = {place.partition: end for place, end in ends.items()}
                driver.write_ends(self._history, group, topic, ends, since)
            finally:
                await client.stop()

        self._wait(run())

    async def _read(self, client, reader, milliseconds):
        """Reads what has come, and returns what could be committed."""
        reached = {}
        for place, records in (await client.getmany(timeout_ms=milliseconds)).items():
            for record in records:
                content = (record.value, record.key, record.timestamp, record.headers)
                reader.read(*place, record.offset, *content)
            if records:
                reached[place] = records[-1].offset + 1
        return reached

    def join(self, group, member, topic):
        leave = asyncio.Event()
        living = self._live(group, Reader(self._history, group, member), topic, leave)
        self._member = (asyncio.run_coroutine_threadsafe(living, self._loop), leave)

    async def _live(self, group, reader, topic, leave):
        client = AIOKafkaConsumer(
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
        await client.start()
        while not leave.is_set():
            reached = await self._read(client, reader, 100)
            for place, offset in reached.items():
                reader.committing(*place, offset)
            try:
                if reached:
                    await client.commit(reached)
            except KafkaError as refused:
                # The group is rebalancing, or its node is away: what was read comes again.
                print(f"committing: {refused!r}", file=sys.stderr)
                continue
            for place, offset in reached.items():
                reader.committed(*place, offset)
        await client.stop()

    def leave(self):
        done, leave = self._member
        self._loop.call_soon_threadsafe(leave.set)
        done.result(DEADLINE_SECONDS)

    def _with_admin(self, ask):
        async def run():
            client = AIOKafkaAdminClient(**self._servers)
            await client.start()
            try:
                return await ask(client)
            finally:
                await client.close()

        return self._wait(run())

    def committed(self, group, topic, partitions):
        since = driver.now()
        places = [TopicPartition(topic, number) for number in range(int(partitions))]
        found = self._with_admin(
            lambda client: client.list_consumer_group_offsets(group, partitions=places)
        )
        offsets = {place.partition: found[place].offset for place in places}
        driver.write_told(self._history, group, topic, offsets, since)
        return ",".join(str(offsets[number]) for number in sorted(offsets))

    def create(self, topic, partitions, settings=""):
        configs = driver.settings_of(settings)
        new = NewTopic(topic, int(partitions), 1, topic_configs=configs)
        answer = self._with_admin(lambda client: client.create_topics([new]))
        raise_refused(answer.topic_errors)

    def describe(self, topic):
        found = self._with_admin(lambda client: client.describe_topics([topic]))
        return len(found[0]["partitions"])

    def topics(self):
        return ",".join(self._with_admin(lambda client: client.list_topics()))

    def delete(self, topic):
        answer = self._with_admin(lambda client: client.delete_topics([topic]))
        raise_refused(answer.topic_error_codes)

    def config(self, topic, name):
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        answers = self._with_admin(lambda client: client.describe_configs([asked]))
        (resource,) = answers[0].resources
        raise_refused([(topic, resource[0])])
        return {entry[0]: entry[1] for entry in resource[4]}[name]

    def alter(self, topic, name, value):
        changed = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        (answer,) = self._with_admin(lambda client: client.alter_configs([changed]))
        raise_refused([(topic, resource[0]) for resource in answer.resources])

    def groups(self):
        found = self._with_admin(lambda client: client.list_consumer_groups())
        return ",".join(group[0] for group in found)

    def group(self, group):
        answers = self._with_admin(lambda client: client.describe_consumer_groups([group]))
        code, _, state, _, _, members = answers[0].groups[0][:6]
        raise_refused([(group, code)])
        return f"{state} {len(members)}"

    def delete_group(self, group):
        raise Unsupported("its admin client does not delete groups")


def raise_refused(answers):
    for name, code, *_ in answers:
        if code:
            raise for_code(code)(name)


if __name__ == "__main__":
    driver.serve(Aiokafka)
