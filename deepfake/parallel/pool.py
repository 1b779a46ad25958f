"""Worker processes: one that crashes or hangs costs one task."""

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, TimeoutError, wait
from multiprocessing import resource_tracker

from common.errors import InputError, OutputError

PR_SET_PDEATHSIG = 1  # of Linux's prctl(2): the signal that comes when the parent dies
setup_failure = None  # in a worker process that cannot work: why


def usable_cpus():
    """Return the CPUs that this process may use, where the system says which."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def end_with_parent():
    """Have this worker process end with its parent: a killed run must not leave workers behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != multiprocessing.parent_process().pid:
            os._exit(1)  # the parent was killed before the line above


def _start_worker(initializer, initargs):
    global setup_failure
    end_with_parent()
    try:
        if initializer:
            initializer(*initargs)
    except Exception as error:  # else pebble would start one worker after the other
        setup_failure = f"cannot start a worker: {type(error).__name__}: {error}"


def do_safely(function, task):
    """Run one task in a worker. Whatever a library raises about a strange file becomes InputError. Raises OutputError."""
    if setup_failure:
        raise OutputError(setup_failure)
    try:
        return function(task)
    except (InputError, OutputError):
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}") from None


class LockKeepingContext(multiprocessing.context.SpawnContext):
    """Starts processes without a fork, which TensorFlow and threads do not survive, and keeps all locks.

    A pool drops its locks before it ends its workers: a worker that is just starting would fail without them, with a traceback.
    """

    def __init__(self):
        self.locks = []

    def RLock(self):  # the name is multiprocessing's
        self.locks.append(super().RLock())
        return self.locks[-1]


def start_pool(workers, initializer, initargs):
    """Return a running pool of worker processes. They end with this process, which alone gets Ctrl-C."""
    from pebble import ProcessPool

    pool = ProcessPool(
        max_workers=workers, context=LockKeepingContext(), initializer=_start_worker, initargs=(initializer, initargs)
    )

    def start():
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            resource_tracker.ensure_running()  # else multiprocessing starts it later, and Ctrl-C would reach it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by what this thread starts
        return pool.active  # reading it starts the pool

    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(start).result()
    except KeyboardInterrupt:
        pool.stop()
        pool.join()
        raise
    return pool


def outcome_of(future, timeout_s):
    """Return the result of a pool's task, or an InputError that says why there is none. Raises OutputError."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except InputError as error:
        return error
    except TimeoutError:
        return InputError(f"took longer than {timeout_s:g} s (--timeout) and was stopped", "too_slow")
    except ProcessExpired as error:
        return InputError(f"the process that read it died (exit code {error.exitcode})", "crashed")


def run_in_workers(function, tasks, workers, timeout_s, initializer=None, initargs=()):
    """Yield (task, result or InputError) as they finish; `function` runs in worker processes.

    A worker that dies or takes longer than `timeout_s` costs its one task. Raises OutputError.
    """
    if not tasks:
        return
    pool = start_pool(workers, initializer, initargs)
    remaining, running = iter(tasks), {}
    try:
        while True:
            for task in remaining:
                running[pool.schedule(do_safely, args=(function, task), timeout=timeout_s)] = task
                if len(running) >= 4 * workers:  # keeps them busy, without a million futures
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), outcome_of(future, timeout_s)
    finally:
        pool.stop()
        pool.join()
