"""Measure prediction: faces/s from face files to scores, as 03a makes them, against `model.predict` on arrays in memory.

Reads   split_dataset/, such as make demo leaves   (02_prepare_dataset.py)
Writes  nothing; prints a table
Rerun   measures again

    python benchmarks/prediction.py --data-dir demo

Both in one process, in turns, after one warm-up each. The arrays are the limit: their faces are decoded before.
Peak memory is that of a process that does nothing else; the first row has the limit's arrays.
"""

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from measure import machine, markdown_table, median_and_spread, run_once

from common.cli import add_path, make_parser, positive, require, say, stop
from common.dataset import read_split
from common.model import build_model, load_model
from common.paths import SPLIT_TABLE, locate
from common.pixels import load_faces
from common.predictions import BATCH, score_faces
from common.records import InputError

FACES, INPUT_SIZE = 2000, 128  # INPUT_SIZE: px
WARM_UP_FACES = 2 * BATCH
LIMIT, FILES = "model.predict, arrays in memory", "this project, face files"
SHARE_OF_LIMIT = 0.9  # what this project promises


def network(weights):
    """Return (model, input size) of a weights file, or of random weights, which take as long."""
    if weights:
        model, record = load_model(weights)
        return model, record["input_size"]
    model = build_model("B0", INPUT_SIZE)
    model.compile(jit_compile=False)
    return model, INPUT_SIZE


def face_paths(split_dir, number):
    """Return the paths of all faces of a dataset, again and again until there are `number`."""
    paths = [row["path"] for rows in read_split(split_dir).values() for row in rows]
    return list(itertools.islice(itertools.cycle(paths), number))


def ways_of(model, paths, input_size, names):
    """Return {name: function of a number of faces that returns their scores}."""
    ways = {}
    if LIMIT in names:
        faces_rgb, unreadable = load_faces(paths, input_size)
        if unreadable:
            raise InputError(f"{unreadable[0]} is not readable; run 02_prepare_dataset.py --force")
        ways[LIMIT] = lambda number: model.predict(faces_rgb[:number], batch_size=BATCH, verbose=0)[:, 0]
    if FILES in names:
        ways[FILES] = lambda number: np.array(score_faces(model, paths[:number], input_size, FILES))
    return ways


def measure(ways, number, repetitions):
    """Return {name: faces/s of each round}; the ways must agree on the scores."""
    rates = {name: [] for name in ways}
    for way in ways.values():
        way(WARM_UP_FACES)
    for round_number in range(repetitions):
        scores = {}
        for name, way in sorted(ways.items(), reverse=round_number % 2 == 1):
            started = time.perf_counter()
            scores[name] = way(number)
            rates[name].append(number / (time.perf_counter() - started))
            say(f"round {round_number + 1} of {repetitions}: {name}: {rates[name][-1]:.0f} faces/s")
        np.testing.assert_allclose(scores[FILES], scores[LIMIT], atol=1e-5)
    return rates


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "split_dir")
    parser.add_argument("--weights", metavar="PATH", help="an .h5 file with its .json (default: random weights, B0)")
    parser.add_argument(
        "--faces", type=positive, default=FACES, metavar="N", help="repeated if need be (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=positive, default=5, metavar="N", help="in turns (default: %(default)s)")
    parser.add_argument("--contender", choices=(LIMIT, FILES), help=argparse.SUPPRESS)  # how this script calls itself
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    split_dir = locate(args, "split_dir")
    require(split_dir / SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    paths, peaks_mb = face_paths(split_dir, args.faces), {}
    names = (args.contender,) if args.contender else (LIMIT, FILES)
    if not args.contender:  # first: Linux gives a new process the peak of the one that starts it, which is small still
        command = [sys.executable, __file__, "--split-dir", split_dir.resolve(), "--faces", args.faces]
        command += ["--weights", Path(args.weights).resolve()] if args.weights else []
        peaks_mb = {name: run_once([*command, "--contender", name]).peak_mb for name in names}
    try:
        model, input_size = network(args.weights)
        ways = ways_of(model, paths, input_size, names)
    except InputError as error:
        stop(str(error))
    if args.contender:
        ways[args.contender](len(paths))
        return 0
    rates = measure(ways, len(paths), args.repetitions)
    shares = [files / limit for files, limit in zip(rates[FILES], rates[LIMIT], strict=True)]
    print(
        f"{len(paths)} faces of {input_size} px, {machine()}; median (lowest to highest) of {args.repetitions} rounds\n"
    )
    rows = [(name, median_and_spread(found, 0), f"{peaks_mb[name]:.0f}") for name, found in rates.items()]
    print(markdown_table(("how", "faces/s", "peak MB"), rows))
    verdict = "kept" if statistics.median(shares) >= SHARE_OF_LIMIT else "missed"
    print(f"\n{median_and_spread(shares)} of the limit; target {SHARE_OF_LIMIT}: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
