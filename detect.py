"""Judge any video, photo or folder of them: was a face in it altered? Runs 00, 01a, 03a, 04, 03b and 05 one after the other.

Reads   PATH, which is never changed, and weights: --weights, else those trained in the data root, else the shipped ones
Writes  detect/<name>-<hash of the path>/ below the data root; nothing beside your files
Rerun   goes on with what is complete

Prints a table, most suspicious first: verdict, P(fake), faces, people, and why a video cannot be judged, or who of several
people looks least real (numbered from the left, from 0), and what of a video could not be read; then the path of report.html,
which shows the faces and where the network looked. REAL when the score P(real) = 1 - P(fake) is at least 0.5; a score is an
indication, no proof. --json prints the same for programs: "videos" has every input, "failed" repeats those that failed before
step 04. Exit status: 0 everything was judged; 1 something could not be; 2 could not run; 130 interrupted.
"""

import importlib
import json
import os
import shutil
import sys
import textwrap
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import cli, files, paths
from common.constants import CANNOT_JUDGE
from common.messages import printable, say
from deepfake.evaluation import aggregation, verdicts
from deepfake.model import record as model_record
from deepfake.model import scorer, weights
from deepfake.parallel import failures
from deepfake.parallel.spark import start_spark
from deepfake.preprocessing import inputs
from deepfake.report import words

COLUMNS = ("video", "verdict", "P(fake)", "faces", "people", "reason")
FRAMES_DIR = "frames"  # in the working folder
SHORTEST_NAME, INDENT = 15, "    "  # of the table on a narrow terminal
LONGEST_NAME = 50  # characters of the working folder's name; file systems allow 255 bytes


def choose_weights(args):
    """Return the weights to judge with, or stop and say how to make some."""
    trained = cli.data_root(args) / paths.DEFAULT_NAMES["checkpoint_dir"] / paths.BEST_MODEL
    for path in [Path(args.weights)] if args.weights else [trained, weights.BASE_WEIGHTS]:
        if path.is_file():
            return path
    if args.weights:
        cli.stop(f"{args.weights} does not exist")
    cli.stop(
        f"there are no weights at {trained}. Make some with: make train VIDEOS=<folder of labelled videos>, or name some: "
        "--weights FILE (those of make demo, only to see how it works: --weights demo/tmp_checkpoint/best_model.h5)"
    )


def working_dir(args, path):
    """Return the folder for everything made from `path`; two paths never share one."""
    path = path.resolve()
    return cli.data_root(args) / "detect" / f"{path.name[:LONGEST_NAME]}-{files.digest(os.fsencode(path))[:8]}"


def shown_width(text):
    """Return the number of columns that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(name, width):
    """Return a name of at most `width` columns, its middle left out where it is longer."""
    head, tail = name[: len(name) // 2], name[len(name) // 2 :]
    while shown_width(name) > width and head:
        head, tail = head[:-1], tail[1:]
        name = f"{head}…{tail}"
    return name


def as_table(rows, columns=None):
    """Return aligned lines of text for tuples of strings, the first being the header.

    `columns`: those of the terminal. Where they are too few, names lose their middle, and the last field goes below its row.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(shown_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    below = columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns
    if below:
        widths[0] = min(widths[0], max(SHORTEST_NAME, columns - sum(widths[1:-1]) - 2 * (len(widths) - 2)))
    lines = []
    for number, (name, *fields) in enumerate(rows):
        padded = [
            field + " " * (width - shown_width(field))
            for field, width in zip((shorten(name, widths[0]), *fields), widths, strict=True)
        ]
        lines.append("  ".join(padded[:-1] if below else padded).rstrip())
        if below and number:
            lines += textwrap.wrap(fields[-1], columns, initial_indent=INDENT, subsequent_indent=INDENT)
    return lines


def damage_of(folder, video_id):
    """Return what of a video could not be read though the rest was judged, as 00 has it."""
    return files.read_json(folder / FRAMES_DIR / video_id / paths.FRAMES_RECORD).get("warnings", [])


def unjudged(failure):
    """Return a failed input as a row of the verdicts, so that --json lists every input in one place."""
    known = {
        "filename": failure["filename"],
        "verdict": CANNOT_JUDGE,
        "faces": 0,
        "people": 0,
        "reason": failure["reason"],
    }
    return {**dict.fromkeys(verdicts.VERDICTS_COLUMNS), **known, "warnings": []}


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument("path", metavar="PATH", help="a video, a photo, or a folder of them")
    parser.add_argument("--weights", metavar="W", help="an .h5 file with its .json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--aggregate",
        choices=(*aggregation.AGGREGATES, "auto"),
        default="mean",
        help="as for 04 (default: %(default)s)",
    )
    parser.add_argument("--workers", type=cli.positive, metavar="N", help="as for 00 and 01a")
    parser.add_argument("--force", action="store_true", help="redo what is complete")
    return parser


def run_step(name, options):
    """Run a script in this process; return its exit status, or end with it if the script could not run to its end."""
    status = importlib.import_module(name).main(options)
    if status not in (0, 1):
        raise SystemExit(status)
    return status


def explain(options):
    """Run 03b and return 0: what stops it costs the maps on the page, never the verdicts."""
    try:
        importlib.import_module("03b_explain").main(options)
    except SystemExit as stopped:
        if stopped.code == cli.INTERRUPTED:
            raise
    except Exception as error:  # whatever a network may raise, of memory for one
        say(f"03b: stopped: {error}")
    return 0


def load_ahead(weights):
    """Return an executor that loads the network, then Spark, while other processes read the videos.

    What goes wrong in it goes wrong again, and is said, in the step that needs it. The caller shuts it down; a network that is
    being loaded then still delays the end.
    """
    ahead = ThreadPoolExecutor(1)
    ahead.submit(scorer.load_scorer, weights)
    ahead.submit(start_spark, None)
    return ahead


def run_steps(args, path, folder, weights):
    """Run the pipeline on `path` into `folder`; return (worst exit status, rows of verdicts)."""
    place = ["--data-dir", str(folder)]
    frames_dir = folder / FRAMES_DIR
    videos = ["--videos-dir", os.path.abspath(path), "--frames-dir", str(frames_dir)]
    work = [*(["--workers", str(args.workers)] if args.workers else []), *(["--force"] if args.force else [])]
    model = ["--weights", str(weights)]
    worst = 0
    for name, options in [
        ("00_convert_video_to_image", [*place, *videos, *work, "--prune"]),
        ("01a_crop_faces_mtcnn", [*place, *videos, *work]),
        ("03a_load_model", [*place, *videos, *model]),
        ("04_mapreduce_video_preds", [*place, *model, "--aggregate", args.aggregate]),
        ("03b_explain", [*place, *videos, *model]),
        ("05_report", [*place, *videos, *model]),
    ]:
        worst = max(worst, explain(options) if name == "03b_explain" else run_step(name, options))
        if not frames_dir.is_dir() or not inputs.list_frame_dirs(frames_dir):
            return worst, []  # nothing could be read; the failures say why
    return worst, verdicts.read_verdicts(folder)


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    path = Path(args.path)
    if not path.exists():
        cli.stop(f"{path} does not exist")
    weights = choose_weights(args)
    record = model_record.read_model_record(weights)
    model_record.check_faces(record, "faces", weights)
    aggregation.rule_of(args.aggregate, record, model_record.record_path(weights))  # now, not after minutes
    folder = working_dir(args, path)
    say(f"judging {path} with {weights}")
    ahead = load_ahead(weights)
    try:
        worst, judged = run_steps(args, path, folder, weights)
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)
    warning = words.doubt(words.read_model_facts(weights))
    report = folder / paths.REPORT if judged else None
    people = verdicts.read_people(folder) if judged else {}
    failed = failures.failed_inputs(folder, path, folder / FRAMES_DIR, judged)
    damage = {row["video_id"]: damage_of(folder, row["video_id"]) for row in judged}
    if args.json:  # ASCII, so that no terminal and no encoding can stumble over a name
        result = {"weights": str(weights), "warning": warning, "folder": str(folder), "report": report and str(report)}
        rows = [person for row in judged for person in people[row["video_id"]]]
        videos = [{**row, "warnings": damage[row["video_id"]]} for row in judged] + [unjudged(row) for row in failed]
        print(json.dumps({**result, "videos": videos, "people": rows, "failed": failed}, indent=1))
    else:
        table = [COLUMNS]
        for row in judged:
            p_fake = "-" if row["p_fake"] is None else f"{row['p_fake']:.3f}"
            note = "; ".join(
                filter(None, [row["reason"] or verdicts.note_of(people[row["video_id"]]), *damage[row["video_id"]]])
            )
            table.append((row["filename"], row["verdict"], p_fake, row["faces"], row["people"], note))
        table += [(row["filename"], CANNOT_JUDGE, "-", 0, 0, row["reason"]) for row in failed]
        print("\n".join(as_table(table, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)))
        if warning:
            print(f"\nWARNING: {warning}")
        print(f"\nP(fake) is a score, no proof. Everything made on the way is in {printable(folder)}")
        print(
            f"Open this page to see the faces: {printable(report)}"
            if report
            else "No page was made: nothing could be read"
        )
    return 1 if worst or failed or any(row["score"] is None for row in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
