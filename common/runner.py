"""The work loop of the steps that handle one video at a time: workers, time limits, failures."""

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, TimeoutError, wait
from itertools import chain
from multiprocessing import resource_tracker

from common.cli import INTERRUPTED, on_spark, say, usable_cpus
from common.progress import list_messages, progress
from common.records import InputError, OutputError, forget_failure, note_failure, write_failed_table

PR_SET_PDEATHSIG = 1  # Linux prctl(2): signal to get when the parent dies

setup_failure = None  # in a worker process: why it cannot work


def end_with_parent():
    """Have this worker process end with its parent: a killed run must not leave workers that go on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != multiprocessing.parent_process().pid:
            os._exit(1)  # it was killed before the line above


def _start_worker(initializer, initargs):
    global setup_failure
    end_with_parent()
    try:
        if initializer:
            initializer(*initargs)
    except Exception as error:  # pebble would start the next worker, and the next
        setup_failure = f"cannot start a worker: {type(error).__name__}: {error}"


def do_safely(function, task):
    """Run one task in a worker: whatever a library makes of a strange file costs that file only."""
    if setup_failure:
        raise OutputError(setup_failure)
    try:
        return function(task)
    except (InputError, OutputError):
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}") from None


class LockKeepingContext(multiprocessing.context.SpawnContext):
    """Start processes anew, as TensorFlow and threads do not survive a fork, and let no lock vanish before it does itself.

    A pool drops its locks before it ends its workers: one that was just starting would miss them, with a traceback.
    """

    def __init__(self):
        self.locks = []

    def RLock(self):  # the name is multiprocessing's
        self.locks.append(super().RLock())
        return self.locks[-1]


def start_pool(workers, initializer, initargs):
    """Return a running pool of worker processes, which end with this one; Ctrl-C reaches only the main process."""
    from pebble import ProcessPool

    pool = ProcessPool(
        max_workers=workers, context=LockKeepingContext(), initializer=_start_worker, initargs=(initializer, initargs)
    )

    def start():
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            resource_tracker.ensure_running()  # else multiprocessing does, later, and lets Ctrl-C through
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started from here inherits it
        return pool.active  # asking starts it

    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(start).result()
    except KeyboardInterrupt:
        pool.stop()
        pool.join()
        raise
    return pool


def outcome_of(future, timeout_s):
    """Return the result of a pool's task, or why there is none as InputError. Raises OutputError: nothing else would work."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except InputError as error:
        return error
    except TimeoutError:
        return InputError(f"took longer than {timeout_s:g} s (--timeout) and was stopped")
    except ProcessExpired as error:
        return InputError(f"the process that read it died (exit code {error.exitcode})")


def run_in_workers(function, tasks, workers, timeout_s, initializer=None, initargs=()):
    """Yield (task, result or InputError) as they finish; `function` runs in worker processes.

    A worker that dies or takes longer than `timeout_s` costs its one task. OutputError is raised: nothing else would work.
    """
    if not tasks:
        return
    pool = start_pool(workers, initializer, initargs)
    remaining, running = iter(tasks), {}
    try:
        while True:
            for task in remaining:
                running[pool.schedule(do_safely, args=(function, task), timeout=timeout_s)] = task
                if len(running) >= 4 * workers:  # enough to keep them busy, without a million futures
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), outcome_of(future, timeout_s)
    finally:
        pool.stop()
        pool.join()


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
    if on_spark(args):
        from common.spark import run_on_spark

        name = f"{stage} of {len(todo)} videos"
        results = run_on_spark(args.spark_master, name, function, todo, args.timeout, initializer, initargs)
    else:
        workers = min(workers or args.workers or len(usable_cpus()), len(todo)) or 1
        results = run_in_workers(function, todo, workers, args.timeout, initializer, initargs)
    try:
        for path, reason in problems:
            note_failure(data_dir, stage, path, reason)
            failed.append((path, reason))
        for job, result in chain(refused, done, progress(results if todo else (), len(todo), stage, "videos")):
            if isinstance(result, InputError):
                note_failure(data_dir, stage, job.path, str(result))
                failed.append((job.path, str(result)))
                discard_outdated(job)
            else:
                forget_failure(data_dir, stage, job.path)
                counts.update(result.get("counts", {}))
                warnings += [(job.path, warning) for warning in result.get("warnings", ())]
        write_failed_table(data_dir)
    except (OutputError, InputError) as error:  # InputErrors of the jobs are results, this one is of the records
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say(f"{stage}: interrupted; run it again to go on where it stopped")
        return INTERRUPTED
    list_messages(stage, "warning", sorted(warnings))
    list_messages(stage, "failed", sorted(failed))
    parts = [f"{len(jobs) + len(problems)} videos", *(f"{number} {what}" for what, number in counts.items())]
    if done:
        parts.append(f"{len(done)} were complete")
    say(f"{stage}: {', '.join(parts)}, {len(failed)} failed, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def discard_outdated(job):
    """Remove our older result of an input that has changed and cannot be used any more; what still fits it stays."""
    if os.path.lexists(job.target_dir) and job.is_ours() and job.finished() is None:
        shutil.rmtree(job.target_dir, ignore_errors=True)
