"""Measure prediction: faces/s from face files to scores, as 03a makes them, against Keras's `model.predict` on arrays in memory.

Reads   split_dataset/, such as make demo leaves   (02_prepare_dataset.py)
Writes  nothing that stays; prints a table for each input size
Rerun   measures again

    python benchmarks/prediction.py --data-dir demo

Both run in one process, in turns, after one warm-up each. The arrays are decoded before. The start, with loading the scorer, is
measured apart, each in a process of its own. On a CPU, this project scores without TensorFlow. Peak memory is of a process that
does nothing else; Keras's holds the arrays.
"""

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import machine, markdown_table, median_and_spread, run_once

from common import cli, files, paths
from common.errors import InputError
from common.messages import say
from deepfake.dataset import table
from deepfake.evaluation import scoring
from deepfake.model import efficientnet, scorer, weights
from deepfake.model import record as model_record
from deepfake.preprocessing import crops

FACES = 2000
INPUT_SIZES = (128, efficientnet.DEFAULT_INPUT_SIZE)  # px
WARM_UP_FACES = 2 * scoring.BATCH
KERAS, FILES = "model.predict, arrays in memory", "this project, face files"
LEAST_SHARE = 0.9  # of the rate of model.predict: what this project promises


def resized(weights_path, input_size, folder):
    """Return the path of a copy of the weights for faces of another size: no array depends on it."""
    record, copy = model_record.read_model_record(weights_path), folder / f"{input_size}.h5"
    shutil.copy(weights_path, copy)
    files.write_json(model_record.record_path(copy), {**record, "input_size": input_size})
    return copy


def face_paths(split_dir, number):
    """Return the paths of all faces of a dataset, again and again until there are `number`."""
    face_files = [row["path"] for rows in table.read_split(split_dir).values() for row in rows]
    return list(itertools.islice(itertools.cycle(face_files), number))


def ways_of(weights_path, face_files, names):
    """Return {name: function of a number of faces that returns their scores}."""
    ways, input_size = {}, model_record.read_model_record(weights_path)["input_size"]
    if KERAS in names:
        model, _ = weights.load_model(weights_path)
        faces_rgb, unreadable = crops.load_faces(face_files, input_size)
        if unreadable:
            raise InputError(f"{unreadable[0]} is not readable; run 02_prepare_dataset.py --force")
        ways[KERAS] = lambda number: model.predict(faces_rgb[:number], batch_size=scoring.BATCH, verbose=0)[:, 0]
    if FILES in names:
        face_scorer, _ = scorer.load_scorer(weights_path)
        ways[FILES] = lambda number: np.array(scoring.score_faces(face_scorer, face_files[:number], input_size, FILES))
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
        np.testing.assert_allclose(scores[FILES], scores[KERAS], atol=1e-5)
    return rates


def report(rates, costs, number, input_size, repetitions):
    """Print the table of one input size, and the rate as a share of that of Keras."""
    print(f"\n{number} faces of {input_size} px, {machine()}; median (lowest to highest) of {repetitions} rounds\n")
    rows = [
        (name, median_and_spread(found, 0), f"{costs[name].wall_s:.1f}", f"{costs[name].peak_mb:.0f}")
        for name, found in rates.items()
    ]
    print(markdown_table(("how", "faces/s", "seconds of a process that does just that, once", "its peak MB"), rows))
    shares = [files / keras for files, keras in zip(rates[FILES], rates[KERAS], strict=True)]
    verdict = "kept" if statistics.median(shares) >= LEAST_SHARE else "missed"
    print(f"\n{median_and_spread(shares)} of model.predict; target {LEAST_SHARE}: {verdict}")


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument(
        "--weights",
        metavar="PATH",
        default=weights.BASE_WEIGHTS,
        help="an .h5 file with its .json (default: the base weights)",
    )
    parser.add_argument(
        "--faces", type=cli.positive, default=FACES, metavar="N", help="repeated if need be (default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions", type=cli.positive, default=5, metavar="N", help="in turns (default: %(default)s)"
    )
    parser.add_argument("--contender", choices=(KERAS, FILES), help=argparse.SUPPRESS)  # how this script calls itself
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    split_dir = cli.locate(args, "split_dir").resolve()
    cli.require(split_dir / paths.SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    try:
        face_files = face_paths(split_dir, args.faces)
        if args.contender:
            ways_of(args.weights, face_files, (args.contender,))[args.contender](len(face_files))
            return 0
        with tempfile.TemporaryDirectory() as folder:
            weights_path = {size: resized(args.weights, size, Path(folder)) for size in INPUT_SIZES}
            command = [sys.executable, __file__, "--split-dir", split_dir, "--faces", args.faces]
            costs = {  # first: Linux gives a new process the peak of the one that starts it, which is small still
                size: {name: run_once([*command, "--weights", path, "--contender", name]) for name in (KERAS, FILES)}
                for size, path in weights_path.items()
            }
            for size, path in weights_path.items():
                rates = measure(ways_of(path, face_files, (KERAS, FILES)), len(face_files), args.repetitions)
                report(rates, costs[size], len(face_files), size, args.repetitions)
    except InputError as error:
        cli.stop(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
