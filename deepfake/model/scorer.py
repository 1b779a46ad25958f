"""Scorers, which score faces with trained weights: on a CPU by ONNX Runtime, on a GPU by Keras, with the same scores.

On a CPU, TensorFlow is not used: it takes seconds to start and seconds to build a model, and longer for each face. With ONNX
Runtime each core works on one face at a time, whose feature maps stay in its cache.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from deepfake import onnx_graph
from deepfake.model import efficientnet, efficientnet_onnx, weights
from deepfake.model import record as model_record
from deepfake.parallel import pool

KERAS_BATCH = 64  # faces that a GPU gets at once
GPU_DEVICES = ("nvidia[0-9]*", "dxg")  # in /dev: on Linux, and on Linux inside Windows


class CpuScorer:
    """A scorer on this machine's CPUs, by ONNX Runtime, from an open whole-model .h5 file."""

    def __init__(self, file, backbone, input_size):
        model, self.head = efficientnet_onnx.network_as_onnx(file, backbone, input_size)
        self.session = onnx_graph.open_session(model, threads=1, pictures_of_one_size=True)
        self.executor = ThreadPoolExecutor(len(pool.usable_cpus()))

    def run(self, output, faces_rgb):
        """Return an output of uint8 RGB faces (n, size, size, 3), computed one face at a time."""
        found = self.executor.map(lambda face: self.session.run([output], {"x": face[None]})[0], faces_rgb)
        return np.concatenate(list(found))

    def score(self, faces_rgb):
        """Return P(real), float (n,), of uint8 RGB faces (n, size, size, 3)."""
        from scipy.special import expit

        return expit(self.run("logit", faces_rgb)[:, 0].astype(np.float64))


class KerasScorer:
    """A scorer on GPUs, by Keras."""

    def __init__(self, model):
        self.model = model

    def score(self, faces_rgb):
        """Return P(real), float (n,), of uint8 RGB faces (n, size, size, 3)."""
        starts = range(0, len(faces_rgb), KERAS_BATCH)
        found = [self.model.predict_on_batch(faces_rgb[start : start + KERAS_BATCH]) for start in starts]
        return np.concatenate(found)[:, 0].astype(np.float64)


def has_gpu():
    """Tell whether TensorFlow sees a GPU; where there is none, TensorFlow is not started."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not any(any(Path("/dev").glob(pattern)) for pattern in GPU_DEVICES):
        return False
    efficientnet.load_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def open_on_cpu(file, backbone, input_size, name):
    """Return the CpuScorer of a whole-model .h5 file (a path or an open file). Raises InputError, which calls the file `name`."""
    import h5py

    with weights.arrays_must_fit(name, backbone), h5py.File(file, "r") as arrays:
        return CpuScorer(arrays, backbone, input_size)


def scorer_of(model, content, backbone, input_size):
    """Return the scorer of a Keras model; `content`: the bytes of its whole-model .h5 file."""
    return KerasScorer(model) if has_gpu() else open_on_cpu(io.BytesIO(content), backbone, input_size, "the model")


def load_scorer(weights_path):
    """Return (scorer, model card) of weights. Only arrays are read from the file, never code. Raises InputError.

    The last scorer is kept, for the next script in this process (detect.py).
    """
    if has_gpu():
        model, record = weights.load_model(weights_path)
        return KerasScorer(model), record
    record = model_record.read_model_record(weights_path)
    with weights.loading:
        return _load_on_cpu(*weights.identity_of(weights_path, record)), record


@lru_cache(1)
def _load_on_cpu(path, _digest, backbone, input_size):
    return open_on_cpu(path, backbone, input_size, path)
