"""Train EfficientNet on the faces of split_dataset: score 1 is real, 0 is fake.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  tmp_checkpoint/: best_model.h5, best_model.json, history.csv; Loss.png, Accuracy.png, Confusion.png;
        cnn_preds_values.json (test faces), val_preds_values.json (validation faces)
Rerun   does nothing if data and settings are the same and the training is finished; goes on at the last finished epoch
        if it was interrupted; makes plots and predictions anew if they changed since; --force starts again

First the new layers alone are trained, then everything; from random or base weights, everything at once. The learning rate warms
up, then falls along a cosine. The weights of the epoch with the highest validation accuracy are kept, with --keep last those of
the last epoch. The rule that makes one score of a video's faces (04 --aggregate auto) is chosen on validation videos, never on
test.

On N GPUs a step has N times --batch-size faces, an epoch has 1/N of the steps, and the learning rate is sqrt(N) times as high.
best_model.json says what was used. An interrupted training goes on with the same steps on any number of GPUs.

--self-blend P: in a share P of the pairs of a batch, the fake is the real face blended with itself. With P = 1 and a dataset
without fakes (02 --real-only), validation and test are such pairs too, one per real face, marked "self_blended".
"""

import sys
import time
from functools import partial
from pathlib import Path

from common import cli, files, paths
from common.constants import FAKE, REAL, SELF_BLENDED_FACES, THRESHOLD
from common.errors import InputError, writing
from common.messages import progress, say
from deepfake.dataset import table
from deepfake.evaluation import results
from deepfake.model import batches, efficientnet, scorer, training, weights
from deepfake.model import record as model_record
from deepfake.report import plots

STAGE = "03"
FINE_TUNING_RATE, FROM_RANDOM_RATE = 3e-4, 1e-3
STATE_FILE = "unfinished.npz"
HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
LOSS_PLOT, ACCURACY_PLOT = "Loss.png", "Accuracy.png"
OUTPUTS = (LOSS_PLOT, ACCURACY_PLOT, paths.FACES_CONFUSION, *results.PREDICTIONS.values())
# The options that decide whether a training is the same.
SETTINGS = ("backbone", "input_size", "epochs", "patience", "batch_size", "learning_rate", "weights")
SETTINGS += ("self_blend", "keep", "seed", "limit")
HELP = {  # of the options with much to say
    "weights": "auto | imagenet | noisy-student | base | none | PATH of a best_model.h5 (default: auto: ImageNet if it can be "
    "had, else the base weights of this project, else random)",
    "batch_size": "faces in a step on each GPU, half of them real (default: %(default)s)",
    "precision": "auto: mixed on GPUs of compute capability 7.0 and more, else float32 (default: %(default)s)",
    "patience": "stop after N epochs without a better validation accuracy; not with --keep last (default: %(default)s)",
    "keep": "weights of the epoch with the highest validation accuracy, or of the last, where validation faces are too few to "
    "choose by (default: %(default)s)",
    "learning_rate": f"highest, on one GPU (default: {FINE_TUNING_RATE}, from random weights {FROM_RANDOM_RATE})",
    "self_blend": "share of the pairs that are a real face and its self-blended version, 0 to 1 (default: 0)",
    "train_frames": "train on at most N frames of each video, evenly spread: they are much alike, and where time is short more "
    "people teach more than more frames (default: all)",
}


def dataset_to_train_on(split_dir, limit, self_blend, train_frames=None):
    """Return (record of 02, {split: rows}). Raises InputError if it cannot be trained on."""
    dataset, parts = table.read_dataset(split_dir)
    if limit:
        parts = {split: table.first_videos(rows, limit) for split, rows in parts.items()}
    if train_frames:
        parts["train"] = table.fewer_frames(parts["train"], train_frames)
    if self_blend and dataset["faces"] != "faces":
        reason = "blending would double the marks and give the blends away; use --faces faces"
        raise InputError(f"{split_dir} holds {dataset['faces']}: {reason}")
    classes = [{row["label"] for row in rows} for rows in parts.values()]
    if any(found != {REAL, FAKE} for found in classes) and not (self_blend == 1 and all(c == {REAL} for c in classes)):
        raise InputError(
            f"{split_dir} has a set without real or without fake faces; run 02_prepare_dataset.py without --real-only, or "
            "train on self-blended faces alone (--self-blend 1)"
        )
    return dataset, parts


def settings_of(args, dataset):
    """Return what decides whether a training is the same: options, data, and the digest of starting weights in a file."""
    settings = {name: getattr(args, name) for name in SETTINGS}
    if args.train_frames:  # trainings before that option had none
        settings["train_frames"] = args.train_frames
    file = weights.BASE_WEIGHTS if args.weights in ("auto", "base") else Path(args.weights)
    return settings | {"data_digest": dataset["digest"], "weights_digest": file.is_file() and files.digest(file)}


def load_parts(parts, args, scratch_dir):
    """Return the Parts of training and validation. Raises InputError."""
    train_part, val_part = (batches.load_part(parts[split], args.input_size, scratch_dir) for split in ("train", "val"))
    if batches.without_fakes(parts["val"]):
        val_part = batches.blended_pairs(val_part, args.seed, scratch_dir)
        say(f"{STAGE}: there are no fakes: training, validation and test on self-blended faces")
    counts = f"{len(train_part.labels)} training and {len(val_part.labels)} validation faces"
    say(f"{STAGE}: {counts}, at most {args.epochs} epochs")
    return train_part, val_part


def new_record(args, settings, replicas):
    """Return (record of a new training, kind of its starting weights, their path or None). Raises InputError."""
    kind, path, notice = weights.find_starting_weights(args.weights, args.backbone)
    if notice:
        say(f"{STAGE}: {notice}")
    say(f"{STAGE}: starting from {'random' if kind == 'none' else kind} weights{f' ({path})' if path else ''}")
    if kind == "none":
        say(f"{STAGE}: from random weights a few hundred videos are not enough: expect verdicts no better than chance")
    starting = model_record.read_model_record(path) if kind in ("file", "base") else {}
    rate = args.learning_rate or (FROM_RANDOM_RATE if kind == "none" else FINE_TUNING_RATE)
    record = {"settings": settings, "starting_weights": kind, **training.scaled(rate, args.batch_size, replicas)}
    record |= {"history": [], "starting_calibration": results.starting_calibration(starting)}
    return record | {"phases": training.phases_of(args.epochs, kind)}, kind, path


def compile_model(model, phase, rate, steps):
    """Compile the model for the steps of a phase: "head" trains the new layers alone, "everything" the backbone too."""
    efficientnet.backbone_of(model).trainable = phase == "everything"
    with model.distribute_strategy.scope():
        optimizer = training.make_optimizer(rate, steps)
        model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        model.optimizer.build(model.trainable_variables)


def fit(model, train_part, val_part, record, state, state_path):
    """Fit the epochs that are left, and save the state after each. Return the arrays of the weights to keep."""
    settings, history, batch_size = record["settings"], record["history"], record["global_batch"]
    validation = batches.plain_batches(val_part.faces_rgb, val_part.labels, training.VALIDATION_BATCH).as_dataset()
    options = {
        "self_blend_share": settings["self_blend"],
        "alternate": model.distribute_strategy.num_replicas_in_sync > 1,
    }
    batches_of = partial(batches.augmented_batches, train_part, batch_size, settings["seed"], **options)
    kept = state["kept"] if state else None
    if state:
        training.assign(model.variables, state["model"])
        say(f"{STAGE}: going on after epoch {len(history)}")
    steps, most = len(batches_of(1)), len(record["phases"])
    say(f"{STAGE}: {steps} steps an epoch of {batch_size} faces, learning rate up to {record['learning_rate']:.2g}")
    left = (most - len(history)) * steps
    ticks = progress(range(left), left, STAGE, "steps")
    with batches.prefetch(batches_of) as prefetched:
        for phase, numbers in training.phases_left(record, STAGE):
            compile_model(model, phase, training.learning_rate_of(phase, record), steps * record["phases"].count(phase))
            training.restore_optimizer(model.optimizer, phase, state)
            for number in numbers:
                epoch = training.fit_epoch(model, number, phase, prefetched(number).as_dataset(), validation, ticks)
                history.append(epoch)
                if training.kept_of(history, settings["keep"]) is epoch:
                    kept = model.get_weights()
                training.save_state(state_path, model, kept, record)
                say(f"{STAGE}: {training.in_words(epoch, most)}")
    ticks.close()
    return kept


def train(args, settings, parts, state, state_path):
    """Train, or go on where a killed run stopped. Return (model with the weights to keep, record of the training)."""
    keras, _ = efficientnet.load_keras()
    strategy = training.use_devices(args.gpus, args.precision, STAGE)
    if state:
        record, kind, path = state["record"], "none", None  # the weights come from the state
    else:
        record, kind, path = new_record(args, settings, strategy.num_replicas_in_sync)
        if state_path.exists():
            say(f"{STAGE}: an unfinished training with other data or settings is dropped: {state_path}")
            state_path.unlink()
    with strategy.scope():
        model = weights.starting_model(kind, path, args.backbone, args.input_size, args.seed)
    kept = fit(model, *load_parts(parts, args, state_path.parent), record, state, state_path)
    keras.utils.clear_session()  # layer names start afresh: a resumed training ends with the same file
    keras.mixed_precision.set_dtype_policy("float32")  # so that 03a gives the same scores anywhere
    model = efficientnet.build_model(args.backbone, args.input_size)
    model.set_weights(kept)
    model.compile(jit_compile=False)
    return model, record


def score_set(face_scorer, rows, args, scratch_dir):
    """Return (rows, the scorer's own scores). A set without fakes becomes self-blended pairs. Raises InputError."""
    if not batches.without_fakes(rows):
        return results.score_rows(face_scorer, rows, args.input_size, STAGE)
    part = batches.blended_pairs(batches.load_part(rows, args.input_size, scratch_dir), args.seed, scratch_dir)
    return results.pairs_of(rows), face_scorer.score(part.faces_rgb)


def evaluate(face_scorer, weights_digest, trained, dataset, parts, args, output_dir):
    """Score validation and test, write their predictions, draw the plots. Return what best_model.json says of them."""
    scored = {split: score_set(face_scorer, parts[split], args, output_dir) for split in results.PREDICTIONS}
    lines, found = results.evaluate(scored, dataset["faceless"], trained["starting_calibration"], args.seed)
    results.write_predictions(output_dir, lines, weights_digest)
    history, kept = trained["history"], training.kept_of(trained["history"], args.keep)
    plots.draw_history(output_dir / LOSS_PLOT, history, kept["epoch"], "loss", "binary cross-entropy")
    plots.draw_history(output_dir / ACCURACY_PLOT, history, kept["epoch"], "accuracy", "share of faces")
    judged = [line for line in lines["test"] if line["score"] is not None]
    labels, predicted = [line["label"] for line in judged], [int(line["score"] >= THRESHOLD) for line in judged]
    only_blends = batches.without_fakes(parts["test"])
    title = "Test faces, score per face" + (", fakes self-blended" if only_blends else "")
    plots.draw_confusion(output_dir / paths.FACES_CONFUSION, labels, predicted, title, "faces")
    return {
        **found,
        "fakes": SELF_BLENDED_FACES if only_blends else "fake videos",
        "trained_on": model_record.training_videos(parts["train"], args.self_blend),
        "kept_epoch": kept,
        "outputs": model_record.output_digests(output_dir, OUTPUTS),
    }


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    cli.add_path(parser, "checkpoint_dir")
    cli.add_path(parser, "output_dir")
    add = parser.add_argument
    add("--weights", default="auto", metavar="W", help=HELP["weights"])
    add("--backbone", choices=efficientnet.BACKBONES, default="B0", help="EfficientNet (default: %(default)s)")
    size = efficientnet.DEFAULT_INPUT_SIZE
    add("--input-size", type=cli.positive, default=size, metavar="PX", help="of a face (default: %(default)s)")
    add("--epochs", type=cli.positive, default=20, help="at most (default: %(default)s)")
    add("--batch-size", type=cli.positive, default=32, help=HELP["batch_size"])
    add("--gpus", type=cli.positive, metavar="N", help="use the first N GPUs only (default: all)")
    add("--precision", choices=("auto", "float32", "mixed"), default="auto", help=HELP["precision"])
    add("--patience", type=cli.positive, default=5, metavar="N", help=HELP["patience"])
    add("--keep", choices=("best", "last"), default="best", help=HELP["keep"])
    add("--learning-rate", type=cli.above_0, metavar="R", help=HELP["learning_rate"])
    add("--self-blend", type=cli.share, default=0.0, metavar="P", help=HELP["self_blend"])
    add("--train-frames", type=cli.positive, metavar="N", help=HELP["train_frames"])
    add("--limit", type=cli.positive, metavar="N", help="try the first N videos of each set and class only")
    add("--force", action="store_true", help="train again from the start")
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
    settings, state_path = settings_of(args, dataset), weights_path.with_name(STATE_FILE)
    state = None if args.force else training.load_state(state_path, settings)
    finished = None if args.force or state else model_record.finished_record(weights_path, settings)
    if finished and finished.get("outputs") == model_record.output_digests(output_dir, OUTPUTS):
        say(f"{STAGE}: {weights_path} is already trained on the same data with the same settings; --force trains again")
        return 0
    try:
        for folder in (weights_path.parent, output_dir):
            files.check_writable(folder)
        if finished:
            (face_scorer, trained), content = scorer.load_scorer(weights_path), None
        else:
            model, trained = train(args, settings, parts, state, state_path)
            content = weights.as_bytes(model, weights_path.parent)
            face_scorer = scorer.scorer_of(model, content, args.backbone, args.input_size)
        digest = files.digest(content or weights_path)
        found = evaluate(face_scorer, digest, trained, dataset, parts, args, output_dir)
        files.write_csv(weights_path.with_name("history.csv"), HISTORY_COLUMNS, trained["history"])
        weights.save_bytes(content, weights_path, model_record.describe_model(args, dataset, trained, found))
        with writing():
            state_path.unlink(missing_ok=True)
    except KeyboardInterrupt:
        say("interrupted; run it again to go on after the last finished epoch")
        raise SystemExit(cli.INTERRUPTED) from None
    results.say_results(STAGE, found)
    kept, duration_s = found["kept_epoch"]["epoch"], time.monotonic() - started
    say(f"{STAGE}: {len(trained['history'])} epochs, {args.keep} {kept}, {weights_path}, {duration_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
