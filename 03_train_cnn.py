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

import sys
import time
from contextlib import nullcontext
from itertools import compress
from pathlib import Path

import numpy as np

from common import cli, files, paths
from common.constants import FAKE, REAL, SELF_BLENDED_FACES, THRESHOLD
from common.errors import InputError, writing
from common.messages import say
from deepfake.dataset import table
from deepfake.evaluation import aggregation, intervals, predictions, scoring
from deepfake.evaluation.calibration import calibrate, check_calibration, in_words, make_calibration
from deepfake.model import batches, efficientnet, scorer, training, weights
from deepfake.model import record as model_record
from deepfake.report import plots

STAGE = "03"
FINE_TUNING_RATE, FROM_RANDOM_RATE = 3e-4, 1e-3
STATE_FILE = "unfinished.npz"
HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
LOSS_PLOT, ACCURACY_PLOT = "Loss.png", "Accuracy.png"
OUTPUTS = (LOSS_PLOT, ACCURACY_PLOT, paths.FACES_CONFUSION, paths.TEST_PREDICTIONS, paths.VAL_PREDICTIONS)
ASKED = (
    "backbone",
    "input_size",
    "epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "weights",
    "self_blend",
    "keep",
    "seed",
    "limit",
)


def dataset_to_train_on(split_dir, limit, self_blend, train_frames=None):
    """Return (record of 02, {split: rows}). Raises InputError if it cannot be trained on."""
    dataset, parts = table.read_dataset(split_dir)
    if limit:
        parts = {split: table.first_videos(rows, limit) for split, rows in parts.items()}
    if train_frames:
        parts["train"] = table.fewer_frames(parts["train"], train_frames)
    if self_blend and dataset["faces"] != "faces":
        raise InputError(
            f"{split_dir} holds {dataset['faces']}: blending would double the marks and give the blends away; use --faces faces"
        )
    classes = [{row["label"] for row in rows} for rows in parts.values()]
    if any(found != {REAL, FAKE} for found in classes) and not (self_blend == 1 and all(c == {REAL} for c in classes)):
        raise InputError(
            f"{split_dir} has a set without real or without fake faces; run 02_prepare_dataset.py without --real-only, or "
            "train on self-blended faces alone (--self-blend 1)"
        )
    return dataset, parts


def new_training(args, asked, state_path):
    """Return (record of a training that begins, kind of its starting weights, their path or None). Raises InputError."""
    kind, path, notice = weights.find_starting_weights(args.weights, args.backbone)
    if notice:
        say(f"{STAGE}: {notice}")
    say(f"{STAGE}: starting from {'random' if kind == 'none' else kind} weights{f' ({path})' if path else ''}")
    if kind == "none":
        say(f"{STAGE}: from random weights a few hundred videos are not enough: expect verdicts no better than chance")
    starting = model_record.read_model_record(path) if kind in ("file", "base") else {}
    check_calibration(starting)
    if state_path.exists():
        say(f"{STAGE}: an unfinished training with other data or settings is dropped: {state_path}")
        state_path.unlink()
    rate = args.learning_rate or (FROM_RANDOM_RATE if kind == "none" else FINE_TUNING_RATE)
    record = {"asked": asked, "starting_weights": kind, "learning_rate": rate, "history": []}
    record |= {"starting_calibration": starting.get("calibration"), "phases": training.phases_of(args.epochs, kind)}
    return record, kind, path


def train_or_go_on(args, asked, parts, state, state_path):
    """Train, or go on where a killed run stopped; return (model with the weights to keep, record of the training)."""
    keras, _ = efficientnet.load_keras()
    strategy = training.use_devices(args.gpus, args.precision, STAGE)
    if state:
        record, kind, path = state["record"], "none", None  # whatever it started from, the weights are in the state
    else:
        record, kind, path = new_training(args, asked, state_path)
        training.for_replicas(record, args.batch_size, strategy.num_replicas_in_sync if strategy else 1)
    with strategy.scope() if strategy else nullcontext():
        model = training.starting_model(kind, path, args.backbone, args.input_size, args.seed)
    train_part, val_part = (
        batches.load_part(parts[split], args.input_size, state_path.parent) for split in ("train", "val")
    )
    if batches.without_fakes(parts["val"]):
        val_part = batches.blended_pairs(val_part, args.seed, state_path.parent)
        say(f"{STAGE}: there are no fakes: training, validation and test on self-blended faces")
    counts = f"{len(train_part.labels)} training and {len(val_part.labels)} validation faces"
    say(f"{STAGE}: {counts}, at most {args.epochs} epochs")
    _, kept = training.train(model, train_part, val_part, record, state, state_path, STAGE)
    keras.utils.clear_session()  # layers get the names of a fresh process: a resumed training ends with the same file
    keras.mixed_precision.set_dtype_policy("float32")  # predictions are those that 03a makes anywhere
    model = efficientnet.build_model(args.backbone, args.input_size)
    model.set_weights(kept)
    model.compile(jit_compile=False)
    return model, record


def score_rows(network, rows, args, scratch_dir):
    """Return (rows, scores) as the network gives them; a set without fakes becomes pairs. Raises InputError."""
    if batches.without_fakes(rows):
        part = batches.blended_pairs(batches.load_part(rows, args.input_size, scratch_dir), args.seed, scratch_dir)
        rows = [{**row, "self_blended": "target"} for row in rows] + [predictions.self_blended_row(row) for row in rows]
        return rows, network.score(part.faces_rgb)
    measures = np.zeros((len(rows), 2))
    scores = scoring.score_faces(network, [row["path"] for row in rows], args.input_size, STAGE, measures=measures)
    if None in scores:
        raise InputError(f"{rows[scores.index(None)]['path']} is not readable; {table.REDO_DATASET}")
    return predictions.measured(rows, measures), np.array(scores)


def columns_of(rows):
    """Return (labels, video_ids, groups) of rows or prediction lines."""
    return ([row[name] for row in rows] for name in ("label", "video_id", "group"))


def fit_calibration(rows, scores, trained):
    """Return the calibration of the network's own scores of the validation faces, by those that can be judged."""
    usable = np.array([predictions.reason_of(row) is None for row in rows])
    if len({row["label"] for row in compress(rows, usable)}) < 2:
        usable[:] = True  # there is nothing else to calibrate by
    labels, video_ids, groups = columns_of(list(compress(rows, usable)))
    starting = {"calibration": trained["starting_calibration"]}
    return make_calibration(labels, scores[usable], video_ids, groups, starting)


def write_results(network, weights_digest, trained, dataset, parts, args, output_dir):
    """Draw the plots, write the predictions of validation and test; return what best_model.json says of them.

    Faces that cannot be judged are left out of all but the predictions, where they have a reason.
    """
    history, kept = trained["history"], training.kept_of(trained["history"], args.keep)
    plots.draw_history(output_dir / LOSS_PLOT, history, kept["epoch"], "loss", "binary cross-entropy")
    plots.draw_history(output_dir / ACCURACY_PLOT, history, kept["epoch"], "accuracy", "share of faces")
    metrics, calibration, rule = {}, None, None
    for split, file in (("val", paths.VAL_PREDICTIONS), ("test", paths.TEST_PREDICTIONS)):
        rows, scores = score_rows(network, parts[split], args, output_dir)
        calibration = calibration or fit_calibration(rows, scores, trained)
        scores = calibrate(scores, calibration["faces"]).tolist()
        lines = [predictions.prediction_line(row, score) for row, score in zip(rows, scores, strict=True)]
        faceless = [
            predictions.cannot_judge_line(row, row["reason"]) for row in dataset["faceless"] if row["split"] == split
        ]
        predictions.write_predictions(output_dir / file, lines + faceless, weights_digest)
        rule = rule or aggregation.choose_aggregate(lines, args.seed)
        lines = [line for line in lines if line["score"] is not None]
        labels, _, groups = columns_of(lines)
        scores = [line["score"] for line in lines]
        metrics[f"{split}_faces"] = intervals.describe(labels, scores, groups, args.seed)
    predicted, only_blends = [int(score >= THRESHOLD) for score in scores], batches.without_fakes(parts["test"])
    title = "Test faces, score per face" + (", fakes self-blended" if only_blends else "")
    plots.draw_confusion(output_dir / paths.FACES_CONFUSION, labels, predicted, title, "faces")
    return {
        "aggregation": rule[0],
        "aggregation_choice": rule[1],
        "calibration": calibration,
        "fakes": SELF_BLENDED_FACES if only_blends else "fake videos",
        "trained_on": model_record.training_videos(parts["train"], args.self_blend),
        "kept_epoch": kept,
        "metrics": metrics,
        "outputs": model_record.output_digests(output_dir, OUTPUTS),
    }


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    cli.add_path(parser, "checkpoint_dir")
    cli.add_path(parser, "output_dir")
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="W",
        help="auto | imagenet | noisy-student | base | none | PATH of a best_model.h5 (default: auto: ImageNet if it can be had, "
        "else the base weights of this project, else random)",
    )
    parser.add_argument(
        "--backbone", choices=efficientnet.BACKBONES, default="B0", help="EfficientNet (default: %(default)s)"
    )
    parser.add_argument(
        "--input-size",
        type=cli.positive,
        default=efficientnet.DEFAULT_INPUT_SIZE,
        metavar="PX",
        help="of a face (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=cli.positive, default=20, help="at most (default: %(default)s)")
    parser.add_argument(
        "--batch-size",
        type=cli.positive,
        default=32,
        help="faces in a step on each GPU, half of them real (default: %(default)s)",
    )
    parser.add_argument("--gpus", type=cli.positive, metavar="N", help="use the first N GPUs only (default: all)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "mixed"),
        default="auto",
        help="auto: mixed on GPUs of compute capability 7.0 and more, else float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=cli.positive,
        default=5,
        metavar="N",
        help="stop after N epochs without a better validation accuracy; not with --keep last (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        choices=("best", "last"),
        default="best",
        help="weights of the epoch with the highest validation accuracy, or of the last, where validation faces are too few to "
        "choose by (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate",
        type=cli.above_0,
        metavar="R",
        help=f"highest, on one GPU (default: {FINE_TUNING_RATE}, from random weights {FROM_RANDOM_RATE})",
    )
    parser.add_argument(
        "--self-blend",
        type=cli.share,
        default=0.0,
        metavar="P",
        help="share of the pairs that are a real face and its self-blended version, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--train-frames",
        type=cli.positive,
        metavar="N",
        help="train on at most N frames of each video, evenly spread: frames of a video are much alike, and where time is short "
        "more people teach more than more frames (default: all)",
    )
    parser.add_argument(
        "--limit", type=cli.positive, metavar="N", help="try the first N videos of each set and class only"
    )
    parser.add_argument("--force", action="store_true", help="train again from the start")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    parser = build_parser()
    args, started = parser.parse_args(argv), time.monotonic()
    if args.batch_size % 2:
        parser.error("--batch-size must be even: half of a batch is real, half is fake")
    if not model_record.SMALLEST_INPUT_PX <= args.input_size <= model_record.LARGEST_INPUT_PX:
        parser.error(f"--input-size must be {model_record.SMALLEST_INPUT_PX} to {model_record.LARGEST_INPUT_PX}")
    dataset, parts = dataset_to_train_on(cli.locate(args, "split_dir"), args.limit, args.self_blend, args.train_frames)
    output_dir, weights_path = cli.locate(args, "output_dir"), cli.locate(args, "checkpoint_dir") / paths.BEST_MODEL
    state_path = weights_path.with_name(STATE_FILE)
    weights_file = weights.BASE_WEIGHTS if args.weights in ("auto", "base") else Path(args.weights)
    asked = {name: getattr(args, name) for name in ASKED}
    asked |= {"train_frames": args.train_frames} if args.train_frames else {}  # trainings before that option had none
    asked |= {"data_digest": dataset["digest"], "weights_digest": weights_file.is_file() and files.digest(weights_file)}
    state = None if args.force else training.load_state(state_path, asked)
    finished = None if args.force or state else model_record.finished_record(weights_path, asked)
    if finished and finished.get("outputs") == model_record.output_digests(output_dir, OUTPUTS):
        say(f"{STAGE}: {weights_path} is already trained on the same data with the same settings; --force trains again")
        return 0
    try:
        for folder in (weights_path.parent, output_dir):
            files.check_writable(folder)
        if finished:
            (network, trained), weights_bytes, weights_digest = (
                scorer.load_network(weights_path),
                None,
                finished["weights_digest"],
            )
        else:
            model, trained = train_or_go_on(args, asked, parts, state, state_path)
            weights_bytes = weights.as_file(model, weights_path.parent)
            weights_digest = files.digest(weights_bytes)
            network = scorer.network_of(model, weights_bytes, args.backbone, args.input_size)
        results = write_results(network, weights_digest, trained, dataset, parts, args, output_dir)
        files.write_csv(weights_path.with_name("history.csv"), HISTORY_COLUMNS, trained["history"])
        if weights_bytes:
            files.write_atomic(weights_path, weights_bytes)
        record = model_record.describe_model(args, dataset, trained, results)
        files.write_json(model_record.record_path(weights_path), {**record, "weights_digest": weights_digest})
        with writing():
            state_path.unlink(missing_ok=True)
    except KeyboardInterrupt:
        say("interrupted; run it again to go on after the last finished epoch")
        raise SystemExit(cli.INTERRUPTED) from None
    say(f"{STAGE}: calibration: {in_words(results['calibration'])}")
    choice = results["aggregation_choice"]["note"] or aggregation.CRITERION
    say(f"{STAGE}: aggregation for 04 --aggregate auto: {results['aggregation']} ({choice})")
    intervals.say_headline(f"{STAGE}: test faces", results["metrics"]["test_faces"])
    kept, duration_s = results["kept_epoch"]["epoch"], time.monotonic() - started
    say(f"{STAGE}: {len(trained['history'])} epochs, {args.keep} {kept}, {weights_path}, {duration_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
