"""Train EfficientNet on the faces of split_dataset: score 1 is real, 0 is fake.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  tmp_checkpoint/: best_model.h5, best_model.json, history.csv; Loss.png, Accuracy.png, Confusion.png;
        cnn_preds_values.json (test faces), val_preds_values.json (validation faces)
Rerun   does nothing if data and settings are the same and the training is finished; goes on at the last finished epoch
        if it was interrupted; makes plots and predictions anew if they changed since; --force starts again

First the new layers alone are trained, then everything (with random or base weights everything at once). The learning rate
warms up, then falls along a cosine. The weights kept are those of the epoch with the highest validation accuracy, or with
--keep last of the last epoch.

On N GPUs a step has N times --batch-size faces, an epoch 1/N of the steps, and the learning rate is sqrt(N) times as high;
best_model.json says what was used. An interrupted training goes on with the same steps on any number of GPUs.
The rule that makes one score of a video's faces (04 --aggregate auto) is chosen on the validation videos, never on the test.

--self-blend P takes real faces blended with themselves as fakes for a share P of the pairs in each batch. With 1 and a dataset
without fakes (02 --real-only), validation and test are such pairs too, one per real face, marked "self_blended".
"""

import argparse
import importlib.metadata
import math
import sys
import tempfile
import time
from contextlib import nullcontext
from itertools import compress
from pathlib import Path

import numpy as np

from common.aggregation import CRITERION, choose_aggregate
from common.arguments import share
from common.batches import blended_pairs, load_part, plain_batches, without_fakes
from common.calibration import calibrate, check_calibration, in_words, make_calibration
from common.cli import add_path, add_seed, make_parser, positive, require, say, stop
from common.constants import (
    BACKBONES,
    CLASS_NAMES,
    DEFAULT_INPUT_SIZE,
    FAKE,
    MARGIN,
    PIXEL_PREPARATION,
    REAL,
    SELF_BLENDED_FACES,
    THRESHOLD,
)
from common.metrics import HEADLINE, describe, format_metric
from common.model import (
    BASE_WEIGHTS,
    DOWNLOADS,
    LARGEST_INPUT_PX,
    SMALLEST_INPUT_PX,
    build_model,
    find_starting_weights,
    load_arrays,
    load_keras,
    load_model,
    read_model_record,
    save_model,
)
from common.paths import BEST_MODEL, SPLIT_RECORD, SPLIT_TABLE, TEST_PREDICTIONS, VAL_PREDICTIONS, digest, locate
from common.plots import draw_confusion, draw_history
from common.predictions import (
    BATCH,
    cannot_judge_line,
    measured,
    prediction_line,
    read_split,
    reason_of,
    score_faces,
    self_blended_row,
    write_predictions,
)
from common.records import InputError, OutputError, read_json, write_csv, writing
from common.training import for_replicas, kept_of, load_state, train, use_devices

STAGE = "03"
HEAD_EPOCHS = 1  # of the new layers alone
FINE_TUNING_RATE, FROM_RANDOM_RATE = 3e-4, 1e-3
STATE_FILE = "unfinished.npz"
REDO_DATASET = "run 02_prepare_dataset.py --force"
LIBRARIES = (
    "tensorflow",
    "keras",
    "efficientnet",
    "mtcnn",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "av",
    "scikit-learn",
)
HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
OUTPUTS = ("Loss.png", "Accuracy.png", "Confusion.png", TEST_PREDICTIONS, VAL_PREDICTIONS)
ASKED = (
    "backbone", "input_size", "epochs", "patience", "batch_size", "learning_rate", "weights", "self_blend", "keep", "seed",
    "limit",
)  # fmt: skip


def phases_of(epochs, kind):
    """Return the phase of each epoch: "head", then "everything".

    Nothing is frozen with random weights, where nothing is worth keeping, or base weights, whose last layers are trained.
    """
    head_epochs = 0 if kind in ("none", "base") else min(HEAD_EPOCHS, epochs - 1)
    return ["head"] * head_epochs + ["everything"] * (epochs - head_epochs)


def first_videos(rows, limit):
    """Return the rows of the first `limit` videos of each class, in the order of `rows`."""
    kept = set()
    for label in (REAL, FAKE):
        kept.update(sorted({row["video_id"] for row in rows if row["label"] == label})[:limit])
    return [row for row in rows if row["video_id"] in kept]


def read_dataset(split_dir, limit, self_blend):
    """Return (record of 02, {split: rows}), or stop in words if it cannot be trained on."""
    require(split_dir / SPLIT_TABLE, "it would list the faces to train on", "02_prepare_dataset.py")
    dataset = read_json(split_dir / SPLIT_RECORD)
    if dataset is None:
        stop(f"{split_dir / SPLIT_RECORD} is missing or broken; {REDO_DATASET}")
    parts = read_split(split_dir)
    if limit:
        parts = {split: first_videos(rows, limit) for split, rows in parts.items()}
    if self_blend and dataset["faces"] != "faces":
        stop(
            f"{split_dir} holds {dataset['faces']}: blending would double the marks and give the blends away; use --faces faces"
        )
    classes = [{row["label"] for row in rows} for rows in parts.values()]
    if any(found != {REAL, FAKE} for found in classes) and not (self_blend == 1 and all(c == {REAL} for c in classes)):
        stop(
            f"{split_dir} has a set without real or without fake faces; run 02_prepare_dataset.py without --real-only, or "
            "train on self-blended faces alone (--self-blend 1)"
        )
    return dataset, parts


def check_writable(folder):
    """Raise OutputError or InputError if nothing can be written into `folder`: now, not after hours of training."""
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def starting_model(kind, path, args):
    """Build the network with its starting weights."""
    keras, _ = load_keras()
    keras.utils.set_random_seed(args.seed)
    model = build_model(args.backbone, args.input_size, path if kind in DOWNLOADS else None)
    if kind in ("file", "base"):
        load_arrays(model, path)
    return model


def train_or_go_on(args, asked, parts, state, state_path):
    """Train, or go on where a killed run stopped; return (model with the weights to keep, record of the training)."""
    keras, _ = load_keras()
    strategy = use_devices(args.gpus, args.precision, STAGE)
    if state:
        record = state["record"]
        kind, path = "none", None  # whatever it started from, the weights are in the state
    else:
        kind, path, notice = find_starting_weights(args.weights, args.backbone)
        if notice:
            say(f"{STAGE}: {notice}")
        say(f"{STAGE}: starting from {'random' if kind == 'none' else kind} weights{f' ({path})' if path else ''}")
        if kind == "none":
            say(
                f"{STAGE}: from random weights a few hundred videos are not enough: expect verdicts no better than chance"
            )
        rate = args.learning_rate or (FROM_RANDOM_RATE if kind == "none" else FINE_TUNING_RATE)
        starting = read_model_record(path) if kind in ("file", "base") else {}
        check_calibration(starting)
        if state_path.exists():
            say(f"{STAGE}: an unfinished training with other data or settings is dropped: {state_path}")
            state_path.unlink()
        record = {"asked": asked, "starting_weights": kind, "learning_rate": rate, "history": []}
        record["starting_calibration"] = starting.get("calibration")
        record["phases"] = phases_of(args.epochs, kind)
        for_replicas(record, args.batch_size, strategy.num_replicas_in_sync if strategy else 1)
    with strategy.scope() if strategy else nullcontext():
        model = starting_model(kind, path, args)
    train_part, val_part = (load_part(parts[split], args.input_size, state_path.parent) for split in ("train", "val"))
    if without_fakes(parts["val"]):
        val_part = blended_pairs(val_part, args.seed, state_path.parent)
        say(f"{STAGE}: there are no fakes: training, validation and test on self-blended faces")
    counts = f"{len(train_part.labels)} training and {len(val_part.labels)} validation faces"
    say(f"{STAGE}: {counts}, at most {args.epochs} epochs")
    _, kept = train(model, train_part, val_part, record, state, state_path, STAGE)
    keras.mixed_precision.set_dtype_policy("float32")  # predictions are those that 03a makes anywhere
    model = build_model(args.backbone, args.input_size)
    model.set_weights(kept)
    model.compile(jit_compile=False)
    return model, record


def score_rows(model, rows, args, scratch_dir):
    """Return (rows, scores) as the network gives them; a set without fakes becomes pairs. Raises InputError."""
    if without_fakes(rows):
        part = blended_pairs(load_part(rows, args.input_size, scratch_dir), args.seed, scratch_dir)
        rows = [{**row, "self_blended": "target"} for row in rows] + [self_blended_row(row) for row in rows]
        return rows, model.predict(plain_batches(part.faces_rgb, part.labels, BATCH), verbose=0)[:, 0]
    measures = np.zeros((len(rows), 2))
    scores = score_faces(model, [row["path"] for row in rows], args.input_size, STAGE, measures=measures)
    if None in scores:
        raise InputError(f"{rows[scores.index(None)]['path']} is not readable; {REDO_DATASET}")
    return measured(rows, measures), np.array(scores)


def columns_of(rows):
    """Return (labels, video_ids, groups) of rows or prediction lines."""
    return ([row[name] for row in rows] for name in ("label", "video_id", "group"))


def write_results(model, training, dataset, parts, args, output_dir):
    """Draw the plots, write the predictions of validation and test; return (metrics of both, calibration, aggregation).

    Faces that cannot be judged are left out of all but the predictions, where they have a reason.
    """
    history = training["history"]
    kept = kept_of(history, args.keep)["epoch"]
    draw_history(output_dir / "Loss.png", history, kept, "loss", "binary cross-entropy")
    draw_history(output_dir / "Accuracy.png", history, kept, "accuracy", "share of faces")
    metrics, calibration, aggregation = {}, None, None
    for split, file in (("val", VAL_PREDICTIONS), ("test", TEST_PREDICTIONS)):
        rows, scores = score_rows(model, parts[split], args, output_dir)
        if calibration is None:
            usable = np.array([reason_of(row) is None for row in rows])
            if len({row["label"] for row in compress(rows, usable)}) < 2:
                usable[:] = True  # there is nothing else to calibrate by
            labels, video_ids, groups = columns_of(list(compress(rows, usable)))
            starting = {"calibration": training["starting_calibration"]}
            calibration = make_calibration(labels, scores[usable], video_ids, groups, starting)
        scores = calibrate(scores, calibration["faces"]).tolist()
        lines = [prediction_line(row, score) for row, score in zip(rows, scores, strict=True)]
        faceless = [row for row in dataset["faceless"] if row["split"] == split]
        write_predictions(output_dir / file, lines + [cannot_judge_line(row, row["reason"]) for row in faceless])
        aggregation = aggregation or choose_aggregate(lines, args.seed)
        lines = [line for line in lines if line["score"] is not None]
        labels, _, groups = columns_of(lines)
        scores = [line["score"] for line in lines]
        metrics[f"{split}_faces"] = describe(labels, scores, groups, args.seed)
    predicted = [int(score >= THRESHOLD) for score in scores]
    title = "Test faces, score per face" + (", fakes self-blended" if without_fakes(parts["test"]) else "")
    draw_confusion(output_dir / "Confusion.png", labels, predicted, title, "faces")
    return metrics, calibration, aggregation


def output_digests(output_dir):
    """Return {name: digest} of the plots and predictions, None for a missing one: 03a writes to the same names."""
    paths = {name: output_dir / name for name in OUTPUTS}
    return {name: digest(path) if path.is_file() else None for name, path in paths.items()}


def model_record(training, dataset, parts, metrics, calibration, aggregation, args, output_dir):
    """Return what best_model.json says: everything needed to use the weights, and what they come from."""
    return {
        "backbone": args.backbone, "input_size": args.input_size, "pixels": PIXEL_PREPARATION,
        "class_names": CLASS_NAMES, "score": "P(real): 1 real, 0 fake", "threshold": THRESHOLD,
        "margin": MARGIN, "faces": dataset["faces"],
        "aggregation": aggregation[0], "aggregation_choice": aggregation[1],
        **training, "calibration": calibration,
        "fakes": SELF_BLENDED_FACES if without_fakes(parts["test"]) else "fake videos",
        "kept_epoch": kept_of(training["history"], args.keep), "metrics": metrics, "data_digest": dataset["digest"],
        "outputs": output_digests(output_dir),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }  # fmt: skip


def finished_record(weights_path, asked):
    """Return the record of a training that is finished with the same data and settings, or None."""
    record = read_json(weights_path.with_suffix(".json")) or {}
    intact = record.get("asked") == asked and weights_path.is_file()
    return record if intact and record["weights_digest"] == digest(weights_path) else None


def learning_rate(text):
    """Parse a number above 0 (argparse type)."""
    rate = float(text)
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return rate


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "split_dir")
    add_path(parser, "checkpoint_dir")
    add_path(parser, "output_dir")
    parser.add_argument(
        "--weights", default="auto", metavar="W",
        help="auto | imagenet | noisy-student | base | none | PATH of a best_model.h5 (default: auto: ImageNet if it can be had, "
        "else the base weights of this project, else random)",
    )  # fmt: skip
    parser.add_argument("--backbone", choices=BACKBONES, default="B0", help="EfficientNet (default: %(default)s)")
    parser.add_argument(
        "--input-size", type=positive, default=DEFAULT_INPUT_SIZE, metavar="PX", help="of a face (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=20, help="at most (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=positive, default=32,
        help="faces in a step on each GPU, half of them real (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--gpus", type=positive, metavar="N", help="use the first N GPUs only (default: all)")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "mixed"), default="auto",
        help="auto: mixed on GPUs of compute capability 7.0 and more, else float32 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=positive, default=5, metavar="N",
        help="stop after N epochs without a better validation accuracy; not with --keep last (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", choices=("best", "last"), default="best",
        help="weights of the epoch with the highest validation accuracy, or of the last, where validation faces are too few to "
        "choose by (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--learning-rate", type=learning_rate, metavar="R",
        help=f"highest, on one GPU (default: {FINE_TUNING_RATE}, from random weights {FROM_RANDOM_RATE})",
    )  # fmt: skip
    parser.add_argument(
        "--self-blend", type=share, default=0.0, metavar="P",
        help="share of the pairs that are a real face and its self-blended version, 0 to 1 (default: 0)",
    )  # fmt: skip
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N videos of each set and class only")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    add_seed(parser)
    return parser


def main(argv=None):
    parser = build_parser()
    args, started = parser.parse_args(argv), time.monotonic()
    if args.batch_size % 2:
        parser.error("--batch-size must be even: half of a batch is real, half is fake")
    if not SMALLEST_INPUT_PX <= args.input_size <= LARGEST_INPUT_PX:
        parser.error(f"--input-size must be {SMALLEST_INPUT_PX} to {LARGEST_INPUT_PX}")
    dataset, parts = read_dataset(locate(args, "split_dir"), args.limit, args.self_blend)
    output_dir, weights_path = locate(args, "output_dir"), locate(args, "checkpoint_dir") / BEST_MODEL
    state_path = weights_path.with_name(STATE_FILE)
    weights_file = BASE_WEIGHTS if args.weights in ("auto", "base") else Path(args.weights)
    asked = {name: getattr(args, name) for name in ASKED}
    asked |= {"data_digest": dataset["digest"], "weights_digest": weights_file.is_file() and digest(weights_file)}
    state = None if args.force else load_state(state_path, asked)
    finished = None if args.force or state else finished_record(weights_path, asked)
    if finished and finished.get("outputs") == output_digests(output_dir):
        say(f"{STAGE}: {weights_path} is already trained on the same data with the same settings; --force trains again")
        return 0
    try:
        for folder in (weights_path.parent, output_dir):
            check_writable(folder)
        if finished:
            model, training = load_model(weights_path)
        else:
            model, training = train_or_go_on(args, asked, parts, state, state_path)
        history = training["history"]
        metrics, calibration, aggregation = write_results(model, training, dataset, parts, args, output_dir)
        write_csv(weights_path.with_name("history.csv"), HISTORY_COLUMNS, history)
        with writing():
            record = model_record(training, dataset, parts, metrics, calibration, aggregation, args, output_dir)
            save_model(model, weights_path, record)
            state_path.unlink(missing_ok=True)
    except (InputError, OutputError) as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; run it again to go on after the last finished epoch")
    say(f"{STAGE}: calibration: {in_words(calibration)}")
    say(f"{STAGE}: aggregation for 04 --aggregate auto: {aggregation[0]} ({aggregation[1]['note'] or CRITERION})")
    for name in HEADLINE:
        if name in metrics["test_faces"]:
            say(f"{STAGE}: test faces: {format_metric(name, metrics['test_faces'][name])}")
    kept, duration_s = kept_of(history, args.keep)["epoch"], time.monotonic() - started
    say(f"{STAGE}: {len(history)} epochs, {args.keep} {kept}, {weights_path}, {duration_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
