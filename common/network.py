"""A trained network that scores faces: on a CPU by ONNX Runtime, on a GPU by Keras, with the same scores.

Without TensorFlow, which takes seconds to start, seconds to build a network, and more for each face: ONNX Runtime computes it for
one face after the other on one thread per core, so that the feature maps of a face stay in the core's cache.
Tan & Le, "EfficientNet", ICML 2019; the names of layers and arrays are those of the efficientnet package and of Keras 3.
"""

import io
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.cli import usable_cpus
from common.model import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, load_keras, load_model
from common.model_record import read_model_record
from common.onnx_graph import OnnxGraph, open_session
from common.paths import digest
from common.records import InputError

STAGES = (  # of B0: filters, blocks, stride of the first block, kernel px; table 1 of the paper
    (16, 1, 1, 3), (24, 2, 2, 3), (40, 2, 2, 5), (80, 3, 2, 3), (112, 3, 1, 5), (192, 4, 2, 5), (320, 1, 1, 3),
)  # fmt: skip
WIDTH_AND_DEPTH = {  # factors on filters and blocks
    "B0": (1.0, 1.0), "B1": (1.0, 1.1), "B2": (1.1, 1.2), "B3": (1.2, 1.4), "B4": (1.4, 1.8), "B5": (1.6, 2.2),
    "B6": (1.8, 2.6), "B7": (2.0, 3.1),
}  # fmt: skip
STEM_FILTERS, TOP_FILTERS, EXPANSION, SQUEEZE = 32, 1280, 6, 0.25
FILTERS_STEP = 8
NORM_EPSILON = 1e-3  # Keras's default
KERAS_BATCH = 64
GPU_DEVICES = "nvidia[0-9]*"  # in /dev, on Linux

loaded = {}  # what `load_network` has loaded last: its path and digest, and the network
loading = threading.Lock()  # detect.py loads it in a thread, ahead of 03a


def scaled_filters(filters, width):
    """Return the number of filters of a wider network: a multiple of 8, not more than 10 % below the exact one."""
    rounded = max(FILTERS_STEP, int(filters * width + FILTERS_STEP / 2) // FILTERS_STEP * FILTERS_STEP)
    return rounded if rounded >= 0.9 * filters * width else rounded + FILTERS_STEP


def read_arrays(file):
    """Return {layer: {array: values}} of a whole-model .h5 file of Keras, in the order of its layers; the backbone's are among
    them. `file`: a path or an open file."""
    import h5py

    arrays = {}
    with h5py.File(file, "r") as whole:
        weights = whole["model_weights"]
        for group in weights.attrs["layer_names"]:
            for name in weights[group].attrs["weight_names"]:
                layer, array = name.split("/")[-2:]
                arrays.setdefault(layer, {})[array] = np.asarray(weights[group][name], np.float64)
    return arrays


class Weights:
    """The arrays of a network, each to be taken once, in the shape that the architecture wants."""

    def __init__(self, arrays):
        self.arrays = arrays

    def take(self, layer, array, *shape):
        """Return an array; raises ValueError if it has another shape, KeyError if there is none."""
        values = self.arrays[layer].pop(array)
        if values.shape != shape:
            raise ValueError(f"{layer}/{array} is {values.shape}, not {shape}")
        return values

    def left(self):
        """Return the names of the layers of which something was not taken."""
        return [layer for layer, arrays in self.arrays.items() if arrays]


def add_convolution(graph, value, weights, prefix, shape, norm=None, stride=1, depthwise=False):
    """Add a convolution of `shape` (kernel px, filters in, filters out) and the batch normalisation or bias behind it."""
    size, before, after = shape
    if depthwise:
        kernel = weights.take(prefix, "kernel", size, size, after, 1).transpose(2, 3, 0, 1)
    else:
        kernel = weights.take(prefix, "kernel", size, size, before, after).transpose(3, 2, 0, 1)
    if norm:
        gamma, beta, mean, variance = (
            weights.take(norm, name, after) for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + NORM_EPSILON)
        kernel, bias = kernel * scale[:, None, None, None], beta - mean * scale
    else:
        bias = weights.take(prefix, "bias", after)
    constants = graph.constant(kernel), graph.constant(bias)
    options = {"group": after} if depthwise else {}
    return graph.add("Conv", value, *constants, auto_pad="SAME_UPPER", strides=[stride, stride], **options)


def add_swish(graph, value):
    return graph.add("Mul", value, graph.add("Sigmoid", value))


def add_block(graph, value, weights, name, before, after, stride, size, expansion):
    """Add a mobile inverted bottleneck with squeeze and excitation; `before` and `after`: its filters."""
    wide, few, inside = before * expansion, max(1, int(before * SQUEEZE)), value
    if expansion > 1:
        shape = 1, before, wide
        inside = add_convolution(graph, inside, weights, f"{name}_expand_conv", shape, f"{name}_expand_bn")
        inside = add_swish(graph, inside)
    shape = size, wide, wide
    inside = add_convolution(graph, inside, weights, f"{name}_dwconv", shape, f"{name}_bn", stride, depthwise=True)
    inside = add_swish(graph, inside)
    squeezed = graph.add("GlobalAveragePool", inside)
    squeezed = add_swish(graph, add_convolution(graph, squeezed, weights, f"{name}_se_reduce", (1, wide, few)))
    share = graph.add("Sigmoid", add_convolution(graph, squeezed, weights, f"{name}_se_expand", (1, few, wide)))
    inside = graph.add("Mul", inside, share)
    shape = 1, wide, after
    inside = add_convolution(graph, inside, weights, f"{name}_project_conv", shape, f"{name}_project_bn")
    return graph.add("Add", inside, value) if stride == 1 and before == after else inside


def as_onnx(arrays, backbone, input_size):
    """Return (serialised ONNX model, [(kernel, bias) of the dense layers]) of `read_arrays`.

    Input "x": uint8 RGB (n, input_size, input_size, 3); outputs "activation" of the last layer (n, channels, rows, columns) and
    "logit" (n, 1). Raises ValueError or KeyError if the arrays are not those of this backbone under two dense layers.
    """
    graph, weights = OnnxGraph(), Weights(arrays)
    width, depth = WIDTH_AND_DEPTH[backbone]
    scale, offset = 1 / (255 * IMAGENET_STD_RGB), -IMAGENET_MEAN_RGB / IMAGENET_STD_RGB
    value = graph.add("Mul", graph.add("Cast", "x", to=1), graph.constant(scale))  # 1: float32
    value = graph.add("Transpose", graph.add("Add", value, graph.constant(offset)), perm=[0, 3, 1, 2])
    before = scaled_filters(STEM_FILTERS, width)
    value = add_swish(graph, add_convolution(graph, value, weights, "stem_conv", (3, 3, before), "stem_bn", 2))
    for stage, (filters, blocks, stride, size) in enumerate(STAGES, start=1):
        after = scaled_filters(filters, width)
        for block in range(math.ceil(blocks * depth)):
            name, expansion = f"block{stage}{chr(ord('a') + block)}", EXPANSION if stage > 1 else 1
            value = add_block(graph, value, weights, name, before, after, 1 if block else stride, size, expansion)
            before = after
    top = scaled_filters(TOP_FILTERS, width)
    value = add_convolution(graph, value, weights, "top_conv", (1, before, top), "top_bn")
    activation = graph.add("Mul", value, graph.add("Sigmoid", value), output="activation")
    value, head = graph.add("Flatten", graph.add("GlobalAveragePool", activation)), []
    for layer in weights.left():
        kernel, bias = weights.arrays[layer].pop("kernel"), weights.arrays[layer].pop("bias")
        if kernel.shape != (head[-1][1].size if head else top, bias.size):
            raise ValueError(f"{layer}/kernel is {kernel.shape}")
        value = graph.add("Relu", value) if head else value
        head.append((kernel, bias))
        is_last = layer == "score"
        value = graph.add(
            "Gemm", value, graph.constant(kernel), graph.constant(bias), output="logit" if is_last else None
        )
    if len(head) != 3 or value != "logit" or head[-1][1].size != 1:
        raise ValueError("there are not two dense layers and a score")
    shape = ["n", input_size, input_size, 3]
    return graph.serialise("network", (np.uint8, shape), ("activation", "logit")), head


class CpuNetwork:
    """A network run by ONNX Runtime on this machine's CPUs."""

    def __init__(self, arrays, backbone, input_size):
        model, self.head = as_onnx(arrays, backbone, input_size)
        self.session, self.threads = open_session(model, 1), ThreadPoolExecutor(len(usable_cpus()))

    def run(self, output, faces_rgb):
        """Return an output of uint8 RGB faces (n, size, size, 3), computed one face at a time."""
        found = self.threads.map(lambda face: self.session.run([output], {"x": face[None]})[0], faces_rgb)
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
    if hidden or not any(Path("/dev").glob(GPU_DEVICES)):
        return False
    load_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def open_network(file, backbone, input_size, name):
    """Return the CpuNetwork of a whole-model .h5 file (a path or an open file). Raises InputError with the file's `name`."""
    try:
        return CpuNetwork(read_arrays(file), backbone, input_size)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:  # h5py raises all of them on damage
        raise InputError(
            f"{name} does not fit a {backbone} network: it belongs to another backbone or program"
        ) from error


def network_of(model, weights, backbone, input_size):
    """Return what scores faces with a Keras model; `weights`: the bytes of its whole-model .h5 file."""
    return KerasNetwork(model) if has_gpu() else open_network(io.BytesIO(weights), backbone, input_size, "the model")


def load_network(weights_path):
    """Return (network, record): what scores faces with these weights. Only arrays are read from the file; the architecture is
    this project's. Raises InputError.

    The last one is kept, for the next script in this process (detect.py runs 03a and 03b).
    """
    if has_gpu():
        model, record = load_model(weights_path)
        return KerasNetwork(model), record
    record = read_model_record(weights_path)
    key = os.path.abspath(weights_path), digest(Path(weights_path)), record["backbone"], record["input_size"]
    with loading:
        if loaded.get("key") != key:
            network = open_network(weights_path, record["backbone"], record["input_size"], weights_path)
            loaded.update(key=key, network=network)
        return loaded["network"], record
