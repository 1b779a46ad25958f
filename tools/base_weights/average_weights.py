"""Average the weights of trainings that started from the same weights, and calibrate the average.

Reads   weights with their .json (03_train_cnn.py), split_dataset/ of real faces (02_prepare_dataset.py --real-only)
Writes  the .h5 given as --out, and its .json beside it
Rerun   writes them again

Such an average often keeps most of what each training has learnt (Wortsman et al., "Model soups", ICML 2022). --shares gives some
more weight than others. The average is calibrated on the validation faces and tested on the test faces as 03 --self-blend 1 does:
each real face (1) and one blend of it with itself (0).
"""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli
from common.constants import REAL, SELF_BLENDED_FACES
from common.errors import InputError
from common.messages import say
from deepfake.dataset import table
from deepfake.evaluation import intervals, predictions
from deepfake.evaluation.calibration import calibrate, in_words, make_calibration
from deepfake.model import batches, efficientnet, weights
from deepfake.model import record as model_record
from tools.base_weights import evaluate

SAME = "backbone", "input_size", "faces"  # of the records of weights that can be averaged


def read_records(paths):
    """Return the model cards of the weights. Raises InputError if two differ in SAME, or one has learnt from filmed fakes."""
    records = [model_record.read_model_record(path) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if record.get("fakes") != SELF_BLENDED_FACES and not record.get("drawn"):
            raise InputError(f"{path}: has learnt from fakes that the record of an average has no words for")
        for name in SAME:
            if record[name] != records[0][name]:
                raise InputError(f"{path}: {name} is {record[name]}, of {paths[0]} it is {records[0][name]}")
    return records


def average(model, paths, shares):
    """Give `model` the mean of the arrays of weights files, weighted by `shares`. Raises InputError."""
    total = None
    for path, share in zip(paths, shares, strict=True):
        weights.load_arrays(model, path)
        part = [share / sum(shares) * array.astype(np.float64) for array in model.get_weights()]
        total = part if total is None else [old + new for old, new in zip(total, part, strict=True)]
    model.set_weights(total)


def score_pairs(model, rows, input_size, seed):
    """Return (rows of the real faces and of their blends, the model's own scores). Raises InputError."""
    rows = [row for row in rows if row["label"] == REAL]
    pairs = batches.blended_pairs(batches.load_part(rows, input_size, None), seed)
    return rows + [predictions.self_blended_row(row) for row in rows], evaluate.raw_scores(model, pairs)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument("weights", nargs="+", metavar="H5", help="files of the same network")
    shares = "how much each file counts (default: all the same)"
    parser.add_argument("--shares", type=cli.above_0, nargs="+", metavar="R", help=shares)
    parser.add_argument("--out", required=True, metavar="PATH", help="an .h5 file")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    parser = build_parser()
    args = parser.parse_args(argv)
    shares = args.shares or [1.0] * len(args.weights)
    if len(shares) != len(args.weights):
        parser.error(f"{len(args.weights)} files of weights, but {len(shares)} shares")
    if Path(args.out).suffix != ".h5":
        cli.stop(f"{args.out}: name an .h5 file; its record is written beside it as .json")
    dataset, parts = table.read_dataset(cli.locate(args, "split_dir"))
    records = read_records(args.weights)
    model_record.check_faces(records[0], dataset["faces"], args.weights[0])
    settings = Namespace(**{name: records[0][name] for name in SAME})
    model = efficientnet.build_model(settings.backbone, settings.input_size)
    average(model, args.weights, shares)
    model.compile(jit_compile=False)
    metrics, calibration = {}, None
    for split in ("val", "test"):
        rows, scores = score_pairs(model, parts[split], settings.input_size, args.seed)
        labels, video_ids, groups = ([row[name] for row in rows] for name in ("label", "video_id", "group"))
        calibration = calibration or make_calibration(labels, scores, video_ids, groups, {})
        calibrated = calibrate(scores, calibration["faces"])
        metrics[f"{split}_faces"] = intervals.describe(labels, calibrated, groups, args.seed)
    averaged = []
    for share, record in zip(shares, records, strict=True):
        known = {
            "share": share / sum(shares),
            "settings": record.get("settings") or record.get("asked"),
        }  # older: asked
        averaged.append(known | {name: record.get(name) for name in ("weights_digest", "data_digest")})
    results = {
        "aggregation": "mean",
        "calibration": calibration,
        "fakes": SELF_BLENDED_FACES,
        "metrics": metrics,
        "drawn": any(record.get("drawn") for record in records),
        "starting_weights": "averaged",
    }
    record = model_record.describe_model(settings, dataset, {"averaged": averaged}, {}) | results
    weights.save_model(model, args.out, record)
    say(f"{args.out}: mean of {len(shares)} weights; calibration: {in_words(calibration)}")
    intervals.say_headline("validation faces", metrics["val_faces"])  # the test set must not choose the shares
    return 0


if __name__ == "__main__":
    sys.exit(main())
