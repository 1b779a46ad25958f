"""Make a small labelled sample of real and altered face clips, so that the pipeline runs without any download.

Reads   two public-domain portraits that dependencies ship: matplotlib's grace_hopper.jpg, scikit-image's astronaut
Writes  <out>/actor_000_real.mp4, actor_000_fake.mp4, ..., no_face.mp4, metadata.json (DFDC form), sample.csv (how each
        clip was altered, and how much), sample.json (the settings)
Rerun   does nothing if the sample is complete and has the same settings, else makes all of it again
"""

import argparse
import re
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, files, paths
from common.errors import InputError, writing
from common.messages import progress
from deepfake.parallel import pool
from tools import drawing

RECORD, TABLE = "sample.json", "sample.csv"
NO_FACE_NAME, NO_FACE_STREAM = "no_face.mp4", 1_000_000  # a random stream that no actor has
OWN_NAME = re.compile(r"\.?((actor_\d{3}_(real|fake)|no_face)\.mp4|metadata\.json|sample\.(csv|json))")
OF_FAKES = ("original", "strength", "region", "alterations", "difference")  # columns that are empty for a real clip
COLUMNS = ("filename", "label", "actor", *OF_FAKES, "people", "altered_person")


def make_actor(out_dir, seed, actor):
    """Write an actor's two clips; return their rows of sample.csv."""
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
    camera = drawing.make_camera(np.random.default_rng([seed, NO_FACE_STREAM]))
    frames = (
        (drawing.expose(drawing.background_frame(camera, index), camera, index),) for index in range(drawing.FRAMES)
    )
    drawing.write_clips([out_dir / NO_FACE_NAME], frames)
    return [{"filename": NO_FACE_NAME, "label": "REAL", "people": 0}]


def make_clips(out_dir, actors, seed, workers):
    """Write all clips, several at a time; return the rows of sample.csv, sorted by filename. Raises InputError, OutputError."""
    rows, tasks = [], [partial(make_actor, out_dir, seed, actor) for actor in range(actors)]
    tasks.append(partial(make_no_face, out_dir, seed))
    for found in progress(drawing.run_all(tasks, workers), len(tasks), "sample", "actors"):
        rows += found
    return sorted(rows, key=lambda row: row["filename"])


def write_tables(out_dir, rows):
    """Write sample.csv and metadata.json."""
    files.write_csv(out_dir / TABLE, COLUMNS, rows)
    entries = {row["filename"]: {"label": row["label"], "original": row.get("original"), "drawn": True} for row in rows}
    for row in rows:
        if row.get("altered_person", "") != "":
            entries[row["filename"]]["altered_person"] = row["altered_person"]
    files.write_json(out_dir / paths.METADATA, entries)


def is_complete(out_dir, settings):
    """Return whether the folder holds a whole sample made with these settings."""
    clips = [f"actor_{actor:03d}_{kind}.mp4" for actor in range(settings["actors"]) for kind in ("real", "fake")]
    names = [*clips, NO_FACE_NAME, TABLE, paths.METADATA]
    is_ours = files.read_json(out_dir / RECORD) == settings | {"complete": True}
    return is_ours and all((out_dir / name).is_file() for name in names)


def clear_older_sample(out_dir):
    """Make the folder if need be and delete an older or unfinished sample; raises InputError if other files are there.

    Folders beside an older sample stay: the pipeline keeps the frames of each clip in one.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    is_ours = (out_dir / RECORD).is_file()
    own = []
    for path in sorted(out_dir.iterdir()):
        is_own_name = OWN_NAME.fullmatch(path.name)
        if not path.name.startswith(".") and not (is_ours and (path.is_dir() or is_own_name)):
            raise InputError(f"{out_dir} holds files that this script did not make ({path.name}): choose another --out")
        if path.name != RECORD and path.is_file() and is_own_name:
            own.append(path)
    for path in own:
        path.unlink()


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write: new, empty, or an older sample")
    parser.add_argument(
        "--actors", type=cli.positive, default=80, help="1 to 1000, two clips each (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=cli.seed, default=1, help="another seed makes other people (default: %(default)s)"
    )
    cpus = len(pool.usable_cpus())
    parser.add_argument(
        "--workers", type=cli.positive, default=cpus, help="processes (default: one per CPU, here %(default)s)"
    )
    return parser


@cli.stops_in_words
def main(argv=None):
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.actors > 1000:
        parser.error("--actors must be 1 to 1000")
    started = time.monotonic()
    settings = {"recipe": drawing.RECIPE_VERSION, "actors": args.actors, "seed": args.seed}
    if is_complete(args.out, settings):
        print(f"sample: {args.out} is complete, nothing to do")
        return 0
    with writing():
        clear_older_sample(args.out)
    files.write_json(args.out / RECORD, settings | {"complete": False})
    rows = make_clips(args.out, args.actors, args.seed, args.workers)
    write_tables(args.out, rows)
    files.write_json(args.out / RECORD, settings | {"complete": True})
    without_face, took_s = sum(row["people"] == 0 for row in rows), time.monotonic() - started
    print(f"sample: {len(rows)} clips, {args.actors} actors, {without_face} without a face, {took_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
