"""What the client scripts share: features registered by name, checks that print what they check.

    script.py BOOTSTRAP FEATURE...      runs the named features (all of them when none is named)
    script.py --list                    prints the names

A script prints every check it makes and exits with 1 at the first one that fails, or with 3 when
the library it needs is not installed.
"""

import secrets
import sys
import time
import traceback

FEATURES = {}
# Every wait in these scripts ends after this long: a hang is a failure, not a pause.
DEADLINE_SECONDS = 60.0
MISSING_LIBRARY = 3


class Failed(Exception):
    """A check that did not hold."""


def feature(function):
    """Registers a function under its own name."""
    FEATURES[function.__name__] = function
    return function


def check(holds, what):
    if not holds:
        raise Failed(what)
    print(f"  ok: {what}", flush=True)


def check_equal(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: expected {shortened(expected)}, found {shortened(found)}")
    print(f"  ok: {what}", flush=True)


def shortened(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


def topic_name(stem):
    """A name that no other run uses."""
    return f"{stem}-{secrets.token_hex(4)}"


def until(condition, what, seconds=DEADLINE_SECONDS):
    """Polls until the condition gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def main():
    arguments = sys.argv[1:]
    if arguments == ["--list"]:
        print("\n".join(FEATURES))
        return
    if not arguments:
        sys.exit(__doc__)
    bootstrap, names = arguments[0], arguments[1:] or list(FEATURES)
    for name in names:
        print(f"{name}:", flush=True)
        try:
            FEATURES[name](bootstrap)
        except Failed as failed:
            print(f"  FAILED: {failed}", flush=True)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"  FAILED: {name} raised", flush=True)
            sys.exit(1)
