"""The balanced and split faces that 02 leaves, as the scripts read them."""

import csv
from pathlib import Path

from common.cli import require
from common.constants import SPLITS
from common.paths import SPLIT_RECORD, SPLIT_TABLE
from common.records import InputError, read_json

REDO_DATASET = "run 02_prepare_dataset.py --force"


def read_split(split_dir):
    """Return {split: rows of split.csv} with label as a number and `path` added."""
    with open(split_dir / SPLIT_TABLE, encoding="utf-8", newline="") as file:
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
    require(split_dir / SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    dataset = read_json(split_dir / SPLIT_RECORD)
    if not isinstance(dataset, dict):
        raise InputError(f"{split_dir / SPLIT_RECORD} is missing or broken; {REDO_DATASET}")
    try:
        return dataset, read_split(split_dir)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{split_dir / SPLIT_TABLE} is broken ({error!r}); {REDO_DATASET}") from error


def read_test_faces(split_dir, limit):
    """Return (rows with `path`, rows of videos without a face, kind of faces) of the test split. Raises InputError."""
    dataset, parts = read_dataset(split_dir)
    rows, faceless = parts["test"], [row for row in dataset["faceless"] if row["split"] == "test"]
    kept = set(sorted({row["video_id"] for row in rows + faceless})[:limit])
    rows, faceless = ([row for row in part if row["video_id"] in kept] for part in (rows, faceless))
    return rows, faceless, dataset["faces"]
