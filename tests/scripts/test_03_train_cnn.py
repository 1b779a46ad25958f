"""03_train_cnn.py and deepfake/model/training.py on one device; several are in test_replicas.py."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from common.constants import CLASS_NAMES, FAKE, REAL
from common.errors import InputError, OutputError
from common.files import check_writable, digest, read_json, write_json
from common.paths import REPOSITORY_DIR
from deepfake.dataset import table
from deepfake.evaluation import scoring
from deepfake.evaluation.metrics import METRICS, accuracy
from deepfake.evaluation.predictions import FIELDS
from deepfake.model import batches, scorer, training
from deepfake.model import weights as weights_module
from deepfake.model.efficientnet import build_model, load_keras
from deepfake.model.scorer import KerasScorer
from deepfake.model.training import best_of, kept_of, load_state, phases_of
from deepfake.model.weights import load_model, save_model
from deepfake.preprocessing.crops import read_image
from deepfake.preprocessing.quality import TOO_DARK
from tests.datasets import (
    FACELESS_REASON,
    LANDMARKS,
    lively_network,
    write_picture,
    write_split_dataset,
    write_video_folder,
)

train_cnn = importlib.import_module("03_train_cnn")
load_weights = importlib.import_module("03a_load_model")
SCRIPT = REPOSITORY_DIR / "03_train_cnn.py"
SIZE = 32
OPTIONS = ["--input-size", str(SIZE), "--batch-size", "4"]
FILES = (
    "Accuracy.png",
    "Confusion.png",
    "Loss.png",
    "cnn_preds_values.json",
    "split_dataset",
    "tmp_checkpoint",
    "val_preds_values.json",
)


def epoch(number, val_accuracy, val_loss=1.0):
    return {"epoch": number, "val_accuracy": val_accuracy, "val_loss": val_loss}


# --- pure functions


def test_the_best_epoch_has_the_highest_validation_accuracy_ties_the_lowest_loss():
    assert best_of([]) is None
    assert best_of([epoch(1, 0.5), epoch(2, 0.9, 3.0), epoch(3, 0.8, 0.1)])["epoch"] == 2
    assert best_of([epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.3), epoch(3, 0.9, 0.4)])["epoch"] == 2
    assert best_of([epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.5)])["epoch"] == 1  # no better, so the earlier stays
    assert best_of([epoch(1, 0.0)]) == epoch(1, 0.0)
    history = [epoch(1, 0.5), epoch(2, 0.9, 3.0), epoch(3, 0.8, 0.1)]
    assert (kept_of(history, "best")["epoch"], kept_of(history, "last")["epoch"]) == (2, 3)
    assert kept_of([], "last") is None


def test_phases():
    assert phases_of(3, "none") == phases_of(3, "base") == ["everything"] * 3
    assert phases_of(3, "file") == ["head", "everything", "everything"]
    assert phases_of(1, "imagenet") == ["everything"]


def test_first_videos_of_each_class():
    rows = [{"label": REAL if video_id in "ace" else FAKE, "video_id": video_id} for video_id in "fceeaabbbdd"]
    assert "".join(row["video_id"] for row in table.first_videos(rows, 1)) == "aabbb"
    assert "".join(row["video_id"] for row in table.first_videos(rows, 2)) == "caabbbdd"
    assert table.first_videos(rows, 3) == rows


def test_fewer_frames_are_evenly_spread_and_keep_all_their_people():
    rows = [{"video_id": "a", "frame": frame, "person": person} for frame in range(11) for person in (0, 1)]
    rows += [{"video_id": "b", "frame": frame, "person": 0} for frame in (1, 4)]

    def frames(count):
        kept = table.fewer_frames(rows, count)
        assert kept == [row for row in rows if row in kept], "in the same order"
        assert all(
            {row["person"] for row in kept if row["frame"] == f and row["video_id"] == "a"} == {0, 1}
            for f in {row["frame"] for row in kept if row["video_id"] == "a"}
        )
        return [sorted({row["frame"] for row in kept if row["video_id"] == name}) for name in "ab"]

    assert frames(4) == [[0, 3, 7, 10], [1, 4]]
    assert frames(2) == [[0, 10], [1, 4]]
    assert frames(1) == [[0], [1]]
    assert frames(11) == frames(99) == [list(range(11)), [1, 4]]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf"])
def test_a_learning_rate_is_above_0(text):
    with pytest.raises(SystemExit) as caught:
        train_cnn.main(["--learning-rate", text])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "option, value", [("--batch-size", "1"), ("--batch-size", "5"), ("--input-size", "31"), ("--backbone", "B8")]
)
def test_impossible_options_are_refused_by_the_parser(capsys, option, value):
    with pytest.raises(SystemExit) as caught:
        train_cnn.main([option, value])
    assert caught.value.code == 2
    assert f"error: {option}" in capsys.readouterr().err.replace("argument ", "")


# --- contract of the input: nothing is trained


def stopped(capsys, *arguments, status=2):
    """Run main; assert its status and return its last line."""
    with pytest.raises(SystemExit) as caught:
        train_cnn.main([*OPTIONS, "--weights", "none", "--epochs", "1", *map(str, arguments)])
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == status
    return lines[-1]


def test_a_missing_dataset_names_02(tmp_path, capsys):
    line = stopped(capsys, "--data-dir", tmp_path)
    assert str(tmp_path / "split_dataset") in line and "Run 02_prepare_dataset.py first" in line
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", [None, "{broken"])
def test_a_dataset_without_its_record_names_02(tmp_path, capsys, text):
    write_split_dataset(tmp_path)
    record_path = tmp_path / "split_dataset" / "split.json"
    record_path.unlink() if text is None else record_path.write_text(text)
    line = stopped(capsys, "--data-dir", tmp_path)
    assert str(record_path) in line and "02_prepare_dataset.py --force" in line


def test_a_set_without_one_class_is_refused(tmp_path, capsys):
    write_split_dataset(tmp_path, classes=(REAL,))
    for share in (0, 0.5):
        line = stopped(capsys, "--data-dir", tmp_path, "--self-blend", share)
        assert "a set without real or without fake faces" in line and "--self-blend 1" in line


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan"])
def test_a_share_is_0_to_1(text):
    with pytest.raises(SystemExit) as caught:
        train_cnn.main(["--self-blend", text])
    assert caught.value.code == 2


@pytest.mark.parametrize("option", ["--output-dir", "--checkpoint-dir"])
def test_an_output_that_cannot_be_written_stops_before_the_training(tmp_path, capsys, option):
    write_split_dataset(tmp_path)
    (tmp_path / "file").touch()
    line = stopped(capsys, "--data-dir", tmp_path, option, tmp_path / "file" / "out")
    assert line.startswith("error: cannot write ") and str(tmp_path / "file") in line


def test_check_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises((InputError, OutputError)):
        check_writable(tmp_path / "file")


def test_weights_that_do_not_exist_are_named(tmp_path, capsys):
    write_split_dataset(tmp_path)
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", tmp_path / "gone.h5")
    assert line == f"error: {tmp_path / 'gone.h5'} does not exist"


def test_help_is_instant_and_loads_no_tensorflow():
    code = "import sys, importlib; m = importlib.import_module('03_train_cnn'); m.build_parser().format_help(); "
    code += "sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY_DIR).returncode == 0


# --- the script around the network, with a network of a few layers in the place of EfficientNet


@pytest.fixture
def small_network(monkeypatch):
    """EfficientNet's graph takes half a minute to compile; these tests are about what the script does around it."""
    keras, _ = load_keras()

    def build(include_top, weights, input_shape, **modules):
        inputs = keras.Input(input_shape)
        outputs = keras.layers.Conv2D(8, 5, strides=4, use_bias=False)(inputs)
        outputs = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(outputs))
        return keras.Model(inputs, keras.layers.Dropout(0.2)(outputs), name="small")

    monkeypatch.setattr(importlib.import_module("efficientnet.model"), "EfficientNetB0", build)
    monkeypatch.setattr(scorer, "has_gpu", lambda: True)  # Keras scores what it has built
    monkeypatch.setattr(importlib.import_module("deepfake.report.plots"), "DPI", 20)  # drawn quickly


@pytest.fixture
def data_dir(tmp_path, small_network):
    write_split_dataset(tmp_path)
    return tmp_path


def run(data_dir, *arguments):
    """Train from random weights; return the exit status."""
    return train_cnn.main(
        ["--data-dir", str(data_dir), *OPTIONS, "--weights", "none", "--epochs", "2", *map(str, arguments)]
    )


def history_of(data_dir):
    """Return the rows of history.csv without their durations."""
    with open(data_dir / "tmp_checkpoint" / "history.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def content(data_dir):
    """Return {path: content} of all files but the dataset."""
    paths = sorted(path for path in data_dir.rglob("*") if path.is_file() and "split_dataset" not in path.parts)
    return {path.relative_to(data_dir).as_posix(): path.read_bytes() for path in paths}


def stamps(data_dir):
    return {path.as_posix(): path.stat().st_mtime_ns for path in data_dir.rglob("*") if path.is_file()}


def test_a_rerun_does_nothing_and_other_settings_or_data_train_again(data_dir, capsys):
    assert run(data_dir) == 0
    before = stamps(data_dir)
    assert run(data_dir) == 0
    assert stamps(data_dir) == before and "already trained" in capsys.readouterr().err
    record_path = data_dir / "split_dataset" / "split.json"
    for change in (["--epochs", 1], ["--learning-rate", 0.002], ["--force"], []):
        if not change:
            record_path.write_text(json.dumps({**read_json(record_path), "digest": "of other faces"}))
        before = stamps(data_dir)
        assert run(data_dir, *change) == 0
        assert "already trained" not in capsys.readouterr().err
        weights_path = str(data_dir / "tmp_checkpoint" / "best_model.h5")
        assert stamps(data_dir)[weights_path] > before[weights_path], change


def test_a_lost_plot_is_drawn_again_without_training(data_dir, capsys):
    assert run(data_dir) == 0
    before = content(data_dir)
    (data_dir / "Loss.png").unlink()
    (data_dir / "cnn_preds_values.json").unlink()
    capsys.readouterr()
    assert run(data_dir) == 0
    assert "epoch 1" not in capsys.readouterr().err.replace("best 1", "")
    assert content(data_dir).keys() == before.keys()
    for name in ("Loss.png", "cnn_preds_values.json", "tmp_checkpoint/history.csv"):
        assert content(data_dir)[name] == before[name], name


def test_outputs_that_03a_wrote_over_are_made_again_without_training(data_dir, capsys):
    """Else 04 would give verdicts on the other videos as if they were the test split's."""
    assert run(data_dir) == 0
    before = content(data_dir)
    write_video_folder(data_dir / "other", "x", REAL)
    write_json(data_dir / "other" / "metadata.json", {"x.mp4": {"label": "REAL"}})
    assert load_weights.main(["--data-dir", str(data_dir), "--videos-dir", str(data_dir / "other")]) == 0
    assert all(content(data_dir)[name] != before[name] for name in ("Confusion.png", "cnn_preds_values.json"))
    capsys.readouterr()
    assert run(data_dir) == 0
    printed = capsys.readouterr().err
    assert "already trained" not in printed and "epoch 1 of" not in printed
    for name in train_cnn.OUTPUTS:
        assert content(data_dir)[name] == before[name], name
    assert run(data_dir) == 0
    assert "already trained" in capsys.readouterr().err


def test_damaged_weights_are_trained_again(data_dir, capsys):
    assert run(data_dir) == 0
    (data_dir / "tmp_checkpoint" / "best_model.h5").write_bytes(b"damaged")
    assert run(data_dir) == 0
    load_model(data_dir / "tmp_checkpoint" / "best_model.h5")


def test_train_frames_thins_out_the_training_set_alone(data_dir, capsys):
    assert run(data_dir, "--train-frames", 1) == 0
    assert "03: 8 training and 8 validation faces" in capsys.readouterr().err  # 8 videos of two frames each
    record = read_json(data_dir / "tmp_checkpoint" / "best_model.json")
    assert record["settings"]["train_frames"] == 1 and record["trained_on"]["faces"] == 8


def test_limit_trains_on_the_first_videos_of_each_class(data_dir):
    assert run(data_dir, "--limit", 1) == 0
    scored = [line for line in lines_of(data_dir / "cnn_preds_values.json") if line["score"] is not None]
    assert [line["video_id"] for line in scored] == ["test_real_0"] * 2 + ["test_fake_0"] * 2


def test_a_video_without_a_face_has_a_line_with_the_reason(data_dir):
    assert run(data_dir, "--epochs", 1) == 0
    for split, file in (("val", "val_preds_values.json"), ("test", "cnn_preds_values.json")):
        [line] = [line for line in lines_of(data_dir / file) if line["score"] is None]
        assert line["video_id"] == f"empty_{split}" and line["reason"] == FACELESS_REASON
        assert line["split"] == split and line["label"] == REAL and line.keys() == {*FIELDS, "score", "reason"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_unreadable_face_is_named(data_dir, capsys, split):
    path = sorted((data_dir / "split_dataset" / split / "fake").iterdir())[0]
    path.write_bytes(b"broken")
    line = stopped(capsys, "--data-dir", data_dir)
    assert line.startswith(f"error: {path} is not readable") and "02_prepare_dataset.py --force" in line
    assert not (data_dir / "tmp_checkpoint" / "best_model.h5").exists()


def test_a_mended_test_face_needs_no_new_training(data_dir, capsys):
    path = sorted((data_dir / "split_dataset" / "test" / "fake").iterdir())[0]
    picture = path.read_bytes()
    path.write_bytes(b"broken")
    stopped(capsys, "--data-dir", data_dir, "--epochs", "2")
    path.write_bytes(picture)
    assert run(data_dir) == 0
    printed = capsys.readouterr().err
    assert "going on after epoch 2" in printed and "epoch 1 of" not in printed
    assert not (data_dir / "tmp_checkpoint" / "unfinished.npz").exists()


def test_weights_of_another_network_are_refused_in_words(data_dir, capsys, monkeypatch):
    assert run(data_dir) == 0
    weights_path = data_dir / "tmp_checkpoint" / "best_model.h5"
    line = stopped(capsys, "--data-dir", data_dir, "--weights", weights_path, "--backbone", "B1")
    assert line == f"error: {weights_path} holds B0 weights; use --backbone B0"
    monkeypatch.undo()  # the real EfficientNetB0
    line = stopped(capsys, "--data-dir", data_dir, "--weights", weights_path, "--force")
    assert line.startswith(f"error: {weights_path} does not fit a B0 network")


def interrupt_after(monkeypatch, epochs):
    """Make the training stop as if killed, right after the state of the epoch was saved."""
    save_state = training.save_state

    def saving(path, model, best, record):
        save_state(path, model, best, record)
        if len(record["history"]) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_state", saving)


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(data_dir, capsys, monkeypatch, tmp_path_factory):
    """Weights, optimizer, dropout and augmentation all go on: the same numbers to the last digit.

    Epoch 1 is the head's, so after it the next phase begins; after epoch 4 only the outputs are missing.
    """
    start = tmp_path_factory.mktemp("start") / "start.h5"
    load_keras()[0].utils.set_random_seed(3)
    save_model(build_model("B0", SIZE), start, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    options = ["--weights", start, "--epochs", 4]
    assert run(data_dir, *options) == 0
    expected, expected_history = content(data_dir), history_of(data_dir)
    expected_weights = load_model(data_dir / "tmp_checkpoint" / "best_model.h5")[0].get_weights()
    assert [row["phase"] for row in expected_history] == ["head"] + ["everything"] * 3
    for epochs_before in (1, 3, 4):
        for name in expected:
            (data_dir / name).unlink()
        with monkeypatch.context() as patch:
            interrupt_after(patch, epochs_before)
            assert "interrupted; run it again" in stopped(capsys, "--data-dir", data_dir, *options, status=130)
        assert not (data_dir / "tmp_checkpoint" / "best_model.h5").exists()
        assert run(data_dir, *options) == 0
        printed = capsys.readouterr().err
        assert f"going on after epoch {epochs_before}" in printed
        for number in range(1, 5):
            assert (f"epoch {number} of at most 4" in printed) == (number > epochs_before)
        assert history_of(data_dir) == expected_history
        assert content(data_dir).keys() == expected.keys()
        names = ("cnn_preds_values.json", "val_preds_values.json", "Confusion.png", "Loss.png", "Accuracy.png")
        for name in (*names, "tmp_checkpoint/best_model.h5"):
            assert content(data_dir)[name] == expected[name], name
        weights = load_model(data_dir / "tmp_checkpoint" / "best_model.h5")[0].get_weights()
        assert all(np.array_equal(*pair) for pair in zip(weights, expected_weights, strict=True))


def test_force_forgets_an_interrupted_training(data_dir, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        stopped(capsys, "--data-dir", data_dir, "--epochs", 2, status=130)
    assert run(data_dir, "--force") == 0
    printed = capsys.readouterr().err
    assert "going on" not in printed and "epoch 1 of at most 2" in printed


def test_an_interrupted_training_of_other_settings_is_not_gone_on_with(data_dir, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        stopped(capsys, "--data-dir", data_dir, "--epochs", 2, "--seed", 5, status=130)
    assert run(data_dir) == 0
    assert "going on" not in capsys.readouterr().err


def test_going_on_needs_no_starting_weights(data_dir, capsys, monkeypatch):
    """What --weights auto found on the first start decides; a network that is gone meanwhile changes nothing."""
    choices = [("none", None, "no network"), InputError("asked again")]

    def choose(choice, backbone):
        given = choices.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(weights_module, "find_starting_weights", choose)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        stopped(capsys, "--data-dir", data_dir, "--epochs", 2, "--weights", "auto", status=130)
    assert run(data_dir, "--weights", "auto") == 0
    assert read_json(data_dir / "tmp_checkpoint" / "best_model.json")["starting_weights"] == "none"


@pytest.mark.parametrize("damage", [b"", b"damaged", b"PK\x03\x04damaged"])
def test_a_damaged_state_starts_again(data_dir, capsys, monkeypatch, damage):
    (data_dir / "tmp_checkpoint").mkdir()
    (data_dir / "tmp_checkpoint" / "unfinished.npz").write_bytes(damage)
    assert load_state(data_dir / "tmp_checkpoint" / "unfinished.npz", {}) is None
    if damage == b"damaged":
        assert run(data_dir, "--epochs", 1) == 0


def test_a_state_never_brings_code(tmp_path):
    """NumPy unpickles object arrays unless told not to."""

    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "code_was_run"), "w")

    np.savez(tmp_path / "bomb.npz", record=np.array([Bomb()], dtype=object))
    assert load_state(tmp_path / "bomb.npz", {}) is None
    assert not (tmp_path / "code_was_run").exists()


def test_early_stopping_also_after_a_restart(data_dir, capsys, monkeypatch):
    """The validation gets worse from epoch 2 on: with a patience of 2 the training ends after epoch 3."""
    real_epoch = training.fit_epoch

    def worsening(model, number, *others):
        return real_epoch(model, number, *others) | {"val_accuracy": 1 - number / 10, "val_loss": float(number)}

    monkeypatch.setattr(training, "fit_epoch", worsening)
    assert run(data_dir, "--epochs", 6, "--patience", 2) == 0
    printed = capsys.readouterr().err
    assert "stopped early" in printed and [row["epoch"] for row in history_of(data_dir)] == ["1", "2", "3"]
    assert read_json(data_dir / "tmp_checkpoint" / "best_model.json")["kept_epoch"]["epoch"] == 1
    for epochs_before in (2, 3):
        with monkeypatch.context() as patch:
            interrupt_after(patch, epochs_before)
            stopped(capsys, "--data-dir", data_dir, "--epochs", 6, "--patience", 2, "--force", status=130)
        assert run(data_dir, "--epochs", 6, "--patience", 2) == 0
        printed = capsys.readouterr().err
        assert "stopped early" in printed and f"going on after epoch {epochs_before}" in printed
        assert len(history_of(data_dir)) == 3


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_the_kept_weights_are_those_of_the_best_epoch_or_the_last(data_dir, monkeypatch, keep, epoch):
    """Also when that is the head's epoch, whose frozen weights are listed in another order by some versions of Keras."""
    start = data_dir / "start.h5"
    save_model(build_model("B0", SIZE), start, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    kept, real_epoch = [], training.fit_epoch

    def noting(model, number, *others):
        line = real_epoch(model, number, *others)
        kept.append([np.array(variable) for variable in model.weights])
        return line | {"val_accuracy": 1 / number, "val_loss": 1.0}

    monkeypatch.setattr(training, "fit_epoch", noting)
    patience = 1 if keep == "last" else 5  # the last is the last, however long validation has not become better
    assert run(data_dir, "--weights", start, "--epochs", 3, "--keep", keep, "--patience", patience) == 0
    model, record = load_model(data_dir / "tmp_checkpoint" / "best_model.h5")
    assert record["kept_epoch"]["epoch"] == epoch
    assert all(np.array_equal(np.array(a), b) for a, b in zip(model.weights, kept[epoch - 1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(kept[0], kept[2], strict=True))


def test_starting_weights_that_change_train_again(data_dir, capsys):
    start = data_dir / "start.h5"
    for number in range(2):
        load_keras()[0].utils.set_random_seed(number)
        save_model(build_model("B0", SIZE), start, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
        assert run(data_dir, "--weights", start, "--epochs", 1) == 0
        printed = capsys.readouterr().err
        assert f"starting from file weights ({start})" in printed and "already trained" not in printed


def test_a_training_learns_what_can_be_learnt(data_dir):
    """Real faces are bright above, fake ones below: score 1 means real, 0 fake, not the other way round."""
    write_split_dataset(data_dir, faces={"train": 24, "val": 8, "test": 8})
    assert run(data_dir, "--epochs", 12, "--learning-rate", 0.01) == 0
    scored = [line for line in lines_of(data_dir / "cnn_preds_values.json") if line["score"] is not None]
    labels, scores = (np.array([line[name] for line in scored]) for name in ("label", "score"))
    assert scores[labels == REAL].mean() > scores[labels == FAKE].mean() + 0.2
    assert accuracy(labels, scores) > 0.7
    history = history_of(data_dir)
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


def test_two_trainings_are_alike_also_with_faces_too_large_for_memory(data_dir, monkeypatch):
    assert run(data_dir) == 0
    expected = content(data_dir)
    monkeypatch.setattr(
        importlib.import_module("deepfake.preprocessing.crops"), "fits_in_memory", lambda size_bytes: False
    )
    assert run(data_dir, "--force") == 0
    for name in ("cnn_preds_values.json", "val_preds_values.json", "Confusion.png", "Loss.png"):
        assert content(data_dir)[name] == expected[name], name
    assert sorted(os.listdir(data_dir / "tmp_checkpoint")) == ["best_model.h5", "best_model.json", "history.csv"]


# --- the real network, started as a user starts it


def start(data_dir, working_dir, *arguments):
    """Start 03 as a process of its own, elsewhere; its lines come from `.stderr`."""
    command = [sys.executable, SCRIPT, "--data-dir", data_dir, *OPTIONS, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "DEEPFAKE_DATA_DIR"}
    return subprocess.Popen(
        [str(part) for part in command], cwd=working_dir, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data root after an uninterrupted run of three epochs with EfficientNetB0, and the lines that it printed."""
    data_dir, elsewhere = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("elsewhere")
    write_split_dataset(data_dir)
    save_model(lively_network(), elsewhere / "start.h5", {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    process = start(data_dir, elsewhere, "--weights", elsewhere / "start.h5", "--epochs", 3)
    printed = process.communicate()[1]
    assert process.returncode == 0, printed
    return data_dir, elsewhere / "start.h5", printed


@pytest.mark.slow
def test_everything_that_the_design_promises_is_written(trained):
    data_dir, start_path, printed = trained
    assert tuple(sorted(os.listdir(data_dir))) == FILES
    assert sorted(os.listdir(data_dir / "tmp_checkpoint")) == ["best_model.h5", "best_model.json", "history.csv"]
    for name in ("Loss.png", "Accuracy.png", "Confusion.png"):
        assert (data_dir / name).read_bytes().startswith(b"\x89PNG") and (data_dir / name).stat().st_size > 5000
    assert [line.split(":")[0] for line in printed.splitlines()] == ["03"] * len(printed.splitlines())
    assert f"03: starting from file weights ({start_path})" in printed
    assert "03: epoch 3 of at most 3 (everything): loss" in printed


@pytest.mark.slow
def test_the_record_holds_what_is_needed_to_use_the_weights(trained):
    data_dir = trained[0]
    weights_path = data_dir / "tmp_checkpoint" / "best_model.h5"
    record = read_json(weights_path.with_suffix(".json"))
    expected = {
        "backbone": "B0",
        "input_size": SIZE,
        "class_names": list(CLASS_NAMES),
        "score": "P(real): 1 real, 0 fake",
        "threshold": 0.5,
        "margin": 0.3,
        "faces": "faces",
        "fakes": "fake videos",
        "aggregation": "mean",
        "starting_weights": "file",
        "data_digest": read_json(data_dir / "split_dataset" / "split.json")["digest"],
        "weights_digest": digest(weights_path),
    }
    assert {name: record[name] for name in expected} == expected
    assert "ImageNet mean" in record["pixels"]
    choice = record["aggregation_choice"]
    assert (
        choice["note"].startswith("4 validation groups; at least 20")
        and "ROC AUC of validation videos" in choice["criterion"]
    )
    assert {"faces", "videos", "fitted_on", "holds_for", "measured_on"} <= record["calibration"].keys()
    assert record["versions"].keys() >= {"tensorflow", "keras", "efficientnet"}
    assert record["kept_epoch"] == best_of(record["history"]) and len(record["history"]) == 3
    assert record["settings"]["epochs"] == 3 and record["settings"]["seed"] == 2020
    for split in ("val_faces", "test_faces"):
        assert record["metrics"][split].keys() == METRICS.keys()
    assert record["trained_on"] == {
        "real_videos": 4,
        "fake_videos": 4,
        "faces": 16,
        "fake_folders": [],
        "self_blend": 0,
    }


@pytest.mark.slow
def test_every_prediction_names_the_weights_that_made_it(trained):
    data_dir = trained[0]
    first_digits = digest(data_dir / "tmp_checkpoint" / "best_model.h5")[:8]
    for file in ("val_preds_values.json", "cnn_preds_values.json"):
        assert {line["weights"] for line in lines_of(data_dir / file)} == {first_digits}


@pytest.mark.slow
def test_history_and_predictions_belong_to_the_kept_weights(trained):
    """The validation accuracy that the training saw is found again in the predictions of the saved weights."""
    data_dir = trained[0]
    record = read_json(data_dir / "tmp_checkpoint" / "best_model.json")
    history = history_of(data_dir)
    assert [(row["epoch"], row["phase"]) for row in history] == [
        ("1", "head"),
        ("2", "everything"),
        ("3", "everything"),
    ]
    best = record["kept_epoch"]
    assert record["metrics"]["val_faces"]["accuracy"]["value"] == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert record["metrics"]["val_faces"]["log_loss"]["value"] == pytest.approx(best["val_loss"], abs=1e-4)
    lines = [line for line in lines_of(data_dir / "val_preds_values.json") if line["score"] is not None]
    labels, scores = (np.array([line[name] for line in lines]) for name in ("label", "score"))
    assert accuracy(labels, scores) == pytest.approx(best["val_accuracy"], abs=1e-6)


@pytest.mark.slow
def test_predictions_have_one_line_per_face_in_the_agreed_form(trained):
    data_dir = trained[0]
    for split, file in (("val", "val_preds_values.json"), ("test", "cnn_preds_values.json")):
        lines = lines_of(data_dir / file)
        faces = [line for line in lines if line["score"] is not None]
        assert len(faces) == 8 and all(line.keys() == {*FIELDS, "score"} for line in faces)
        assert {line["split"] for line in lines} == {split}
        assert all(0 < line["score"] < 1 for line in faces)
        names = {path.name for label in CLASS_NAMES for path in (data_dir / "split_dataset" / split / label).iterdir()}
        assert {line["file"] for line in faces} == names


@pytest.mark.slow
def test_training_and_03a_give_the_same_scores(trained, tmp_path):
    data_dir = trained[0]
    assert load_weights.main(["--data-dir", str(data_dir), "--output-dir", str(tmp_path)]) == 0
    expected = {line["file"]: line["score"] for line in lines_of(data_dir / "cnn_preds_values.json")}
    found = {line["file"]: line["score"] for line in lines_of(tmp_path / "cnn_preds_values.json")}
    assert found.keys() == expected.keys()
    assert np.ptp([score for score in found.values() if score is not None]) > 1e-4  # ten times the tolerance below
    for file, score in found.items():
        assert score == (None if expected[file] is None else pytest.approx(expected[file], abs=1e-5))


def kill_after_epoch(process, number):
    """Send SIGKILL as soon as the process says that an epoch is finished."""
    for line in process.stderr:
        if f": epoch {number} of" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_and_rerun_ends_like_an_uninterrupted_run(trained, tmp_path):
    """Killed in the head phase, with the next to come. On a CPU the sums of several threads may differ in their last bits from
    run to run, nothing else (with fewer operations they do not: see the test above): hence a tolerance, not equality."""
    data_dir, start_path, _ = trained
    write_split_dataset(tmp_path)
    options = ["--weights", start_path, "--epochs", 3]
    kill_after_epoch(start(tmp_path, tmp_path, *options), 1)
    assert os.listdir(tmp_path / "tmp_checkpoint") == ["unfinished.npz"]
    process = start(tmp_path, tmp_path, *options)
    printed = process.communicate()[1]
    assert process.returncode == 0, printed
    assert "going on after epoch 1" in printed and "epoch 1 of" not in printed and "epoch 2 of" in printed
    assert {*os.listdir(tmp_path)} == {*FILES}
    assert sorted(os.listdir(tmp_path / "tmp_checkpoint")) == ["best_model.h5", "best_model.json", "history.csv"]
    for row, expected in zip(history_of(tmp_path), history_of(data_dir), strict=True):
        assert (row["epoch"], row["phase"]) == (expected["epoch"], expected["phase"])
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=1e-3), (row, expected)
    models = [load_model(folder / "tmp_checkpoint" / "best_model.h5")[0] for folder in (tmp_path, data_dir)]
    for found, expected in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


# --- self-blended faces and calibration


@pytest.fixture
def real_only_dir(tmp_path, small_network):
    write_split_dataset(tmp_path, classes=(REAL,))
    return tmp_path


def test_real_faces_alone_are_trained_and_judged_on_their_blends(real_only_dir, capsys):
    """Each real face of validation and test is there once as it is and once blended, which is marked and counts as fake."""
    assert run(real_only_dir, "--self-blend", 1) == 0
    assert "self-blended" in capsys.readouterr().err
    for name, split in (("val_preds_values.json", "val"), ("cnn_preds_values.json", "test")):
        lines = [line for line in lines_of(real_only_dir / name) if line["score"] is not None]
        reals = [line for line in lines if line["label"] == REAL]
        fakes = [line for line in lines if line["label"] == FAKE]
        assert len(reals) == len(fakes) == 4 and all(line["split"] == split for line in lines)
        assert {line["self_blended"] for line in reals} == {"target"}
        assert {line["self_blended"] for line in fakes} == {"blend"}
        assert {line["group"] for line in fakes} == {line["group"] for line in reals}
        assert [line["file"] for line in fakes] == [line["file"] for line in reals]
        assert not {line["video_id"] for line in fakes} & {line["video_id"] for line in reals}  # never one verdict
    record = read_json(real_only_dir / "tmp_checkpoint" / "best_model.json")
    assert record["fakes"] == "self-blended faces" and record["settings"]["self_blend"] == 1
    assert (record["trained_on"]["real_videos"], record["trained_on"]["fake_videos"]) == (4, 0)


def test_self_blended_validation_is_the_same_for_one_seed(real_only_dir):
    """Trained or only predicted again, the blends are those of the seed; the scores say so."""
    assert run(real_only_dir, "--self-blend", 1) == 0
    before = (real_only_dir / "cnn_preds_values.json").read_bytes()
    (real_only_dir / "cnn_preds_values.json").unlink()
    assert run(real_only_dir, "--self-blend", 1) == 0  # finished: predicts again
    assert (real_only_dir / "cnn_preds_values.json").read_bytes() == before


def test_self_blending_with_fakes_is_judged_on_the_fakes(data_dir):
    assert run(data_dir, "--self-blend", 0.5) == 0
    lines = lines_of(data_dir / "cnn_preds_values.json")
    assert not any("self_blended" in line for line in lines) and {line["label"] for line in lines} == {REAL, FAKE}
    assert read_json(data_dir / "tmp_checkpoint" / "best_model.json")["fakes"] == "fake videos"


def test_self_blending_changes_the_training(data_dir):
    losses = []
    for share in (0, 1):
        assert run(data_dir, "--self-blend", share) == 0
        losses.append(history_of(data_dir)[0]["loss"])
    assert losses[0] != losses[1]


def test_landmarks_are_scaled_to_the_input_size(tmp_path):
    """The crops of this dataset are 36 px wide and 40 px high."""
    write_split_dataset(tmp_path)
    _, parts = train_cnn.dataset_to_train_on(tmp_path / "split_dataset", None, 0)
    part = batches.load_part(parts["train"], 80, None)
    assert part.landmarks.shape == (16, 5, 2)
    np.testing.assert_allclose(part.landmarks, [np.array(LANDMARKS) * [80 / 36, 2.0]] * 16)


def test_with_few_groups_scores_are_left_alone_and_the_record_says_so(data_dir, capsys):
    assert run(data_dir) == 0
    calibration = read_json(data_dir / "tmp_checkpoint" / "best_model.json")["calibration"]
    assert (calibration["faces"]["a"], calibration["faces"]["b"]) == (1, 0)
    assert "4 validation groups, 30 are needed" in calibration["fitted_on"]
    assert "30 are needed" in capsys.readouterr().err


def test_with_few_groups_the_calibration_of_the_starting_weights_stays(data_dir):
    start = data_dir / "start.h5"
    parameters = {"faces": {"a": 2.0, "b": -0.5}, "videos": {"a": 3.0, "b": 0.25}}
    record = {"backbone": "B0", "input_size": SIZE, "faces": "faces", "calibration": parameters}
    save_model(build_model("B0", SIZE), start, record)
    assert run(data_dir, "--weights", start) == 0
    calibration = read_json(data_dir / "tmp_checkpoint" / "best_model.json")["calibration"]
    for kind, expected in parameters.items():
        assert {name: calibration[kind][name] for name in "ab"} == expected
    assert "that of the starting weights stays" in calibration["fitted_on"]


def test_a_face_that_cannot_be_judged_has_a_reason_and_no_part_in_the_figures(data_dir):
    for split in ("val", "test"):
        path = data_dir / "split_dataset" / split / "real" / f"{split}_real_0-000-00.png"
        write_picture(path, read_image(path) // 20)
    assert run(data_dir) == 0
    record = read_json(data_dir / "tmp_checkpoint" / "best_model.json")
    for split, file in (("val", "val_preds_values.json"), ("test", "cnn_preds_values.json")):
        lines = [line for line in lines_of(data_dir / file) if line["file"]]
        dark = [line for line in lines if line["score"] is None]
        assert [(line["file"], line["reason"]) for line in dark] == [(f"{split}_real_0-000-00.png", TOO_DARK)]
        labels, scores = (np.array([line[name] for line in lines if line not in dark]) for name in ("label", "score"))
        assert len(labels) == 7
        for name in ("accuracy", "roc_auc", "average_precision", "log_loss"):
            assert record["metrics"][f"{split}_faces"][name]["value"] == pytest.approx(METRICS[name](labels, scores))
    assert record["calibration"]["fitted_on"].startswith("not fitted: 4 validation groups")


def test_scores_are_calibrated_in_03_and_03a_alike(data_dir, monkeypatch):
    """With enough groups a and b are fitted, and every score is sigmoid(a * logit + b) of the network's own."""
    monkeypatch.setattr(importlib.import_module("deepfake.evaluation.calibration"), "GROUPS_TO_CALIBRATE", 2)
    assert run(data_dir) == 0
    weights = data_dir / "tmp_checkpoint" / "best_model.h5"
    written = {line["file"]: line["score"] for line in lines_of(data_dir / "cnn_preds_values.json")}
    model, record = load_model(weights)
    rows = train_cnn.dataset_to_train_on(data_dir / "split_dataset", None, 0)[1]["test"]
    raw = scoring.score_faces(KerasScorer(model), [row["path"] for row in rows], SIZE, "03")
    faces = record["calibration"]["faces"]
    expected = 1 / (1 + np.exp(-(faces["a"] * np.log(np.array(raw) / (1 - np.array(raw))) + faces["b"])))
    assert (faces["a"], faces["b"]) != (1, 0)
    np.testing.assert_allclose([written[row["file"]] for row in rows], expected, atol=1e-6)
    assert faces["log_loss"]["after"] <= faces["log_loss"]["before"] + 1e-6
    assert load_weights.main(["--data-dir", str(data_dir)]) == 0
    again = {line["file"]: line["score"] for line in lines_of(data_dir / "cnn_preds_values.json")}
    assert again == pytest.approx(written, abs=1e-6)


def test_weights_whose_calibration_makes_no_sense_are_refused(data_dir, capsys):
    assert run(data_dir) == 0
    path = data_dir / "tmp_checkpoint" / "best_model.json"
    for nonsense in ({"faces": {"a": -1.0, "b": 0.0}}, {"faces": {"a": "x", "b": 0.0}}, [1]):
        write_json(path, {**read_json(path), "calibration": nonsense})
        with pytest.raises(SystemExit) as caught:
            load_weights.main(["--data-dir", str(data_dir)])
        assert caught.value.code == 2 and "calibration" in capsys.readouterr().err
