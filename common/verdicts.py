"""The verdicts that 04 leaves: their text, and the tables as the scripts that show them read them."""

import csv
import math
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from common.cli import printable
from common.constants import CANNOT_JUDGE, CLASS_NAMES, FAKE, REAL, THRESHOLD
from common.metrics import MEANINGS, format_metric
from common.paths import FRAMES_RECORD, PEOPLE_TABLE, VERDICTS_TABLE
from common.records import InputError, failures, read_json

NUMBERS = {  # column of a table that is no text: (its kind, the highest)
    "score": (float, 1), "p_fake": (float, 1), "label": (int, 1),
    **dict.fromkeys(("faces", "people", "person", "frames"), (int, math.inf)),
}  # fmt: skip
VERDICTS_COLUMNS = ("video_id", "filename", "label", "score", "p_fake", "verdict", "faces", "people", "reason")
PEOPLE_COLUMNS = ("video_id", "filename", "person", "score", "p_fake", "verdict", "frames", "reason")
PLAIN_WORDS = (  # what a reason begins with or holds, and what it means to someone who has never seen this program
    (r"^no face of confidence|^no usable face", "No face was seen clearly enough in any of the moments looked at."),
    (r"^faces too small", "The faces are so small that traces of a change could not be seen."),
    (r"^faces too blurred", "The faces are too blurred to judge."),
    (r"^faces too dark", "The faces are too dark to judge."),
    (r"^usable faces in too few frames", "A face was seen well enough in too few moments to judge."),
    (r"is empty", "The file holds nothing: perhaps copying it was interrupted."),
    (r"not a readable video", "This is not a video, or it is damaged so badly that no player could show it."),
    (r"not a readable photo", "This is not a photo, or it is damaged so badly that it cannot be shown."),
    (r"no video stream", "The file holds no pictures, only sound perhaps."),
    (r"no readable frame", "Not one picture of this video could be read: it is damaged or cut off."),
    (r"not supported", "Files of this kind cannot be read here; most programs that show them can save them as another."),
    (r"took longer than", "Reading it took so long that it was given up; it may be damaged or very large."),
    (r"process that read it died|cannot start a worker", "The program that read it broke down over it: it may be damaged."),
    (r"claims to be", "It says that its pictures have a size that none has: it is damaged, or made to do harm."),
    (r"would share the id", "Two files have the same name but for its ending; give one of them another name."),
    (r"file or folder of your own", "Something of yours lies where its results belong; give one of them another name."),
    (r"cannot be read: Permission|folder cannot be read", "This program is not allowed to read it."),
    (r"was not processed|not looked for|faces are not readable", "A step before was left out or interrupted; run it again."),
)  # fmt: skip


def verdict_of(score):
    """Return "REAL" when the score P(real) is at least 0.5, "FAKE" below, "CANNOT JUDGE" for None."""
    if score is None:
        return CANNOT_JUDGE
    return CLASS_NAMES[REAL if score >= THRESHOLD else FAKE].upper()


def read_object(path):
    """Return the JSON object in `path`, {} where there is none."""
    record = read_json(path)
    return record if isinstance(record, dict) else {}


def parse_field(column, text):
    """Return what a field of a table says, None for nothing; raises ValueError."""
    if column not in NUMBERS or not text:
        return text or None
    kind, highest = NUMBERS[column]
    if not 0 <= (number := kind(text)) <= highest:
        raise ValueError(f"{text} is no {column}")
    return number


def read_table(path, columns, made_by="04_mapreduce_video_preds.py"):
    """Return the rows of a CSV table as dicts, None for an empty field; raises InputError.

    `columns`: those that it must have, of which those in NUMBERS become numbers; the first is never empty.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark before the text
            table = csv.DictReader(file)
            if missing := [column for column in columns if column not in (table.fieldnames or ())]:
                raise ValueError(f"it has no column {missing[0]}")
            rows = [
                {
                    column: parse_field(column if column in columns else None, text)
                    for column, text in row.items()
                    if column
                }
                for row in table
            ]
        if not all(row[columns[0]] for row in rows):
            raise ValueError(f"a row has no {columns[0]}")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not as {made_by} wrote it ({error}): run it again with --force") from error
    return rows


def suspicion(row):
    """Sort key: the highest P(fake) first, what could not be judged last."""
    return (row["p_fake"] is None, -(row["p_fake"] or 0), row["filename"] or row["video_id"])


def read_verdicts(folder):
    """Return the rows of video_preds.csv, most suspicious first; raises InputError."""
    rows = read_table(folder / VERDICTS_TABLE, VERDICTS_COLUMNS)
    for row in rows:  # as the score says, whatever somebody has written there
        row |= {"p_fake": None if row["score"] is None else 1 - row["score"], "verdict": verdict_of(row["score"])}
    return sorted(rows, key=suspicion)


def read_people(folder):
    """Return {video_id: its rows of people_preds.csv}, {} where there is no such table; raises InputError."""
    people = defaultdict(list)
    if (folder / PEOPLE_TABLE).is_file():
        for row in read_table(folder / PEOPLE_TABLE, PEOPLE_COLUMNS):
            people[row["video_id"]].append(row | {"verdict": verdict_of(row["score"])})
    return people


def note_of(people):
    """Return who looks least real, from the rows of people_preds.csv of a video; None where fewer than two were seen."""
    scored = [person for person in people if person["score"] is not None]
    if not scored or sum(person["frames"] > 0 for person in people) < 2:
        return None
    lowest = min(scored, key=lambda person: person["score"])
    return f"least real: person {lowest['person']} ({lowest['score']:.4f})"


def text_report(rows, metrics, aggregate):
    """Return mapreduce_res.txt: what was averaged, the accuracy, and a table of verdicts against labels."""
    judged = [row for row in rows if row["score"] is not None]
    labelled = [row for row in judged if row["label"] is not None]
    lines = [
        "One verdict per video, from the scores of its faces: score = P(real), 1 real, 0 fake; REAL when it is at least 0.5",
        "People are numbered from left to right, from 0; where there are several, the least real is named with its mean score",
        f"aggregate: {aggregate}; {len(rows)} videos: {len(judged)} judged, {len(rows) - len(judged)} cannot be judged",
    ]
    if labelled:
        lines.append(
            f"video accuracy (scores rounded to 0 or 1 against the labels): {metrics['accuracy']['value']:.4f}"
        )
        lines += [format_metric(name, entry) for name, entry in metrics.items()]
        if len({row["label"] for row in labelled}) == 1:
            lines.append("only one class is present: balanced accuracy, ROC AUC and the like cannot be computed")
        else:
            lines += [f"{name.replace('_', ' ')}: {MEANINGS[name]}" for name in metrics if name in MEANINGS]
    else:
        lines.append("no judged video has a label: no accuracy, no confusion matrix")
    lines += [
        "",
        f"average score over all judged videos: {np.mean([row['score'] for row in judged]):.4f}" if judged else "",
        "",
    ]
    names = [printable(row["filename"] or row["video_id"]) for row in rows]
    width = max(map(len, names), default=5)
    lines.append(f"{'video':{width}}  {'score':>6}  {'verdict':12}  {'label':6}  {'faces':>5}  {'people':>6}  note")
    for name, row in zip(names, rows, strict=True):
        label = "" if row["label"] is None else CLASS_NAMES[row["label"]].upper()
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        note = note_of(row["people_rows"]) or row["reason"] or ""
        lines.append(
            f"{name:{width}}  {score:>6}  {row['verdict']:12}  {label:6}  "
            f"{row['faces']:5}  {row['people']:6}  {printable(note)}".rstrip()
        )
    return "\n".join(lines) + "\n"


def source_name(frame_dir):
    """Return the name of the video that a folder of frames is of, the folder's own if it does not say."""
    made_from = read_object(frame_dir / FRAMES_RECORD).get("made_from")
    return (isinstance(made_from, dict) and made_from.get("filename")) or frame_dir.name


def failed_inputs(data_dir, videos_dir, frames_dir, verdicts):
    """Return the failures {"stage", "filename", "reason"} of inputs in `videos_dir` (or of that file) without a verdict.

    Failures of other folders, which the same data root also remembers, are left out.
    """
    videos_dir, frames_dir = os.path.abspath(videos_dir), os.path.abspath(frames_dir)
    root = os.path.dirname(videos_dir) if os.path.isfile(videos_dir) else videos_dir
    judged = {os.path.join(root, row["filename"]) for row in verdicts if row["filename"]}
    judged |= {os.path.join(frames_dir, row["video_id"]) for row in verdicts}  # where 01a failed
    found = []
    for record in failures(data_dir):
        # A later step failed on the folder of a video's frames.
        path, is_input = Path(record["path"]), record["stage"] == "00"
        if path.is_relative_to(videos_dir if is_input else frames_dir) and str(path) not in judged:
            name = os.path.relpath(path, root) if is_input else source_name(path)
            found.append({"stage": record["stage"], "filename": name, "reason": record["reason"]})
    return found


def plain_words(reason):
    """Return a sentence that says what a reason means, or None for one that must speak for itself."""
    return next((words for pattern, words in PLAIN_WORDS if re.search(pattern, reason or "")), None)
