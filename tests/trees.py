"""Folders as 00, 01a and 01b leave them, written directly: 02 and what follows can be tested without a detector."""

import json

import cv2
import numpy as np

from common.files import digest
from deepfake.preprocessing.inputs import video_id_of

CROP_PX = 8


def write_video(videos_dir, filename, frames=11, people=1, frames_dir=None, marked=False):
    """Write an (unreadable) video file and its folder of faces: `people` faces in each of `frames` frames; return the folder.

    Every crop differs from every other. With `marked`, marked_faces/ too.
    """
    video_id = video_id_of(filename)
    path = videos_dir / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a video")
    folder = (frames_dir or videos_dir) / video_id
    (folder / "faces").mkdir(parents=True)
    rows, pictures = [], {}
    for frame in range(frames):
        for person in range(people):
            name = f"{video_id}-{frame:03d}-{person:02d}.png"
            picture = np.full((CROP_PX, CROP_PX, 3), 5 * frame + person, np.uint8)
            picture[0, :, 0] = np.frombuffer(video_id.encode().ljust(CROP_PX)[-CROP_PX:], np.uint8)
            pictures[name] = picture
            rows.append(
                {
                    "file": name,
                    "frame": frame,
                    "frame_s": 0.5 * frame,
                    "person": person,
                    "confidence": 0.99,
                    "box_xywh": [12.0, 22.0, 4.0, 4.0],
                    "crop_xywh": [10, 20, CROP_PX, CROP_PX],
                    "landmarks": [[12.25, 23.0], [15.0, 23.0], [14.0, 24.0], [13.0, 26.0], [15.0, 26.0]],
                    "face_px": 4.0,
                    "digest": write_png(folder / "faces" / name, picture),
                }
            )
    record = {"made_from": {}, "faces": rows, "reason": None if rows else "no face of confidence >= 0.95 in 11 frames"}
    (folder / "faces" / "faces.json").write_text(json.dumps(record))
    (folder / "frames.json").write_text(json.dumps({"video_id": video_id, "made_from": {"filename": filename}}))
    if marked:
        (folder / "marked_faces").mkdir()
        digests = {name: write_png(folder / "marked_faces" / name, 255 - pictures[name]) for name in pictures}
        made_from = {"faces_digest": digest(folder / "faces" / "faces.json")}
        record = {"made_from": made_from, "digests": digests}
        (folder / "marked_faces" / "marked_faces.json").write_text(json.dumps(record))
    return folder


def write_png(path, picture):
    """Write a picture without compression effort; return the digest of the file."""
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return digest(path)


def write_metadata(folder, entries):
    """Write DFDC's metadata.json: {file name: (label, original or None, {optional keys})}."""
    items = {name: {"label": label, "original": original, **more} for name, (label, original, more) in entries.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")


def write_pairs(data_dir, actors=10, frames=4, marked=False):
    """Write a tree like the sample's below `data_dir`: a real clip and one fake of it per actor; return the videos folder."""
    videos_dir, entries = data_dir / "train_sample_videos", {}
    for actor in range(actors):
        real, fake = (f"actor_{actor:03d}_{kind}.mp4" for kind in ("real", "fake"))
        entries |= {real: ("REAL", None, {}), fake: ("FAKE", real, {"split": "train"})}
        for name in (real, fake):
            write_video(videos_dir, name, frames=frames, marked=marked)
    write_metadata(videos_dir, entries)
    return videos_dir
