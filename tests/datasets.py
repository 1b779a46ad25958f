"""Writes tiny datasets straight in the form that 02 leaves (split_dataset) or 00 and 01a leave (per-video folders)."""

import functools
import json

import cv2
import numpy as np

from common.constants import CLASS_NAMES, FAKE, REAL, SPLITS
from common.files import digest, write_csv, write_json
from common.paths import FACES_RECORD, FRAMES_RECORD, SPLIT_RECORD, SPLIT_TABLE
from deepfake.dataset.table import COLUMNS
from deepfake.model.efficientnet import backbone_of, build_model, load_keras
from deepfake.preprocessing.crops import to_square

FACELESS_REASON = "no face was found"
LANDMARKS = [[12.0, 16.0], [24.0, 16.0], [18.0, 22.0], [13.0, 28.0], [23.0, 28.0]]  # of a crop of 36 x 40 px
FACES_PER_PART = {"train": 8, "val": 4, "test": 4}  # of each class


def face_bgr(label, seed, side_px=40):
    """Return a random uint8 picture: real ones are bright above, fake ones below, so that they can be learnt.

    Its grain keeps it from being too blurred to be judged.
    """
    rng = np.random.default_rng((label, seed))
    small = rng.integers(0, 120, (5, 4, 3), np.uint8)
    small[slice(0, 2) if label == REAL else slice(3, 5)] += 120
    smooth = cv2.resize(small, (side_px - 4, side_px), interpolation=cv2.INTER_CUBIC)
    return cv2.add(smooth, rng.integers(0, 40, smooth.shape, np.uint8))


@functools.cache
def lively_network():
    """Return EfficientNetB0 for 32 px with random weights whose scores differ from face to face. Treat it as read-only.

    Freshly made it answers 0.5 to everything, give or take 1e-7: its BatchNorm knows no statistics yet.
    """
    keras, _ = load_keras()
    keras.utils.set_random_seed(4)
    model = build_model("B0", 32)
    layers = backbone_of(model).layers
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    faces_rgb = [to_square(face_bgr(label, number), 32) for label in (REAL, FAKE) for number in range(16)]
    momentum = norms[0].momentum
    for norm in norms:
        norm.momentum = 0.1
    model(np.stack(faces_rgb), training=True)
    for norm in norms:
        norm.momentum = momentum
    head = model.layers[-1]
    head.kernel.assign(20 * head.kernel)
    return model


def write_picture(path, picture_bgr):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", picture_bgr)[1].tobytes())


def write_split_dataset(data_dir, faces=FACES_PER_PART, faces_per_video=2, face_kind="faces", classes=(REAL, FAKE)):
    """Write split_dataset below `data_dir`, with one faceless video in val and in test; return the rows of split.csv."""
    split_dir, rows = data_dir / "split_dataset", []
    for split in SPLITS:
        for label in classes:
            name = CLASS_NAMES[label]
            for number in range(faces[split]):
                video_id = f"{split}_{name}_{number // faces_per_video}"
                frame = number % faces_per_video
                file = f"{split}/{name}/{video_id}-{frame:03}-00.png"
                picture = face_bgr(label, 100 * SPLITS.index(split) + number)
                write_picture(split_dir / file, picture)
                rows.append(
                    {
                        "file": file,
                        "video_id": video_id,
                        "filename": f"{video_id}.mp4",
                        "group": video_id,
                        "person": 0,
                        "frame": frame,
                        "frame_s": 0.5 * frame,
                        "face_px": 60.0,
                        "landmarks": json.dumps(LANDMARKS),
                        "confidence": 0.99,
                        "label": label,
                        "split": split,
                        "digest": digest(split_dir / file),
                        "frame_px": 640,
                        "video_frames": faces_per_video,
                    }
                )
    write_csv(split_dir / SPLIT_TABLE, COLUMNS, rows)
    faceless = [
        {
            "video_id": f"empty_{split}",
            "filename": f"empty_{split}.mp4",
            "group": f"empty_{split}",
            "label": REAL,
            "split": split,
            "reason": FACELESS_REASON,
        }
        for split in ("val", "test")
    ]
    key = digest(json.dumps([[row[column] for column in COLUMNS] for row in rows]).encode())
    write_json(split_dir / SPLIT_RECORD, {"faces": face_kind, "real_only": False, "digest": key, "faceless": faceless})
    return rows


def write_video_folder(frames_dir, video_id, label, faces=2, reason=None, face_kind="faces"):
    """Write what 00 and 01a leave of one video: frames.json, faces/faces.json and the crops."""
    folder = frames_dir / video_id
    write_json(folder / FRAMES_RECORD, {"made_from": {"filename": f"{video_id}.mp4"}})
    records = []
    for frame in range(faces):
        file = f"{video_id}-{frame:03}-00.png"
        write_picture(folder / face_kind / file, face_bgr(label, frame))
        records.append(
            {
                "file": file,
                "frame": frame,
                "frame_s": 0.5 * frame,
                "person": 0,
                "confidence": 0.99,
                "face_px": 60.0,
                "crop_xywh": [0, 0, 80, 80],
                "landmarks": [[30, 30], [50, 30], [40, 40], [32, 50], [48, 50]],
                "digest": digest(folder / face_kind / file),
            }
        )
    write_json(folder / "faces" / FACES_RECORD, {"faces": records, "reason": reason})
    return folder
