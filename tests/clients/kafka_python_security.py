"""Logins by kafka-python; settings as in confluent_security.py."""

import json
import os
import sys

try:
    from kafka import KafkaProducer
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.consumer import KafkaConsumer
    from kafka.errors import KafkaError
    from kafka.structs import TopicPartition
except ImportError as missing:
    print(f"not installed: {missing}")
    sys.exit(3)

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main, topic_name


def settings(bootstrap):
    given = json.loads(os.environ["KAFKA_CLIENT"])
    return {
        "bootstrap_servers": bootstrap.split(","),
        "security_protocol": given["security.protocol"],
        "sasl_mechanism": given["sasl.mechanisms"],
        "sasl_plain_username": given["sasl.username"],
        "sasl_plain_password": given["sasl.password"],
        "ssl_cafile": given["ssl.ca.location"],
    }


@feature
def round_trip(bootstrap):
    topic = topic_name("secured-python")
    client = KafkaAdminClient(**settings(bootstrap))
    client.create_topics([NewTopic(topic, 2, 1)])
    client.close()
    client = KafkaProducer(**settings(bootstrap), acks="all", max_request_size=4 << 20)
    values = [f"{n}-".encode() + b"x" * (n % 5 * 30_000) for n in range(200)]
    futures = [client.send(topic, value, partition=n % 2) for n, value in enumerate(values)]
    client.flush(timeout=DEADLINE_SECONDS)
    offsets = [future.get(timeout=DEADLINE_SECONDS).offset for future in futures]
    check_equal(offsets, [n // 2 for n in range(200)], "acknowledged offsets")
    client.close()
    client = KafkaConsumer(**settings(bootstrap), group_id=None, auto_offset_reset="earliest")
    assigned = [TopicPartition(topic, number) for number in range(2)]
    client.assign(assigned)
    client.seek_to_beginning(*assigned)
    found = {0: [], 1: []}
    while sum(map(len, found.values())) < len(values):
        polled = client.poll(timeout_ms=int(DEADLINE_SECONDS * 1000))
        if not polled:
            raise Failed("records are missing")
        for where, records in polled.items():
            found[where.partition].extend(record.value for record in records)
    client.close()
    check(found == {0: values[0::2], 1: values[1::2]}, "as sent")


@feature
def refused(bootstrap):
    try:
        KafkaAdminClient(**settings(bootstrap), api_version_auto_timeout_ms=3000)
    except KafkaError as error:
        check(True, f"not let in: {type(error).__name__}")
        return
    raise Failed("it was let in")


if __name__ == "__main__":
    main()
