"""kcat as one of the clients of the matrix: each command runs the program as one would at a prompt.
See driver.py."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading

import driver
from driver import DEADLINE_SECONDS, Credentials, Reader, Unsupported

KCAT = shutil.which("kcat") or shutil.which("kafkacat")
if KCAT is None:
    print("not installed: kcat")
    sys.exit(3)

# Fields of a record on a line; none of them holds a tab here.
FORMAT = r"record\t%p\t%o\t%T\t%k\t%h\t%s\n"
DELIVERED = re.compile(r"Message delivered to partition (\d+) \(offset (\d+)\)")
ASSIGNED = re.compile(r"rebalanced \(memberid [^)]*\): assigned: (.*)")
PLACE = re.compile(r"(\S+) \[(\d+)\]")


class Kcat:
    def __init__(self, bootstrap, history):
        self._command = [KCAT, "-b", bootstrap]
        for name, value in Credentials().for_librdkafka().items():
            self._command += ["-X", f"{name}={value}"]
        self._history = history
        self._member = None

    def _run(self, *arguments, given=""):
        """Runs it to its end: what it printed, and what it said beside that."""
        done = subprocess.run(
            [*self._command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout, done.stderr

    def version(self):
        said = subprocess.run([KCAT, "-V"], capture_output=True, text=True).stdout
        found = re.search(r"Version (\S+) .*librdkafka (\S+)", said)
        return f"{found[1]} (librdkafka {found[2]})"

    def produce(self, topic, partitions, producer, first, count, codec="none", idempotent="", headers="", timestamps=""):
        if timestamps:
            raise Unsupported("it sets no timestamps")
        by_partition = {}
        for event in driver.events(producer, first, count, partitions, headers, timestamps):
            if headers:
                # One run, one set of headers.
                event.headers = {"producer": producer, "tool": "kcat"}
            by_partition.setdefault(event.partition, []).append(event)
        for partition, events in by_partition.items():
            arguments = ["-P", "-t", topic, "-p", str(partition), "-K", "\t", "-z", codec]
            arguments += ["-vvv", "-X", f"enable.idempotence={'true' if idempotent else 'false'}"]
            for event in events:
                self._history.write("sent", **event.sent(topic))
            for name, value in (events[0].headers or {}).items():
                arguments += ["-H", f"{name}={value}"]
            lines = "".join(f"{event.key}\t{event.value}\n" for event in events)
            _, said = self._run(*arguments, given=lines)
            # It reports them in the order in which it read them.
            offsets = [int(found[2]) for found in DELIVERED.finditer(said)]
            if len(offsets) != len(events):
                raise RuntimeError(f"{len(offsets)} of {len(events)} were delivered: {said[-500:]}")
            for event, offset in zip(events, offsets):
                where = {"topic": topic, "partition": partition, "offset": offset}
                self._history.write("acknowledged", id=event.id, **where)

    def consume(self, topic, partitions, group):
        since = driver.now()
        ends = {}
        for number in range(int(partitions)):
            said, _ = self._run("-Q", "-t", f"{topic}:{number}:-1")
            ends[number] = int(re.search(r"offset (\d+)", said)[1])
        reader = Reader(self._history, group, group)
        for number in ends:
            where = ["-t", topic, "-p", str(number), "-o", "beginning"]
            printed, _ = self._run("-C", *where, "-e", "-q", "-f", FORMAT)
            for line in printed.splitlines():
                write_read(reader, topic, line)
        driver.write_ends(self._history, group, topic, ends, since)

    def join(self, group, member, topic):
        settings = {
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "auto.commit.interval.ms": 100,
        }
        command = [*self._command, "-u", "-f", FORMAT]
        for name, value in settings.items():
            command += ["-X", f"{name}={value}"]
        # One pipe for what it reads and what it says of the group, so that they stay in order.
        process = subprocess.Popen(
            [*command, "-G", group, topic],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        reader = Reader(self._history, group, member)
        thread = threading.Thread(target=self._live, args=(process, reader, topic))
        thread.start()
        self._member = (thread, process)

    def _live(self, process, reader, topic):
        for line in process.stdout:
            assigned = ASSIGNED.search(line)
            if assigned:
                places = PLACE.findall(assigned[1])
                reader.assigned([(name, int(number)) for name, number in places])
            elif line.startswith("record\t"):
                partition, offset = write_read(reader, topic, line.rstrip("\n"))
                # It commits by itself, any time now, and does not say so.
                reader.committing(topic, partition, offset + 1)
            else:
                print(line, end="", file=sys.stderr)

    def leave(self):
        thread, process = self._member
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)
        thread.join(DEADLINE_SECONDS)

    def describe(self, topic):
        said, _ = self._run("-L", "-J", "-t", topic)
        return len(json.loads(said)["topics"][0]["partitions"])

    def topics(self):
        said, _ = self._run("-L", "-J")
        return ",".join(topic["topic"] for topic in json.loads(said)["topics"])

    def create(self, **_):
        raise Unsupported("it has no administration")

    config = alter = groups = group = delete = delete_group = create

    def committed(self, **_):
        raise Unsupported("it does not ask for committed offsets")


def write_read(reader, topic, line):
    _, partition, offset, timestamp, key, headers, value = line.split("\t")
    named = [header.split("=", 1) for header in headers.split(",") if header]
    named = [(name, text.encode()) for name, text in named]
    place = (int(partition), int(offset))
    reader.read(topic, *place, value.encode(), key.encode(), int(timestamp), named)
    return place


if __name__ == "__main__":
    driver.serve(Kcat)
