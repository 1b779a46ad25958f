"""The network, its starting weights, and the two files a trained one lives in: weights (.h5) and record (.json)."""

import hashlib
import http.client
import importlib
import os
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

from common.cli import quiet_libraries
from common.constants import TEMPORARY_PREFIX
from common.layers import fast_modules
from common.model_record import arrays_must_fit, load_once, read_model_record, record_path
from common.paths import REPOSITORY_DIR, digest
from common.records import InputError, temporary_name, write_atomic, write_json, writing

BASE_WEIGHTS = REPOSITORY_DIR / "weights" / "base_b0.h5"
DENSE_UNITS = (256, 64)
DROPOUT = 0.3
IMAGENET_MEAN_RGB = np.array([0.485, 0.456, 0.406])  # of pixels in 0..1; torchvision and efficientnet agree
IMAGENET_STD_RGB = np.array([0.229, 0.224, 0.225])
NORM_MOMENTUM = 0.9  # Keras's 0.99 makes validation meaningless for the first hundreds of steps
CONNECT_TIMEOUT_S = 5
DOWNLOADS = ("imagenet", "noisy-student")

loaded = {}  # what `load_model` has loaded last


def load_keras():
    """Import Keras and efficientnet without their noise; returns (keras, efficientnet.keras)."""
    quiet_libraries()
    import keras

    if not hasattr(keras.backend, "sigmoid"):  # Keras 3 dropped it; efficientnet's swish needs it
        keras.backend.sigmoid = keras.ops.sigmoid
    return keras, importlib.import_module("efficientnet.keras")


def build_model(backbone, input_size, backbone_weights=None, for_training=False):
    """Return EfficientNet `backbone` ("B0"…"B7") under two dense layers and a sigmoid, score = P(real).

    Input: RGB (n, input_size, input_size, 3) in grey levels 0..255, uint8 or float32; output (n, 1).
    `backbone_weights`: path of headless weights as the efficientnet package publishes them, else random.
    `for_training` changes the speed alone.
    Tan & Le, "EfficientNet", ICML 2019.
    """
    keras, _ = load_keras()
    network = getattr(importlib.import_module("efficientnet.model"), f"EfficientNet{backbone}")(
        include_top=False, weights=str(backbone_weights) if backbone_weights else None,
        input_shape=(input_size, input_size, 3), **fast_modules(for_training),
    )  # fmt: skip
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    inputs = keras.Input((input_size, input_size, 3))
    scale, offset = 1 / (255 * IMAGENET_STD_RGB), -IMAGENET_MEAN_RGB / IMAGENET_STD_RGB
    normalised = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name="normalised")(inputs)
    features = keras.layers.GlobalAveragePooling2D()(network(normalised))
    for units in DENSE_UNITS:
        features = keras.layers.Dense(units, activation="relu")(features)
        features = keras.layers.Dropout(DROPOUT)(features)
    score = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="score")(features)
    return keras.Model(inputs, score, name=f"deepfake_{backbone.lower()}")


def backbone_of(model):
    """Return the EfficientNet inside a model of `build_model`."""
    return model.layers[2]


def download_weights(kind, backbone):
    """Return the path of headless "imagenet" or "noisy-student" weights, downloaded once; raises InputError.

    Addresses and checksums are those of the efficientnet package; the cache is Keras's.
    """
    published = importlib.import_module("efficientnet.weights")
    name = f"efficientnet-{backbone.lower()}"
    if kind == "imagenet":
        address, hashes = published.IMAGENET_WEIGHTS_PATH, published.IMAGENET_WEIGHTS_HASHES
        file = f"{name}_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5"
    else:
        address, hashes = published.NS_WEIGHTS_PATH, published.NS_WEIGHTS_HASHES
        file = f"{name}_noisy-student_notop.h5"
    expected = hashes[name][1]
    path = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / file
    if path.is_file() and _checksum(path, expected) == expected:
        return path
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(address + file, timeout=CONNECT_TIMEOUT_S) as response,
            open(temporary, "wb") as target,
        ):
            while block := response.read(1 << 20):
                target.write(block)
        if _checksum(temporary, expected) != expected:
            raise InputError(f"{kind} weights arrived damaged from {address}")
        os.replace(temporary, path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{kind} weights cannot be downloaded ({getattr(error, 'reason', error)})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _checksum(path, expected):
    algorithm = "md5" if len(expected) == 32 else "sha256"
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()


def load_model(weights_path):
    """Return (model, record). Only arrays are read from the file; the architecture is built here. Raises InputError.

    The last model is kept, for the next script in this process (on a GPU, detect.py runs 03a and 03b): nobody may change it.
    """
    record = read_model_record(weights_path)

    def load():
        model = build_model(record["backbone"], record["input_size"])
        load_arrays(model, weights_path)
        model.compile(jit_compile=False)  # compiled by XLA it is several times slower on CPUs
        return model

    return load_once(loaded, weights_path, record, load), record


def load_arrays(model, weights_path):
    """Load a whole-model .h5 file into `model`; raises InputError if its arrays do not fit."""
    with arrays_must_fit(weights_path, model.name.rpartition("_")[2].upper()):
        model.load_weights(str(weights_path))


def as_file(model, folder):
    """Return the bytes of a whole-model .h5 file; `folder`, which is made, holds it for a moment. Raises OutputError."""
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as temporary:
            path = Path(temporary) / "model.h5"
            model.save(path, include_optimizer=False)
            return path.read_bytes()


def save_model(model, weights_path, record):
    """Write the weights and their record, each in one step. `record` gets the digest of the weights."""
    weights_path = Path(weights_path)
    weights = as_file(model, weights_path.parent)
    write_atomic(weights_path, weights)
    write_json(record_path(weights_path), {**record, "weights_digest": digest(weights)})


def find_starting_weights(choice, backbone):
    """Return (kind, path, notice) of the starting weights for 03's --weights; raises InputError in words.

    "auto" is ImageNet where it can be had, else the base weights of this project, else random; `notice` then says why.
    """
    if choice == "none":
        return "none", None, None
    if choice not in ("auto", "base", *DOWNLOADS):
        record = read_model_record(choice)
        if record["backbone"] != backbone:
            raise InputError(f"{choice} holds {record['backbone']} weights; use --backbone {record['backbone']}")
        return "file", Path(choice), None
    if choice == "base":
        if backbone != read_model_record(BASE_WEIGHTS)["backbone"]:
            raise InputError("the base weights are for --backbone B0")
        return "base", BASE_WEIGHTS, None
    kind = "imagenet" if choice == "auto" else choice
    try:
        return kind, download_weights(kind, backbone), None
    except InputError as error:
        if choice != "auto":
            raise
        notice = str(error)
    if backbone == "B0" and BASE_WEIGHTS.is_file():
        return "base", BASE_WEIGHTS, notice
    return "none", None, notice
