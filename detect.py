"""Judge any video, photo or folder of them: was a face in it altered? Runs 00, 01a, 03a and 04 one after the other.

Reads   PATH, which is never changed, and weights: --weights, else those trained in the data root, else the shipped ones
Writes  detect/<name>-<hash of the path>/ below the data root; nothing beside your files
Rerun   goes on with what is complete

Prints a table, most suspicious first: verdict, P(fake), faces, people, reason. REAL when P(fake) is at most 0.5; a score is
an indication, no proof. Exit status: 0 everything was judged; 1 something could not be; 2 could not run.
"""

import csv
import importlib
import json
import sys
import unicodedata
from pathlib import Path

from common.cli import make_parser, say, stop, usable_cpus
from common.model import BASE_WEIGHTS
from common.paths import BEST_MODEL, DEFAULT_NAMES, FAILED_TABLE, data_root, digest

COLUMNS = ("video", "verdict", "P(fake)", "faces", "people", "reason")


def choose_weights(args):
    """Return the weights to judge with, or stop and say how to make some."""
    trained = data_root(args) / DEFAULT_NAMES["checkpoint_dir"] / BEST_MODEL
    for path in [Path(args.weights)] if args.weights else [trained, BASE_WEIGHTS]:
        if path.is_file():
            return path
    if args.weights:
        stop(f"{args.weights} does not exist")
    stop(f"there are no weights at {trained}. Make some with: make train VIDEOS=<folder of labelled videos>")


def working_dir(args, path):
    """Return the folder for everything made from `path`; two paths never share one."""
    path = path.resolve()
    return data_root(args) / "detect" / f"{path.name}-{digest(str(path).encode())[:8]}"


def shown_width(text):
    """Return the number of columns that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def as_table(rows):
    """Return aligned lines of text for tuples of strings, the first being the header."""
    rows = [tuple("".join(c if c.isprintable() else "?" for c in field) for field in row) for row in rows]
    widths = [max(shown_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [
        [field + " " * (width - shown_width(field)) for field, width in zip(row, widths, strict=True)] for row in rows
    ]
    return ["  ".join(row).rstrip() for row in padded]


def suspicion(row):
    """Sort key: the highest P(fake) first, what could not be judged last."""
    return (not row["p_fake"], -float(row["p_fake"] or 0), row["filename"])


def read_verdicts(folder):
    """Return the rows of video_preds.csv, most suspicious first, and the inputs that failed without becoming a video."""
    with open(folder / "video_preds.csv", encoding="utf-8", newline="") as file:
        verdicts = sorted(csv.DictReader(file), key=suspicion)
    with open(folder / FAILED_TABLE, encoding="utf-8", newline="") as file:
        known = {Path(row["filename"]).name for row in verdicts}
        failed = [row for row in csv.DictReader(file) if row["video"] not in known and row["stage"] == "00"]
    return verdicts, failed


def build_parser():
    parser = make_parser(__doc__)
    parser.add_argument("path", metavar="PATH", help="a video, a photo, or a folder of them")
    parser.add_argument("--weights", metavar="W", help="an .h5 file with its .json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--aggregate", default="mean", help="as for 04_mapreduce_video_preds.py (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(usable_cpus()), metavar="N", help="as for 00 and 01a")
    parser.add_argument("--force", action="store_true", help="redo what is complete")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    path = Path(args.path)
    if not path.exists():
        stop(f"{path} does not exist")
    weights = choose_weights(args)
    folder = working_dir(args, path)
    place = ["--data-dir", str(folder)]
    videos = ["--videos-dir", str(path), "--frames-dir", str(folder / "frames")]
    work = ["--workers", str(args.workers), *(["--force"] if args.force else [])]
    steps = [
        ("00_convert_video_to_image", [*place, *videos, *work, "--prune"]),
        ("01a_crop_faces_mtcnn", [*place, *videos, *work]),
        ("03a_load_model", [*place, *videos, "--weights", str(weights)]),
        ("04_mapreduce_video_preds", [*place, "--aggregate", args.aggregate]),
    ]
    say(f"judging {path} with {weights}")
    worst = 0
    for name, options in steps:
        status = importlib.import_module(name).main(options)
        if status == 2:
            return 2
        worst = max(worst, status)
    verdicts, failed = read_verdicts(folder)
    unjudged = [row for row in verdicts if not row["score"]]
    if args.json:
        numbers = {"score": float, "p_fake": float, "label": int, "faces": int, "people": int}
        rows = [{k: (numbers[k](v) if k in numbers else v) if v else None for k, v in row.items()} for row in verdicts]
        print(
            json.dumps(
                {"weights": str(weights), "folder": str(folder), "videos": rows, "failed": failed},
                indent=1,
                ensure_ascii=False,
            )
        )
        return 1 if worst or unjudged or failed else 0
    table = [COLUMNS]
    for row in verdicts:
        p_fake = f"{float(row['p_fake']):.2f}" if row["p_fake"] else "-"
        table.append((row["filename"], row["verdict"], p_fake, row["faces"], row["people"], row["reason"]))
    table += [(row["video"], "FAILED", "-", "0", "0", row["reason"]) for row in failed]
    print("\n".join(as_table(table)))
    print(f"\nP(fake) is a score, no proof. Everything made on the way is in {folder}")
    return 1 if worst or unjudged or failed else 0


if __name__ == "__main__":
    sys.exit(main())
