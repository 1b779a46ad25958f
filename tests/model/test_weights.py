"""deepfake/model/efficientnet.py: the network, its two files, and the weights it starts from."""

import hashlib
import importlib
import json
import os
import pickle
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import h5py
import numpy as np
import pytest

from common.constants import CLASS_NAMES, MARGIN
from common.errors import InputError
from common.files import digest
from deepfake.model import efficientnet as models
from deepfake.model import weights
from deepfake.model.efficientnet import BACKBONES, PIXEL_PREPARATION, backbone_of, build_model, load_keras
from deepfake.model.record import is_model_record, read_model_record, record_path
from deepfake.model.scorer import load_scorer
from deepfake.model.weights import download_weights, find_starting_weights, load_arrays, load_model, save_model
from deepfake.preprocessing.crops import to_square
from tests.datasets import face_bgr, lively_network

train_cnn = importlib.import_module("03_train_cnn")
SIZE = 32
RECORD = {"backbone": "B0", "input_size": SIZE, "faces": "faces", "class_names": CLASS_NAMES}
FACES = np.stack([to_square(face_bgr(label, 50 + label), SIZE) for label in range(4)])


@pytest.fixture(scope="module")
def network():
    return lively_network()


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    """Folder with best_model.h5 and best_model.json of `network`. Treat it as read-only: copy what you change."""
    folder = tmp_path_factory.mktemp("saved")
    save_model(network, folder / "best_model.h5", RECORD)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy" / "best_model.h5"


def scores(model):
    return model(FACES, training=False).numpy()[:, 0]


def test_two_dense_layers_and_a_sigmoid_on_efficientnet(network):
    keras, efficientnet = load_keras()
    kinds = [type(layer).__name__ for layer in network.layers[3:]]
    assert kinds == ["GlobalAveragePooling2D", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    assert network.layers[-1].activation is keras.activations.sigmoid and network.output_shape == (None, 1)
    assert backbone_of(network).name == "efficientnet-b0" and backbone_of(network).count_params() == 4_049_564


def test_scores_lie_between_0_and_1_and_differ(network):
    found = scores(network)
    assert found.shape == (4,) and found.dtype == np.float32
    assert ((found > 0) & (found < 1)).all() and np.ptp(found) > 1e-3


def test_pixels_are_normalised_as_efficientnet_was_trained(network):
    _, efficientnet = load_keras()
    levels = np.arange(256, dtype=np.uint8)
    faces_rgb = np.stack([levels, np.roll(levels, 80), levels[::-1]], axis=-1).reshape(1, 16, 16, 3).repeat(2, axis=1)
    faces_rgb = faces_rgb.repeat(2, axis=2)
    normalised = network.get_layer("normalised")
    expected = efficientnet.preprocess_input(faces_rgb.astype(np.float32))
    np.testing.assert_allclose(normalised(faces_rgb), expected, atol=1e-5)
    white = np.array(normalised(np.full((1, 2, 2, 3), 255, np.uint8)))[0, 0, 0]
    np.testing.assert_allclose(white, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5)


def test_whole_numbers_and_floats_score_alike(network):
    assert np.array_equal(scores(network), network(FACES.astype(np.float32), training=False).numpy()[:, 0])


def test_every_batch_norm_has_the_short_memory(network):
    keras, _ = load_keras()
    norms = [layer for layer in backbone_of(network).layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 49 and {layer.momentum for layer in norms} == {models.NORM_MOMENTUM}


def test_dropout_is_off_in_prediction_and_on_in_training(network):
    assert np.array_equal(scores(network), scores(network))
    training = [network.layers[5](np.ones((1, 256), np.float32), training=True).numpy() for _ in range(2)]
    assert not np.array_equal(*training)


def test_saved_weights_give_identical_predictions(network, saved):
    model, record = load_model(saved / "best_model.h5")
    assert np.array_equal(scores(model), scores(network))
    assert record == {**RECORD, "class_names": ["fake", "real"], "weights_digest": digest(saved / "best_model.h5")}
    assert sorted(os.listdir(saved)) == ["best_model.h5", "best_model.json"]  # no temporary names left


def test_the_same_weights_are_loaded_once_and_others_anew(saved, copied):
    model, _ = load_model(saved / "best_model.h5")
    assert load_model(saved / "best_model.h5")[0] is model
    record = json.loads(record_path(copied).read_text())
    record_path(copied).write_text(json.dumps(record | {"input_size": 2 * SIZE}))
    larger, _ = load_model(copied)
    assert larger is not model and larger.input_shape == (None, 2 * SIZE, 2 * SIZE, 3)
    record_path(copied).write_text(json.dumps(record))
    with h5py.File(copied, "r+") as file:
        file.attrs["changed"] = 1
    record_path(copied).write_text(json.dumps(record | {"weights_digest": digest(copied)}))
    assert load_model(copied)[0].input_shape == (None, SIZE, SIZE, 3)


def test_the_record_lies_beside_the_weights():
    assert record_path("folder/x.h5").as_posix() == "folder/x.json"


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "B8"},
        {"backbone": None},
        {"input_size": None},
        {"input_size": "32"},
        {"input_size": 10**9},
        {"input_size": 31},
        {"faces": "hands"},
    ],
)
def test_a_record_that_does_not_say_enough_is_none(change):
    assert is_model_record(RECORD)
    assert not is_model_record({**RECORD, **change})


def test_a_record_is_an_object():
    assert not is_model_record(["B0", 32]) and not is_model_record(None)


def refused(path, *words):
    """Assert that loading fails with one line that names the file, for Keras and for ONNX Runtime."""
    for load in (load_model, load_scorer):
        with pytest.raises(InputError) as caught:
            load(path)
        message = str(caught.value)
        assert "\n" not in message
        for word in (str(path), *words):
            assert word in message


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.h5", "does not exist")


def test_a_file_that_is_no_hdf5_is_refused(copied):
    copied.write_bytes(pickle.dumps({"weights": [1, 2]}))
    refused(copied, "is not a weights file")


def test_a_truncated_file_is_refused_even_if_its_record_has_no_digest(copied):
    copied.write_bytes(copied.read_bytes()[:100_000])
    refused(copied, "is not the file that best_model.json describes")
    record_path(copied).write_text(json.dumps(RECORD))
    refused(copied, "does not fit")


@pytest.mark.parametrize("text", [None, "{broken", "[]", '{"backbone": "B0"}'])
def test_a_file_without_a_usable_record_is_refused(copied, text):
    record_path(copied).unlink() if text is None else record_path(copied).write_text(text)
    refused(copied, "best_model.json")


@pytest.mark.parametrize(
    "change", [{"class_names": ["real", "fake"]}, {"class_names": None}, {"pixels": "BGR, /255"}, {"margin": 0.1}]
)
def test_weights_whose_scores_mean_something_else_are_refused(copied, change):
    record = {**RECORD, "pixels": PIXEL_PREPARATION, "margin": MARGIN}
    record_path(copied).write_text(json.dumps(record))
    assert read_model_record(copied) == {**record, "class_names": ["fake", "real"]}
    record_path(copied).write_text(json.dumps({**record, **change}))
    [(name, value)] = change.items()
    refused(copied, f"was trained with {name} {value!r}, but this project uses")


def test_a_file_that_its_record_does_not_describe_is_refused(copied):
    with h5py.File(copied, "r+") as file:
        file.attrs["note"] = "changed"
    refused(copied, "is not the file that best_model.json describes")


@pytest.mark.slow
def test_weights_of_another_backbone_are_refused(tmp_path):
    path = tmp_path / "b1.h5"
    save_model(build_model("B1", SIZE), path, {**RECORD, "backbone": "B1"})
    with pytest.raises(InputError, match="holds B1 weights; use --backbone B1"):
        find_starting_weights(str(path), "B0")
    record_path(path).write_text(json.dumps(RECORD))
    refused(path, "does not fit a B0 network")


def test_a_file_with_odd_contents_is_refused(copied):
    record_path(copied).write_text(json.dumps(RECORD))
    with h5py.File(copied, "r+") as file:
        file["model_weights"].attrs["layer_names"] = 7
    refused(copied, "does not fit")
    with h5py.File(copied, "w") as file:
        file["something"] = [1]
    refused(copied, "does not fit")


@pytest.mark.slow
def test_a_model_file_never_brings_code(copied, tmp_path, network):
    """The hostile file does run code when Keras itself loads it; here only its arrays are read."""
    keras, _ = load_keras()
    marker = tmp_path / "code_was_run"
    inputs = keras.Input((3,))
    code = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    keras.Model(inputs, keras.layers.Lambda(code)(inputs)).save(tmp_path / "lambda.h5")
    marker.unlink()
    with h5py.File(tmp_path / "lambda.h5") as file:
        config = file.attrs["model_config"]
    keras.models.load_model(tmp_path / "lambda.h5", safe_mode=False)
    assert marker.exists()
    marker.unlink()

    class Bomb:
        def __reduce__(self):
            return open, (str(marker), "w")

    for hostile in (config, np.void(pickle.dumps(Bomb()))):
        with h5py.File(copied, "r+") as file:
            file.attrs["model_config"] = hostile
        record_path(copied).write_text(json.dumps(RECORD))
        model, _ = load_model(copied)
        scored = load_scorer(copied)[0].score(FACES)
        assert not marker.exists()
        assert np.array_equal(scores(model), scores(network))
        np.testing.assert_allclose(scored, scores(network), atol=1e-5)


@pytest.mark.slow
def test_the_frozen_phase_changes_nothing_but_the_head(network):
    """BatchNorm in inference mode: also the moving statistics stay."""
    model = build_model("B0", SIZE)
    model.set_weights(network.get_weights())
    train_cnn.compile_model(model, "head", 1e-3, 4)
    before = [array.copy() for array in backbone_of(model).get_weights()]
    head_before = model.layers[-1].get_weights()
    model.fit(FACES, np.array([[0], [1], [0], [1]]), batch_size=2, epochs=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone_of(model).get_weights(), strict=True))
    assert not np.array_equal(head_before[0], model.layers[-1].get_weights()[0])
    train_cnn.compile_model(model, "everything", 1e-3, 4)
    assert len(model.trainable_variables) == len(network.trainable_variables) > 200


# --- starting weights


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A headless EfficientNetB0 in the form in which the efficientnet package publishes them, and its first kernel."""
    keras, efficientnet = load_keras()
    keras.utils.set_random_seed(5)
    headless = efficientnet.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    path = tmp_path_factory.mktemp("published") / "headless.h5"
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File(path, "w") as file:
        legacy.save_weights_to_hdf5_group(file, headless)
    return path.read_bytes(), headless.get_weights()


@pytest.fixture
def server(published, monkeypatch, tmp_path):
    """Serve `published` on this machine in place of the package's addresses; gives the list of requested paths."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(published[0])))
            self.end_headers()
            self.wfile.write(published[0])

        def log_message(self, *args):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    point_package_at(monkeypatch, f"http://127.0.0.1:{http.server_port}/", published[0], tmp_path)
    yield requests
    http.shutdown()
    thread.join()
    http.server_close()


def point_package_at(monkeypatch, address, content, tmp_path):
    weights = importlib.import_module("efficientnet.weights")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name, algorithm in (("IMAGENET_WEIGHTS", "sha256"), ("NS_WEIGHTS", "md5")):
        monkeypatch.setattr(weights, f"{name}_PATH", address)
        checksum = hashlib.new(algorithm, content).hexdigest()
        monkeypatch.setitem(getattr(weights, f"{name}_HASHES"), "efficientnet-b0", ("of another file", checksum))


@pytest.mark.parametrize(
    "kind, file",
    [
        ("imagenet", "efficientnet-b0_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5"),
        ("noisy-student", "efficientnet-b0_noisy-student_notop.h5"),
    ],
)
def test_weights_are_downloaded_once_and_used(server, published, tmp_path, kind, file):
    path = download_weights(kind, "B0")
    assert path == tmp_path / "keras" / "models" / file and path.read_bytes() == published[0]
    assert download_weights(kind, "B0") == path
    assert find_starting_weights(kind, "B0") == (kind, path, None)
    assert server == [f"/{file}"]
    assert os.listdir(path.parent) == [file]
    model = build_model("B0", SIZE, path)
    assert all(np.array_equal(*pair) for pair in zip(backbone_of(model).get_weights(), published[1], strict=True))


def test_the_names_of_all_published_files_are_known(server):
    weights = importlib.import_module("efficientnet.weights")
    for backbone in BACKBONES:
        name = f"efficientnet-{backbone.lower()}"
        assert len(weights.IMAGENET_WEIGHTS_HASHES[name]) == len(weights.NS_WEIGHTS_HASHES[name]) == 2


def test_auto_is_imagenet_where_it_can_be_had(server):
    kind, path, notice = find_starting_weights("auto", "B0")
    assert (kind, notice) == ("imagenet", None) and path.is_file()


def test_a_damaged_download_is_refused_and_not_kept(server, monkeypatch, published, tmp_path):
    port_address = importlib.import_module("efficientnet.weights").NS_WEIGHTS_PATH
    point_package_at(monkeypatch, port_address, b"other content", tmp_path)
    with pytest.raises(InputError, match="arrived damaged from http://127.0.0.1"):
        download_weights("noisy-student", "B0")
    assert not (tmp_path / "keras").exists()


def test_a_damaged_cached_file_is_downloaded_again(server, published):
    path = download_weights("noisy-student", "B0")
    path.write_bytes(b"damaged")
    assert download_weights("noisy-student", "B0").read_bytes() == published[0]
    assert len(server) == 2


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
    point_package_at(monkeypatch, address, b"", tmp_path)


def test_without_network_auto_takes_the_base_weights_then_none(no_network, saved, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "BASE_WEIGHTS", saved / "best_model.h5")
    kind, path, notice = find_starting_weights("auto", "B0")
    assert (kind, path) == ("base", saved / "best_model.h5")
    assert notice.startswith("imagenet weights cannot be downloaded (") and "\n" not in notice
    assert find_starting_weights("auto", "B1")[:2] == ("none", None)  # the base weights are for B0
    monkeypatch.setattr(weights, "BASE_WEIGHTS", tmp_path / "missing.h5")
    assert find_starting_weights("auto", "B0")[:2] == ("none", None)


def test_without_network_what_was_asked_for_is_an_error(no_network):
    for kind in ("imagenet", "noisy-student"):
        with pytest.raises(InputError, match=f"{kind} weights cannot be downloaded"):
            find_starting_weights(kind, "B0")


def serve_once(listener, answer):
    connection = listener.accept()[0]
    connection.recv(1000)
    connection.sendall(answer)
    connection.close()


@pytest.mark.slow
def test_a_server_that_never_answers_costs_five_seconds(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        point_package_at(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/", b"", tmp_path)
        monkeypatch.setattr(weights, "BASE_WEIGHTS", tmp_path / "missing.h5")
        started = time.monotonic()
        kind, _, notice = find_starting_weights("auto", "B0")
    assert 4 < time.monotonic() - started < 6.5
    assert kind == "none" and notice == "imagenet weights cannot be downloaded (timed out)"


def test_a_server_that_speaks_something_else_is_an_error_in_words(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_once, args=(listener, b"220 mail ready\r\n\r\n"))
        thread.start()
        point_package_at(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/", b"", tmp_path)
        with pytest.raises(InputError, match="cannot be downloaded"):
            download_weights("imagenet", "B0")
        thread.join()


def test_none_is_random(monkeypatch):
    assert find_starting_weights("none", "B0") == ("none", None, None)


def test_base_and_path_are_what_they_say(saved, monkeypatch):
    monkeypatch.setattr(weights, "BASE_WEIGHTS", saved / "best_model.h5")
    assert find_starting_weights("base", "B0") == ("base", saved / "best_model.h5", None)
    assert find_starting_weights(str(saved / "best_model.h5"), "B0") == ("file", saved / "best_model.h5", None)
    with pytest.raises(InputError, match="holds B0 weights; use --backbone B0"):
        find_starting_weights("base", "B1")


def test_a_misspelt_choice_is_a_missing_file():
    with pytest.raises(InputError, match="imagnet does not exist"):
        find_starting_weights("imagnet", "B0")


def test_load_arrays_takes_the_saved_arrays(network, saved):
    model = build_model("B0", SIZE)
    assert not np.array_equal(scores(model), scores(network))
    load_arrays(model, saved / "best_model.h5")
    assert np.array_equal(scores(model), scores(network))


def test_read_model_record_gives_what_was_saved(saved):
    assert read_model_record(saved / "best_model.h5")["input_size"] == SIZE
