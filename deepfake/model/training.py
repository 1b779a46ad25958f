"""A training that survives being killed: its epochs, which of them is the best, and the state saved after each."""

import json
import math
import time
import zipfile

import numpy as np

from common import cli, files
from common.errors import writing
from common.messages import progress, say
from deepfake.model import ahead, batches, efficientnet, weights

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that gain from mixed precision: NVIDIA's Volta
HEAD_EPOCHS = 1  # of the new layers alone
HEAD_LEARNING_RATE = 1e-3  # of the new layers alone
WARM_UP_SHARE = 0.1  # of a phase's steps
WEIGHT_DECAY = 1e-4  # AdamW; Loshchilov & Hutter, ICLR 2019
VALIDATION_BATCH = 64


def is_better(epoch, best):
    """Tell whether an epoch beats the best so far: higher validation accuracy, ties by lower validation loss."""
    if best is None:
        return True
    return (epoch["val_accuracy"], -epoch["val_loss"]) > (best["val_accuracy"], -best["val_loss"])


def best_of(history):
    """Return the best epoch of the history, or None."""
    best = None
    for epoch in history:
        best = epoch if is_better(epoch, best) else best
    return best


def kept_of(history, keep):
    """Return the epoch whose weights are kept: the "best" or the "last"; None of an empty history."""
    return history[-1] if history and keep == "last" else best_of(history)


def phases_of(epochs, kind):
    """Return the phase of each epoch: "head", then "everything".

    Nothing is frozen with random weights, where nothing is worth keeping, or base weights, whose last layers are trained.
    """
    head_epochs = 0 if kind in ("none", "base") else min(HEAD_EPOCHS, epochs - 1)
    return ["head"] * head_epochs + ["everything"] * (epochs - head_epochs)


def starting_model(kind, path, backbone, input_size, seed):
    """Build the network with its starting weights."""
    keras, _ = efficientnet.load_keras()
    keras.utils.set_random_seed(seed)
    model = efficientnet.build_model(
        backbone, input_size, path if kind in weights.DOWNLOADS else None, for_training=True
    )
    if kind in ("file", "base"):
        weights.load_arrays(model, path)
    return model


def compile_for(model, phase, rate, steps):
    """Freeze or free the backbone and set AdamW with warm-up to `rate` and cosine decay over `steps`."""
    keras, _ = efficientnet.load_keras()
    efficientnet.backbone_of(model).trainable = phase == "everything"
    warm_up = max(1, int(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, max(1, steps - warm_up), alpha=0.01, warmup_target=rate, warmup_steps=warm_up
    )
    with model.distribute_strategy.scope():
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
        model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        model.optimizer.build(model.trainable_variables)


def save_state(path, model, best, record):
    """Write everything needed to go on after this epoch, in one step: weights, dropout's random state, optimizer."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables, "best": best}
    arrays = {f"{name}_{i}": np.asarray(value) for name, values in groups.items() for i, value in enumerate(values)}
    temporary = files.temporary_name(path)
    with writing():
        with open(temporary, "wb") as file:
            np.savez(file, record=json.dumps(record), **arrays)
        temporary.replace(path)


def load_state(path, asked):
    """Return {"record", "model", "optimizer", "best"} of an unfinished training of the same data and settings, or None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(str(file["record"]))
            if record["asked"] != asked:
                return None
            state = {"record": record, "model": [], "optimizer": [], "best": []}
            for name in file.files:
                if name != "record":
                    state[name.partition("_")[0]].append(file[name])
            return state
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def assign(variables, values):
    """Give each Keras variable its array; raises ValueError if their numbers differ."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def run_epoch(model, number, phase, epoch_batches, validation, on_step):
    """Train and validate once; return the epoch's line of the history."""
    keras, _ = efficientnet.load_keras()
    started = time.monotonic()
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=on_step)
    fitted = model.fit(epoch_batches, epochs=1, shuffle=False, verbose=0, callbacks=[callback]).history
    val_loss, val_accuracy = model.evaluate(validation, verbose=0)
    return {
        "epoch": number,
        "phase": phase,
        "loss": fitted["loss"][0],
        "accuracy": fitted["accuracy"][0],
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "seconds": round(time.monotonic() - started, 1),
    }


def train(model, train_part, val_part, record, state, state_path, stage):
    """Train until `record["phases"]` are over or nothing gets better; return (history, arrays of the weights to keep).

    The parts are those of `deepfake.model.batches`. `state` is what an interrupted training saved, or None; it is saved anew
    after each epoch.
    """
    asked, phases, history = record["asked"], record["phases"], record["history"]
    kept = compiled = None
    if state:
        kept = state["best"]
        assign(model.variables, state["model"])
        say(f"{stage}: going on after epoch {len(history)}")
    record.setdefault("global_batch", asked["batch_size"])  # a state saved before there were several devices
    batch_size, head_rate = record["global_batch"], HEAD_LEARNING_RATE * math.sqrt(record.setdefault("replicas", 1))
    alternate = model.distribute_strategy.num_replicas_in_sync > 1
    steps = len(batches.epoch_order(train_part.labels, batch_size, np.random.default_rng(0)))
    say(f"{stage}: {steps} steps an epoch of {batch_size} faces, learning rate up to {record['learning_rate']:.2g}")
    validation = batches.plain_batches(val_part.faces_rgb, val_part.labels, VALIDATION_BATCH).as_dataset()
    left = (len(phases) - len(history)) * steps
    ticks = progress(range(left), left, stage, "steps")

    def batches_of(number):
        return batches.augmented_batches(train_part, batch_size, asked["seed"], number, asked["self_blend"], alternate)

    with ahead.made_ahead(batches_of) as batches_ahead_of:
        for number, phase in list(enumerate(phases, start=1))[len(history) :]:
            waited = len(history) - best_of(history)["epoch"] if history else 0
            if asked["keep"] == "best" and waited >= asked["patience"]:
                say(f"{stage}: stopped early: no better validation accuracy for {asked['patience']} epochs")
                break
            if phase != compiled:
                rate = head_rate if phase == "head" else record["learning_rate"]
                compile_for(model, phase, rate, steps * phases.count(phase))
                goes_on = state and compiled is None and history[-1]["phase"] == phase
                if goes_on and len(state["optimizer"]) == len(model.optimizer.variables):  # differs on another device
                    assign(model.optimizer.variables, state["optimizer"])
                compiled = phase
            epoch_batches = batches_ahead_of(number).as_dataset()
            epoch = run_epoch(model, number, phase, epoch_batches, validation, lambda step, logs: next(ticks, None))
            if asked["keep"] == "last" or is_better(epoch, best_of(history)):
                kept = [np.asarray(value) for value in model.get_weights()]
            history.append(epoch)
            save_state(state_path, model, kept, record)
            say(
                f"{stage}: epoch {number} of at most {len(phases)} ({phase}): "
                f"loss {epoch['loss']:.3f}, accuracy {epoch['accuracy']:.3f}, "
                f"validation loss {epoch['val_loss']:.3f}, accuracy {epoch['val_accuracy']:.3f}, {epoch['seconds']:.0f} s"
            )
    ticks.close()
    return history, kept


def use_devices(limit, precision, stage):
    """Return the strategy to train under: all GPUs, or the first `limit`; None on a single one or on the CPU.

    The precision "auto" is mixed where every GPU gains from it.
    """
    import tensorflow as tf

    keras, _ = efficientnet.load_keras()
    gpus = tf.config.list_physical_devices("GPU")
    if limit and limit > len(gpus):
        cli.stop(f"--gpus {limit}: TensorFlow sees {len(gpus)} GPU(s)")
    gpus = gpus[:limit]
    if gpus:
        tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    gain = bool(gpus) and all(found.get("compute_capability", (0, 0)) >= TENSOR_CORES for found in details)
    if precision == "mixed" or (precision == "auto" and gain):
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    if gpus:
        say(f"{stage}: training on {len(gpus)} GPU(s), {keras.mixed_precision.dtype_policy().name}")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else None


def for_replicas(record, batch_size, replicas):
    """Note in the record of a new training how it is scaled for devices that train together.

    Each has `batch_size` faces in a step, so an epoch has fewer steps; the learning rate grows with the square root, which is
    the rule for Adam (Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022).
    """
    record["replicas"], record["global_batch"] = replicas, replicas * batch_size
    record["learning_rate"] *= math.sqrt(replicas)
