"""What test_spark lets executors do; they import it by this module's name."""

from tests.parallel.test_loop import behave, cannot_start, count_start

__all__ = ["behave_as_record", "cannot_start", "count_start"]


def behave_as_record(task):
    """Do what the task says and return a record like those of 00 and 01a."""
    return {"counts": {"letters": 1}, "warnings": [behave(task)[:1]], "frames": ["much that nobody asks for"]}
