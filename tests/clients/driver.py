"""What the client drivers in Python share: the conversation with the test, and the history.

    driver BOOTSTRAP HISTORY

reads a command from each line of its input (`verb name=value ...`) and answers each with a line:
`ok ...`, `unsupported ...` (the client cannot do that) or `failed ...`. It ends with its input.
README.md beside this file lists the verbs; tests/src/history/event.rs the lines of a history.
"""

import json
import os
import sys
import threading
import time
import traceback

MISSING_LIBRARY = 3
DEADLINE_SECONDS = 60.0
FIRST_TIMESTAMP_MS = 1_700_000_000_000


class Credentials:
    """Who to be, over TLS and by SCRAM-SHA-256, where the environment says so."""

    def __init__(self):
        self.user = os.environ.get("DRIVER_USER")
        self.password = os.environ.get("DRIVER_PASSWORD")
        self.ca_file = os.environ.get("DRIVER_CA_FILE")

    def __bool__(self):
        return self.user is not None

    def for_librdkafka(self):
        """Its settings, none without credentials."""
        if not self:
            return {}
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.ca_file,
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": self.user,
            "sasl.password": self.password,
        }

    def for_python(self):
        """What kafka-python and aiokafka call the same, but for the certificate."""
        if not self:
            return {}
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": self.user,
            "sasl_plain_password": self.password,
        }


class Unsupported(Exception):
    """Something that this client cannot do."""


class History:
    """The lines that this client writes, each with the system call that hands it to the kernel:
    they outlive a kill."""

    def __init__(self, path):
        self._file = open(path, "ab", buffering=0)
        self._lock = threading.Lock()

    def write(self, op, **fields):
        with self._lock:
            line = json.dumps({"at": now(), "op": op, **fields}, separators=(",", ":"))
            self._file.write(line.encode() + b"\n")


def now():
    """Microseconds of the machine's monotonic clock."""
    return time.monotonic_ns() // 1000


class Event:
    """The number-th event of a producer: what its record holds, and what the history says of it."""

    def __init__(self, producer, number, partitions, headers, timestamps):
        self.id = f"{producer}/{number}"
        self.partition = number % partitions
        self.key = f"k{number % 7}"
        self.value = f"{self.id} {'x' * 40}"
        self.headers = {"number": str(number)} if headers else None
        self.timestamp = FIRST_TIMESTAMP_MS + number if timestamps else None

    def sent(self, topic):
        content = {"key": self.key, "headers": self.headers, "timestamp": self.timestamp}
        content = {name: value for name, value in content.items() if value is not None}
        return {"id": self.id, "topic": topic, "partition": self.partition, **content}


def events(producer, first, count, partitions, headers, timestamps):
    numbers = range(int(first), int(first) + int(count))
    return [Event(producer, n, int(partitions), bool(headers), bool(timestamps)) for n in numbers]


def decoded(value):
    return None if value is None else value.decode()


def id_of(value):
    """The id in a record's value."""
    return "" if value is None else value.decode(errors="replace").split(" ", 1)[0]


class Reader:
    """Writes what a member of a group is given, and what it may commit."""

    def __init__(self, history, group, member):
        self._history, self._group, self._member = history, group, member

    def assigned(self, partitions):
        for topic, partition in partitions:
            self._write("assigned", topic, partition)

    def read(self, topic, partition, offset, value, key, timestamp, headers):
        headers = {name: decoded(value) for name, value in headers or []}
        fields = {"offset": offset, "id": id_of(value), "key": decoded(key), "timestamp": timestamp}
        self._write("read", topic, partition, headers=headers, **fields)

    def committing(self, topic, partition, offset):
        self._write("committing", topic, partition, offset=offset)

    def committed(self, topic, partition, offset):
        self._write("committed", topic, partition, offset=offset)

    def _write(self, op, topic, partition, **fields):
        who = {"group": self._group, "member": self._member}
        self._history.write(op, **who, topic=topic, partition=partition, **fields)


def write_ends(history, group, topic, ends, since):
    for partition, offset in ends.items():
        where = {"topic": topic, "partition": partition}
        history.write("ended", group=group, **where, offset=offset, since=since)


def write_told(history, group, topic, offsets, since):
    for partition, offset in offsets.items():
        where = {"topic": topic, "partition": partition}
        history.write("told", group=group, **where, offset=offset, since=since)


def settings_of(text):
    """`name=value,name=value` as a dictionary."""
    return dict(setting.split("=", 1) for setting in text.split(",") if setting)


def within(condition, what, seconds=DEADLINE_SECONDS):
    """Repeats something until it gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")


def answer(driver, line):
    verb, *words = line.split()
    try:
        method = getattr(driver, verb, None)
        if verb.startswith("_") or method is None:
            raise Unsupported(f"{verb} is not in this driver")
        said = method(**dict(word.split("=", 1) for word in words))
        return "ok" if said is None else f"ok {said}"
    except Unsupported as unsupported:
        return f"unsupported {unsupported}"
    except Exception as error:
        traceback.print_exc()
        return "failed " + f"{type(error).__name__}: {error}".replace("\n", " ")


def serve(driver_class):
    bootstrap, path = sys.argv[1:]
    driver = driver_class(bootstrap, History(path))
    for line in sys.stdin:
        if line.strip():
            print(answer(driver, line), flush=True)
