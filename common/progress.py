"""What a step says of its work: how far it is, and at the end what went wrong."""

import sys
import time

from common.cli import say

PLAIN_LINE_EVERY_S = 60  # when the output is not a terminal
LISTED_MESSAGES = 20  # failures and warnings printed at the end; all failures are in failed.csv


def progress(items, total, stage, unit):
    """Yield `items`, showing count, rate and remaining time: a bar on a terminal, else one plain line a minute."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=stage, unit=f" {unit}", delay=1, leave=False)
        return
    started = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= PLAIN_LINE_EVERY_S:
            last_line = now
            left_s = (now - started) / done * (total - done)
            rate = done / (now - started)
            say(f"{stage}: {done} of {total} {unit}, {rate:.2g} per second, {left_s / 60:.1f} min left")


def list_messages(stage, kind, messages):
    """Print one line per (path, reason), the first ones only when there are many."""
    for path, reason in messages[:LISTED_MESSAGES]:
        say(f"{stage}: {kind}: {path}: {reason}")
    if len(messages) > LISTED_MESSAGES:
        say(f"{stage}: {kind}: … and {len(messages) - LISTED_MESSAGES} more")
