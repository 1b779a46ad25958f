"""deepfake/model/batches.py: the processes that make the batches of a training."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.constants import FAKE, REAL
from common.errors import OutputError
from common.paths import REPOSITORY_DIR
from deepfake.model import batches as batches_module
from deepfake.model.batches import PREFETCHED, Batches, Part, augmented_batches, prefetch
from deepfake.model.efficientnet import load_keras
from deepfake.parallel import pool
from tests.datasets import face_bgr

LABELS = np.array([REAL] * 10 + [FAKE] * 7)
FACES_RGB = np.stack([cv2.resize(face_bgr(label, i), (32, 32)) for i, label in enumerate(LABELS)])
LANDMARKS = np.tile(np.float32([(10, 12), (22, 12), (16, 18), (11, 24), (21, 24)]), (17, 1, 1))
PART = Part(FACES_RGB, LABELS, LANDMARKS)
forked = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def batches_of_part(epoch):
    return augmented_batches(PART, 4, 7, epoch)


def pictures_of(batches):
    return [(np.asarray(faces).tobytes(), np.asarray(labels).tolist()) for faces, labels in batches]


def filled(value):
    """Return a batch of four faces that are all of one grey level."""
    return np.full((4, 32, 32, 3), value, np.uint8), np.full(4, value)


def made_by(make, steps):
    """Return what `prefetch` takes: epochs of `steps` batches, each `make(epoch, step)` in the other processes alone."""

    def make_elsewhere(epoch, step):
        return filled(0) if multiprocessing.parent_process() is None else make(epoch, step)

    return lambda epoch: Batches(lambda step: make_elsewhere(epoch, step), steps, (32, 32, 3))


@pytest.fixture
def two_cpus(monkeypatch):
    monkeypatch.setattr(pool, "usable_cpus", lambda: {0, 1})


def test_prefetched_batches_are_the_same_in_each_epoch():
    with prefetch(batches_of_part) as batches_of:
        for epoch in (1, 2, 1):
            expected = pictures_of(batches_of_part(epoch))
            assert len(expected) == len(batches_of(epoch)) == 5
            assert pictures_of(batches_of(epoch)) == pictures_of(batches_of(epoch).as_dataset()) == expected


def test_keras_reads_the_batches_in_order():
    keras, _ = load_keras()
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(loss="binary_crossentropy", optimizer="sgd", run_eagerly=True)
    train_step, seen = model.train_step, []

    def noting_step(data):
        seen.append(data)
        return train_step(data)

    model.train_step = noting_step
    model.fit(batches_of_part(1).as_dataset(), epochs=1, shuffle=False, verbose=0)
    with prefetch(batches_of_part) as batches_of:
        for epoch in (1, 2):
            model.fit(batches_of(epoch).as_dataset(), epochs=1, shuffle=False, verbose=0)
    expected = pictures_of(batches_of_part(1))
    assert pictures_of(seen) == expected + expected + pictures_of(batches_of_part(2))


@forked
def test_batches_are_made_several_at_once_in_other_processes(two_cpus):
    both = multiprocessing.get_context("fork").Barrier(2)

    def make(epoch, step):
        if step < 2:
            both.wait(20)  # the other one is made at the same time
        return filled(0)[0], np.full(4, os.getpid())

    with prefetch(made_by(make, 40)) as batches_of:
        makers = [labels[0, 0] for _, labels in batches_of(1)]
    assert len(makers) == 40 and len(set(makers)) == 2 and os.getpid() not in makers


@forked
def test_what_is_left_of_an_epoch_does_not_get_into_the_next(two_cpus):
    def make(epoch, step):
        if (epoch, step) == (1, PREFETCHED):  # the last of the epoch that is left early, on its way all the time
            time.sleep(0.3)
        return filled(50 * epoch + step)

    def values_of(batches):
        values = []
        for faces, labels in batches:
            time.sleep(0.02)  # read slowly: all places are full most of the time
            assert (faces == labels[0]).all()
            values.append(labels[0, 0])
        return values

    with prefetch(made_by(make, 50)) as batches_of:
        for epoch in (1, 3):  # one for the places of each reader
            left = iter(batches_of(epoch))
            assert next(left)[1][0] == 50 * epoch
            left.close()
        assert values_of(batches_of(2)) == list(range(100, 150))


@forked
def test_two_epochs_are_read_at_once(two_cpus):
    with prefetch(made_by(lambda epoch, step: filled(100 * epoch + step), 20)) as batches_of:
        first, second = iter(batches_of(1)), iter(batches_of(2))
        pairs = list(zip(first, second, strict=True))
        assert [(one[0, 0], two[0, 0]) for (_, one), (_, two) in pairs] == [(100 + i, 200 + i) for i in range(20)]
        assert all((faces == labels[0]).all() for pair in pairs for faces, labels in pair)


@forked
def test_a_batch_that_fails_stops_the_epoch_where_it_is():
    def make(epoch, step):
        if (epoch, step) == (1, 2):
            raise ValueError("a damaged face")
        return filled(step)

    with prefetch(made_by(make, 5)) as batches_of:
        batches = iter(batches_of(1))
        assert len([next(batches), next(batches)]) == 2
        with pytest.raises(ValueError, match="a damaged face"):
            next(batches)
        assert len(pictures_of(batches_of(2))) == 5  # the processes are still there


@forked
def test_a_killed_process_is_an_error_in_words():
    def make(epoch, step):
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        pytest.raises(OutputError, match="was killed; is there enough memory"),
        prefetch(made_by(make, 5)) as batches_of,
    ):
        list(batches_of(1).as_dataset())


@forked
def test_an_error_of_the_training_stays_itself_and_the_processes_end():
    with pytest.raises(KeyError, match="loss"), prefetch(batches_of_part) as batches_of:
        next(iter(batches_of(1)))
        processes = multiprocessing.active_children()
        assert processes
        raise KeyError("loss")
    assert not any(process.is_alive() for process in processes)


@forked
def test_no_process_to_be_had_is_an_error_in_words(monkeypatch):
    def cannot_fork():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", cannot_fork)
    with (
        pytest.raises(OutputError, match="cannot start a process .* temporarily unavailable"),
        prefetch(batches_of_part),
    ):
        pass


@pytest.fixture
def ctrl_c():
    """Have SIGINT raise KeyboardInterrupt also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@forked
def test_ctrl_c_reaches_the_training_alone(two_cpus, ctrl_c):
    with prefetch(made_by(lambda epoch, step: filled(step), 30)) as batches_of:
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGINT)
        assert len(pictures_of(batches_of(1))) == 30
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


def state_of(pid):
    """Return the state of a process as /proc has it, Z when it is over."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@forked
def test_the_processes_end_with_a_killed_training():
    code = (
        "import multiprocessing, os, signal; from tests.model.test_prefetch import batches_of_part, prefetch\n"
        "with prefetch(batches_of_part) as batches_of:\n"
        "    next(iter(batches_of(1)))\n"
        "    print(*(process.pid for process in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY_DIR, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pids = killed.stdout.split()
    for _ in range(100):
        if all(state_of(pid) == "Z" for pid in pids):
            break
        time.sleep(0.05)
    assert pids and all(state_of(pid) == "Z" for pid in pids)


def test_without_safe_forks_batches_are_made_beside_the_training(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with prefetch(batches_of_part) as batches_of:
        assert not multiprocessing.active_children()
        assert pictures_of(batches_of(1)) == pictures_of(batches_of_part(1))


@forked
def test_tensorflow_takes_the_faces_without_a_copy(monkeypatch):
    addresses, aligned_faces = [], batches_module.aligned_faces

    def noting(shape):
        faces = aligned_faces(shape)
        addresses.append(faces.ctypes.data)
        return faces

    monkeypatch.setattr(batches_module, "aligned_faces", noting)
    with prefetch(batches_of_part) as batches_of:
        kept = list(batches_of(1).as_dataset())
    taken = [np.asarray(memoryview(faces)).ctypes.data for faces, _ in kept]
    assert len(taken) == len(batches_of_part(1)) and set(taken) == set(addresses)
