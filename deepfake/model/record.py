"""The model card, best_model.json beside the weights: what is needed to use them, and what they come from."""

import importlib.metadata
import os
from collections import Counter
from pathlib import Path, PurePosixPath

from common import files
from common.constants import CLASS_NAMES, FACE_KINDS, FAKE, MARGIN, REAL, THRESHOLD
from common.errors import InputError
from deepfake.model import efficientnet

SMALLEST_INPUT_PX, LARGEST_INPUT_PX = 32, 2048  # the efficientnet package refuses less; more fits into no memory
MEANING = {"class_names": list(CLASS_NAMES), "pixels": efficientnet.PIXEL_PREPARATION, "margin": MARGIN}
MOST_FOLDERS = 12  # of fakes, in a model card
LIBRARIES = ("tensorflow", "keras", "efficientnet", "mtcnn", "onnxruntime")
LIBRARIES += ("numpy", "opencv-python-headless", "av", "scikit-learn")


def record_path(weights_path):
    """Return the path of the model card of a weights file: the same name, .json."""
    return Path(weights_path).with_suffix(".json")


def is_model_record(record):
    """Tell whether parsed JSON says what is needed to build a scorer and to feed it."""
    if not isinstance(record, dict):
        return False
    size = record.get("input_size")
    known = record.get("backbone") in efficientnet.BACKBONES and record.get("faces") in FACE_KINDS
    return known and isinstance(size, int) and SMALLEST_INPUT_PX <= size <= LARGEST_INPUT_PX


def read_model_record(weights_path):
    """Return the model card of a weights file. Raises InputError if it is missing, or both do not belong together."""
    weights_path = Path(weights_path)
    if not weights_path.is_file():
        raise InputError(f"{weights_path} does not exist")
    import h5py

    if not h5py.is_hdf5(weights_path):
        raise InputError(f"{weights_path} is not a weights file (HDF5)")
    record = files.read_json(record_path(weights_path))
    if not is_model_record(record):
        name = record_path(weights_path).name
        raise InputError(f"{weights_path} has no readable {name} beside it, which says how to use it")
    for name, expected in MEANING.items():
        if record.get(name, expected) != expected:
            found = f"{weights_path} was trained with {name} {record[name]!r}, but this project uses {expected!r}"
            raise InputError(f"{found}: its scores would mean something else; use other weights")
    if record.get("weights_digest") not in (None, files.digest(weights_path)):
        raise InputError(f"{weights_path} is not the file that {record_path(weights_path).name} describes")
    return record


def check_faces(record, face_kind, weights_path):
    """Raise InputError if the weights were trained on the other kind of faces: marked or not."""
    if (known := record["faces"]) != face_kind:
        remedy = f"use --faces {known} (02 and 03a know this option) or other weights"
        raise InputError(f"{weights_path} was trained on {known}, but these are {face_kind}; {remedy}")


def training_videos(rows, self_blend):
    """Return what a training learns from: counts of its faces and videos, and the folders of the fakes.

    `self_blend` is the share of the pairs whose fake is a blend: at 1, no fake video is used. Folders are named down to where
    they differ, such as manipulated_sequences/Deepfakes and manipulated_sequences/FaceSwap.
    """
    used = [row for row in rows if row["label"] == REAL or self_blend < 1]
    videos = Counter(label for _, label in {(row["video_id"], row["label"]) for row in used})
    folders = {PurePosixPath(row["filename"]).parent.parts for row in used if row["label"] == FAKE} - {()}
    shared = len(os.path.commonprefix(list(folders)))
    names = sorted({"/".join(parts[: shared + 1]) for parts in folders})
    counts = {"real_videos": videos[REAL], "fake_videos": videos[FAKE], "faces": len(used)}
    return counts | {"fake_folders": names[:MOST_FOLDERS], "self_blend": self_blend}


def describe_model(args, dataset, training, results):
    """Return the model card of a finished training, of which `training` and `results` are parts."""
    return {
        "backbone": args.backbone,
        "input_size": args.input_size,
        **MEANING,
        "score": "P(real): 1 real, 0 fake",
        "threshold": THRESHOLD,
        "faces": dataset["faces"],
        **training,
        **results,
        "data_digest": dataset["digest"],
        "drawn": dataset.get("drawn", False),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def output_digests(output_dir, names):
    """Return {name: digest} of plots and predictions, None for a missing one: 03a may have written others of that name."""
    paths = {name: output_dir / name for name in names}
    return {name: files.digest(path) if path.is_file() else None for name, path in paths.items()}


def finished_record(weights_path, settings):
    """Return the model card of a training that is finished with the same data and settings, or None."""
    record = files.read_json(record_path(weights_path))
    if record.get("settings", record.get("asked")) != settings or not weights_path.is_file():  # older: asked
        return None
    return record if record["weights_digest"] == files.digest(weights_path) else None
