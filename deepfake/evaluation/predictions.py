"""Predictions, the scores per face: their JSON Lines file, written and read."""

import json
import os
from pathlib import Path

from common import files
from common.constants import FAKE
from common.errors import InputError
from deepfake.preprocessing import quality

FIELDS = ("video_id", "filename", "group", "split", "frame", "frame_s", "person", "file", "confidence", "face_px")
FIELDS += ("label", "score", "frame_px", "video_frames", "brightness", "sharpness", "weights")
WEIGHTS_DIGITS = 8  # of the digest of the weights, in the field `weights`
LARGEST_NUMBER = 1e15  # that is believed, so that nothing computed from it overflows
SELF_BLENDED = " (self-blended)"  # added to the name of a video whose faces are blended with themselves


def write_predictions(path, lines, weights_digest=None):
    """Write one JSON object per line, in one step, with the first digits of the weights' digest, if given."""
    if weights_digest:
        lines = [{**line, "weights": weights_digest[:WEIGHTS_DIGITS]} for line in lines]
    files.write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def check_file_name(name):
    """Raise ValueError unless `name` can be a file's name in the folder where it is looked for, and in no other."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError("a name leaves its folder")
    os.fsencode(name)  # raises UnicodeEncodeError for what no file name can hold


def parse_line(text):
    """Return a prediction line as a dict, None for missing FIELDS. Raises ValueError or RecursionError if it is none."""
    line = json.loads(text)
    if not isinstance(line, dict):
        raise ValueError("is no object")
    line = dict.fromkeys(FIELDS) | line
    if (score := line["score"]) is not None and not (isinstance(score, (int, float)) and 0 <= score <= 1):
        raise ValueError("the score is not from 0 to 1")
    if not all(isinstance(line[name], str | None) for name in ("group", "split", "weights")):
        raise ValueError("a name is no text")
    check_file_name(line["video_id"])
    if line["file"] is not None:
        check_file_name(line["file"])
    return line


def read_predictions(path):
    """Return (prediction lines, how many lines are none). Raises InputError."""
    lines, broken = [], 0
    try:
        with open(path, "rb") as file:
            for text in filter(bytes.strip, file):  # bytes: names may hold other line ends of Unicode
                try:
                    lines.append(parse_line(text))
                except (ValueError, RecursionError):
                    broken += 1
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return lines, broken


def measured(rows, measures):
    """Return the rows with brightness and sharpness added, from an array (n, 2) that `score_faces` has filled."""
    return [
        {**row, "brightness": round(float(brightness), 1), "sharpness": round(float(sharpness), 1)}
        for row, (brightness, sharpness) in zip(rows, measures, strict=True)
    ]


def reason_of(row):
    """Return why the face of a row cannot be judged, or None."""
    return quality.why_unusable(*(row.get(name) for name in ("face_px", "brightness", "sharpness")))


def prediction_line(row, score):
    """Return the prediction line of one face from its row. A face that cannot be judged gets a reason instead of the score.

    `self_blended` is there for a self-blended pair only: "target", the face as it entered the blend, or "blend".
    """
    note = {"self_blended": row["self_blended"]} if row.get("self_blended") else {}
    reason = reason_of(row)
    note |= {"reason": reason} if reason else {}
    return {**{name: row.get(name) for name in FIELDS}, "score": None if reason else score, **note}


def self_blended_row(row):
    """Return the row of the self-blended version of a real face: a fake, in another video of the same group."""
    names = {name: f"{row[name]}{SELF_BLENDED}" for name in ("video_id", "filename")}
    return {**row, **names, "label": FAKE, "self_blended": "blend"}


def cannot_judge_line(row, reason):
    """Return the line of a video without a usable face; `row` has video_id, filename, group, split, label."""
    return {**prediction_line(row, None), "reason": reason}
