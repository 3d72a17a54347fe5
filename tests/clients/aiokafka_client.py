"""Produce and consume with aiokafka: partitions assigned by hand, or by a group."""

import asyncio
import sys
import time

try:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name


async def create_topic(bootstrap, stem, partitions=1):
    topic = topic_name(stem)
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.create_topics([NewTopic(topic, partitions, 1)])
    await client.close()
    return topic


async def produce(bootstrap, topic, records, **settings):
    client = AIOKafkaProducer(bootstrap_servers=bootstrap, **settings)
    await client.start()
    try:
        futures = [await client.send(topic, **record) for record in records]
        return await asyncio.wait_for(asyncio.gather(*futures), DEADLINE_SECONDS)
    finally:
        await client.stop()


async def consume(bootstrap, topic, partitions, count, start=0):
    client = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
    )
    await client.start()
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        client.assign(assigned)
        for where in assigned:
            client.seek(where, start)
        found = {number: [] for number in range(partitions)}
        deadline = time.monotonic() + DEADLINE_SECONDS
        while sum(len(records) for records in found.values()) < count:
            if time.monotonic() > deadline:
                raise Failed(f"{count} records were not read within {DEADLINE_SECONDS} s")
            for where, records in (await client.getmany(timeout_ms=200)).items():
                found[where.partition].extend(records)
        return found
    finally:
        await client.stop()


@feature
def round_trip(bootstrap):
    async def run():
        topic = await create_topic(bootstrap, "aiokafka", partitions=3)
        records = [
            {
                "partition": n % 3,
                "key": None if n % 5 == 0 else f"k{n}".encode(),
                "value": None if n % 7 == 0 and n % 5 else f"v{n}".encode(),
                "headers": [("n", str(n).encode())],
                "timestamp_ms": 1_700_000_000_000 + n,
            }
            for n in range(600)
        ]
        places = await produce(bootstrap, topic, records, acks="all")
        check_equal([p.offset for p in places], [n // 3 for n in range(600)], "offsets")
        for number, found in (await consume(bootstrap, topic, 3, 600)).items():
            check_equal(
                [(r.key, r.value, list(r.headers), r.timestamp) for r in found],
                [
                    (r["key"], r["value"], r["headers"], r["timestamp_ms"])
                    for r in records[number::3]
                ],
                f"partition {number}: keys, values, headers and timestamps, nulls too",
            )

    asyncio.run(run())


@feature
def codecs(bootstrap):
    async def run():
        for codec in (None, "gzip", "snappy", "lz4", "zstd"):
            topic = await create_topic(bootstrap, f"aiokafka-{codec}")
            values = [f"{n}-{'x' * 80}".encode() for n in range(500)]
            await produce(
                bootstrap, topic, [{"value": v} for v in values], compression_type=codec
            )
            found = (await consume(bootstrap, topic, 1, 500))[0]
            check_equal([record.value for record in found], values, f"{codec}: as sent")
            late = (await consume(bootstrap, topic, 1, 100, start=400))[0]
            check_equal([r.value for r in late], values[400:], f"{codec}: from offset 400")

    asyncio.run(run())


@feature
def idempotence(bootstrap):
    async def run():
        topic = await create_topic(bootstrap, "aiokafka-idempotent")
        records = [{"value": str(n).encode()} for n in range(2000)]
        places = await produce(bootstrap, topic, records, enable_idempotence=True)
        check_equal([p.offset for p in places], list(range(2000)), "offsets as acknowledged")
        found = (await consume(bootstrap, topic, 1, 2000))[0]
        check_equal([int(r.value) for r in found], list(range(2000)), "each once, in order")

    asyncio.run(run())


@feature
def offsets(bootstrap):
    async def run():
        topic = await create_topic(bootstrap, "aiokafka-offsets")
        records = [
            {"value": b"x", "timestamp_ms": 1_700_000_000_000 + n * 100} for n in range(50)
        ]
        await produce(bootstrap, topic, records)
        reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        await reader.start()
        try:
            where = TopicPartition(topic, 0)
            check_equal((await reader.beginning_offsets([where]))[where], 0, "the beginning")
            check_equal((await reader.end_offsets([where]))[where], 50, "the end")
            at = await reader.offsets_for_times({where: 1_700_000_000_000 + 1950})
            check_equal(at[where].offset, 20, "by timestamp")
            check(topic in await reader.topics(), "listed among the topics")
        finally:
            await reader.stop()

    asyncio.run(run())


@feature
def groups(bootstrap):
    async def run():
        topic = await create_topic(bootstrap, "aiokafka-groups", partitions=2)
        group = topic_name("aiokafka")
        records = [{"partition": n % 2, "value": str(n).encode()} for n in range(20)]
        await produce(bootstrap, topic, records)

        async def member():
            client = AIOKafkaConsumer(
                topic,
                bootstrap_servers=bootstrap,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=6000,
                heartbeat_interval_ms=500,
            )
            await client.start()
            return client

        async def read(client, count):
            found = []
            deadline = time.monotonic() + DEADLINE_SECONDS
            while len(found) < count:
                if time.monotonic() > deadline:
                    raise Failed(f"{count} records were not read within {DEADLINE_SECONDS} s")
                for records in (await client.getmany(timeout_ms=200)).values():
                    found.extend(int(record.value) for record in records)
            return sorted(found)

        first = await member()
        check_equal(await read(first, 20), list(range(20)), "a member reads all")
        await first.commit()
        second = await member()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (len(first.assignment()) == len(second.assignment()) == 1):
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise Failed("two members do not share two partitions")
        check(first.assignment() != second.assignment(), "two members share")
        await first.stop()
        where = [TopicPartition(topic, number) for number in range(2)]
        committed = [await second.committed(at) for at in where]
        check_equal(committed, [10, 10], "what was committed")
        while len(second.assignment()) < 2:
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise Failed("the member that is left does not take over")
        check_equal(set(second.assignment()), set(where), "the one that is left has both")
        await second.stop()

    asyncio.run(run())


@feature
def configurations(bootstrap):
    async def run():
        topic = await create_topic(bootstrap, "aiokafka-configured")
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await client.start()

        async def alter(kind, name, configs):
            answers = await client.alter_configs([ConfigResource(kind, name, configs)])
            return [resource[0] for answer in answers for resource in answer.resources]

        async def value(name):
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
            (answer, *_) = await client.describe_configs([resource])
            ((_, _, _, _, entries),) = answer.resources
            return {entry[0]: entry[1] for entry in entries}[name]

        try:
            kind = ConfigResourceType.TOPIC
            check_equal(await alter(kind, topic, {"retention.ms": "7000"}), [0], "altered")
            check_equal(await value("retention.ms"), "7000", "and described as it is")
            refused = await alter(kind, topic, {"retention.ms": "soon"})
            check_equal(refused, [40], "no number: refused as an invalid configuration")
            refused = await alter(kind, "no-such-topic", {"retention.ms": "1"})
            check_equal(refused, [3], "an unknown topic: refused")
            broker = ConfigResourceType.BROKER
            refused = await alter(broker, "0", {"num.partitions": "3"})
            check_equal(refused, [42], "a broker cannot be changed")
        finally:
            await client.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
