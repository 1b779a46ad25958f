"""03 on several devices, here two logical CPUs: what is scaled, and that the training is the same."""

import csv
import importlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from common.errors import InputError
from common.files import read_json
from common.paths import REPOSITORY_DIR
from deepfake.model import training
from tests.datasets import write_split_dataset

train_cnn = importlib.import_module("03_train_cnn")
# A small network in place of EfficientNet, which takes minutes to compile for two devices; without dropout, whose numbers differ
# from device to device.
TWO_CPUS = """
import importlib, math, sys
import tensorflow as tf
from deepfake.model import batches, efficientnet, scorer, training

def small_network(backbone, input_size, weights=None, for_training=False):
    keras, _ = efficientnet.load_keras()
    inner = [keras.layers.Conv2D(8, 3, strides=2), keras.layers.BatchNormalization(momentum=0.5), keras.layers.ReLU()]
    inputs = keras.Input((input_size, input_size, 3))
    normalised = keras.layers.Rescaling(1 / 64, -2)(inputs)
    features = keras.layers.Flatten()(keras.Sequential([keras.Input((input_size, input_size, 3)), *inner])(normalised))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features))

data_dir, replicas, *options = sys.argv[1:]
efficientnet.build_model = small_network
scorer.has_gpu = lambda: True  # Keras scores what it has built
train_cnn = importlib.import_module("03_train_cnn")
training.phases_of = lambda epochs, kind: ["head", "everything"]
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
if replicas == "2":
    use_devices = training.use_devices

    def use_two(*arguments):
        use_devices(*arguments)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    training.use_devices = use_two
else:
    training.HEAD_LEARNING_RATE *= math.sqrt(2)
augmented_batches = batches.augmented_batches

def noted(*arguments, alternate, **options):
    print("alternate:", alternate, file=sys.stderr)
    return augmented_batches(*arguments, alternate=alternate, **options)

batches.augmented_batches = noted
sys.exit(train_cnn.main(["--data-dir", data_dir, "--input-size", "32", "--weights", "none", *options]))
"""


def train(data_dir, replicas, *options):
    """Run 03 on one or two logical CPUs; return (history, record, what it said)."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_CPUS, data_dir, str(replicas), *map(str, options)],
        cwd=REPOSITORY_DIR,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY_DIR)},
    )
    assert done.returncode == 0, done.stderr
    with open(data_dir / "tmp_checkpoint" / "history.csv", encoding="utf-8", newline="") as file:
        history = [{name: float(row[name]) for name in ("loss", "val_loss")} for row in csv.DictReader(file)]
    return history, read_json(data_dir / "tmp_checkpoint" / "best_model.json"), done.stderr


def mislabel(data_dir):
    """Exchange the faces of every fourth real video and its fake: nobody can tell these, so no metric is perfect."""
    for number in range(0, 32, 4):
        for real in (data_dir / "split_dataset").glob(f"*/real/*_real_{number}-*.png"):
            fake = real.parents[1] / "fake" / real.name.replace("_real_", "_fake_")
            looks_real, looks_fake = real.read_bytes(), fake.read_bytes()
            real.write_bytes(looks_fake)
            fake.write_bytes(looks_real)


@pytest.mark.slow
def test_two_devices_train_as_one_does(tmp_path):
    for name in ("one", "two"):
        write_split_dataset(tmp_path / name, faces={"train": 64, "val": 16, "test": 64})
        mislabel(tmp_path / name)
    two, record, said = train(tmp_path / "two", 2, "--batch-size", "4")
    assert (record["replicas"], record["global_batch"]) == (2, 8)
    assert record["learning_rate"] == pytest.approx(math.sqrt(2) * train_cnn.FROM_RANDOM_RATE)
    assert "03: 16 steps an epoch of 8 faces, learning rate up to 0.0014" in said
    one, record_of_one, said_by_one = train(
        tmp_path / "one", 1, "--batch-size", "8", "--learning-rate", record["learning_rate"]
    )
    assert "alternate: True" in said and "alternate: False" in said_by_one, "each device gets both classes"
    assert two[0] == pytest.approx(one[0], rel=0.03), (
        "the inner layers are frozen: only rounding differs, which 16 steps enlarge"
    )
    tested, tested_by_one = (found["metrics"]["test_faces"] for found in (record, record_of_one))
    for name in ("roc_auc", "accuracy", "log_loss"):
        for found, other in ((tested, tested_by_one), (tested_by_one, tested)):
            low, high = found[name]["interval"]
            assert low <= other[name]["value"] <= high, f"{name}: more than noise"
    lines = [(tmp_path / name / "cnn_preds_values.json").read_text().splitlines() for name in ("one", "two")]
    scores = [[json.loads(line)["score"] for line in found if json.loads(line)["score"] is not None] for found in lines]
    assert np.corrcoef(*scores)[0, 1] > 0.97
    assert tested["roc_auc"]["interval"][0] > 0.5, "nothing was learnt that could be compared"


def test_scaling_for_several_devices():
    assert training.scaled(3e-4, 32, 1) == {"learning_rate": 3e-4, "replicas": 1, "global_batch": 32}
    assert training.scaled(3e-4, 32, 4) == {"learning_rate": 6e-4, "replicas": 4, "global_batch": 128}


@pytest.mark.parametrize(
    ("capabilities", "limit", "precision", "policy", "used"),
    [
        ([], None, "auto", "float32", 0),
        ([(8, 0)], None, "auto", "mixed_float16", 1),
        ([(7, 0), (6, 1)], None, "auto", "float32", 2),
        ([(7, 0), (6, 1)], 1, "auto", "mixed_float16", 1),
        ([(9, 0)] * 3, 2, "float32", "float32", 2),
        ([(6, 1)], None, "mixed", "mixed_float16", 1),
    ],
)
def test_which_gpus_and_which_precision(monkeypatch, capabilities, limit, precision, policy, used):
    """No GPU here: TensorFlow is told that there are some, and only asked what it was set to."""
    import keras
    import tensorflow as tf

    visible, gpus = [], list(range(len(capabilities)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda chosen, kind: visible.extend(chosen))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: None)
    details = {gpu: {"compute_capability": capabilities[gpu]} for gpu in gpus}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "all that are visible")
    try:
        strategy = training.use_devices(limit, precision, "03")
        assert keras.mixed_precision.dtype_policy().name == policy
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert visible == gpus[:used]
    assert strategy == ("all that are visible" if used > 1 else tf.distribute.get_strategy())


def test_more_gpus_than_there_are():
    with pytest.raises(InputError, match="^--gpus 99: TensorFlow sees "):
        training.use_devices(99, "auto", "03")
