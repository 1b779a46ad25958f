"""Programs that run in the background for as long as a test needs them."""

import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

START_LIMIT_S = 120


def free_port():
    """Return a TCP port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(done, limit_s, what):
    """Return the first true value of `done()`; fails the test after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (value := done()):
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s"
        time.sleep(0.01)
    return value


@contextmanager
def daemon(command, log_path, environment):
    """Run a program in the background until the block ends."""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def children_of(process_id):
    """Return the ids of all processes that a process has started, and of theirs."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found, generation = [], [process_id]
    while generation := [child for child, parent in parents.items() if parent in generation]:
        found += generation
    return found
