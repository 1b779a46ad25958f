"""From a face file to the pixels that the scorer gets, the same in training and prediction; pictures as files."""

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from common.errors import InputError, writing
from deepfake.parallel import pool
from deepfake.preprocessing import quality


def read_image(path):
    """Return the uint8 BGR picture (h, w, 3) of a file, or None if it is missing or not readable."""
    try:
        data = np.fromfile(path, np.uint8)  # OpenCV itself cannot open every name on every system
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, ValueError, cv2.error):  # ValueError: a name with a NUL in it
        return None


def as_png(picture_bgr):
    """Return the bytes of a uint8 BGR picture (h, w, 3) as PNG. Raises InputError where it cannot be written."""
    encoded, data = cv2.imencode(".png", picture_bgr)
    if not encoded:
        raise InputError("a picture cannot be written as PNG")
    return data.tobytes()


def saved_size(width, height, max_side):
    """Return (width, height, scale) with a longer side of at most `max_side`; never enlarged."""
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale)), scale


def to_square(face_bgr, size):
    """Return a uint8 BGR face (h, w, 3) as uint8 RGB (size, size, 3); the sides are scaled independently."""
    # Near ratio 1, area and linear interpolation blur in bands, which look like a face made of parts; cubic hardly does.
    shrinks = 1.5 * size < min(face_bgr.shape[:2])
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(face_bgr, (size, size), interpolation=interpolation), cv2.COLOR_BGR2RGB)


def fits_in_memory(size_bytes):
    """Tell whether an array takes at most half of the free memory; True where the system does not say what is free."""
    try:
        return size_bytes <= os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, ValueError):
        return True


def new_faces(count, size, scratch_dir=None):
    """Return a black uint8 array (count, size, size, 3); if it is too large for memory, in a nameless file in `scratch_dir`.

    The file vanishes with the array, even if the process is killed. Raises OutputError if the disk is full.
    """
    shape = count, size, size, 3
    size_bytes = count * size * size * 3
    if scratch_dir is None or fits_in_memory(size_bytes):
        return np.zeros(shape, np.uint8)
    with writing(), tempfile.TemporaryFile(dir=scratch_dir) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size_bytes)  # so that a full disk is an error now, no crash later
        return np.memmap(file, np.uint8, "w+", shape=shape)


def load_faces(paths, size, scratch_dir=None, sides_px=None, measures=None, read=read_image):
    """Return (uint8 RGB array (n, size, size, 3), list of unreadable paths); an unreadable face stays black.

    `sides_px`, an array (n, 2), receives the width and height of each face in its file, `measures`, (n, 2), its brightness and
    sharpness (`quality.measure`). `read` gives the BGR picture of a path, or None.
    """
    faces_rgb = new_faces(len(paths), size, scratch_dir)
    cv2.setNumThreads(1)  # each thread has a face of its own; more threads for one face cost more than they save

    def load(index):
        face_bgr = read(paths[index])
        if face_bgr is None:
            return index
        faces_rgb[index] = to_square(face_bgr, size)
        if sides_px is not None:
            sides_px[index] = face_bgr.shape[1::-1]
        if measures is not None:
            measures[index] = quality.measure(face_bgr)
        return None

    with ThreadPoolExecutor(len(pool.usable_cpus())) as threads:  # OpenCV decodes outside Python's lock
        unreadable = [paths[index] for index in threads.map(load, range(len(paths))) if index is not None]
    return faces_rgb, unreadable


class Face(NamedTuple):
    """What faces.json says of one face (s; px of the source). Small, as there may be millions."""

    file: str
    frame: int
    frame_s: float
    person: int
    confidence: float
    face_px: float
    landmarks: str  # JSON of five [x, y], px of the crop
    digest: str


def landmarks_in_crop(record):
    """Return the landmarks of an item of faces.json as [x, y] in pixels of its crop, to a tenth."""
    left, top = record["crop_xywh"][:2]
    return [[round(x - left, 1), round(y - top, 1)] for x, y in record["landmarks"]]


def read_face(record):
    """Return the Face of an item of faces.json. Raises KeyError, TypeError or ValueError if it is broken."""
    landmarks = json.dumps(landmarks_in_crop(record))
    return Face(*(landmarks if name == "landmarks" else record[name] for name in Face._fields))
