"""The table of faces: split.csv as 02 makes it, and its rows as the other scripts read them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from common import files, paths
from common.constants import CLASS_NAMES, FAKE, REAL, SPLITS
from common.errors import InputError
from deepfake.preprocessing import crops

OF_VIDEO = ("video_id", "filename", "group", "label", "frame_px", "video_frames")
COLUMNS = ("file", "video_id", "filename", "group", "person", "frame", "frame_s", "face_px", "landmarks", "confidence")
COLUMNS += ("label", "split", "digest", "frame_px", "video_frames")
NOT_TRAINED_ON = ("frame_px", "video_frames")  # facts of the video, which the digest of the data leaves out
TYPES = dict.fromkeys(COLUMNS, object) | dict.fromkeys(NOT_TRAINED_ON, "Int64")
TYPES |= dict.fromkeys(("label", "frame", "person"), int) | dict.fromkeys(("frame_s", "face_px", "confidence"), float)
ROWS_AT_ONCE = 100_000  # written at once, so that a million faces stay under 1 GB
REDO_DATASET = "run 02_prepare_dataset.py --force"


def face_table(videos, split_of=None):
    """Return a DataFrame of COLUMNS, a row for each face of the Videos. `file` has no folder.

    `split_of`: {group: split}; without it there is no column `split`.
    """
    import pandas as pd

    def column(values, kind=object):
        return np.fromiter(values, kind, sum(len(video.faces) for video in videos))

    faces = {}  # column by column: lists of them all would need half as much memory again
    for place, name in enumerate(crops.Face._fields):
        faces[name] = column((face[place] for video in videos for face in video.faces), TYPES[name])
    for name in OF_VIDEO:
        faces[name] = column(getattr(video, name) for video in videos for _ in video.faces)  # may hold None
    faces = pd.DataFrame(faces, copy=False)
    if split_of:
        faces["split"] = pd.Categorical(faces["group"].map(split_of), SPLITS)
    return faces


def balance(faces):
    """Return the faces, in each split equally many real and fake: the last of the larger class, by the alphabet, are left out.

    So whole videos go, and at most one per split loses only some of its faces; its `video_frames` is lowered. Works on `faces`
    itself, as there may be millions.
    """
    faces.sort_values(["split", "video_id", "frame", "person"], inplace=True)
    of_class = faces.groupby(["split", "label"], observed=True)
    room = of_class.size().groupby("split", observed=True).min()
    kept = of_class.cumcount() < faces["split"].astype(str).map(room)
    partial = faces["video_id"].isin(faces["video_id"][~kept])
    frames = faces["frame"].where(kept).groupby(faces["video_id"]).transform("nunique")
    faces["video_frames"] = faces["video_frames"].mask(partial, frames)
    return faces[kept]


def digest_of(faces):
    """Return the digest of what a scorer is trained on."""
    trained_on = [column for column in COLUMNS if column not in NOT_TRAINED_ON]
    return files.digest_of_list(map(json.dumps, zip(*(faces[column] for column in trained_on), strict=True)))


def write_table(faces, path):
    """Write split.csv, in which `file` begins with the folders of its split and class."""
    with open(path, "w", encoding="utf-8", errors=files.SURROGATES, newline="") as file:
        for start in range(0, len(faces), ROWS_AT_ONCE):
            part = faces[start : start + ROWS_AT_ONCE]
            places = zip(part["split"], part["label"], part["file"], strict=True)
            part = part.assign(file=[f"{split}/{CLASS_NAMES[label]}/{name}" for split, label, name in places])
            part.to_csv(file, columns=list(COLUMNS), index=False, header=not start, lineterminator="\n")


def read_split(split_dir):
    """Return {split: rows of split.csv as dicts}, with `path` added and `file` without folders."""
    parts = {split: [] for split in SPLITS}
    for row in files.read_csv(split_dir / paths.SPLIT_TABLE, TYPES):
        parts[row["split"]].append(row | {"path": split_dir / row["file"], "file": Path(row["file"]).name})
    return parts


def read_dataset(split_dir):
    """Return (record of 02, {split: rows}). Raises InputError if 02 has not run or its files are broken."""
    path = split_dir / paths.SPLIT_TABLE
    if not path.exists():
        raise InputError(f"{path} does not exist: it would list the faces. Run 02_prepare_dataset.py first.")
    dataset = files.read_json(split_dir / paths.SPLIT_RECORD)
    if not dataset:
        raise InputError(f"{split_dir / paths.SPLIT_RECORD} is missing or broken; {REDO_DATASET}")
    try:
        return dataset, read_split(split_dir)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is broken ({error!r}); {REDO_DATASET}") from error


def read_test_faces(split_dir, limit):
    """Return (rows with `path`, rows of videos without a face, kind of faces) of `limit` test videos. Raises InputError."""
    dataset, parts = read_dataset(split_dir)
    rows, faceless = parts["test"], [row for row in dataset["faceless"] if row["split"] == "test"]
    kept = set(sorted({row["video_id"] for row in rows + faceless})[:limit])
    rows, faceless = ([row for row in part if row["video_id"] in kept] for part in (rows, faceless))
    return rows, faceless, dataset["faces"]


def faces_of_videos(videos, face_kind):
    """Return (rows with `path`, rows of videos without a face) of Videos, labelled or not."""
    folders = {video.video_id: video.folder / face_kind for video in videos}
    rows = [row | {"path": folders[row["video_id"]] / row["file"]} for row in files.as_rows(face_table(videos))]
    faceless = [video for video in videos if not video.faces]
    return rows, [{name: getattr(video, name) for name in (*OF_VIDEO, "reason")} for video in faceless]


def first_videos(rows, limit):
    """Return the rows of the first `limit` videos of each class, by the alphabet."""
    of_class = ({row["video_id"] for row in rows if row["label"] == label} for label in (REAL, FAKE))
    kept = {video_id for found in of_class for video_id in sorted(found)[:limit]}
    return [row for row in rows if row["video_id"] in kept]


def evenly_spread(values, count):
    """Return at most `count` of a sequence's values, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]


def fewer_frames(rows, count):
    """Return the rows of at most `count` frames of each video, evenly spread."""
    frames = defaultdict(set)
    for row in rows:
        frames[row["video_id"]].add(row["frame"])
    kept = {video_id: set(evenly_spread(sorted(found), count)) for video_id, found in frames.items()}
    return [row for row in rows if row["frame"] in kept[row["video_id"]]]
