"""A trained network that scores faces: on a CPU by ONNX Runtime, on a GPU by Keras, with the same scores.

On a CPU it goes without TensorFlow, which takes seconds to start, seconds to build a network, and longer for each face: ONNX
Runtime computes one face after the other on each core, so that the feature maps of a face stay in the core's cache.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from deepfake import onnx_graph
from deepfake.model import efficientnet, efficientnet_onnx, weights
from deepfake.model import record as model_record
from deepfake.parallel import pool

KERAS_BATCH = 64  # faces that a GPU gets at once
GPU_DEVICES = ("nvidia[0-9]*", "dxg")  # in /dev: on Linux, and on Linux inside Windows
loaded = {}  # what `load_network` has loaded last


class CpuNetwork:
    """A network run by ONNX Runtime on this machine's CPUs, from an open whole-model .h5 file."""

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

    def explain(self, faces_rgb):
        """Return (heat (n, rows, columns), P(real) (n,)): the last layer's HiResCAM of the logit of FAKE, as 03b has it.

        Behind that layer are an average and dense layers, whose gradient needs no TensorFlow.
        """
        from scipy.special import expit

        activation = self.run("activation", faces_rgb).astype(np.float64)
        features, passed = activation.mean(axis=(2, 3)), []
        for kernel, bias in self.head[:-1]:
            features = np.maximum(features @ kernel + bias, 0)
            passed.append(features > 0)
        kernel, bias = self.head[-1]
        logits, gradient = (features @ kernel + bias)[:, 0], kernel.T
        for (kernel, _), open_units in zip(self.head[-2::-1], passed[::-1], strict=True):
            gradient = (gradient * open_units) @ kernel.T
        cells = activation.shape[2] * activation.shape[3]
        toward_real = np.einsum("nchw,nc->nhw", activation, gradient / cells)
        return np.maximum(-toward_real, 0), expit(logits)


class KerasNetwork:
    """A network run by Keras, for GPUs."""

    def __init__(self, model):
        self.model = model

    def score(self, faces_rgb):
        """Return P(real), float (n,), of uint8 RGB faces (n, size, size, 3)."""
        starts = range(0, len(faces_rgb), KERAS_BATCH)
        found = [self.model.predict_on_batch(faces_rgb[start : start + KERAS_BATCH]) for start in starts]
        return np.concatenate(found)[:, 0].astype(np.float64)


def has_gpu():
    """Tell whether TensorFlow sees a GPU, without starting it where there is none to see."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not any(any(Path("/dev").glob(pattern)) for pattern in GPU_DEVICES):
        return False
    efficientnet.load_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def open_network(file, backbone, input_size, name):
    """Return the CpuNetwork of a whole-model .h5 file (a path or an open file). Raises InputError with the file's `name`."""
    import h5py

    with weights.arrays_must_fit(name, backbone), h5py.File(file, "r") as arrays:
        return CpuNetwork(arrays, backbone, input_size)


def network_of(model, weights, backbone, input_size):
    """Return what scores faces with a Keras model; `weights`: the bytes of its whole-model .h5 file."""
    return KerasNetwork(model) if has_gpu() else open_network(io.BytesIO(weights), backbone, input_size, "the model")


def load_network(weights_path):
    """Return (network, record): what scores faces with these weights. Only arrays are read from the file; the architecture is
    this project's. Raises InputError. The last one is kept, for the next script in this process (detect.py).
    """
    if has_gpu():
        model, record = weights.load_model(weights_path)
        return KerasNetwork(model), record
    record = model_record.read_model_record(weights_path)

    def load():
        return open_network(weights_path, record["backbone"], record["input_size"], weights_path)

    return weights.load_once(loaded, weights_path, record, load), record
