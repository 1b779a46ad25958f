"""From a face file to the numbers that the network sees: one way, for training and for prediction."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.cli import usable_cpus

IMAGENET_MEAN_RGB = np.array([0.485, 0.456, 0.406], np.float32)  # of pixels in 0..1; torchvision and efficientnet agree
IMAGENET_STD_RGB = np.array([0.229, 0.224, 0.225], np.float32)


def read_image(path):
    """Return the uint8 BGR picture (h, w, 3) of a file, or None if it is missing or not readable."""
    import cv2

    try:
        data = np.fromfile(path, np.uint8)  # OpenCV itself cannot open every name on every system
    except OSError:
        return None
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        return None


def to_square(face_bgr, size):
    """Return a uint8 BGR face (h, w, 3) as uint8 RGB (size, size, 3); the sides are scaled independently."""
    import cv2

    shrinks = size < min(face_bgr.shape[:2])
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(face_bgr, (size, size), interpolation=interpolation), cv2.COLOR_BGR2RGB)


def normalise(faces_rgb):
    """Return uint8 RGB faces (..., 3) as float32 with ImageNet's mean and deviation removed, as `efficientnet` expects."""
    return (np.asarray(faces_rgb, np.float32) / 255.0 - IMAGENET_MEAN_RGB) / IMAGENET_STD_RGB


def load_faces(paths, size):
    """Return (uint8 RGB array (n, size, size, 3), list of unreadable paths); an unreadable face is left black."""
    faces_rgb, unreadable = np.zeros((len(paths), size, size, 3), np.uint8), []

    def load(index):
        face_bgr = read_image(paths[index])
        if face_bgr is None:
            return index
        faces_rgb[index] = to_square(face_bgr, size)
        return None

    with ThreadPoolExecutor(len(usable_cpus())) as threads:  # OpenCV decodes outside Python's lock
        unreadable = [paths[index] for index in threads.map(load, range(len(paths))) if index is not None]
    return faces_rgb, unreadable
