"""Make a small labelled sample of real and altered face clips, so that the pipeline runs without any download.

Reads   two public-domain portraits that dependencies ship: matplotlib's grace_hopper.jpg, scikit-image's astronaut
Writes  <out>/actor_000_real.mp4, actor_000_fake.mp4, ..., no_face.mp4, metadata.json (DFDC form), sample.csv (how each
        clip was altered, and how much), sample.json (the settings)
Rerun   does nothing if the sample is complete and has the same settings, else makes all of it again
"""

import argparse
import csv
import io
import json
import multiprocessing
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, files
from common.errors import InputError, OutputError
from common.messages import progress
from deepfake.parallel import pool
from tools import drawing

NO_FACE_NAME, NO_FACE_STREAM = "no_face.mp4", 1_000_000  # a random stream that no actor has
OWN_NAME = re.compile(r"\.?((actor_\d{3}_(real|fake)|no_face)\.mp4|metadata\.json|sample\.(csv|json))")
COLUMNS = (
    "filename",
    "label",
    "actor",
    "original",
    "strength",
    "region",
    "alterations",
    "difference",
    "people",
    "altered_person",
)


def make_actor(out_dir, seed, actor):
    """Write an actor's two clips; return their rows of sample.csv."""
    cv2.setNumThreads(1)  # the processes already share the cores
    facts, frames = drawing.actor_frames(seed, actor)
    real_path, fake_path = (out_dir / f"{facts['actor']}_{kind}.mp4" for kind in ("real", "fake"))
    differences = []

    def pairs():
        for real, fake, difference in frames:
            differences.append(difference)
            yield real, fake

    drawing.write_clips([real_path, fake_path], pairs())
    real = {"filename": real_path.name, "label": "REAL", "actor": facts["actor"], "people": facts["people"]}
    fake = {
        "filename": fake_path.name,
        "label": "FAKE",
        "original": real_path.name,
        "difference": f"{np.mean(differences):.2f}",
    }
    return [real, facts | fake]


def make_no_face(out_dir, seed):
    """Write the clip without a face; return its rows of sample.csv."""
    cv2.setNumThreads(1)
    camera = drawing.make_camera(np.random.default_rng([seed, NO_FACE_STREAM]))
    frames = (
        (drawing.expose(drawing.background_frame(camera, index), camera, index),) for index in range(drawing.FRAMES)
    )
    drawing.write_clips([out_dir / NO_FACE_NAME], frames)
    return [{"filename": NO_FACE_NAME, "label": "REAL", "people": 0}]


def make_clips(out_dir, actors, seed, workers):
    """Write all clips, several at a time; return the rows of sample.csv, sorted by filename."""
    rows = []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(make_actor, out_dir, seed, actor) for actor in range(actors)]
        jobs.append(pool.submit(make_no_face, out_dir, seed))
        try:
            for job in progress(as_completed(jobs), len(jobs), "sample", "actors"):
                rows += job.result()
        except BaseException:  # without this, the error would wait for all the clips that nobody needs any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(rows, key=lambda row: row["filename"])


def write_tables(out_dir, rows):
    """Write sample.csv and metadata.json."""
    lines = io.StringIO()
    table = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write_atomic(out_dir / "sample.csv", lines.getvalue())
    entries = {row["filename"]: {"label": row["label"], "original": row.get("original"), "drawn": True} for row in rows}
    for row in rows:
        if row.get("altered_person", "") != "":
            entries[row["filename"]]["altered_person"] = row["altered_person"]
    files.write_atomic(out_dir / "metadata.json", json.dumps(entries, indent=1) + "\n")


def is_complete(out_dir, settings):
    """Return whether the folder holds a whole sample made with these settings."""
    try:
        record = json.loads((out_dir / "sample.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    clips = [f"actor_{actor:03d}_{kind}.mp4" for actor in range(settings["actors"]) for kind in ("real", "fake")]
    names = [*clips, NO_FACE_NAME, "sample.csv", "metadata.json"]
    return record == settings | {"complete": True} and all((out_dir / name).is_file() for name in names)


def clear_older_sample(out_dir):
    """Make the folder if need be and delete an older or unfinished sample; raises OSError if other files are there.

    Folders beside an older sample stay: the pipeline keeps the frames of each clip in one.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = sorted(out_dir.iterdir())
    is_ours = (out_dir / "sample.json").is_file()
    foreign = [
        path.name
        for path in paths
        if not path.name.startswith(".") and not (is_ours and (path.is_dir() or OWN_NAME.fullmatch(path.name)))
    ]
    if foreign:
        raise OSError(f"{out_dir} holds files that this script did not make ({foreign[0]}): choose another --out")
    for path in paths:
        if path.name != "sample.json" and path.is_file() and OWN_NAME.fullmatch(path.name):
            path.unlink()


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write: new, empty, or an older sample")
    parser.add_argument("--actors", type=int, default=80, help="1 to 1000, two clips each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other people (default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(pool.usable_cpus()),
        help="processes (default: one for each available core, here %(default)s)",
    )
    return parser


@cli.stops_in_words
def main(argv=None):
    parser = build_parser()
    args = parser.parse_args(argv)
    if not 1 <= args.actors <= 1000 or args.seed < 0 or args.workers < 1:
        parser.error("--actors must be 1 to 1000, --seed at least 0, --workers at least 1")
    started = time.monotonic()
    settings = {"recipe": drawing.RECIPE_VERSION, "actors": args.actors, "seed": args.seed}
    try:
        if is_complete(args.out, settings):
            print(f"sample: {args.out} is complete, nothing to do")
            return 0
        clear_older_sample(args.out)
        files.write_atomic(args.out / "sample.json", json.dumps(settings | {"complete": False}) + "\n")
        rows = make_clips(args.out, args.actors, args.seed, args.workers)
        write_tables(args.out, rows)
        files.write_atomic(args.out / "sample.json", json.dumps(settings | {"complete": True}) + "\n")
    except (OSError, InputError, OutputError, BrokenProcessPool) as error:
        print(f"make_sample_videos.py: {error}", file=sys.stderr)
        return 2
    without_face = sum(row["people"] == 0 for row in rows)
    print(
        f"sample: {len(rows)} clips, {args.actors} actors, {without_face} without a face, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
