"""The work loop of the scripts that handle one video at a time: jobs, workers, time limits, failures."""

import heapq
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from common import cli, files, messages
from common.errors import InputError, OutputError
from common.messages import progress, say
from deepfake.parallel import failures, pool, spark


@dataclass(frozen=True)
class Job:
    """The work on one video. Its result is a folder with a record in it."""

    path: Path  # the input, as messages name it
    target_dir: Path
    record_name: str
    origin: Callable  # from the job to a dict that identifies its input; raises OSError if that is gone
    settings: dict  # that the result depends on
    payload: Any = None  # whatever else the work needs

    def made_from(self):
        """Return input and settings. A result whose record says the same need not be made again. Raises OSError."""
        return self.origin(self) | self.settings

    def blocked(self):
        """Return an InputError if something of the user's lies where the result belongs, else None."""
        if not os.path.lexists(self.target_dir) or files.is_our_folder(self.target_dir, self.record_name):
            return None
        place = f"its results belong in {self.target_dir}, which is a file or folder of your own"
        return InputError(f"{place}; rename one of them", "not_ours")

    def finished(self):
        """Return the record of a complete result of the same input with the same settings, else None.

        A result without what was `unreadable` is not complete.
        """
        record = files.read_json(self.target_dir / self.record_name)
        try:
            fits = record and not record.get("unreadable") and record.get("made_from") == self.made_from()
        except OSError:  # gone, or just being replaced by the step before
            return None
        return record if fits else None

    def write(self, images, record):
        """Write `images`, {name: bytes}, and the record in one step; return the record. Raises OutputError, InputError."""
        with files.new_directory(self.target_dir) as folder:
            for name, data in images.items():
                (folder / name).write_bytes(data)
            files.write_json(folder / self.record_name, record)
        return record

    def discard_outdated(self):
        """Remove an older result unless it still fits: the input has changed and has failed."""
        if not self.blocked() and self.finished() is None:
            shutil.rmtree(self.target_dir, ignore_errors=True)


def work_through(stage, function, jobs, args, data_dir, problems=(), set_up=None):
    """Do every Job that is not complete, record failures, print the summary; return the exit status.

    `function` gets a job in a worker process and returns its record, of which `warnings` are printed and `counts` added up for
    the summary. `problems`: (path, InputError) of inputs that cannot become jobs. `set_up(threads)` is called once in each worker
    process with the number of CPU threads that it may use.
    """
    started = time.monotonic()
    counts, warnings, failed, todo, done, blocked = Counter(), [], [], [], [], []
    for job in jobs:
        if error := job.blocked():
            blocked.append((job, error))
        elif not args.force and (record := job.finished()):
            done.append((job, record))
        else:
            todo.append(job)
    if spark.on_spark(args):
        name = f"{stage} of {len(todo)} videos"
        results = spark.run_on_spark(args.spark_master, name, function, todo, args.timeout, set_up, (1,))
    else:
        cpus = len(pool.usable_cpus())
        workers = min(args.workers or cpus, len(todo)) or 1
        results = pool.run_in_workers(function, todo, workers, args.timeout, set_up, (max(1, cpus // workers),))

    def fail(path, error):
        failures.note_failure(data_dir, stage, path, error)
        failed.append((path, str(error)))

    try:
        for path, error in problems:
            fail(path, error)
        for job, result in chain(blocked, done, progress(results if todo else (), len(todo), stage, "videos")):
            if isinstance(result, InputError):
                fail(job.path, result)
                job.discard_outdated()
            else:
                failures.forget_failure(data_dir, stage, job.path)
                counts.update(result.get("counts", {}))
                warnings += [(job.path, warning) for warning in result.get("warnings", ())]
        failures.write_failed_table(data_dir)
    except (OutputError, InputError) as error:  # of writing a record; an InputError of a job is a result
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say(f"{stage}: interrupted; run it again to go on where it stopped")
        return cli.INTERRUPTED
    messages.list_messages(stage, "warning", sorted(warnings))
    messages.list_messages(stage, "failed", sorted(failed))
    parts = [f"{len(jobs) + len(problems)} videos", *(f"{number} {what}" for what, number in counts.items())]
    if done:
        parts.append(f"{len(done)} were complete")
    say(f"{stage}: {', '.join(parts)}, {len(failed)} failed, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def share_of(items, sizes, shard):
    """Return the items of the shard (number, count), counted from 1: the largest items first, each to the shard with the least.

    That is Graham's LPT rule. Each item is in exactly one shard as long as neither the sorted list nor its sizes change
    meanwhile.
    """
    number, count = shard
    loads = [(0, index) for index in range(count)]
    chosen = []
    for position in sorted(range(len(items)), key=lambda position: (-sizes[position], position)):
        load, index = loads[0]
        heapq.heapreplace(loads, (load + max(1, sizes[position]), index))
        if index == number - 1:
            chosen.append(position)
    return [items[position] for position in sorted(chosen)]
