"""A consumer's position of an older leader epoch, validated after a kill (KIP-320, confluent-kafka)."""

import time

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main
from confluent_session import (
    KafkaError,
    TopicPartition,
    consume,
    consumer,
    create_topic,
    produce,
    producer,
)

# The same name in both runs.
TOPIC = "leader-epochs"


def fill(bootstrap, numbers):
    records = [{"topic": TOPIC, "partition": 0, "value": str(n)} for n in numbers]
    check_equal(produce(producer(bootstrap), records).errors, [], f"{len(records)} produced")


@feature
def before_a_kill(bootstrap):
    create_topic(bootstrap, TOPIC)
    fill(bootstrap, range(10))


def first(bootstrap, offset, leader_epoch):
    """What a consumer with this position meets first: a message or an error."""
    client = consumer(bootstrap, [])
    client.assign([TopicPartition(TOPIC, 0, offset, leader_epoch=leader_epoch)])
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        message = client.poll(0.2)
        if message is not None:
            client.close()
            return message
    raise Failed(f"nothing came at {offset} within {DEADLINE_SECONDS} s")


@feature
def after_a_kill(bootstrap):
    fill(bootstrap, range(10, 15))
    epochs = [message.leader_epoch() for message in consume(bootstrap, TOPIC)[0]]
    old, new = epochs[0], epochs[-1]
    check(old < new, f"the leader epoch rose with the start, from {old} to {new}")
    check_equal(epochs, 10 * [old] + 5 * [new], "each record has that under which it was written")
    message = first(bootstrap, 10, old)
    check_equal((message.error(), message.offset()), (None, 10), "the end of the old epoch is valid")
    message = first(bootstrap, 12, new)
    check_equal((message.error(), message.offset()), (None, 12), "so is a place in the new one")
    lost = first(bootstrap, 12, old).error()
    check(lost is not None, "what the old epoch never had is no valid position")
    # By auto.offset.reset=error; what caused the reset stands in its text.
    check_equal(lost.code(), KafkaError._AUTO_OFFSET_RESET, "the consumer has to begin elsewhere")
    check("log truncation detected" in lost.str(), f"because: {lost.str()}")


if __name__ == "__main__":
    main()
