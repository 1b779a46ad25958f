"""The work loop of the steps that handle one video at a time: workers, time limits, failures."""

import heapq
import os
import shutil
import time
from collections import Counter
from itertools import chain

from common import cli, messages
from common.errors import InputError, OutputError
from common.messages import progress, say
from deepfake.parallel import failures, pool, spark


def work_through(stage, function, jobs, args, data_dir, problems=(), initializer=None, initargs=(), workers=None):
    """Do every job that is not complete, record failures, print the summary; return the exit status.

    A job has `.path` (the input that messages name), `.target_dir`, `.is_ours()` (whether these scripts made that folder) and
    `.finished()` (the record of a complete result made from the same input with the same settings, or None), and is what
    `function` gets in a worker process. Results and records are dicts; `warnings` lists what was only partly usable, and
    `counts` is added up for the summary.
    """
    started = time.monotonic()
    counts, warnings, failed, todo, done, refused = Counter(), [], [], [], [], []
    for job in jobs:
        if os.path.lexists(job.target_dir) and not job.is_ours():
            reason = (
                f"its results belong in {job.target_dir}, which is a file or folder of your own; rename one of them"
            )
            refused.append((job, InputError(reason)))
        elif not args.force and (record := job.finished()) is not None:
            done.append((job, record))
        else:
            todo.append(job)
    if spark.on_spark(args):
        from deepfake.parallel.spark import run_on_spark

        name = f"{stage} of {len(todo)} videos"
        results = run_on_spark(args.spark_master, name, function, todo, args.timeout, initializer, initargs)
    else:
        workers = min(workers or args.workers or len(pool.usable_cpus()), len(todo)) or 1
        results = pool.run_in_workers(function, todo, workers, args.timeout, initializer, initargs)
    try:
        for path, reason in problems:
            failures.note_failure(data_dir, stage, path, reason)
            failed.append((path, reason))
        for job, result in chain(refused, done, progress(results if todo else (), len(todo), stage, "videos")):
            if isinstance(result, InputError):
                failures.note_failure(data_dir, stage, job.path, str(result))
                failed.append((job.path, str(result)))
                discard_outdated(job)
            else:
                failures.forget_failure(data_dir, stage, job.path)
                counts.update(result.get("counts", {}))
                warnings += [(job.path, warning) for warning in result.get("warnings", ())]
        failures.write_failed_table(data_dir)
    except (OutputError, InputError) as error:  # InputErrors of the jobs are results, this one is of the records
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


def discard_outdated(job):
    """Remove our older result of an input that has changed and cannot be used any more; what still fits it stays."""
    if os.path.lexists(job.target_dir) and job.is_ours() and job.finished() is None:
        shutil.rmtree(job.target_dir, ignore_errors=True)


def share_of(items, sizes, shard):
    """Return the items of shard (number, count), 1-based: the largest first, each to the least loaded shard.

    Depends on nothing but the sorted list and its sizes, which must not change while shards run: then every item is in exactly
    one shard (Graham's LPT rule).
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
