"""Train EfficientNet on the faces of split_dataset: score 1 is real, 0 is fake.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  tmp_checkpoint/: best_model.h5, best_model.json, history.csv; Loss.png, Accuracy.png, Confusion.png;
        cnn_preds_values.json (test faces), val_preds_values.json (validation faces)
Rerun   does nothing if data and settings are the same and the training is finished; goes on at the last finished epoch
        if it was interrupted; --force starts again

First the new layers alone are trained, then everything (with random starting weights everything at once). The learning
rate warms up, then falls along a cosine. The weights kept are those of the epoch with the highest validation accuracy.
"""

import importlib.metadata
import json
import sys
import time
from contextlib import nullcontext

import numpy as np

from common.augment import augment
from common.cli import add_path, add_seed, make_parser, positive, require, say, stop, usable_cpus
from common.constants import (
    BACKBONES,
    CLASS_NAMES,
    DEFAULT_INPUT_SIZE,
    FAKE,
    MARGIN,
    PIXEL_PREPARATION,
    REAL,
    THRESHOLD,
)
from common.metrics import describe, format_metric
from common.model import DOWNLOADS, backbone_of, build_model, choose_weights, load_arrays, load_keras, save_model
from common.paths import BEST_MODEL, SPLIT_RECORD, SPLIT_TABLE, TEST_PREDICTIONS, VAL_PREDICTIONS, locate
from common.pixels import load_faces, normalise
from common.plots import draw_confusion, draw_history
from common.predictions import cannot_judge_line, prediction_line, read_split, score_faces, write_predictions
from common.records import InputError, OutputError, read_json, temporary_name, write_csv, writing

STAGE = "03"
HEAD_EPOCHS = 1  # of the new layers alone
HEAD_LEARNING_RATE = 1e-3
FINE_TUNING_RATE, FROM_RANDOM_RATE = 3e-4, 1e-3
WARM_UP_SHARE = 0.1  # of a phase's steps
WEIGHT_DECAY = 1e-4  # AdamW; Loshchilov & Hutter, ICLR 2019
PATIENCE_EPOCHS = 5  # without a better validation accuracy
STATE_FILE = "unfinished.npz"
REDO_DATASET = "run 02_prepare_dataset.py --force"
LIBRARIES = ("tensorflow", "keras", "efficientnet", "mtcnn", "numpy", "opencv-python-headless")
HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
QUEUED_BATCHES = 8


def epoch_order(labels, batch_size, rng):
    """Return shuffled positions as batches, half real and half fake each; the rarer class is drawn from again."""
    half = batch_size // 2
    reals, fakes = np.flatnonzero(labels == REAL), np.flatnonzero(labels == FAKE)
    steps = max(1, max(len(reals), len(fakes)) // half)
    columns = []
    for positions in (reals, fakes):
        rounds = [rng.permutation(positions) for _ in range(-(-steps * half // len(positions)))]
        columns.append(np.concatenate(rounds)[: steps * half].reshape(steps, half))
    return np.concatenate(columns, axis=1)


def augmented_batches(faces_rgb, labels, batch_size, seed, epoch):
    """Return a Keras dataset of one epoch: each face augmented on the fly, always alike for one seed and epoch."""
    keras, _ = load_keras()
    order = epoch_order(labels, batch_size, np.random.default_rng((seed, epoch)))

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(order)

        def __getitem__(self, step):
            rngs = [np.random.default_rng((seed, epoch, step, place)) for place in range(len(order[step]))]
            faces = [augment(faces_rgb[position], rng) for position, rng in zip(order[step], rngs, strict=True)]
            return normalise(np.stack(faces)), labels[order[step]].astype(np.float32)[:, None]

    return Batches(workers=len(usable_cpus()), use_multiprocessing=False, max_queue_size=QUEUED_BATCHES)


def use_devices():
    """Return the scope to build the model in: every visible GPU, with mixed precision; nothing special without one."""
    import tensorflow as tf

    keras, _ = load_keras()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        say(f"{STAGE}: training on {len(gpus)} GPU(s), mixed precision")
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    return tf.distribute.MirroredStrategy().scope() if len(gpus) > 1 else nullcontext()


def starting_model(kind, path, args):
    """Build the network with its starting weights."""
    keras, _ = load_keras()
    keras.utils.set_random_seed(args.seed)
    model = build_model(args.backbone, args.input_size, path if kind in DOWNLOADS else None)
    if kind in ("file", "base"):
        load_arrays(model, path)
    return model


def compile_for(model, phase, learning_rate, steps):
    """Freeze or free the backbone and set AdamW with warm-up and cosine decay over `steps`."""
    keras, _ = load_keras()
    backbone_of(model).trainable = phase == "everything"
    rate = learning_rate if phase == "everything" else HEAD_LEARNING_RATE
    warm_up = max(1, int(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, max(1, steps - warm_up), alpha=0.01, warmup_target=rate, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)


def training_variables(model):
    """Return the variables that a resumed training needs: weights, dropout's random state, optimizer."""
    return [*model.variables, *model.optimizer.variables]


def save_state(path, model, best, history, settings):
    """Write everything needed to go on after this epoch, in one step."""
    arrays = {f"state_{index}": np.asarray(value) for index, value in enumerate(training_variables(model))}
    arrays |= {f"best_{index}": value for index, value in enumerate(best)}
    temporary = temporary_name(path)
    with writing():
        with open(temporary, "wb") as file:
            np.savez(file, record=json.dumps({"settings": settings, "history": history}), **arrays)
        temporary.replace(path)


def load_state(path, settings):
    """Return (variables, best weights, history) of an unfinished training of the same data and settings, or None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(str(file["record"]))
            if record["settings"] != settings:
                return None
            numbered = {kind: sum(name.startswith(kind) for name in file.files) for kind in ("state_", "best_")}
            arrays = [[file[f"{kind}{index}"] for index in range(count)] for kind, count in numbered.items()]
            return (*arrays, record["history"])
    except (OSError, ValueError, KeyError):
        return None


def is_better(epoch, best):
    """Tell whether an epoch beats the best so far: higher validation accuracy, ties by lower validation loss."""
    if best is None:
        return True
    return (epoch["val_accuracy"], -epoch["val_loss"]) > (best["val_accuracy"], -best["val_loss"])


def load_training_faces(parts, input_size):
    """Return {"train", "val": (uint8 RGB faces, labels)}, each face decoded once. Raises InputError."""
    loaded = {}
    for split in ("train", "val"):
        faces_rgb, unreadable = load_faces([row["path"] for row in parts[split]], input_size)
        if unreadable:
            raise InputError(f"{unreadable[0]} is not readable ({len(unreadable)} faces in all); {REDO_DATASET}")
        loaded[split] = faces_rgb, np.array([row["label"] for row in parts[split]])
    return loaded


def train(model, phases, parts, args, settings, state_path):
    """Train epoch by epoch; return (history, arrays of the best weights). Saves its state after each epoch."""
    from tqdm import tqdm

    keras, _ = load_keras()
    loaded = load_training_faces(parts, args.input_size)
    faces_rgb, labels = loaded["train"]
    val_faces, val_labels = normalise(loaded["val"][0]), loaded["val"][1].astype(np.float32)[:, None]
    steps = len(epoch_order(labels, args.batch_size, np.random.default_rng(0)))
    saved = None if args.force else load_state(state_path, settings)
    variables, best, history = saved or ([], None, [])
    if saved:
        say(f"{STAGE}: going on after epoch {len(history)}")
    bar = tqdm(
        total=len(phases) * steps, initial=len(history) * steps, desc=STAGE, unit=" steps", delay=1,
        disable=not sys.stderr.isatty(), leave=False,
    )  # fmt: skip
    advance = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: bar.update())
    compiled = None
    for number in range(len(history), len(phases)):
        if history and number - best_of(history)["epoch"] >= PATIENCE_EPOCHS:
            say(f"{STAGE}: stopped early: no better validation accuracy for {PATIENCE_EPOCHS} epochs")
            break
        started, phase = time.monotonic(), phases[number]
        if phase != compiled:
            compile_for(model, phase, args.learning_rate, steps * phases.count(phase))
            compiled = phase
            known = training_variables(model) if number and phases[number - 1] == phase else model.variables
            for variable, value in zip(known, variables, strict=False):  # a new phase has an optimizer of its own
                variable.assign(value)
            variables = []
        batches = augmented_batches(faces_rgb, labels, args.batch_size, args.seed, number)
        fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[advance]).history
        val_loss, val_accuracy = model.evaluate(val_faces, val_labels, batch_size=64, verbose=0)
        epoch = {
            "epoch": number + 1, "phase": phase, "loss": fitted["loss"][0], "accuracy": fitted["accuracy"][0],
            "val_loss": val_loss, "val_accuracy": val_accuracy, "seconds": round(time.monotonic() - started, 1),
        }  # fmt: skip
        if is_better(epoch, best_of(history)):
            best = [np.asarray(value) for value in model.get_weights()]
        history = [*history, epoch]
        save_state(state_path, model, best, history, settings)
        say(
            f"{STAGE}: epoch {number + 1} of at most {len(phases)} ({phase}): "
            f"loss {epoch['loss']:.3f}, accuracy {epoch['accuracy']:.3f}, "
            f"validation loss {val_loss:.3f}, accuracy {val_accuracy:.3f}, {epoch['seconds']:.0f} s"
        )
    bar.close()
    return history, best


def best_of(history):
    """Return the best epoch of the history, or None."""
    best = None
    for epoch in history:
        best = epoch if is_better(epoch, best) else best
    return best


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
        "--batch-size", type=positive, default=32, help="faces, half of them real (default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rate", type=float, metavar="R",
        help=f"highest (default: {FINE_TUNING_RATE}, from random weights {FROM_RANDOM_RATE})",
    )  # fmt: skip
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N faces of each set and class only")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    add_seed(parser)
    return parser


def first_of_each_class(rows, limit):
    """Return the first `limit` rows of each class."""
    return [row for label in (REAL, FAKE) for row in [r for r in rows if r["label"] == label][:limit]]


def main(argv=None):
    parser = build_parser()
    args, started = parser.parse_args(argv), time.monotonic()
    if args.batch_size < 2:
        parser.error("--batch-size must be at least 2: half of a batch is real, half is fake")
    split_dir, output_dir = locate(args, "split_dir"), locate(args, "output_dir")
    weights_path = locate(args, "checkpoint_dir") / BEST_MODEL
    require(split_dir / SPLIT_TABLE, "it would list the faces to train on", "02_prepare_dataset.py")
    dataset = read_json(split_dir / SPLIT_RECORD)
    parts = read_split(split_dir)
    if args.limit:
        parts = {split: first_of_each_class(rows, args.limit) for split, rows in parts.items()}
    if any(len({row["label"] for row in rows}) < 2 for rows in parts.values()):
        stop(f"{split_dir} has a set without real or without fake faces; run 02_prepare_dataset.py without --real-only")
    outputs = [
        output_dir / name for name in ("Loss.png", "Accuracy.png", "Confusion.png", TEST_PREDICTIONS, VAL_PREDICTIONS)
    ]
    asked = {
        name: getattr(args, name)
        for name in ("backbone", "input_size", "epochs", "batch_size", "seed", "weights", "limit")
    }
    asked |= {"learning_rate": args.learning_rate, "data_digest": dataset["digest"]}
    done = read_json(weights_path.with_suffix(".json")) or {}
    if (
        not args.force
        and done.get("asked") == asked
        and weights_path.is_file()
        and all(path.is_file() for path in outputs)
    ):
        say(f"{STAGE}: {weights_path} is already trained on the same data with the same settings; --force trains again")
        return 0
    keras, _ = load_keras()
    try:
        kind, path, notice = choose_weights(args.weights, args.backbone)
        if notice:
            say(f"{STAGE}: {notice}")
        say(
            f"{STAGE}: starting from {'random weights' if kind == 'none' else f'{kind} weights'}{f' ({path})' if path else ''}"
        )
        args.learning_rate = args.learning_rate or (FROM_RANDOM_RATE if kind == "none" else FINE_TUNING_RATE)
        head_epochs = 0 if kind == "none" else min(HEAD_EPOCHS, args.epochs - 1)
        phases = ["head"] * head_epochs + ["everything"] * (args.epochs - head_epochs)
        settings = {**asked, "learning_rate": args.learning_rate, "starting_weights": kind}
        with use_devices():
            model = starting_model(kind, path, args)
        say(
            f"{STAGE}: {len(parts['train'])} training and {len(parts['val'])} validation faces, at most {args.epochs} epochs"
        )
        state_path = weights_path.with_name(STATE_FILE)
        state_path.parent.mkdir(parents=True, exist_ok=True)
        history, best = train(model, phases, parts, args, settings, state_path)
        keras.mixed_precision.set_dtype_policy("float32")  # predictions are those that 03a makes anywhere
        model = build_model(args.backbone, args.input_size)
        model.set_weights(best)
        model.compile(jit_compile=False)
        results = finish(model, history, parts, dataset, args, output_dir)
        record = {
            "backbone": args.backbone, "input_size": args.input_size, "pixels": PIXEL_PREPARATION,
            "class_names": CLASS_NAMES, "score": "P(real): 1 real, 0 fake", "threshold": THRESHOLD,
            "margin": MARGIN, "faces": dataset["faces"], "calibration": None, "aggregation": "mean",
            "starting_weights": kind, "settings": settings, "asked": asked, "best_epoch": best_of(history),
            "metrics": results, "data_digest": dataset["digest"],
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }  # fmt: skip
        write_csv(weights_path.with_name("history.csv"), HISTORY_COLUMNS, history)
        with writing():
            save_model(model, weights_path, record)
            state_path.unlink(missing_ok=True)
    except (InputError, OutputError) as error:
        stop(str(error))
    for name, entry in results["test_faces"].items():
        say(f"{STAGE}: test faces: {format_metric(name, entry)}")
    say(
        f"{STAGE}: {len(history)} epochs, best {best_of(history)['epoch']}, {weights_path}, {time.monotonic() - started:.0f} s"
    )
    return 0


def finish(model, history, parts, dataset, args, output_dir):
    """Draw the plots, write the predictions of validation and test, and return the metrics of both."""
    best_epoch = best_of(history)["epoch"]
    draw_history(output_dir / "Loss.png", history, best_epoch, "loss", "binary cross-entropy")
    draw_history(output_dir / "Accuracy.png", history, best_epoch, "accuracy", "share of faces")
    results = {}
    for split, file in (("val", VAL_PREDICTIONS), ("test", TEST_PREDICTIONS)):
        rows = parts[split]
        scores = score_faces(model, [row["path"] for row in rows], args.input_size, STAGE)
        if None in scores:
            raise InputError(f"{rows[scores.index(None)]['path']} is not readable; {REDO_DATASET}")
        labels, groups = [row["label"] for row in rows], [row["group"] for row in rows]
        lines = [prediction_line(row, score) for row, score in zip(rows, scores, strict=True)]
        lines += [cannot_judge_line(row, row["reason"]) for row in dataset["faceless"] if row["split"] == split]
        write_predictions(output_dir / file, lines)
        results[f"{split}_faces"] = describe(labels, scores, groups, args.seed)
    draw_confusion(
        output_dir / "Confusion.png",
        labels,
        [int(score >= THRESHOLD) for score in scores],
        "Test faces, score per face",
        "faces",
    )
    return results


if __name__ == "__main__":
    sys.exit(main())
