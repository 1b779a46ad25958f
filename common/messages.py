"""What the scripts say: one line at a time, and the progress of long work."""

import sys
import time

PLAIN_LINE_EVERY_S = 60  # of progress, where the output is no terminal
LISTED_MESSAGES = 20  # failures (or warnings) printed at the end; failed.csv holds all


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
    """Print one line per (path, reason), of many only the first. `kind`: what the lines begin with, "failed" or "warning"."""
    for path, reason in messages[:LISTED_MESSAGES]:
        say(f"{stage}: {kind}: {path}: {reason}")
    if len(messages) > LISTED_MESSAGES:
        say(f"{stage}: {kind}: … and {len(messages) - LISTED_MESSAGES} more")


def say(message):
    """Print one line for people to read; standard output stays free for results."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(text):
    """Return a text with "?" for all that would move a terminal's cursor or cannot be encoded: file names are data."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
