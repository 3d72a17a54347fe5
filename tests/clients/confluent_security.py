"""Clients that log in, and such as are not let in, by the confluent-kafka library.

What they connect with is in the variable KAFKA_CLIENT: librdkafka's settings, as JSON.
"""

import time

from confluent_session import (
    DEADLINE_SECONDS,
    OFFSET_BEGINNING,
    AdminClient,
    KafkaError,
    Producer,
    admin,
    consume,
    create_topic,
    produce,
    producer,
    settings_of_all,
)
from checks import Failed, check, check_equal, feature, main, topic_name

try:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import (
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialDeletion,
        UserScramCredentialUpsertion,
    )
except ImportError as missing:
    import sys

    print(f"not installed: {missing}")
    sys.exit(3)


@feature
def round_trip(bootstrap):
    told = admin(bootstrap).list_topics(timeout=DEADLINE_SECONDS)
    brokers = {f"{broker.host}:{broker.port}" for broker in told.brokers.values()}
    check_equal(brokers, set(bootstrap.split(",")), "told the brokers of this listener")
    topic = create_topic(bootstrap, topic_name("secured"), partitions=4)
    # Small ones and large ones: copied into a block, and received into memory of their own.
    values = [f"{n}-".encode() + b"x" * (n % 7 * 20_000) for n in range(400)]
    client = producer(bootstrap, batch_size=500_000, linger_ms=5)
    delivered = produce(
        client, [{"topic": topic, "value": value, "partition": n % 4} for n, value in enumerate(values)]
    )
    check_equal(delivered.errors, [], "every record is acknowledged")
    found = consume(bootstrap, topic, partitions=4, start=OFFSET_BEGINNING)
    for number, messages in found.items():
        check([m.value() for m in messages] == values[number::4], f"partition {number}: as sent")


def errors_of(bootstrap, settings, enough):
    """Errors that a client meets until it met one of those; none of its requests must succeed."""
    met = []
    client = Producer(
        {**settings_of_all(), **settings, "bootstrap.servers": bootstrap, "error_cb": met.append}
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not enough(met):
        if time.monotonic() > deadline:
            raise Failed(f"it met {met}")
        try:
            client.list_topics(timeout=0.2)
            raise Failed("it was let in")
        except KafkaException:
            pass
        client.poll(0.05)
    return met


@feature
def refused(bootstrap):
    wanted = KafkaError._AUTHENTICATION
    met = errors_of(bootstrap, {}, lambda met: any(error.code() == wanted for error in met))
    said = next(error.str() for error in met if error.code() == wanted)
    check("invalid credentials" in said, f"told why: {said}")


@feature
def stays_outside(bootstrap):
    """What it meets the node's log says: the library tells no application of a closed door."""
    client = Producer({**settings_of_all(), "bootstrap.servers": bootstrap})
    for attempt in range(5):
        try:
            client.list_topics(timeout=0.3)
        except KafkaException as error:
            print(f"  {attempt}: {error}")
            continue
        raise Failed("it was let in")
    check(True, "it gets nothing")


@feature
def mistrusts(bootstrap):
    met = errors_of(bootstrap, {}, lambda met: any(e.code() == KafkaError._SSL for e in met))
    said = next(error.str() for error in met if error.code() == KafkaError._SSL)
    check("verify failed" in said, f"it does not know the authority: {said}")


def alter(bootstrap, alterations):
    # One result for each user.
    for user, done in admin(bootstrap).alter_user_scram_credentials(alterations).items():
        done.result(DEADLINE_SECONDS)
        print(f"  altered {user}")


def upsertions(user, password):
    infos = [
        ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192),
        ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096),
    ]
    return [UserScramCredentialUpsertion(user, info, password.encode()) for info in infos]


def described(bootstrap, users=None):
    answer = admin(bootstrap).describe_user_scram_credentials(users)
    if users is None:
        answer = answer.result(DEADLINE_SECONDS)
    else:
        answer = {user: future.result(DEADLINE_SECONDS) for user, future in answer.items()}
    return {
        user: {info.mechanism: info.iterations for info in one.scram_credential_infos}
        for user, one in answer.items()
    }


@feature
def changes_passwords(bootstrap):
    both = {ScramMechanism.SCRAM_SHA_256: 8192, ScramMechanism.SCRAM_SHA_512: 4096}
    alter(bootstrap, upsertions("alice", "changed") + upsertions("bob", "bob's"))
    check_equal(described(bootstrap), {"alice": both, "bob": both}, "everybody is described")
    check_equal(described(bootstrap, ["bob"]), {"bob": both}, "and one alone")
    try:
        described(bootstrap, ["nobody"])
        raise Failed("nobody is described")
    except KafkaException as error:
        check_equal(error.args[0].code(), KafkaError.RESOURCE_NOT_FOUND, "nobody is not found")


@feature
def removes_bob(bootstrap):
    mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    alter(bootstrap, [UserScramCredentialDeletion("bob", mechanism) for mechanism in mechanisms])
    check_equal(list(described(bootstrap)), ["alice"], "alice is left")


if __name__ == "__main__":
    main()
