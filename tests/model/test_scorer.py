"""deepfake/model/scorer.py: scores without TensorFlow, and with the scores of the network that Keras builds."""

import importlib
import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from common.errors import InputError
from common.files import digest
from common.paths import REPOSITORY_DIR
from deepfake.model import efficientnet, grad_cam, scorer
from deepfake.model import weights as weights_module
from deepfake.model.efficientnet import BACKBONES, build_model, load_keras
from deepfake.model.efficientnet_onnx import DEPTHS, STAGES, WIDTHS, Weights
from deepfake.model.record import record_path
from deepfake.model.scorer import CpuScorer, KerasScorer, load_scorer, scorer_of
from deepfake.model.weights import BASE_WEIGHTS, load_model, save_model
from deepfake.preprocessing.crops import to_square
from tests.datasets import face_bgr, lively_network

SIZE = 32
RECORD = {"backbone": "B0", "input_size": SIZE, "faces": "faces"}


def faces_of(size, number=6):
    return np.stack([to_square(face_bgr(label % 2, 50 + label), size) for label in range(number)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Weights as 03 leaves them. Treat them as read-only."""
    path = tmp_path_factory.mktemp("saved") / "best_model.h5"
    save_model(lively_network(), path, RECORD)
    return path


@pytest.fixture
def copied(saved, tmp_path):
    for path in (saved, record_path(saved)):
        shutil.copy(path, tmp_path)
    return tmp_path / saved.name


def test_scores_are_those_of_keras(saved, without_gpu):
    face_scorer, record = load_scorer(saved)
    assert isinstance(face_scorer, CpuScorer) and record["input_size"] == SIZE
    faces_rgb = faces_of(SIZE)
    expected = lively_network()(faces_rgb, training=False).numpy()[:, 0]
    assert np.ptp(expected) > 1e-3
    found = face_scorer.score(faces_rgb)
    assert found.dtype == np.float64 and found.shape == (6,)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(KerasScorer(lively_network()).score(faces_rgb), expected, atol=1e-5)
    assert np.array_equal(face_scorer.score(faces_rgb[::-1]), found[::-1]), "what else is scored changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "size"), [("B0", 37), ("B1", 32), ("B3", 40), ("B7", 64)])
def test_other_backbones_and_odd_sizes_compute_what_keras_does(tmp_path, without_gpu, backbone, size):
    """Each layer has statistics of its own: what is mixed up would show."""
    keras, _ = load_keras()
    keras.utils.set_random_seed(5)
    model, rng = build_model(backbone, size), np.random.default_rng(5)
    _, normalise, inner, *_ = model.layers
    for layer in inner.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.8, 1.2, layer.gamma.shape))
            layer.beta.assign(rng.uniform(-0.2, 0.2, layer.beta.shape))
            layer.momentum = 0.1
    model(faces_of(size, 16), training=True)
    save_model(model, tmp_path / "model.h5", RECORD | {"backbone": backbone, "input_size": size})
    faces_rgb = faces_of(size, 3)
    expected = keras.ops.convert_to_numpy(inner(normalise(faces_rgb), training=False)).transpose(0, 3, 1, 2)
    found = load_scorer(tmp_path / "model.h5")[0].run("activation", faces_rgb)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_maps_are_those_of_the_gradient_that_tensorflow_takes(without_gpu):
    face_scorer, record = load_scorer(BASE_WEIGHTS)
    faces_rgb = faces_of(record["input_size"], 4)
    heat, scores = grad_cam.explain_on_cpu(face_scorer, faces_rgb)
    model, _ = load_model(BASE_WEIGHTS)
    expected, expected_scores = grad_cam.build_explainer(model, grad_cam.LAST_LAYER)(faces_rgb)
    assert expected.shape == heat.shape == (4, 7, 7) and expected.max() > 0.01
    np.testing.assert_allclose(heat, expected, atol=1e-4 * expected.max())
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_allclose(scores, face_scorer.score(faces_rgb), atol=1e-6)


def test_03b_takes_tensorflow_only_where_a_gradient_goes_through_convolutions(saved, without_gpu, monkeypatch):
    record = json.loads(record_path(BASE_WEIGHTS).read_text())
    explainer = grad_cam.find_explainer(BASE_WEIGHTS, record["input_size"])
    assert explainer.func is grad_cam.explain_on_cpu and explainer.args == (load_scorer(BASE_WEIGHTS)[0],)
    monkeypatch.setattr(weights_module, "load_model", lambda path: (path, None))
    monkeypatch.setattr(grad_cam, "build_explainer", lambda model, layer: (model, layer))
    assert grad_cam.find_explainer(saved, SIZE) == (saved, grad_cam.FINER_LAYER)
    monkeypatch.setattr(scorer, "load_scorer", lambda path: (KerasScorer(None), None))
    assert grad_cam.find_explainer(BASE_WEIGHTS, 224) == (BASE_WEIGHTS, grad_cam.LAST_LAYER)


def test_tensorflow_is_not_even_imported(saved):
    code = (
        "import sys, numpy as np; from deepfake.model.scorer import load_scorer; face_scorer, _ = load_scorer(sys.argv[1]); "
        "face_scorer.score(np.zeros((2, 32, 32, 3), np.uint8)); print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", code, saved], cwd=REPOSITORY_DIR, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")


def test_where_there_is_no_device_nothing_is_started_to_look_for_one(monkeypatch):
    def started():
        raise AssertionError

    monkeypatch.setattr(efficientnet, "load_keras", started)
    monkeypatch.setattr(scorer, "GPU_DEVICES", ("no such device", "nor this"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not scorer.has_gpu()
    monkeypatch.setattr(scorer, "GPU_DEVICES", ("no such device", "nul[l]"))  # there is one
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not scorer.has_gpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(AssertionError):
        scorer.has_gpu()


def test_on_a_gpu_keras_scores(saved, monkeypatch):
    monkeypatch.setattr(scorer, "has_gpu", lambda: True)
    monkeypatch.setattr(scorer, "KERAS_BATCH", 4)
    face_scorer, record = load_scorer(saved)
    assert isinstance(face_scorer, KerasScorer) and record["backbone"] == "B0"
    expected = lively_network()(faces_of(SIZE), training=False).numpy()[:, 0]
    np.testing.assert_allclose(face_scorer.score(faces_of(SIZE)), expected, atol=1e-5)
    assert scorer_of(face_scorer.model, b"not looked at", "B0", SIZE).model is face_scorer.model


def test_a_model_that_was_just_trained_scores_as_its_file_does(saved, without_gpu):
    face_scorer = scorer_of(None, saved.read_bytes(), "B0", SIZE)
    assert np.array_equal(face_scorer.score(faces_of(SIZE)), load_scorer(saved)[0].score(faces_of(SIZE)))


def change(path, edit):
    """Change a weights file and what its record says of it."""
    with h5py.File(path, "r+") as file:
        edit(file["model_weights"])
    record = json.loads(record_path(path).read_text())
    record_path(path).write_text(json.dumps(record | {"weights_digest": digest(path)}))


def replace(weights, name, values):
    del weights[name]
    weights[name] = values


def add_a_layer(weights):
    weights.attrs["layer_names"] = [*weights.attrs["layer_names"], "one_more"]
    weights.create_group("one_more").attrs["weight_names"] = ["one_more/kernel", "one_more/bias"]
    weights["one_more/one_more/kernel"], weights["one_more/one_more/bias"] = np.ones((1, 1)), np.ones(1)


def add_an_array(weights):
    weights["score"].attrs["weight_names"] = [*weights["score"].attrs["weight_names"], "score/more"]
    weights["score/score/more"] = np.ones(1)


def lay_elsewhere(weights):
    """The array is in the file "other" beside it, in raw bytes."""
    group = weights["score/score"]
    del group["bias"]
    group.create_dataset("bias", (1,), np.float32, external=[(f"{weights.file.filename}.other", 0, 4)])


def be_virtual(weights):
    layout = h5py.VirtualLayout(shape=(1,), dtype=np.float32)
    layout[:] = h5py.VirtualSource(f"{weights.file.filename}.other", "bias", shape=(1,))
    del weights["score/score/bias"]
    weights["score/score"].create_virtual_dataset("bias", layout)


def claim_much(weights):
    """A petabyte, of which nothing is stored."""
    del weights["score/score/kernel"]
    weights["score/score"].create_dataset("kernel", (2**24, 2**24), np.float32, chunks=(64, 1))


TOP_BETA, SCORE_BIAS = "efficientnet-b0/top_bn/beta", "score/score/bias"
EDITS = {
    "a shorter array": lambda weights: replace(weights, TOP_BETA, np.zeros(1279)),
    "a bias of two dimensions": lambda weights: replace(weights, SCORE_BIAS, np.zeros((1, 1))),
    "text in place of numbers": lambda weights: replace(weights, SCORE_BIAS, [b"x"]),
    "no group of a layer": lambda weights: weights.__delitem__("efficientnet-b0/block3a_se_reduce"),
    "no names of layers": lambda weights: weights.attrs.__delitem__("layer_names"),
    "numbers as names": lambda weights: weights["score"].attrs.__setitem__("weight_names", [1, 2]),
    "no names of arrays": lambda weights: weights["score"].attrs.__setitem__("weight_names", []),
    "a layer too many": add_a_layer,
    "an array too many": add_an_array,
    "a soft link": lambda weights: replace(weights, SCORE_BIAS, h5py.SoftLink("/model_weights/dense_1/dense_1/bias")),
    "a link to another file": lambda weights: replace(weights, SCORE_BIAS, h5py.ExternalLink("other.h5", "bias")),
    "an array in another file": lay_elsewhere,
    "a virtual array": be_virtual,
    "an array of a petabyte": claim_much,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_arrays_of_something_else_are_refused_in_words(copied, without_gpu, edit):
    change(copied, edit)
    with pytest.raises(InputError, match=r"best_model.h5 does not fit a B0 network: it belongs to another backbone"):
        load_scorer(copied)


def test_the_architecture_is_that_of_the_efficientnet_package(monkeypatch):
    load_keras()
    package = importlib.import_module("efficientnet.model")
    found = [
        (block.output_filters, block.num_repeat, block.strides[0], block.kernel_size)
        for block in package.DEFAULT_BLOCKS_ARGS
    ]
    assert found == list(STAGES)
    monkeypatch.setattr(package, "EfficientNet", lambda width, depth, *others, **options: (width, depth))
    assert [getattr(package, f"EfficientNet{name}")() for name in BACKBONES] == list(zip(WIDTHS, DEPTHS, strict=True))


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "B0"])
def test_another_backbone_than_the_record_says_is_refused(copied, without_gpu, backbone):
    record_path(copied).write_text(json.dumps(RECORD | {"backbone": backbone}))
    with pytest.raises(InputError, match=f"does not fit a {backbone} network"):
        load_scorer(copied)


def test_the_same_weights_are_loaded_once_and_others_anew(saved, copied, without_gpu):
    face_scorer, _ = load_scorer(saved)
    assert load_scorer(saved)[0] is face_scorer
    change(copied, lambda weights: weights["score/score/bias"].__setitem__(0, 3.0))
    other, _ = load_scorer(copied)
    assert other is not face_scorer and (other.score(faces_of(SIZE)) > face_scorer.score(faces_of(SIZE))).all()


def test_every_array_is_found_in_the_order_of_the_layers(saved):
    with h5py.File(saved) as file:
        layers = Weights(file).layers
        sizes = [dataset.size for arrays in layers.values() for dataset in arrays.values()]
    assert list(layers)[0] == "stem_conv" and list(layers)[-1] == "score"
    assert sum(sizes) == lively_network().count_params()
