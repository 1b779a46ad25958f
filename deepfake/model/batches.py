"""Cached faces in batches for training: half real and half fake, changed each time.

`prefetch` has other processes make them, so that the training does not wait for its input. On an idle 2-core machine, at 224 px,
that is 3.2 times the images/s of Keras's faster loader; threads, which wait for Python's lock, gave 2.47 times.
"""

import gc
import json
import math
import mmap
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np

from common.constants import FAKE, REAL
from common.errors import InputError, OutputError
from deepfake.augmentation import augment, self_blending
from deepfake.parallel import pool
from deepfake.preprocessing import crops

PREFETCHED = 8  # batches: enough to bridge a slow one
READERS = 2  # epochs that are read at once: Keras may open the next before it has closed the last
ALIGNED_BYTES = 64  # EIGEN_MAX_ALIGN_BYTES of TensorFlow's wheels: they copy arrays aligned to less
working = SimpleNamespace()  # in a process that makes batches: its `batches_of` and `places`


class Part(NamedTuple):
    """One set of a dataset in memory."""

    faces_rgb: np.ndarray  # uint8 (n, size, size, 3)
    labels: np.ndarray  # (n,)
    landmarks: np.ndarray  # (n, 5, 2) as (x, y), px of these faces


@dataclass
class Batches:
    """Batches of uint8 faces (n, size, size, 3) and float32 labels (n, 1), each made when it is read."""

    make: Callable  # from a step to its (faces, labels (n,)), always the same
    steps: int
    face_shape: tuple
    read: Callable | None = None  # iterates over all batches where other processes make them

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        faces_rgb, labels = self.make(step)
        return faces_rgb, labels.astype(np.float32)[:, None]

    def __iter__(self):
        return self.read() if self.read else (self[step] for step in range(self.steps))

    def as_dataset(self):
        """Return them as a TensorFlow dataset; an error of `make` becomes a tf.errors.OpError.

        Keras's own PyDataset (3.15) makes two batches in vain and waits 0.1 s in each epoch.
        """
        import tensorflow as tf

        signature = tf.TensorSpec((None, *self.face_shape), tf.uint8), tf.TensorSpec((None, 1), tf.float32)
        dataset = tf.data.Dataset.from_generator(self.__iter__, output_signature=signature)
        options = tf.data.Options()  # the generator does all the work
        options.autotune.enabled, options.threading.private_threadpool_size = False, 1
        return dataset.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(1).with_options(options)


def load_part(rows, input_size, scratch_dir):
    """Return the Part of a set, each face decoded once. Raises InputError."""
    sides_px = np.ones((len(rows), 2))
    faces_rgb, unreadable = crops.load_faces([row["path"] for row in rows], input_size, scratch_dir, sides_px)
    if unreadable:
        lost = f"{unreadable[0]} is not readable ({len(unreadable)} faces in all)"
        raise InputError(f"{lost}; run 02_prepare_dataset.py --force")
    landmarks = np.array([json.loads(row["landmarks"]) for row in rows]) * (input_size / sides_px)[:, None]
    return Part(faces_rgb, np.array([row["label"] for row in rows]), landmarks)


def without_fakes(rows):
    """Tell whether a set holds real faces only: then fakes have to be made of them."""
    return all(row["label"] == REAL for row in rows)


def epoch_order(labels, batch_size, rng):
    """Return shuffled positions (steps, batch_size): in each step reals, then as many fakes. The rarer class repeats.

    Without any fake, the second half holds other reals; self-blended faces take their place.
    """
    half = batch_size // 2
    reals, fakes = np.flatnonzero(labels == REAL), np.flatnonzero(labels == FAKE)
    steps = max(1, max(len(reals), len(fakes)) // half)
    columns = []
    for positions in (reals, fakes if len(fakes) else reals):
        rounds = [rng.permutation(positions) for _ in range(-(-steps * half // len(positions)))]
        columns.append(np.concatenate(rounds)[: steps * half].reshape(steps, half))
    return np.concatenate(columns, axis=1)


def augmented_batches(part, batch_size, seed, epoch, self_blend_share=0.0, alternate=False):
    """Return the Batches of one epoch of a Part: augmented faces, always alike for one seed and epoch.

    A batch holds its reals, then its fakes. With `alternate` they take turns, so that each of several devices gets both:
    BatchNorm would learn nothing about a missing class. With the chance `self_blend_share`, a pair of a real and a fake is
    replaced by a real face and its blend with itself, both augmented alike. The blend comes a batch later: with both in one
    batch, BatchNorm would let the model compare them instead of looking at each.
    """
    of_epoch = np.random.default_rng((seed, epoch))
    order = epoch_order(part.labels, batch_size, of_epoch)
    half, steps = batch_size // 2, len(order)
    paired = of_epoch.random((steps, half)) < self_blend_share
    places = np.arange(batch_size).reshape(2, half)
    places = places.T.ravel() if alternate else places.ravel()

    def face(step, place):
        """Return the augmented face of a place, reals first. A pair is blended twice, as two processes may make its halves."""
        is_fake, column = divmod(place, half)
        pair = paired[step, column]
        place = column if pair else place
        rng = np.random.default_rng((seed, epoch, 1 + step, place))  # zeros at the end would give `of_epoch` again
        face_rgb, landmarks = part.faces_rgb[order[step, place]], part.landmarks[order[step, place]]
        if pair:
            face_rgb = self_blending.self_blend(*self_blending.reshape_face(face_rgb, landmarks, rng), rng)[is_fake]
        return augment.augment(face_rgb, rng)

    def batch(step):
        faces_rgb = np.empty((batch_size, *part.faces_rgb.shape[1:]), np.uint8)
        for i, place in enumerate(places):
            faces_rgb[i] = face((step - place // half) % steps, place)
        return faces_rgb, np.repeat((REAL, FAKE), half)[places]

    return Batches(batch, steps, part.faces_rgb.shape[1:])


def blended_pairs(part, seed, scratch_dir=None):
    """Return a Part: each real face as it enters a blend, then the blends, as fakes. `seed`: a number or several."""
    reals = np.flatnonzero(part.labels == REAL)
    faces_rgb = crops.new_faces(2 * len(reals), part.faces_rgb.shape[1], scratch_dir)
    for place, position in enumerate(reals):
        rng = np.random.default_rng([*np.atleast_1d(seed), place])
        real, fake, _ = self_blending.self_blend(part.faces_rgb[position], part.landmarks[position], rng)
        faces_rgb[place], faces_rgb[len(reals) + place] = real, fake
    landmarks = part.landmarks[np.tile(reals, 2)]
    return Part(faces_rgb, np.repeat((REAL, FAKE), len(reals)), landmarks)


def plain_batches(faces_rgb, labels, batch_size):
    """Return the Batches of uint8 faces as they are, in order, of nearly equal size.

    A last batch of one face would leave all but one device without faces, and the mean over none is not a number.
    """
    ends = np.linspace(0, len(labels), -(-len(labels) // batch_size) + 1).round().astype(int)
    slices = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]
    return Batches(lambda step: (faces_rgb[slices[step]], labels[slices[step]]), len(slices), faces_rgb.shape[1:])


@contextmanager
def prefetch(batches_of):
    """Give a function like `batches_of` whose Batches are made beforehand, in one process per CPU.

    `batches_of` returns the Batches of an epoch from its number, all batches of one size. The processes are forks: they share the
    faces without a copy and never touch TensorFlow, which does not survive a fork. Only Linux forks safely; elsewhere each batch
    is made when it is read. Raises OutputError if a process cannot start or was killed.
    """
    if sys.platform != "linux":
        yield batches_of
        return
    cv2.setNumThreads(1)  # one process for each CPU is enough; OpenCV's threads would not survive the fork either
    batch_shape = batches_of(1)[0][0].shape
    shared_memory = mmap.mmap(-1, READERS * PREFETCHED * math.prod(batch_shape))
    places = np.frombuffer(shared_memory, np.uint8).reshape(-1, *batch_shape)
    context, workers = multiprocessing.get_context("fork"), min(len(pool.usable_cpus()), PREFETCHED)
    with ProcessPoolExecutor(workers, context, begin_to_work, (batches_of, places)) as executor:
        gc.freeze()  # the forks must not clear up this process's garbage: it may be TensorFlow's
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # forks never get Ctrl-C
        try:
            executor.submit(os.getpid)  # forks them all now, before a training fills the memory that they share
        except OSError as error:
            raise OutputError(f"cannot start a process that makes the batches of a training: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            gc.unfreeze()
        free = deque(range(len(places)))

        def prefetched(number):
            made = batches_of(number)
            return replace(made, read=partial(read_prefetched, number, made.steps, executor, places, free))

        try:
            yield prefetched
        except Exception as error:
            try:
                executor.submit(os.getpid)
            except BrokenProcessPool:
                reason = "a process that makes the batches of a training was killed; is there enough memory?"
                raise OutputError(reason) from error
            raise


def read_prefetched(number, steps, executor, places, free):
    """Yield the batches of epoch `number` in order; `free` are the numbers of the places that are not in use."""
    queued = deque()

    def take():
        place, made = queued.popleft()
        try:
            labels, faces_rgb = made.result(), aligned_faces(places.shape[1:])
            faces_rgb[:] = places[place]
        finally:
            free.append(place)
        return faces_rgb, labels

    try:
        for step in range(steps):
            place = free.popleft()
            queued.append((place, executor.submit(make_in_place, number, step, place)))
            if len(queued) == PREFETCHED:
                yield take()
        while queued:
            yield take()
    finally:
        wait([made for _, made in queued])  # even where nobody wants them: they still write to their places
        free.extend(place for place, _ in queued)


def begin_to_work(batches_of, places):
    """Prepare a process that makes batches."""
    pool.end_with_parent()
    working.batches_of, working.places = lru_cache(1)(batches_of), places


def make_in_place(number, step, place):
    """Put the faces of a batch into a place in shared memory; return its labels."""
    working.places[place], labels = working.batches_of(number)[step]
    return labels


def aligned_faces(shape):
    """Return an uninitialised uint8 array that TensorFlow takes without a copy; at 224 px that saves 1.6 ms of CPU a batch."""
    size_bytes = math.prod(shape)
    room = np.empty(size_bytes + ALIGNED_BYTES, np.uint8)
    start = -room.ctypes.data % ALIGNED_BYTES
    return room[start : start + size_bytes].reshape(shape)
