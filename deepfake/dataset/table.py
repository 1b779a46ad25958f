"""The balanced and split faces: their rows as 02 writes them and as the other scripts read them."""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import cli, files, paths
from common.constants import FAKE, REAL, SPLITS
from common.errors import InputError
from deepfake.dataset import videos
from deepfake.preprocessing import crops

COLUMNS = (
    "file",
    "video_id",
    "filename",
    "group",
    "person",
    "frame",
    "frame_s",
    "face_px",
    "landmarks",
    "confidence",
    "label",
    "split",
    "digest",
    "frame_px",
    "video_frames",
)
NOT_TRAINED_ON = ("frame_px", "video_frames")  # facts of the video, which the digest of the data leaves out
REDO_DATASET = "run 02_prepare_dataset.py --force"


class Row(NamedTuple):
    """One face of the dataset. `video_frames`: of the video that were looked at, fewer where balancing took some away."""

    video: videos.Video
    face: crops.Face
    split: str
    video_frames: int | None


def csv_values(row):
    """Return {column: value} of a Row for split.csv, but for `file`: 02 puts its folder below the split folder before it."""
    video = row.video
    return {
        **row.face._asdict(),
        "video_id": video.video_id,
        "filename": video.filename,
        "group": video.group,
        "label": video.label,
        "split": row.split,
        "frame_px": video.frame_px,
        "video_frames": row.video_frames,
    }


def balance(rows):
    """Return the Rows of one split with equally many of each label: the last, alphabetically, of the larger class are left out.

    So few videos of that class remain but each keeps its frames; at most one stays partial, its `video_frames` lowered too.
    """
    counts = Counter(row.video.label for row in rows)
    room = dict.fromkeys(counts, min(counts[FAKE], counts[REAL]))
    kept, partial = [], {}
    for row in sorted(rows, key=lambda row: (row.video.video_id, row.face.frame, row.face.person)):
        if room[row.video.label] > 0:
            room[row.video.label] -= 1
            kept.append(row)
        else:
            partial[row.video.video_id] = set()
    for row in kept:
        if row.video.video_id in partial:
            partial[row.video.video_id].add(row.face.frame)
    return [
        row._replace(video_frames=len(partial[row.video.video_id])) if row.video.video_id in partial else row
        for row in kept
    ]


def read_split(split_dir):
    """Return {split: rows of split.csv} with label as a number and `path` added."""
    with open(split_dir / paths.SPLIT_TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = {split: [] for split in SPLITS}
    for row in rows:
        row |= {"label": int(row["label"]), "path": split_dir / row["file"], "file": Path(row["file"]).name}
        row |= {name: float(row[name]) for name in ("frame_s", "face_px", "confidence")}
        row |= {name: int(row[name]) for name in ("frame", "person")}
        row |= {name: int(row[name]) if row.get(name) else None for name in ("frame_px", "video_frames")}
        parts[row["split"]].append(row)
    return parts


def read_dataset(split_dir):
    """Return (record of 02, {split: rows}); stops if 02 has not run, raises InputError if what it left is broken."""
    cli.require(split_dir / paths.SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    dataset = files.read_json(split_dir / paths.SPLIT_RECORD)
    if not isinstance(dataset, dict):
        raise InputError(f"{split_dir / paths.SPLIT_RECORD} is missing or broken; {REDO_DATASET}")
    try:
        return dataset, read_split(split_dir)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{split_dir / paths.SPLIT_TABLE} is broken ({error!r}); {REDO_DATASET}") from error


def read_test_faces(split_dir, limit):
    """Return (rows with `path`, rows of videos without a face, kind of faces) of the test split. Raises InputError."""
    dataset, parts = read_dataset(split_dir)
    rows, faceless = parts["test"], [row for row in dataset["faceless"] if row["split"] == "test"]
    kept = set(sorted({row["video_id"] for row in rows + faceless})[:limit])
    rows, faceless = ([row for row in part if row["video_id"] in kept] for part in (rows, faceless))
    return rows, faceless, dataset["faces"]


def first_videos(rows, limit):
    """Return the rows of the first `limit` videos of each class, in the order of `rows`."""
    kept = set()
    for label in (REAL, FAKE):
        kept.update(sorted({row["video_id"] for row in rows if row["label"] == label})[:limit])
    return [row for row in rows if row["video_id"] in kept]


def evenly_spread(values, count):
    """Return at most `count` of a list's values, evenly spread from its first to its last."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]


def fewer_frames(rows, count):
    """Return the rows of at most `count` frames of each video, evenly spread from its first to its last."""
    frames, kept = defaultdict(set), {}
    for row in rows:
        frames[row["video_id"]].add(row["frame"])
    for video_id, found in frames.items():
        kept[video_id] = set(evenly_spread(sorted(found), count))
    return [row for row in rows if row["frame"] in kept[row["video_id"]]]
