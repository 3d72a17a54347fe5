"""A person at a terminal, by Python's own library: types where a command asks for a password.

The command is in the variable COMMAND, as a list in JSON; what is to be typed in TYPED.
"""

import json
import os
import pty
import time

from checks import DEADLINE_SECONDS, Failed, check, check_equal, feature, main


def read_until(terminal, words, seen):
    """Reads what is shown until the words are; none: until the command ends."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while words is None or words not in seen:
        if time.monotonic() > deadline:
            raise Failed(f"{words!r} is not in {seen!r}")
        try:
            shown = os.read(terminal, 1000)
        except OSError:
            # Nobody has the terminal any more.
            shown = b""
        if not shown:
            if words is None:
                return seen
            raise Failed(f"it ended after {seen!r}")
        seen += shown.decode()
    return seen


def at_terminal(typed):
    """What was shown, and the status in the end."""
    command = json.loads(os.environ["COMMAND"])
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    seen = ""
    for question, answer in zip(("Password for", "Once more: "), typed):
        seen = read_until(terminal, question, seen)
        seen = read_until(terminal, ": ", seen)
        os.write(terminal, answer.encode())
    seen = read_until(terminal, None, seen)
    _, status = os.waitpid(child, 0)
    return seen, os.waitstatus_to_exitcode(status)


@feature
def sets_a_password(bootstrap):
    password = os.environ["TYPED"]
    seen, status = at_terminal([f"{password}\n", f"{password}\n"])
    check_equal(status, 0, f"done: {seen}")
    check(password not in seen, "the password is not shown")


@feature
def goes_away(bootstrap):
    seen, status = at_terminal(["half a passw\x03"])
    check_equal(status, 2, f"nothing is done: {seen}")
    check("half" not in seen and "nothing was changed" in seen, "and that is said")


if __name__ == "__main__":
    main()
