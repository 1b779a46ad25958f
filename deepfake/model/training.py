"""A training that can be killed and goes on: its devices, its epochs, which of them is kept, the state saved after each."""

import json
import math
import time
import zipfile
from itertools import groupby

import numpy as np

from common import files
from common.errors import InputError
from common.messages import say
from deepfake.model import efficientnet

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that gain from mixed precision: NVIDIA's Volta
HEAD_EPOCHS = 1  # of the new layers alone
HEAD_LEARNING_RATE = 1e-3  # of the new layers alone
WARM_UP_SHARE = 0.1  # of a phase's steps
WEIGHT_DECAY = 1e-4  # AdamW; Loshchilov & Hutter, ICLR 2019
VALIDATION_BATCH = 64


def best_of(history):
    """Return the epoch with the highest validation accuracy, of several the lowest validation loss, then the first; or None."""
    return max(history, key=lambda epoch: (epoch["val_accuracy"], -epoch["val_loss"]), default=None)


def kept_of(history, keep):
    """Return the epoch whose weights are kept, `keep`: "best" or "last"; None for an empty history."""
    return history[-1] if history and keep == "last" else best_of(history)


def phases_of(epochs, kind):
    """Return the phase of each epoch: "head", then "everything". `kind`: of the starting weights.

    There is no "head" with random weights, where nothing is worth freezing, and with base weights, whose new layers are trained.
    """
    head_epochs = 0 if kind in ("none", "base") else min(HEAD_EPOCHS, epochs - 1)
    return ["head"] * head_epochs + ["everything"] * (epochs - head_epochs)


def use_devices(limit, precision, stage):
    """Return the TensorFlow strategy to train under: all GPUs, the first `limit`, or the CPU. Raises InputError.

    The precision "auto" is mixed where every GPU gains from it.
    """
    keras, _ = efficientnet.load_keras()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if limit and limit > len(gpus):
        raise InputError(f"--gpus {limit}: TensorFlow sees {len(gpus)} GPU(s)")
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
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def scaled(learning_rate, batch_size, replicas):
    """Return what the model card says of `replicas` devices that train together, each with `batch_size` faces in a step.

    The learning rate grows with the square root of the batch, which is the rule for Adam (Malladi et al., "On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022).
    """
    rate = learning_rate * math.sqrt(replicas)
    return {"learning_rate": rate, "replicas": replicas, "global_batch": replicas * batch_size}


def learning_rate_of(phase, record):
    """Return the highest learning rate of a phase."""
    return HEAD_LEARNING_RATE * math.sqrt(record["replicas"]) if phase == "head" else record["learning_rate"]


def make_optimizer(rate, steps):
    """Return AdamW whose learning rate warms up to `rate`, then falls along a cosine, over `steps`."""
    keras, _ = efficientnet.load_keras()
    warm_up = max(1, int(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, max(1, steps - warm_up), alpha=0.01, warmup_target=rate, warmup_steps=warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)


def save_state(path, model, kept, record):
    """Write in one step what is needed to go on after this epoch: weights, random state of dropout, optimizer, record."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables, "kept": kept}
    arrays = {f"{name}_{i}": np.asarray(value) for name, values in groups.items() for i, value in enumerate(values)}
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, record=json.dumps(record), **arrays)


def load_state(path, settings):
    """Return the state that `save_state` wrote of a training with the same data and settings, or None.

    {"record", "phase" it stopped in, and the arrays of "model", "optimizer", "kept"}.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(str(file["record"]))
            if record["settings"] != settings:
                return None
            groups = ("model", "optimizer", "kept")
            state = {group: [file[name] for name in file.files if name.startswith(f"{group}_")] for group in groups}
            return {"record": record, "phase": record["history"][-1]["phase"], **state}
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def assign(variables, values):
    """Give each Keras variable its array; raises ValueError if their numbers differ."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def restore_optimizer(optimizer, phase, state):
    """Give the new optimizer of a phase the saved one's arrays, if those are of the same phase and number."""
    if state and state["phase"] == phase and len(state["optimizer"]) == len(optimizer.variables):
        assign(optimizer.variables, state["optimizer"])


def phases_left(record, stage):
    """Return an iterator of (phase, iterator of the numbers of its epochs to come).

    With "keep": "best" it ends once `patience` epochs have brought no better validation accuracy.
    """
    settings, phases, history = record["settings"], record["phases"], record["history"]

    def numbers():
        for number in range(len(history) + 1, len(phases) + 1):
            waited = len(history) - best_of(history)["epoch"] if history else 0
            if settings["keep"] == "best" and waited >= settings["patience"]:
                say(f"{stage}: stopped early: no better validation accuracy for {settings['patience']} epochs")
                return
            yield number

    return groupby(numbers(), key=lambda number: phases[number - 1])


def fit_epoch(model, number, phase, epoch_batches, validation, ticks):
    """Train and validate for one epoch; return its line of the history. `ticks`: an iterator that advances the progress."""
    keras, _ = efficientnet.load_keras()
    started = time.monotonic()
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: next(ticks, None))
    fitted = model.fit(epoch_batches, epochs=1, shuffle=False, verbose=0, callbacks=[callback]).history
    val_loss, val_accuracy = model.evaluate(validation, verbose=0)
    found = {"loss": fitted["loss"][0], "accuracy": fitted["accuracy"][0]}
    found |= {"val_loss": val_loss, "val_accuracy": val_accuracy, "seconds": round(time.monotonic() - started, 1)}
    return {"epoch": number, "phase": phase, **found}


def in_words(epoch, most):
    """Return an epoch's line of the history in words. `most`: how many epochs there can be."""
    return (
        f"epoch {epoch['epoch']} of at most {most} ({epoch['phase']}): "
        f"loss {epoch['loss']:.3f}, accuracy {epoch['accuracy']:.3f}, "
        f"validation loss {epoch['val_loss']:.3f}, accuracy {epoch['val_accuracy']:.3f}, {epoch['seconds']:.0f} s"
    )
