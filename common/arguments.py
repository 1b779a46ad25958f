"""Option values that several scripts take (argparse types)."""

import argparse
import re


def share(text):
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def positive(text):
    """Parse an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def seed(text):
    """Parse an integer of 0 to 2**32 - 1."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 4294967295")
    return number


def above_0(text):
    """Parse a number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def shard(text):
    """Parse `I/N` with 1 <= I <= N."""
    try:
        number, count = (int(part) for part in text.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N, for example 2/16")
    return number, count


def spark_master(text):
    """Parse the address of a Spark cluster."""
    if not re.match(r"(local(\[|$)|yarn$|(spark|k8s|mesos)://)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not local[N], spark://host:7077, yarn, k8s:// or mesos://")
    return text
