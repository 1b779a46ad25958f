"""The GPUs that a network is trained on, and how a training is scaled for several."""

import math

from common.cli import say, stop
from common.model import load_keras

TENSOR_CORES = (7, 0)  # compute capability of the first GPUs that gain from mixed precision: NVIDIA's Volta


def use_devices(limit, precision, stage):
    """Return the strategy to train under: all GPUs, or the first `limit`; None on a single one or on the CPU.

    The precision "auto" is mixed where every GPU gains from it.
    """
    import tensorflow as tf

    keras, _ = load_keras()
    gpus = tf.config.list_physical_devices("GPU")
    if limit and limit > len(gpus):
        stop(f"--gpus {limit}: TensorFlow sees {len(gpus)} GPU(s)")
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
