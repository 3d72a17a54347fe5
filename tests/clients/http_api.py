"""Records, topics, groups and users over HTTP beside confluent-kafka: what one writes the other reads."""

import base64
import hashlib
import json
import secrets
import sys
import threading

from checks import Failed, check, check_equal, feature, main, topic_name, until
from confluent_session import admin, consume, create_topic, produce, producer
from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from http_session import call, expect, get, metric, problem

NDJSON = "application/x-ndjson"


def make_topic(partitions=1, **configs):
    name = topic_name("http")
    body = {"name": name, "partitions": partitions, "configs": configs}
    made = expect(201, call("POST", "/topics", body))
    check_equal(made.headers["Location"], f"/topics/{name}", "the new topic's place")
    return name


def write(topic, body, content_type=None, **query):
    headers = {"Content-Type": content_type} if content_type else None
    answer = call("POST", f"/topics/{topic}/records", body, headers, **query)
    return expect(200, answer).json()["records"]


def read(topic, partition=0, **query):
    return get(f"/topics/{topic}/partitions/{partition}/records", **query)


@feature
def written_over_http_and_read_by_kafka(bootstrap):
    topic = make_topic(4)
    records = [{"key": f"key-{n}", "value": {"n": n}, "headers": {"h": str(n)}} for n in range(200)]
    records.append({"key_base64": "/w==", "value_base64": base64.b64encode(bytes(range(256))).decode()})
    records.append({"key": "gone", "value": None, "timestamp": 1_700_000_000_000})
    places = write(topic, records)
    check_equal(len(places), len(records), "a place for each record")
    found = consume(bootstrap, topic, partitions=4)
    by_place = {(m.partition(), m.offset()): m for messages in found.values() for m in messages}
    check_equal(len(by_place), len(records), "as many records for Kafka")
    for record, place in list(zip(records, places))[:200]:
        message = by_place[place["partition"], place["offset"]]
        if message.key() != record["key"].encode():
            raise Failed(f"at {place}: {message.key()} in place of {record['key']}")
        if json.loads(message.value()) != record["value"]:
            raise Failed(f"at {place}: {message.value()}")
        if message.headers() != [("h", str(record["value"]["n"]).encode())]:
            raise Failed(f"at {place}: {message.headers()}")
    check(True, "each lies where the answer said, with key, value and header")
    binary = by_place[places[200]["partition"], places[200]["offset"]]
    check_equal((binary.key(), binary.value()), (b"\xff", bytes(range(256))), "bytes by base64")
    gone = by_place[places[201]["partition"], places[201]["offset"]]
    check_equal(gone.value(), None, "a tombstone")
    check_equal(gone.timestamp()[1], 1_700_000_000_000, "its timestamp")
    client = producer(bootstrap, partitioner="murmur2_random")
    sent = produce(client, [{"topic": topic, "key": f"key-{n}", "value": b"x"} for n in range(200)])
    kafkas = {m.key().decode(): m.partition() for m in sent.messages}
    ours = {r["key"]: p["partition"] for r, p in list(zip(records, places))[:200]}
    check_equal(ours, kafkas, "partitions are those of Kafka's default partitioner")
    check(len(set(ours.values())) == 4, "all partitions are used")


@feature
def written_by_kafka_and_read_over_http(bootstrap):
    topic = create_topic(bootstrap, topic_name("read"), partitions=2)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        client = producer(bootstrap, compression_type=codec, linger_ms=20)
        produce(
            client,
            [
                {"topic": topic, "partition": 1, "key": f"{codec}-{n}", "value": f"ä{n}".encode(),
                 "headers": [("codec", codec.encode()), ("bytes", b"\xfe")], "timestamp": 1000 + n}
                for n in range(50)
            ],
        )
    produce(producer(bootstrap), [{"topic": topic, "partition": 1, "value": b"\xff\x00"}])
    page = read(topic, 1, max_records=120)
    check_equal((len(page["records"]), page["next_offset"]), (120, 120), "a page")
    check_equal(page["high_watermark"], 251, "the end")
    rest = read(topic, 1, offset=page["next_offset"])
    records = page["records"] + rest["records"]
    check_equal([r["offset"] for r in records], list(range(251)), "every offset, in order")
    check_equal([r["value"] for r in records[:50]], [f"ä{n}" for n in range(50)], "text")
    check_equal(records[60]["key"], "gzip-10", "a key")
    check_equal(records[60]["timestamp"], 1010, "a timestamp")
    wanted = [{"name": "codec", "value": "gzip"},
              {"name": "bytes", "value": None, "value_base64": "/g=="}]
    check_equal(records[60]["headers"], wanted, "headers, as text and as base64")
    check_equal((records[250]["value"], records[250]["value_base64"]), (None, "/wA="), "bytes")
    check_equal(records[250]["key"], None, "no key")
    lines = call("GET", f"/topics/{topic}/partitions/1/records?offset=249", headers={"Accept": NDJSON})
    check_equal(lines.headers["Content-Type"], NDJSON, "a record a line")
    check_equal([line["offset"] for line in lines.lines()], [249, 250], "two lines")
    check_equal(lines.headers["Ringlog-Next-Offset"], "251", "where to go on")
    check_equal(read(topic, 1, offset=251)["records"], [], "nothing behind the end")
    check_equal(read(topic, 1, offset="latest")["next_offset"], 251, "the latest offset")
    by_time = read(topic, 1, timestamp=1030, max_records=1)["records"][0]
    check_equal(by_time["offset"], 30, "the first at or after a time")
    copy = make_topic(1)
    write(copy, b"\n".join(line for line in lines.body.splitlines()).replace(b'"partition":1,', b""), NDJSON)
    check_equal(read(copy)["records"][1]["value_base64"], "/wA=", "what was read can be written")


@feature
def kinds_of_bodies(bootstrap):
    topic = make_topic(3)
    places = write(topic, '{"value":"a","partition":2}\n\n{"value":1.50}\n', NDJSON, partition=1)
    check_equal([p["partition"] for p in places], [2, 1], "a record's own partition goes first")
    places = write(topic, "k:v:w\nplain\n", "text/plain", key_separator=":", partition=0)
    check_equal([p["offset"] for p in places], [0, 1], "two lines")
    found = read(topic, 0)["records"]
    check_equal([(r["key"], r["value"]) for r in found], [("k", "v:w"), (None, "plain")], "lines")
    write(topic, b"\x00\xff\n", "application/octet-stream", partition=0, key="blob")
    found = read(topic, 0, offset=2)["records"][0]
    check_equal((found["key"], found["value_base64"]), ("blob", "AP8K"), "one value as it is")
    check_equal(read(topic, 1)["records"][0]["value"], "1.50", "JSON as it is written")
    keyless = [write(topic, "x", "text/plain")[0]["partition"] for _ in range(6)]
    check_equal(sorted(set(keyless)), [0, 1, 2], "records without a key go around")
    many = write(topic, [{"value": "v" * 1000, "partition": 0} for _ in range(3000)])
    check_equal([p["offset"] for p in many], list(range(many[0]["offset"], many[0]["offset"] + 3000)),
                "three megabytes in one request, in order")


@feature
def a_reader_waits_for_records(bootstrap):
    topic = make_topic(1)
    found = []
    path = f"/topics/{topic}/partitions/0/records"
    waiting = threading.Thread(target=lambda: found.append(get(path, wait_ms=30_000)))
    waiting.start()
    until(lambda: metric("ringlog_errands_in_progress") > 0, "the reader waits")
    produce(producer(bootstrap), [{"topic": topic, "value": b"awaited"}])
    waiting.join()
    check_equal([r["value"] for r in found[0]["records"]], ["awaited"], "the awaited record")
    check_equal(get(path, offset=1, wait_ms=50)["records"], [], "a short wait ends without records")


@feature
def refusals_name_kafkas_error(bootstrap):
    topic = make_topic(2, **{"max.message.bytes": 2000})
    records = f"/topics/{topic}/records"
    no_such = "/topics/no-such-topic/partitions/0/records"
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION", call("GET", no_such))
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION", call("GET", f"/topics/{topic}/partitions/2/records"))
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION", call("POST", records, [{"value": 1, "partition": 9}]))
    out = problem(416, "OFFSET_OUT_OF_RANGE", call("GET", f"/topics/{topic}/partitions/0/records?offset=7"))
    check("offsets 0 to 0" in out["detail"], "the bounds are told")
    problem(400, "INVALID_REQUEST", call("GET", f"/topics/{topic}/partitions/x/records"))
    problem(400, "INVALID_REQUEST", call("GET", f"/topics/{topic}/partitions/0/records?ofset=7"))
    problem(400, "INVALID_REQUEST", call("POST", records, b"[{}", {"Content-Type": "application/json"}))
    problem(415, "INVALID_REQUEST", call("POST", records, b"x", {"Content-Type": "image/png"}))
    problem(405, "INVALID_REQUEST", call("PUT", records, b"x"))
    problem(404, "INVALID_REQUEST", call("GET", "/nothing"))
    body = [{"value": "ok", "partition": 0}, {"value": "x" * 3000, "partition": 1}]
    some = problem(413, "MESSAGE_TOO_LARGE", call("POST", records, body))
    check_equal(some["records"][0], {"partition": 0, "offset": 0}, "what was written is told")
    check_equal(some["records"][1]["error"], "MESSAGE_TOO_LARGE", "and what was not")
    write(topic, [{"value": "x" * 500, "partition": 0} for _ in range(20)])
    check(True, "records together larger than a batch may be are put into several")
    before = metric("ringlog_http_refused_bodies_total")
    problem(413, "MESSAGE_TOO_LARGE", call("POST", records, b"x" * (17 << 20), {"Content-Type": "text/plain"}))
    check_equal(metric("ringlog_http_refused_bodies_total"), before + 1, "the refused body is counted")
    page = {"Origin": "http://elsewhere.example", "Content-Type": "text/plain"}
    problem(403, "INVALID_REQUEST", call("POST", records, b"x", page))
    compacted = make_topic(1, **{"cleanup.policy": "compact"})
    problem(400, "INVALID_RECORD", call("POST", f"/topics/{compacted}/records", {"value": 1}))
    check(True, "each refusal is a problem with Kafka's name for it")


@feature
def a_topic_is_made_when_records_come(bootstrap):
    topic = topic_name("automatic")
    check_equal(write(topic, {"value": "first"})[0]["offset"], 0, "the first record")
    problem(400, "INVALID_TOPIC_EXCEPTION", call("POST", "/topics/a%20b/records", {"value": 1}))


@feature
def topics(bootstrap):
    name = make_topic(3, **{"retention.ms": 3600000})
    described = get(f"/topics/{name}")
    check_equal(described["configs"], {"retention.ms": "3600000"}, "its configuration")
    check_equal([p["partition"] for p in described["partitions"]], [0, 1, 2], "its partitions")
    check(len({p["core"] for p in described["partitions"]}) == 2, "on both cores")
    kafkas = admin(bootstrap).describe_topics(TopicCollection([name]))[name].result(30)
    check_equal(str(kafkas.topic_id) != "", True, "Kafka's admin client sees it")
    problem(409, "TOPIC_ALREADY_EXISTS", call("POST", "/topics", {"name": name}))
    problem(400, "INVALID_CONFIG", call("POST", "/topics", {"name": "x", "configs": {"no.such": 1}}))
    problem(400, "INVALID_PARTITIONS", call("POST", "/topics", {"name": "x", "partitions": 0}))
    checked = {"name": topic_name("checked"), "partitions": 2, "validate_only": True}
    expect(200, call("POST", "/topics", checked))
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION", call("GET", f"/topics/{checked['name']}"))
    expect(204, call("PATCH", f"/topics/{name}", {"partitions": 5}))
    check_equal(len(get(f"/topics/{name}")["partitions"]), 5, "more partitions")
    problem(400, "INVALID_PARTITIONS", call("PATCH", f"/topics/{name}", {"partitions": 5}))
    configs = f"/topics/{name}/configs"
    expect(204, call("PATCH", configs, {"cleanup.policy": "compact", "retention.ms": None}))
    set_now = {e["name"]: e["value"] for e in get(configs)["configs"] if not e["is_default"]}
    check_equal(set_now, {"cleanup.policy": "compact"}, "one set, one back to its default")
    problem(400, "INVALID_CONFIG", call("PATCH", configs, {"retention.ms": "soon"}))
    expect(204, call("PATCH", configs + "?validate_only=true", {"retention.ms": 5000}))
    check_equal(get(f"/topics/{name}")["configs"], set_now, "what was only checked is not set")
    names = []
    after = {}
    while True:
        page = get("/topics", limit=1, **after)
        names += [topic["name"] for topic in page["topics"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    check_equal(names, sorted(names), "a list in pages, by name")
    check(name in names, "with the topic")
    expect(204, call("DELETE", f"/topics/{name}"))
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION", call("DELETE", f"/topics/{name}"))
    check(name not in admin(bootstrap).list_topics(timeout=30).topics, "gone for Kafka too")


@feature
def offsets_and_deleted_records(bootstrap):
    topic = make_topic(1)
    write(topic, [{"value": n, "timestamp": 1000 * n} for n in range(1, 11)])
    path = f"/topics/{topic}/partitions/0"
    found = get(path + "/offsets", timestamp=4500)
    wanted = {"topic": topic, "partition": 0, "start_offset": 0, "end_offset": 10,
              "offset": 4, "timestamp": 5000}
    check_equal(found, wanted, "ends, and the first offset at or after a time")
    check_equal(get(path + "/offsets", timestamp=99_000)["offset"], 10, "none so late: the end")
    trimmed = expect(200, call("DELETE", path + "/records", before=4)).json()
    check_equal(trimmed["start_offset"], 4, "records were deleted")
    check_equal(read(topic)["records"][0]["offset"], 4, "the earliest is another")
    problem(416, "OFFSET_OUT_OF_RANGE", call("GET", path + "/records", offset=3))
    problem(416, "OFFSET_OUT_OF_RANGE", call("DELETE", path + "/records", before=11))
    check_equal(expect(200, call("DELETE", path + "/records", before="end")).json()["start_offset"],
                10, "all of them")
    low, high = Consumer({"bootstrap.servers": bootstrap, "group.id": "w"}).get_watermark_offsets(
        TopicPartition(topic, 0), timeout=30)
    check_equal((low, high), (10, 10), "Kafka's client sees the same")


@feature
def groups(bootstrap):
    topic = make_topic(2)
    write(topic, [{"value": n, "partition": n % 2} for n in range(20)])
    group = topic_name("group")
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "client.id": "reader",
                       "auto.offset.reset": "earliest", "enable.auto.commit": False})
    client.subscribe([topic])
    seen = []
    until(lambda: seen.extend(client.consume(20, 0.5)) or len(seen) == 20, "all records are read")
    first = [TopicPartition(topic, 0, 3), TopicPartition(topic, 1, 10)]
    client.commit(offsets=first, asynchronous=False)
    described = get(f"/groups/{group}")
    check_equal(described["state"], "Stable", "its state")
    check_equal([m["client_id"] for m in described["members"]], ["reader"], "its member")
    lags = [(p["committed_offset"], p["end_offset"], p["lag"]) for p in described["partitions"]]
    check_equal(lags, [(3, 10, 7), (10, 10, 0)], "offsets and lag")
    check_equal(described["lag"], 7, "the whole lag")
    member = described["members"][0]["member_id"]
    check_equal({p["member_id"] for p in described["partitions"]}, {member}, "who reads them")
    listed = [g["group"] for g in get("/groups", state="Stable")["groups"]]
    check(group in listed, "in the list of stable groups")
    reset = {"offsets": [{"topic": topic, "partition": 0, "offset": 5, "metadata": "by hand"}]}
    problem(409, "UNKNOWN_MEMBER_ID", call("POST", f"/groups/{group}/offsets", reset))
    problem(409, "NON_EMPTY_GROUP", call("DELETE", f"/groups/{group}"))
    problem(409, "GROUP_SUBSCRIBED_TO_TOPIC", call("DELETE", f"/groups/{group}/offsets", topic=topic))
    client.close()
    until(lambda: get(f"/groups/{group}")["state"] == "Empty", "its member is gone")
    expect(204, call("POST", f"/groups/{group}/offsets", reset))
    changed = get(f"/groups/{group}")["partitions"][0]
    check_equal((changed["committed_offset"], changed["metadata"]), (5, "by hand"), "another offset")
    committed = Consumer({"bootstrap.servers": bootstrap, "group.id": group}).committed(
        [TopicPartition(topic, 0)], timeout=30)
    check_equal(committed[0].offset, 5, "Kafka's client sees it")
    expect(204, call("DELETE", f"/groups/{group}/offsets", topic=topic, partition=0))
    left = [p["partition"] for p in get(f"/groups/{group}")["partitions"]]
    check_equal(left, [1], "one offset is forgotten")
    problem(404, "UNKNOWN_TOPIC_OR_PARTITION",
            call("POST", f"/groups/{group}/offsets",
                 {"offsets": [{"topic": topic, "partition": 7, "offset": 0}]}))
    expect(204, call("DELETE", f"/groups/{group}"))
    problem(404, "GROUP_ID_NOT_FOUND", call("GET", f"/groups/{group}"))
    problem(404, "GROUP_ID_NOT_FOUND", call("DELETE", f"/groups/{group}"))


def credential(mechanism="SCRAM-SHA-256", iterations=8192, **changed):
    """What a client sends of the password "secret"."""
    salt = secrets.token_bytes(24)
    hashed = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}[mechanism]
    salted = hashlib.pbkdf2_hmac(hashed, b"secret", salt, iterations)
    made = {"mechanism": mechanism, "iterations": iterations,
            "salt_base64": base64.b64encode(salt).decode(),
            "salted_password_base64": base64.b64encode(salted).decode()}
    return {**made, **changed}


def put_user(name, *credentials):
    return call("PUT", f"/users/{name}", {"credentials": list(credentials)})


@feature
def users(bootstrap):
    check_equal(get("/users"), {"users": [], "next": None}, "nobody")
    both = [credential(), credential("SCRAM-SHA-512", 4096)]
    expect(204, put_user("b%C3%B6b%2Fx", *both))
    kept = [{"mechanism": "SCRAM-SHA-256", "iterations": 8192},
            {"mechanism": "SCRAM-SHA-512", "iterations": 4096}]
    answer = call("GET", "/users")
    wanted = {"users": [{"name": "böb/x", "credentials": kept}], "next": None}
    check_equal(answer.json(), wanted, "mechanisms and iterations, and nothing else")
    described = admin(bootstrap).describe_user_scram_credentials(["böb/x"])["böb/x"].result(30)
    found = {info.mechanism: info.iterations for info in described.scram_credential_infos}
    wanted = {ScramMechanism.SCRAM_SHA_256: 8192, ScramMechanism.SCRAM_SHA_512: 4096}
    check_equal(found, wanted, "Kafka's admin client sees the same")
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 5000)
    altered = [UserScramCredentialUpsertion("ann", info, b"secret"),
               UserScramCredentialDeletion("böb/x", ScramMechanism.SCRAM_SHA_256)]
    for done in admin(bootstrap).alter_user_scram_credentials(altered).values():
        done.result(30)
    first = get("/users", limit=1)
    wanted = {"name": "ann", "credentials": [{"mechanism": "SCRAM-SHA-512", "iterations": 5000}]}
    check_equal(first, {"users": [wanted], "next": "ann"}, "what that one makes is listed, in pages")
    rest = get("/users", after="ann")
    check_equal(rest, {"users": [{"name": "böb/x", "credentials": kept[1:]}], "next": None}, "the rest")
    for wrong in (credential(iterations=4095), credential(iterations=16385), {**credential(), "iterations": -1},
                  credential(salt_base64=""), credential(salted_password_base64="AAAA"),
                  credential(salt_base64=base64.b64encode(b"x" * 257).decode())):
        problem(400, "UNACCEPTABLE_CREDENTIAL", put_user("carl", wrong))
    problem(400, "UNACCEPTABLE_CREDENTIAL", put_user("x" * 256, credential()))
    problem(400, "UNSUPPORTED_SASL_MECHANISM", put_user("carl", {**credential(), "mechanism": "PLAIN"}))
    problem(400, "DUPLICATE_RESOURCE", put_user("carl", credential(), credential()))
    problem(400, "INVALID_REQUEST", put_user("carl"))
    problem(400, "INVALID_REQUEST", put_user("carl", credential(salt_base64="?")))
    problem(400, "INVALID_REQUEST", put_user("carl", credential(password="secret")))
    problem(404, "INVALID_REQUEST", put_user("", credential()))
    problem(413, "MESSAGE_TOO_LARGE", put_user("carl", credential(salt_base64="A" * (2 << 20))))
    page = {"Origin": "http://elsewhere.example", "Content-Type": "application/json"}
    body = json.dumps({"credentials": [credential()]}).encode()
    problem(403, "INVALID_REQUEST", call("PUT", "/users/carl", body, page))
    names = [user["name"] for user in get("/users")["users"]]
    check_equal(names, ["ann", "böb/x"], "of what is refused nothing is done")
    problem(404, "RESOURCE_NOT_FOUND", call("DELETE", "/users/carl"))
    problem(404, "RESOURCE_NOT_FOUND", call("DELETE", "/users/ann", mechanism="SCRAM-SHA-256"))
    problem(400, "UNSUPPORTED_SASL_MECHANISM", call("DELETE", "/users/ann", mechanism="PLAIN"))
    expect(204, put_user("ann", credential()))
    expect(204, call("DELETE", "/users/ann", mechanism="SCRAM-SHA-512"))
    check_equal(get("/users", limit=1)["users"][0]["credentials"], kept[:1], "one of both is gone")
    expect(204, put_user("ann", credential("SCRAM-SHA-512")))
    for name in ("ann", "b%C3%B6b%2Fx"):
        expect(204, call("DELETE", f"/users/{name}"))
    check_equal(get("/users")["users"], [], "all are gone")
    check(metric('ringlog_http_requests_total{route="/users/{user}",method="PUT",status="204"}') >= 3,
          "and counted")


@feature
def the_description_is_valid_and_true(bootstrap):
    try:
        from openapi_spec_validator import OpenAPIV31SpecValidator
    except ImportError as missing:
        print(f"not installed: {missing}")
        sys.exit(3)
    description = get("/openapi.json")
    OpenAPIV31SpecValidator(description).validate()
    check(True, "the description is OpenAPI 3.1")
    count = 0
    for path, operations in description["paths"].items():
        filled = path.replace("{partition}", "0")
        for name in ("{topic}", "{group}", "{user}"):
            filled = filled.replace(name, "no-such")
        for method in operations:
            answer = call(method.upper(), filled)
            if answer.status == 405 or b"there is nothing at" in answer.body:
                raise Failed(f"{method} {path} is not there: {answer.body}")
            statuses = operations[method]["responses"]
            if str(answer.status) not in statuses:
                raise Failed(f"{method} {path} answers {answer.status}, which it does not describe")
            count += 1
    check(count >= 23, f"{count} operations are there")


if __name__ == "__main__":
    main()
