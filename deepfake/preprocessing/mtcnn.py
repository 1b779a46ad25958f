"""MTCNN by ONNX Runtime: the networks, weights and boxes of the mtcnn package, faster and without TensorFlow.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE SPL 23(10), 2016. P-Net
proposes boxes at every place of an image pyramid; R-Net and O-Net look closer at these. Thresholds, pyramid and merging of boxes
are those of mtcnn 1.0.0; the tests compare the boxes. Boxes are rows of x1, y1, x2, y2, confidence, in pixels.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from common.errors import InputError
from deepfake import onnx_graph

PYRAMID_SCALE, PYRAMID_FACTOR = 0.6, 0.709  # at 0.6, windows of 12 px find faces from 20 px
WINDOW_PX, WINDOW_STRIDE_PX = 12, 2  # of P-Net
MIN_SIDE_PX = 32  # of a picture: a smaller one hardly holds a face of 20 px
MEAN, SCALE = 127.5, 1 / 128  # of grey levels
LEAST_CONFIDENCE = {"pnet": 0.6, "rnet": 0.7, "onet": 0.8}  # a network passes on boxes above it
OVERLAP_IN_LEVEL, OVERLAP = 0.5, 0.7  # of two boxes that overlap more, the less confident one goes
PATCH_PX = {"rnet": 24, "onet": 48}
LAYERS = {  # ("pool", size, whether the border counts)
    "pnet": ("conv", ("pool", 2, True), "conv", "conv"),
    "rnet": ("conv", ("pool", 3, True), "conv", ("pool", 3, False), "conv"),
    "onet": ("conv", ("pool", 3, True), "conv", ("pool", 3, False), "conv", ("pool", 2, True), "conv"),
}


def package_weights(name):
    """Return the arrays of a network from the mtcnn package, without importing it: it imports TensorFlow. Raises InputError."""
    import joblib

    package = importlib.util.find_spec("mtcnn")
    path = Path(*package.submodule_search_locations[:1] if package else (), "assets", "weights", f"{name}.lz4")
    if not package or not path.is_file():
        raise InputError(f"the weights {path.name} of mtcnn are missing: install what requirements.txt names")
    return list(joblib.load(path))


def as_onnx(name):
    """Return the network "pnet", "rnet" or "onet" as a serialised ONNX model.

    Input: pictures "x" (n, 3, h, w). Outputs: "box", "face" and, of O-Net, "landmarks". A PReLU follows each layer but the last.
    """
    arrays, graph = package_weights(name), onnx_graph.OnnxGraph()

    def convolution(value, output=None):
        kernel, bias = arrays.pop(0), arrays.pop(0)  # (h, w, in, out) as Keras stores it
        constants = graph.constant(kernel.transpose(3, 2, 0, 1)), graph.constant(bias)
        return graph.add("Conv", value, *constants, output=output)

    def dense(value, output=None):
        return graph.add("Gemm", value, graph.constant(arrays.pop(0)), graph.constant(arrays.pop(0)), output=output)

    value = "x"
    for layer in LAYERS[name]:
        if layer == "conv":
            value = graph.add("PRelu", convolution(value), graph.constant(arrays.pop(0).reshape(-1, 1, 1)))
        else:
            _, size, border_counts = layer
            padding = "SAME_UPPER" if border_counts else "VALID"
            value = graph.add("MaxPool", value, kernel_shape=[size, size], strides=[2, 2], auto_pad=padding)
    last = convolution
    if name != "pnet":
        value = graph.add("Transpose", value, perm=[0, 3, 2, 1])  # by columns, then rows, then channels
        value = graph.add("Flatten", value)
        value, last = graph.add("PRelu", dense(value), graph.constant(arrays.pop(0))), dense
    outputs = [last(value, "box")] + ([last(value, "landmarks")] if name == "onet" else [])
    outputs.append(graph.add("Softmax", last(value), output="face", axis=1))
    return graph.serialise(name, (np.float32, ["n", 3, "h", "w"]), outputs)


def build_detector(threads):
    """Return {name: function} of the three networks, from pictures (n, 3, h, w) to {output: array}, on `threads` CPU threads."""

    def network(name):
        session = onnx_graph.open_session(as_onnx(name), threads)
        names = [output.name for output in session.get_outputs()]
        return lambda pictures: dict(zip(names, session.run(names, {"x": pictures}), strict=True))

    return {name: network(name) for name in LAYERS}


def suppress(rows, overlap, of_smaller=False):
    """Return the boxes, most confident first, without those that a more confident one overlaps by more than `overlap`.

    That is a share of their union or, `of_smaller`, of the smaller box. Dropped boxes count too, as in the mtcnn package.
    """
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    left, top, right, bottom = rows[:, :4].T
    width = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    height = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (right - left) * (bottom - top)
    whole = np.minimum(area[:, None], area) if of_smaller else area[:, None] + area - shared
    return rows[~np.triu(shared > overlap * whole, 1).any(axis=0)]


def as_squares(rows):
    """Return the boxes grown to squares around their centres."""
    rows, sizes = rows.copy(), rows[:, 2:4] - rows[:, :2]
    side = sizes.max(axis=1, keepdims=True)
    rows[:, :2] += (sizes - side) / 2
    rows[:, 2:4] = rows[:, :2] + side
    return rows


def refined(rows, found):
    """Return the boxes as the outputs `found` of a network correct them, with its confidence."""
    rows, sizes = rows.copy(), rows[:, 2:4] - rows[:, :2] + 1
    rows[:, :4] += found["box"] * np.tile(sizes, 2)
    rows[:, 4] = found["face"][:, 1]
    return rows


def propose(network, picture):
    """Return the boxes that P-Net, `network`, proposes in a picture, normalised float32 (h, w, 3)."""
    height, width = picture.shape[:2]
    levels = [np.empty((0, 5))]
    level_count = round(-1 - np.log(min(height, width) / WINDOW_PX) / np.log(PYRAMID_FACTOR))
    for scale in PYRAMID_SCALE * PYRAMID_FACTOR ** np.arange(level_count):
        size = int(width * scale), int(height * scale)
        level = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        found = network(level.transpose(2, 0, 1)[None])
        y, x = np.nonzero(found["face"][0, 1] > LEAST_CONFIDENCE["pnet"])
        first, last = 1, WINDOW_PX  # in the package, a window begins at its second pixel
        corner = WINDOW_STRIDE_PX * np.stack([x, y, x, y], axis=1) + (first, first, last, last)
        boxes = (corner + (last - first) * found["box"][0][:, y, x].T) / scale
        levels.append(suppress(np.column_stack([boxes, found["face"][0, 1, y, x]]), OVERLAP_IN_LEVEL))
    return as_squares(suppress(np.concatenate(levels), OVERLAP))


def cut_patches(picture, rows, size):
    """Return what the boxes hold of a picture as float32 (n, 3, size, size), bilinear, 0 outside."""
    patches = np.empty((len(rows), 3, size, size), np.float32)
    shrink = 1 - 1 / np.array(picture.shape[1::-1])  # the package takes places from 0 to size - 1
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for patch, row in zip(patches, rows, strict=True):
        start, step = row[:2] * shrink, (row[2:4] - row[:2]) * shrink / (size - 1)
        matrix = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]])
        patch[:] = cv2.warpAffine(picture, matrix, (size, size), flags=flags).transpose(2, 0, 1)
    return patches


def find_faces(detector, picture_rgb):
    """Return float rows (n, 15), one per face of a uint8 RGB picture: x1, y1, x2, y2, confidence, five landmark x, five y.

    `detector`: from `build_detector`. In a picture with a side under MIN_SIDE_PX it finds none.
    """
    height, width = picture_rgb.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        return np.empty((0, 15))
    picture = (picture_rgb.astype(np.float32) - np.float32(MEAN)) * np.float32(SCALE)
    rows = propose(detector["pnet"], picture)
    for name, patch_px in PATCH_PX.items():
        if not len(rows):
            return np.empty((0, 15))
        found = detector[name](cut_patches(picture, rows, patch_px))
        corners, sizes = rows[:, :2], rows[:, 2:4] - rows[:, :2] + 1
        rows = refined(rows, found)
        if name == "onet":
            landmarks = found["landmarks"].reshape(-1, 2, 5) * sizes[..., None] + corners[..., None] - 1
            rows = np.column_stack([rows, landmarks.reshape(-1, 10)])
        rows = rows[rows[:, 4] > LEAST_CONFIDENCE[name]]
        rows = suppress(rows, OVERLAP, True) if name == "onet" else as_squares(suppress(rows, OVERLAP))
    rows[:, :4] = np.clip(rows[:, :4], 0, (width - 1, height - 1) * 2)
    return rows
