"""Scores per face: computing them, and the JSON Lines file that hands them on."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.calibration import UNCHANGED, calibrate
from common.constants import FAKE, SPLITS
from common.paths import SPLIT_TABLE
from common.pixels import load_faces, normalise
from common.records import write_atomic
from common.runner import progress

FIELDS = (
    "video_id", "filename", "group", "split", "frame", "frame_s", "person", "file", "confidence", "face_px", "label", "score",
)  # fmt: skip
SELF_BLENDED = " (self-blended)"  # added to the names of a video whose faces are blended with themselves
CHUNK_PIXELS = 2**23  # decoded ahead while the network works on the chunk before: 100 MB, 512 faces of 128 px
BATCH = 64


def read_split(split_dir):
    """Return {split: rows of split.csv} with label as a number and `path` added."""
    with open(split_dir / SPLIT_TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = {split: [] for split in SPLITS}
    for row in rows:
        row |= {"label": int(row["label"]), "path": split_dir / row["file"], "file": Path(row["file"]).name}
        row |= {name: float(row[name]) for name in ("frame_s", "face_px", "confidence")}
        row |= {name: int(row[name]) for name in ("frame", "person")}
        parts[row["split"]].append(row)
    return parts


def score_faces(model, paths, input_size, stage, calibration=UNCHANGED):
    """Return the score P(real) of every face file, in order; None for a file that cannot be read.

    `calibration`: {"a", "b"} of `common.calibration`.
    """
    chunk_size = max(1, CHUNK_PIXELS // input_size**2)
    starts = range(0, len(paths), chunk_size)
    scores = [None] * len(paths)

    def load(start):
        chunk = paths[start : start + chunk_size]
        faces_rgb, unreadable = load_faces(chunk, input_size)
        return normalise(faces_rgb), set(unreadable)

    with ThreadPoolExecutor(1) as loader:
        chunks = [loader.submit(load, start) for start in starts[:1]]
        for number, start in progress(enumerate(starts), len(starts), stage, f"x {chunk_size} faces"):
            faces, unreadable = chunks.pop().result()
            if number + 1 < len(starts):
                chunks.append(loader.submit(load, starts[number + 1]))
            found = calibrate(model.predict(faces, batch_size=BATCH, verbose=0)[:, 0], calibration)
            for offset, score in enumerate(found):
                if paths[start + offset] not in unreadable:
                    scores[start + offset] = float(score)
    return scores


def write_predictions(path, lines):
    """Write one JSON object per line, in one step."""
    write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def prediction_line(row, score):
    """Return the line of one face (a dict with the other FIELDS).

    Half of a self-blended pair says which: "target", the face as it entered the blend, or "blend".
    """
    note = {"self_blended": row["self_blended"]} if row.get("self_blended") else {}
    return {**{name: row.get(name) for name in FIELDS}, "score": score, **note}


def self_blended_row(row):
    """Return the row of the self-blended version of a real face: a fake, of a video of its own in the same group."""
    names = {name: f"{row[name]}{SELF_BLENDED}" for name in ("video_id", "filename")}
    return {**row, **names, "label": FAKE, "self_blended": "blend"}


def cannot_judge_line(row, reason):
    """Return the line of a video without a usable face; `row` has video_id, filename, group, split, label."""
    return {**prediction_line(row, None), "reason": reason}
