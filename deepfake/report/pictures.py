"""The pictures inside report.html: which faces are shown, and how large."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import cv2

from common import files, paths
from common.messages import progress
from deepfake.dataset import table
from deepfake.parallel import pool
from deepfake.preprocessing import crops

FEW_PICTURES, LARGE_PX, SMALL_PX = 2000, 160, 96  # up to so many are large (longer side); the page shows all at 80 px
WEBP_QUALITY = 75
MOST_PICTURES = 12_000  # more than 1,000 videos of 11 faces; with more videos, each shows fewer faces
MOST_PICTURES_LENGTH = 42_000_000  # characters of all pictures together: the page stays under 60 MB


def choose_faces(faces, number, explained):
    """Return at most `number` of the faces, in their order: the explained ones, then others evenly spread over time."""
    if len(faces) <= number:
        return list(faces)
    chosen = [face["file"] for face in faces if face["file"] in explained][:number]
    rest = [face["file"] for face in faces if face["file"] not in chosen]
    chosen = {*chosen, *table.evenly_spread(rest, number - len(chosen))}
    return [face for face in faces if face["file"] in chosen]


def explained_faces(folder, model_digest):
    """Return ({file: score} of the faces that 03b explained with this model, how to read the overlays or None)."""
    record = files.read_json(folder / paths.EXPLAINED_DIR / paths.EXPLAINED_RECORD)
    with suppress(KeyError, TypeError):  # it is broken
        if model_digest and record["model_digest"] == model_digest:
            return {face["file"]: face["score"] for face in record["faces"]}, str(record["how_to_read"])
    return {}, None


def paths_of(face, folder, face_kind, explained):
    """Return the paths of a face's crop and overlay, None where there is none. `explained`: from `explained_faces`."""
    path = folder / face_kind / face["file"] if face.get("self_blended") != "blend" else None
    same = path and face["score"] is not None and explained.get(face["file"]) == face["score"]
    overlay_path = folder / paths.EXPLAINED_DIR / face["file"] if same else None
    return {"path": path, "overlay_path": overlay_path, "data": None, "overlay": None}


def thumbnail(path, side_px):
    """Return a picture shrunk to `side_px` (longer side) as base64 WebP, or None if it is not readable."""
    picture = crops.read_image(path) if path else None
    if picture is None:
        return None
    size = crops.saved_size(*picture.shape[1::-1], side_px)[:2]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    return base64.b64encode(encoded.tobytes()).decode() if done else None


def load_pictures(videos, stage):
    """Fill in the `data` and `overlay` of every picture; return how many are shown, not readable, left out."""
    different = {id(video): video for video in videos}.values()
    pictures = [picture for video in different for person in video["persons"] for picture in person["pictures"]]
    side_px = LARGE_PX if len(pictures) <= FEW_PICTURES else SMALL_PX

    def load(picture):
        overlay_path = picture["overlay_path"]
        overlay = thumbnail(overlay_path, side_px) if overlay_path and overlay_path.is_file() else None
        return thumbnail(picture["path"], side_px), overlay

    counts, spent = {"pictures": 0, "overlays": 0, "unreadable": 0, "left_out": 0}, 0
    with ThreadPoolExecutor(len(pool.usable_cpus())) as threads:
        loaded = progress(threads.map(load, pictures), len(pictures), stage, "faces")
        for picture, (data, overlay) in zip(pictures, loaded, strict=True):
            spent += len(data or "") + len(overlay or "")
            if data is None:
                counts["unreadable"] += picture["path"] is not None
            elif spent > MOST_PICTURES_LENGTH:
                counts["left_out"] += 1
            else:
                picture["data"], picture["overlay"] = data, overlay
                counts["pictures"] += 1
                counts["overlays"] += overlay is not None
    return counts
