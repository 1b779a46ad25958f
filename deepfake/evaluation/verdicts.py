"""The verdicts of 04: the text it writes, and its tables as other scripts read them."""

from collections import defaultdict

import numpy as np

from common import files, paths
from common.constants import CLASS_NAMES
from common.errors import InputError
from common.messages import printable
from deepfake.evaluation import intervals
from deepfake.evaluation.metrics import MEANINGS

TYPES = dict.fromkeys(("score", "p_fake"), float)  # of the columns that are no text
TYPES |= dict.fromkeys(("label", "faces", "people", "person", "frames"), "Int64")
VERDICTS_COLUMNS = ("video_id", "filename", "label", "score", "p_fake", "verdict", "faces", "people", "reason")
PEOPLE_COLUMNS = ("video_id", "filename", "person", "score", "p_fake", "verdict", "frames", "reason")


def read_table(path, columns, made_by="04_mapreduce_video_preds.py"):
    """Return the rows of a CSV table as dicts, None for an empty field; raises InputError.

    `columns`: those that it must have. Those in TYPES become numbers; the first must not be empty.
    """
    try:
        rows = files.read_csv(path, {column: TYPES.get(column, object) for column in columns})
        if not all(row[columns[0]] for row in rows):
            raise ValueError(f"a row has no {columns[0]}")
        for column in {"score", "label"}.intersection(columns):
            if beyond := [row[column] for row in rows if not 0 <= (row[column] or 0) <= 1]:
                raise ValueError(f"{beyond[0]} is no {column}")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not as {made_by} wrote it ({error}): run it again with --force") from error
    return rows


def suspicion(row):
    """Return a key that sorts the highest P(fake) first and what could not be judged last."""
    return (row["p_fake"] is None, -(row["p_fake"] or 0), row["filename"] or row["video_id"])


def read_verdicts(folder):
    """Return the rows of video_preds.csv, most suspicious first; raises InputError."""
    return sorted(read_table(folder / paths.VERDICTS_TABLE, VERDICTS_COLUMNS), key=suspicion)


def read_people(folder):
    """Return {video_id: its rows of people_preds.csv}, {} if there is no such table; raises InputError."""
    people, path = defaultdict(list), folder / paths.PEOPLE_TABLE
    for row in read_table(path, PEOPLE_COLUMNS) if path.is_file() else ():
        people[row["video_id"]].append(row)
    return people


def note_of(people):
    """Return who looks least real, from a video's rows of people_preds.csv; None if fewer than two people were seen."""
    scored = [person for person in people if person["score"] is not None]
    if not scored or sum(person["frames"] > 0 for person in people) < 2:
        return None
    lowest = min(scored, key=lambda person: person["score"])
    return f"least real: person {lowest['person']} ({lowest['score']:.4f})"


def text_report(rows, metrics, aggregate):
    """Return the text of mapreduce_res.txt: what was averaged, the metrics, and a table of verdicts and labels."""
    judged = [row for row in rows if row["score"] is not None]
    labelled = [row for row in judged if row["label"] is not None]
    lines = [
        "One verdict per video, from the scores of its faces: score = P(real), 1 real, 0 fake; REAL when it is at least 0.5",
        "People are numbered from left to right, from 0; where there are several, the least real is named with its mean score",
        f"aggregate: {aggregate}; {len(rows)} videos: {len(judged)} judged, {len(rows) - len(judged)} cannot be judged",
    ]
    if labelled:
        accuracy = metrics["accuracy"]["value"]
        lines.append(f"video accuracy (scores rounded to 0 or 1 against the labels): {accuracy:.4f}")
        lines += [intervals.format_metric(name, entry) for name, entry in metrics.items()]
        if len({row["label"] for row in labelled}) == 1:
            lines.append("only one class is present: balanced accuracy, ROC AUC and the like cannot be computed")
        else:
            lines += [f"{name.replace('_', ' ')}: {MEANINGS[name]}" for name in metrics if name in MEANINGS]
    else:
        lines.append("no judged video has a label: no accuracy, no confusion matrix")
    average = np.mean([row["score"] for row in judged]) if judged else None
    lines += ["", f"average score over all judged videos: {average:.4f}" if judged else "", ""]
    names = [printable(row["filename"] or row["video_id"]) for row in rows]
    width = max(map(len, names), default=5)
    lines.append(f"{'video':{width}}  {'score':>6}  {'verdict':12}  {'label':6}  {'faces':>5}  {'people':>6}  note")
    for name, row in zip(names, rows, strict=True):
        label = "" if row["label"] is None else CLASS_NAMES[row["label"]].upper()
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        note = note_of(row["people_rows"]) or row["reason"] or ""
        line = f"{name:{width}}  {score:>6}  {row['verdict']:12}  {label:6}  {row['faces']:5}  {row['people']:6}"
        lines.append(f"{line}  {printable(note)}".rstrip())
    return "\n".join(lines) + "\n"
