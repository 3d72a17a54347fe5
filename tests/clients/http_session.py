"""Ringlog's HTTP API by Python's own library, as anybody would use it."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

from checks import DEADLINE_SECONDS, Failed

HTTP = "http://" + os.environ.get("RINGLOG_HTTP", "127.0.0.1:9080")


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.splitlines()]


def call(method, path, body=None, headers=None, **query):
    """Calls a route, and returns what it answers, well or not."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
    elif isinstance(body, str):
        body = body.encode()
    if query:
        path += "?" + urllib.parse.urlencode(query)
    request = urllib.request.Request(HTTP + path, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return Answer(response, response.read())
    except urllib.error.HTTPError as refused:
        return Answer(refused, refused.read())


def get(path, **query):
    return expect(200, call("GET", path, **query)).json()


def expect(status, answer):
    if answer.status != status:
        raise Failed(f"expected {status}, found {answer.status}: {answer.body[:600]}")
    return answer


def problem(status, error, answer):
    """What a refusal says, if it is one of this kind."""
    expect(status, answer)
    if answer.headers["Content-Type"] != "application/problem+json":
        raise Failed(f"not a problem: {answer.headers['Content-Type']}")
    found = answer.json()
    if (found["status"], found["error"]) != (status, error):
        raise Failed(f"expected {error}, found {found}")
    return found


def metric(name):
    """The sum of a figure over all of its labels."""
    text = call("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
