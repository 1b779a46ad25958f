"""Weights: found or downloaded, loaded into the model that this project builds, and saved."""

import hashlib
import http.client
import importlib
import os
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from common import files, paths
from common.constants import TEMPORARY_PREFIX
from common.errors import InputError, OutputError, writing
from deepfake.model import efficientnet
from deepfake.model import record as model_record

BASE_WEIGHTS = paths.REPOSITORY_DIR / "weights" / "base_b0.h5"
CONNECT_TIMEOUT_S = 5
DOWNLOADS = ("imagenet", "noisy-student")
READING_RAISES = ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError  # h5py, of broken files
loading = threading.Lock()  # detect.py prefetches the scorer in a thread


def download_weights(kind, backbone):
    """Return the path of "imagenet" or "noisy-student" weights without top layers, downloaded once. Raises InputError.

    Addresses and checksums are those of the efficientnet package; the cache is Keras's.
    """
    published, name = importlib.import_module("efficientnet.weights"), f"efficientnet-{backbone.lower()}"
    if kind == "imagenet":
        address, (_, expected) = published.IMAGENET_WEIGHTS_PATH, published.IMAGENET_WEIGHTS_HASHES[name]
        file = f"{name}_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5"
    else:
        address, (_, expected) = published.NS_WEIGHTS_PATH, published.NS_WEIGHTS_HASHES[name]
        file = f"{name}_noisy-student_notop.h5"
    path = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / file
    if path.is_file() and _checksum(path.read_bytes(), expected) == expected:
        return path
    try:
        with urllib.request.urlopen(address + file, timeout=CONNECT_TIMEOUT_S) as response:
            content = response.read()
        if _checksum(content, expected) != expected:
            raise InputError(f"{kind} weights arrived damaged from {address}")
        files.write_atomic(path, content)
    except (OSError, http.client.HTTPException, OutputError) as error:
        raise InputError(f"{kind} weights cannot be downloaded ({getattr(error, 'reason', error)})") from error
    return path


def _checksum(content, expected):
    return hashlib.new("md5" if len(expected) == 32 else "sha256", content).hexdigest()


def identity_of(weights_path, record):
    """Return (absolute path, digest, backbone, input size) of weights: the same for weights that are loaded already."""
    return os.path.abspath(weights_path), files.digest(Path(weights_path)), record["backbone"], record["input_size"]


def load_model(weights_path):
    """Return (model, model card) of weights. Only arrays are read from the file, never code. Raises InputError.

    The last model is kept, for the next script in this process (on a GPU, detect.py runs 03a and 03b): do not change it.
    """
    record = model_record.read_model_record(weights_path)
    with loading:
        return _load_model(*identity_of(weights_path, record)), record


@lru_cache(1)
def _load_model(path, _digest, backbone, input_size):
    model = efficientnet.build_model(backbone, input_size)
    load_arrays(model, path)
    model.compile(jit_compile=False)  # XLA makes it several times slower on CPUs
    return model


def starting_model(kind, path, backbone, input_size, seed):
    """Return a model for training with weights from `find_starting_weights`. Raises InputError."""
    keras, _ = efficientnet.load_keras()
    keras.utils.set_random_seed(seed)
    headless = path if kind in DOWNLOADS else None
    model = efficientnet.build_model(backbone, input_size, headless, for_training=True)
    if kind in ("file", "base"):
        load_arrays(model, path)
    return model


def load_arrays(model, weights_path):
    """Load a whole-model .h5 file into `model`; raises InputError if its arrays do not fit."""
    with arrays_must_fit(weights_path, model.name.rpartition("_")[2].upper()):
        model.load_weights(str(weights_path))


def as_bytes(model, folder):
    """Return the bytes of a whole-model .h5 file; a file in `folder` holds them for a moment. Raises OutputError."""
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as temporary:
            path = Path(temporary) / "model.h5"
            model.save(path, include_optimizer=False)
            return path.read_bytes()


def save_model(model, weights_path, record):
    """Write the weights and their model card, each in one step. The card gets the digest of the weights."""
    save_bytes(as_bytes(model, Path(weights_path).parent), Path(weights_path), record)


def save_bytes(content, weights_path, record):
    """Write a whole-model .h5 file, unless `content` is None: then it is there already. Then write its model card."""
    if content:
        files.write_atomic(weights_path, content)
    digest = files.digest(content or weights_path)
    files.write_json(model_record.record_path(weights_path), {**record, "weights_digest": digest})


def find_starting_weights(choice, backbone):
    """Return (kind, path, notice) of the starting weights for 03's --weights. Raises InputError.

    "auto" is ImageNet if it can be had, else the base weights of this project, else random; `notice` says why it is not ImageNet.
    """
    if choice == "none":
        return "none", None, None
    if choice not in ("auto", *DOWNLOADS):
        kind, path = ("base", BASE_WEIGHTS) if choice == "base" else ("file", Path(choice))
        held = model_record.read_model_record(path)["backbone"]
        if held != backbone:
            raise InputError(f"{path} holds {held} weights; use --backbone {held}")
        return kind, path, None
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


@contextmanager
def arrays_must_fit(name, backbone):
    """Turn whatever reading the arrays of file `name` for this backbone raises into InputError."""
    try:
        yield
    except READING_RAISES as error:
        reason = f"{name} does not fit a {backbone} network: it belongs to another backbone or program"
        raise InputError(reason) from error
