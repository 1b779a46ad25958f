"""Cached faces in batches, as the network gets them during training: half real and half fake, changed each time."""

import numpy as np

from common.augment import augment
from common.cli import usable_cpus
from common.constants import FAKE, REAL
from common.model import load_keras
from common.pixels import normalise

QUEUED_BATCHES = 8  # prepared ahead, so that the network never waits


def epoch_order(labels, batch_size, rng):
    """Return shuffled positions (steps, batch_size), half real and half fake; the rarer class is drawn from again."""
    half = batch_size // 2
    reals, fakes = np.flatnonzero(labels == REAL), np.flatnonzero(labels == FAKE)
    steps = max(1, max(len(reals), len(fakes)) // half)
    columns = []
    for positions in (reals, fakes):
        rounds = [rng.permutation(positions) for _ in range(-(-steps * half // len(positions)))]
        columns.append(np.concatenate(rounds)[: steps * half].reshape(steps, half))
    return np.concatenate(columns, axis=1)


def augmented_batches(faces_rgb, labels, batch_size, seed, epoch):
    """Return a Keras dataset of one epoch: each uint8 face augmented on the fly, always alike for one seed and epoch."""
    order = epoch_order(labels, batch_size, np.random.default_rng((seed, epoch)))

    def batch(step):
        rngs = [np.random.default_rng((seed, epoch, step, place)) for place in range(len(order[step]))]
        faces = [augment(faces_rgb[position], rng) for position, rng in zip(order[step], rngs, strict=True)]
        return np.stack(faces), labels[order[step]]

    return _keras_dataset(batch, len(order))


def plain_batches(faces_rgb, labels, batch_size):
    """Return a Keras dataset of the uint8 faces as they are, in order."""
    starts = range(0, len(labels), batch_size)
    slices = [slice(start, start + batch_size) for start in starts]
    return _keras_dataset(lambda step: (faces_rgb[slices[step]], labels[slices[step]]), len(starts))


def _keras_dataset(batch, steps):
    """Return the batches (uint8 faces, labels) of a function as what the network expects, prepared in threads."""
    keras, _ = load_keras()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return steps

        def __getitem__(self, step):
            faces_rgb, labels = batch(step)
            return normalise(faces_rgb), labels.astype(np.float32)[:, None]

    threads = min(len(usable_cpus()), QUEUED_BATCHES)  # OpenCV and NumPy work outside Python's lock
    return Batches(workers=threads, use_multiprocessing=False, max_queue_size=QUEUED_BATCHES)
