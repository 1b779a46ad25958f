"""The answer of detect.py about every input, as a table for people or as JSON for programs."""

import io
import json
import shutil
import sys
from collections import defaultdict

from common import files, paths
from common.constants import CANNOT_JUDGE
from common.messages import printable
from deepfake.evaluation import verdicts
from deepfake.parallel import failures
from deepfake.report import words

COLUMNS = ("video", "verdict", "P(fake)", "faces", "people", "reason")
WRAPPED = ("video", "reason")  # columns that a narrow terminal breaks into lines
NARROWEST, UNBROKEN = 60, 10_000  # characters of a line: at least, even on a narrower terminal; in a file


def collect(path, folder, frames_dir, has_verdicts, weights):
    """Return what --json prints of `path`: its verdicts in `folder`, if any, and what failed. "videos" has a row per input."""
    judged, people = [], {}
    if has_verdicts:
        judged, people = verdicts.read_verdicts(folder), verdicts.read_people(folder)
    failed = failures.failed_inputs(folder, path, frames_dir, judged)
    unjudged = {**dict.fromkeys(verdicts.VERDICTS_COLUMNS), "verdict": CANNOT_JUDGE, "faces": 0, "people": 0}
    rows = [*judged, *({**unjudged, "filename": row["filename"], "reason": row["reason"]} for row in failed)]
    return {
        "weights": str(weights),
        "warning": words.doubt(words.read_model_facts(weights)),
        "folder": str(folder),
        "report": str(folder / paths.REPORT) if judged else None,
        "videos": [row | {"warnings": read_warnings(frames_dir, row["video_id"])} for row in rows],
        "people": [person for row in judged for person in people[row["video_id"]]],
        "failed": failed,
    }


def read_warnings(frames_dir, video_id):
    """Return what 00 could not read of a video whose rest was judged."""
    return files.read_json(frames_dir / video_id / paths.FRAMES_RECORD).get("warnings", []) if video_id else []


def as_table(rows, columns=None):
    """Return aligned lines of text for tuples, the first of which is the header. File names are data: no markup is read in them.

    `columns`: of the terminal, None for a file. Where they are too few, names and reasons are wrapped; nothing is cut off.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, header_style="", overflow="fold", no_wrap=name not in WRAPPED)
    for row in rows[1:]:
        table.add_row(*(Text(printable(field)) for field in row))
    width = UNBROKEN if columns is None else max(columns, NARROWEST)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def print_answer(answer, as_json):
    """Print what `collect` returned. JSON is ASCII: any terminal and encoding takes it."""
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    table, people = [COLUMNS], defaultdict(list)
    for person in answer["people"]:
        people[person["video_id"]].append(person)
    for row in answer["videos"]:
        notes = [row["reason"] or verdicts.note_of(people[row["video_id"]]), *row["warnings"]]
        p_fake = "-" if row["p_fake"] is None else f"{row['p_fake']:.3f}"
        note = "; ".join(filter(None, notes))
        table.append((row["filename"], row["verdict"], p_fake, row["faces"], row["people"], note))
    print("\n".join(as_table(table, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)))
    if answer["warning"]:
        print(f"\nWARNING: {answer['warning']}")
    print(f"\nP(fake) is a score, no proof. Everything made on the way is in {printable(answer['folder'])}")
    page = f"Open this page to see the faces: {printable(answer['report'])}"
    print(page if answer["report"] else "No page was made: nothing could be read")
