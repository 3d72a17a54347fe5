"""HTTP over TLS, by Python's own library; settings as in confluent_security.py."""

import base64
import json
import os
import ssl
import urllib.error
import urllib.request

from checks import DEADLINE_SECONDS, check, check_equal, feature, main


@feature
def metrics(url):
    given = json.loads(os.environ["KAFKA_CLIENT"])
    trusting = ssl.create_default_context(cafile=given["ssl.ca.location"])
    said = f"{given['sasl.username']}:{given['sasl.password']}".encode()
    login = {"Authorization": "Basic " + base64.b64encode(said).decode()}

    def get(path, headers, context=trusting):
        request = urllib.request.Request(url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers.get("WWW-Authenticate", "")

    check_equal(get("/healthz", {})[0], 200, "health is open")
    status, challenge = get("/metrics", {})
    check_equal((status, challenge.split()[0]), (401, "Basic"), "metrics are not")
    status, text = get("/metrics", login)
    check(status == 200 and "ringlog_ready 1" in text, "but for who logs in")
    try:
        get("/healthz", {}, ssl.create_default_context())
        check(False, "a client that does not know the authority is served")
    except urllib.error.URLError as error:
        check("CERTIFICATE_VERIFY_FAILED" in str(error), "who does not know the authority goes away")


if __name__ == "__main__":
    main()
