"""One face of a video, as faces.json has it."""

import json
from typing import NamedTuple


class Face(NamedTuple):
    """One face of a video: what faces.json says of it (s; px of the source), in little memory, as there may be millions."""

    file: str
    frame: int
    frame_s: float
    person: int
    confidence: float
    face_px: float
    landmarks: str  # JSON of five [x, y], px of the crop
    digest: str


def landmarks_in_crop(record):
    """Return the landmarks of an item of faces.json, there in frame pixels, as [x, y] in pixels of its crop, to a tenth."""
    left, top = record["crop_xywh"][:2]
    return [[round(x - left, 1), round(y - top, 1)] for x, y in record["landmarks"]]


def read_face(record):
    """Return the Face of an item of faces.json. Raises KeyError, TypeError or ValueError where it is damaged."""
    landmarks = json.dumps(landmarks_in_crop(record))
    return Face(*(landmarks if name == "landmarks" else record[name] for name in Face._fields))
