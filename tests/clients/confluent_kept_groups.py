"""A consumer group before its node is killed, and after it is back (confluent-kafka)."""

from checks import check_equal, feature, main
from confluent_groups import fill, member, read
from confluent_session import create_topic

# The same names in both runs.
TOPIC = "groups-kept"
GROUP = "kept"


@feature
def before_a_kill(bootstrap):
    create_topic(bootstrap, TOPIC)
    fill(bootstrap, TOPIC, range(20))
    client = member(bootstrap, GROUP, TOPIC)
    check_equal(read(client, 11, commit=True), list(range(11)), "read and committed")
    client.close()


@feature
def after_a_kill(bootstrap):
    client = member(bootstrap, GROUP, TOPIC)
    check_equal(read(client, 9, commit=True), list(range(11, 20)), "it resumes there")
    client.close()


if __name__ == "__main__":
    main()
