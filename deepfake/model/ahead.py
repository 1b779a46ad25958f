"""Batches made ahead of a training, in other processes, so that a network does not wait for its input."""

import gc
import math
import mmap
import multiprocessing
import os
import signal
import sys
from collections import deque
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from types import SimpleNamespace

import numpy as np

from common.errors import OutputError
from deepfake.model import batches
from deepfake.parallel import pool

QUEUED_BATCHES = 8  # prepared ahead: enough to outlast a slow one
READERS = 2  # of epochs at once: Keras may open one before it has let go of the last
ALIGNED_BYTES = 64  # EIGEN_MAX_ALIGN_BYTES of TensorFlow's wheels, which copy what is aligned to less
working = SimpleNamespace()  # of a process that makes batches: `batches_of` and `places`


@contextmanager
def made_ahead(batches_of):
    """Give a function like `batches_of`, which returns the Batches of an epoch from its number, all batches of one size.

    Its Batches are made ahead in as many processes as there are CPUs for them: threads would spend a fifth of their time on
    waiting for Python's lock. The processes are forks: they have the faces without a copy, and never touch TensorFlow, which
    would not survive that. Only Linux forks safely; elsewhere batches are made one by one, beside the training.

    Raises OutputError if a process cannot be started or was killed.
    """
    if sys.platform != "linux":
        yield batches_of
        return
    import cv2

    cv2.setNumThreads(1)  # one process for each CPU is enough; OpenCV's threads would not survive the fork either
    batch_shape = batches_of(1)[0][0].shape
    shared_memory = mmap.mmap(-1, READERS * QUEUED_BATCHES * math.prod(batch_shape))
    places = np.frombuffer(shared_memory, np.uint8).reshape(-1, *batch_shape)
    context, workers = multiprocessing.get_context("fork"), min(len(pool.usable_cpus()), QUEUED_BATCHES)
    with ProcessPoolExecutor(workers, context, begin_to_work, (batches_of, places)) as executor:
        start(executor)
        free = deque(range(len(places)))
        try:
            yield lambda number: BatchesAhead(batches_of(number), number, executor, places, free)
        except Exception as error:
            try:
                executor.submit(os.getpid)
            except BrokenProcessPool:
                raise OutputError(
                    "a process that makes the batches of a training was killed; is there enough memory?"
                ) from error
            raise


def start(executor):
    """Fork the processes of a pool, now: before a training fills the memory that they share. Raises OutputError."""
    gc.freeze()  # what this process has thrown away, they must not clear up: it may be TensorFlow's
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # theirs, for good: Ctrl-C is for this process
    try:
        executor.submit(os.getpid)
    except OSError as error:
        raise OutputError(f"cannot start a process that makes the batches of a training: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        gc.unfreeze()


class BatchesAhead(batches.Batches):
    """The Batches of epoch `number`, as `made_ahead` gives them; `free` are the numbers of the places that are not in use."""

    def __init__(self, batches, number, executor, places, free):
        super().__init__(batches.make, batches.steps, batches.face_shape)
        self.number, self.pool, self.places, self.free = number, executor, places, free

    def __iter__(self):
        if len(self.free) < QUEUED_BATCHES:
            raise RuntimeError(f"more than {READERS} epochs are being read at once")
        mine = [self.free.popleft() for _ in range(QUEUED_BATCHES)]
        steps, queued = iter(range(self.steps)), deque()

        def make_next(place):
            for step in islice(steps, 1):
                queued.append((place, self.pool.submit(make_in_place, self.number, step, place)))

        try:
            for place in mine:
                make_next(place)
            while queued:
                place, made = queued.popleft()
                labels = made.result()
                faces_rgb = aligned_faces(self.places.shape[1:])
                faces_rgb[:] = self.places[place]
                make_next(place)
                yield faces_rgb, labels
        finally:
            wait([made for _, made in queued])  # where nobody wants the rest, too: it is on its way into the places
            self.free.extend(mine)


def begin_to_work(batches_of, places):
    """Prepare a process that makes batches."""
    pool.end_with_parent()
    working.batches_of, working.places = lru_cache(1)(batches_of), places


def make_in_place(number, step, place):
    """Put the faces of a batch where the parent finds them; returns its labels."""
    working.places[place], labels = working.batches_of(number)[step]
    return labels


def aligned_faces(shape):
    """Return an uninitialised uint8 array that lies where TensorFlow takes it without a copy."""
    size_bytes = math.prod(shape)
    room = np.empty(size_bytes + ALIGNED_BYTES, np.uint8)
    start = -room.ctypes.data % ALIGNED_BYTES
    return room[start : start + size_bytes].reshape(shape)
