"""EfficientNet under two dense layers as an ONNX model, built from the arrays of Keras's whole-model .h5 file, without Keras.

Tan & Le, "EfficientNet", ICML 2019; layers and arrays have the names of the efficientnet package and of Keras 3. An array is read
only if it has the shape that the architecture wants and lies in the file itself.

Keras's own export to ONNX gives the same scores to 4e-6 at the same speed. But it imports TensorFlow and takes 13 s and 1.9 GB up
to the first score; this takes 0.7 s and 0.2 GB.
"""

import math

import numpy as np

from deepfake import onnx_graph
from deepfake.model import efficientnet

# Of B0: filters, blocks, stride of the first block, kernel px; table 1 of the paper.
STAGES = ((16, 1, 1, 3), (24, 2, 2, 3), (40, 2, 2, 5), (80, 3, 2, 3), (112, 3, 1, 5), (192, 4, 2, 5), (320, 1, 1, 3))
WIDTHS = (1.0, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0)  # of B0 to B7: factors on the filters
DEPTHS = (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1)  # of B0 to B7: factors on the blocks
STEM_FILTERS, TOP_FILTERS, EXPANSION, SQUEEZE = 32, 1280, 6, 0.25
FILTERS_STEP = 8
NORM_EPSILON = 1e-3  # Keras's default


def scaled_filters(filters, width):
    """Return the number of filters of a wider network: a multiple of 8, not more than 10 % below the exact one."""
    rounded = max(FILTERS_STEP, int(filters * width + FILTERS_STEP / 2) // FILTERS_STEP * FILTERS_STEP)
    return rounded if rounded >= 0.9 * filters * width else rounded + FILTERS_STEP


def own_item(group, path):
    """Return what lies at a path in a group of an HDF5 file; raises ValueError if it is missing or in another file."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is missing or a link")
        group = group[name]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise ValueError(f"{path} lies in another file")
    return group


class Weights:
    """The arrays of an open .h5 file, each taken once, in the shape that the architecture wants."""

    def __init__(self, file):
        self.layers = {}  # {layer: {array: dataset}}, in the order of the layers, those of the backbone too
        weights = own_item(file, "model_weights")
        for layers in weights.attrs["layer_names"]:
            group = own_item(weights, str(layers))
            for name in map(str, group.attrs["weight_names"]):
                layer, array = name.split("/")[-2:]
                self.layers.setdefault(layer, {})[array] = own_item(group, name)

    def take(self, layer, array, *shape):
        """Return an array as float64; raises ValueError if it has another shape, KeyError if there is none."""
        dataset = self.layers[layer].pop(array)
        if dataset.shape != shape:
            raise ValueError(f"{layer}/{array} is {dataset.shape}, not {shape}")
        return np.asarray(dataset[()], np.float64)

    def left(self):
        """Return the names of the layers with arrays that were not taken."""
        return [layer for layer, arrays in self.layers.items() if arrays]


def add_convolution(graph, value, weights, layer, shape, norm=None, stride=1, depthwise=False):
    """Add a convolution of `shape` (kernel px, filters in, filters out) with its batch normalisation, `norm`, or its bias."""
    size, before, after = shape
    if depthwise:
        kernel = weights.take(layer, "kernel", size, size, after, 1).transpose(2, 3, 0, 1)
    else:
        kernel = weights.take(layer, "kernel", size, size, before, after).transpose(3, 2, 0, 1)
    if norm:
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (weights.take(norm, name, after) for name in names)
        scale = gamma / np.sqrt(variance + NORM_EPSILON)
        kernel, bias = kernel * scale[:, None, None, None], beta - mean * scale
    else:
        bias = weights.take(layer, "bias", after)
    constants = graph.constant(kernel), graph.constant(bias)
    options = {"group": after} if depthwise else {}
    return graph.add("Conv", value, *constants, auto_pad="SAME_UPPER", strides=[stride, stride], **options)


def add_swish(graph, value, output=None):
    return graph.add("Mul", value, graph.add("Sigmoid", value), output=output)


def add_block(graph, value, weights, name, before, after, stride, size, expansion):
    """Add a mobile inverted bottleneck with squeeze and excitation, from `before` to `after` filters."""
    expanded, squeezed, inside = before * expansion, max(1, int(before * SQUEEZE)), value
    if expansion > 1:
        shape = 1, before, expanded
        inside = add_convolution(graph, inside, weights, f"{name}_expand_conv", shape, f"{name}_expand_bn")
        inside = add_swish(graph, inside)
    shape = size, expanded, expanded
    inside = add_convolution(graph, inside, weights, f"{name}_dwconv", shape, f"{name}_bn", stride, depthwise=True)
    inside = add_swish(graph, inside)
    gate, shape = graph.add("GlobalAveragePool", inside), (1, expanded, squeezed)
    gate = add_swish(graph, add_convolution(graph, gate, weights, f"{name}_se_reduce", shape))
    gate = graph.add("Sigmoid", add_convolution(graph, gate, weights, f"{name}_se_expand", (1, squeezed, expanded)))
    inside, shape = graph.add("Mul", inside, gate), (1, expanded, after)
    inside = add_convolution(graph, inside, weights, f"{name}_project_conv", shape, f"{name}_project_bn")
    return graph.add("Add", inside, value) if stride == 1 and before == after else inside


def network_as_onnx(file, backbone, input_size):
    """Return (serialised ONNX model, [(kernel, bias) of the dense layers]) of an open whole-model .h5 file.

    Input "x": uint8 RGB (n, input_size, input_size, 3); outputs "activation" of the last layer (n, channels, rows, columns) and
    "logit" of REAL (n, 1). Raises ValueError, KeyError and the like if the arrays are not those of this backbone.
    """
    graph, weights = onnx_graph.OnnxGraph(), Weights(file)
    width, depth = (factors[efficientnet.BACKBONES.index(backbone)] for factors in (WIDTHS, DEPTHS))
    value = graph.add("Mul", graph.add("Cast", "x", to=onnx_graph.FLOAT), graph.constant(efficientnet.SCALE))
    value = graph.add("Transpose", graph.add("Add", value, graph.constant(efficientnet.OFFSET)), perm=[0, 3, 1, 2])
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
    value = graph.add("GlobalAveragePool", add_swish(graph, value, output="activation"))
    value, before, head = graph.add("Flatten", value), top, []
    for layer, units in zip(weights.left(), (*efficientnet.DENSE_UNITS, 1), strict=True):
        value = graph.add("Relu", value) if head else value
        head.append((weights.take(layer, "kernel", before, units), weights.take(layer, "bias", units)))
        output = "logit" if units == 1 else None
        value, before = graph.add("Gemm", value, *map(graph.constant, head[-1]), output=output), units
    if weights.left():
        raise ValueError(f"{weights.left()[0]} holds more than the architecture has")
    shape = ["n", input_size, input_size, 3]
    return graph.serialise("network", (np.uint8, shape), ("activation", "logit")), head
