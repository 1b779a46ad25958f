"""03b_explain.py: where the network saw signs of a fake. Its maps are tested on blends whose place is known."""

import importlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest

from common.constants import FAKE, REAL
from common.files import write_json
from common.paths import REPOSITORY_DIR
from deepfake.evaluation.predictions import FIELDS, write_predictions
from deepfake.evaluation.scoring import score_faces
from deepfake.model import grad_cam
from deepfake.model import record as record_module
from deepfake.model import weights as weights_module
from deepfake.model.batches import load_part
from deepfake.model.efficientnet import backbone_of, load_keras
from deepfake.model.record import read_model_record
from deepfake.model.scorer import KerasScorer
from deepfake.model.weights import BASE_WEIGHTS, load_model, save_model
from deepfake.preprocessing.crops import read_image, to_square
from tests.datasets import face_bgr, lively_network, write_picture, write_video_folder
from tests.tools.base_weights.test_base_weights import real_faces
from tests.videos import mtimes

explain = importlib.import_module("03b_explain")
tool = importlib.import_module("tools.base_weights.measure_explanations")
SCRIPT = REPOSITORY_DIR / "03b_explain.py"
RECORD = {"backbone": "B0", "input_size": 32, "faces": "faces"}


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    """EfficientNetB0 as 03 leaves it. Treat it as read-only."""
    path = tmp_path_factory.mktemp("weights") / "best_model.h5"
    save_model(lively_network(), path, RECORD)
    return path


@pytest.fixture(scope="module")
def loaded(weights_path):
    return load_model(weights_path)


@pytest.fixture(autouse=True)
def built_once(monkeypatch, weights_path, loaded):
    """Building the network takes seconds."""
    real = weights_module.load_model
    monkeypatch.setattr(weights_module, "load_model", lambda path: loaded if path == weights_path else real(path))


@pytest.fixture
def data_dir(tmp_path, loaded):
    """Two videos of four faces and one without, and their predictions by the network."""
    lines = []
    for video_id, label in (("a_real", REAL), ("b_fake", FAKE)):
        folder = write_video_folder(tmp_path / "train_sample_videos", video_id, label, faces=4)
        paths = sorted((folder / "faces").glob("*.png"))
        for frame, (path, score) in enumerate(
            zip(paths, score_faces(KerasScorer(loaded[0]), paths, 32, "test"), strict=True)
        ):
            face = {
                "video_id": video_id,
                "file": path.name,
                "frame": frame,
                "person": 0,
                "label": label,
                "score": score,
            }
            lines.append({**dict.fromkeys(FIELDS), **face})
    lines.append({**dict.fromkeys(FIELDS), "video_id": "c_empty", "reason": "no face"})
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    return tmp_path


def run(data_dir, weights_path, *arguments):
    return explain.main(["--data-dir", str(data_dir), "--weights", str(weights_path), *map(str, arguments)])


def stopped(capsys, *arguments):
    """Run main; assert status 2 and one line, and return it."""
    with pytest.raises(SystemExit) as caught:
        explain.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(lines) == 1
    return lines[0]


def lines_of(data_dir):
    return [json.loads(line) for line in (data_dir / "cnn_preds_values.json").read_text().splitlines()]


def change_lines(data_dir, change):
    lines = lines_of(data_dir)
    for line in lines:
        change(line)
    write_predictions(data_dir / "cnn_preds_values.json", lines)


def record_of(data_dir, video_id):
    return json.loads((data_dir / "train_sample_videos" / video_id / "explained" / "explained.json").read_text())


@pytest.mark.slow
def test_a_blend_in_one_half_of_the_face_lights_up_that_half(sample_dir, tmp_path):
    """The side is the toss of a coin for each blend, so that a map which knows nothing is right half of the time."""
    videos_dir = tmp_path / "videos"
    videos_dir.mkdir()
    for path in sample_dir.glob("actor_*_real.mp4"):
        (videos_dir / path.name).symlink_to(path)
    record = read_model_record(BASE_WEIGHTS)
    part = load_part(real_faces(videos_dir, tmp_path), record["input_size"], None)
    assert len(part.labels) >= 40
    rng = np.random.default_rng(3)
    planted = [tool.plant(face, marks, rng) for face, marks in zip(part.faces_rgb, part.landmarks, strict=True)]
    explainer = grad_cam.find_explainer(BASE_WEIGHTS, record["input_size"])
    found, _ = tool.measure(explainer, np.stack([x for x, _ in planted]), [x for _, x in planted])
    assert binomtest(int(found.sum()), len(found), 0.5, alternative="greater").pvalue < 1e-4, found.mean()


def test_a_blend_is_planted_in_one_half_only():
    face = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 3)
    marks = np.array([[45.0, 50], [83, 50], [64, 70], [48, 90], [80, 90]])
    sides = []
    for seed in range(8):
        planted, inside = tool.plant(face, marks, np.random.default_rng(seed))
        real = cv2.absdiff(planted, face).astype(float).mean(axis=2)
        sides.append(bool(inside[64, 10]))
        assert inside[64, 10] != inside[64, 117] and inside.mean() == pytest.approx(0.5, abs=0.02)
        assert real[inside].sum() > 0
    assert set(sides) == {True, False}


@pytest.mark.parametrize(("layer", "cells"), [(grad_cam.LAST_LAYER, 1), (grad_cam.FINER_LAYER, 2)])
def test_maps_are_the_gradient_times_activation_of_the_whole_network(loaded, layer, cells):
    """Computed here through the whole network from its score, without cutting it in two."""
    import tensorflow as tf

    model, keras = loaded[0], load_keras()[0]
    faces = np.stack([to_square(face_bgr(label, number), 32) for label in (REAL, FAKE) for number in (1, 2)])
    network = backbone_of(model)
    both = keras.Model(network.inputs, [network.get_layer(layer).output, network.output])
    with tf.GradientTape() as tape:
        activation, features = both(model.get_layer("normalised")(faces), training=False)
        for dense in model.layers[3:]:
            features = dense(features, training=False)
        loss = -tf.math.log(features / (1 - features))
    product = (tape.gradient(loss, activation) * activation).numpy().sum(axis=-1)
    heat, scores = grad_cam.build_explainer(model, layer)(faces)
    assert heat.shape == (4, cells, cells) and heat.max() > 0
    np.testing.assert_allclose(heat, np.maximum(product, 0), atol=1e-4 * np.abs(product).max())
    np.testing.assert_allclose(scores, model(faces, training=False)[:, 0], atol=1e-5)


def test_small_faces_get_smaller_cells_in_other_backbones_too():
    assert [grad_cam.layer_for(px) for px in (128, 192, 224)] == [grad_cam.FINER_LAYER, *[grad_cam.LAST_LAYER] * 2]
    network = load_keras()[1].EfficientNetB4(weights=None, include_top=False, input_shape=(64, 64, 3))
    assert network.get_layer(grad_cam.FINER_LAYER).output.shape[1:3] == (4, 4)
    assert network.get_layer(grad_cam.LAST_LAYER).output.shape[1:3] == (2, 2)


def test_overlay_colours_the_hot_place_and_leaves_the_rest_grey():
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8), (100, 120))
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert (explain.draw_overlay(picture, np.zeros((8, 8))) == grey).all()
    assert (explain.draw_overlay(picture, np.full((8, 8), 0.9 * explain.VISIBLE)) == grey).all()
    share = np.zeros((8, 8), np.float32)
    share[5:7, 1:3] = 1
    overlay = explain.draw_overlay(picture, share)
    assert overlay.shape == picture.shape and overlay.dtype == np.uint8
    assert (overlay[:45] == grey[:45]).all() and (overlay[:, 60:] == grey[:, 60:]).all()
    blue, green, red = overlay[90, 25].astype(int)  # yellow: the lightest of viridis
    assert min(green, red) > blue + 50


def test_full_colour_means_the_same_for_any_grid_and_calibration():
    coarse, fine = np.full((2, 2), 2.0), np.full((4, 4), 0.5)  # 8 logits in all
    assert explain.colour_share(coarse, 1.0)[0, 0] == explain.colour_share(fine, 1.0)[0, 0] == 8 / explain.FULL_COLOUR
    assert explain.colour_share(coarse, 0.5)[0, 0] == 4 / explain.FULL_COLOUR
    assert explain.colour_share(100 * coarse, 1.0).max() == 1


def test_a_very_certain_network_still_shows_where():
    """Where everything is above full colour, colours are shares of the strongest place: no face is all one colour."""
    heat = np.array([[100.0, 40.0], [60.0, 0.0]])
    assert explain.colour_share(heat, 1.0).tolist() == [[1.0, 0.4], [0.6, 0.0]]
    weak = heat * explain.FULL_COLOUR / 800  # the strongest at half of full colour
    assert explain.colour_share(weak, 1.0).tolist() == [[0.5, 0.2], [0.3, 0.0]]


def test_the_most_suspicious_faces_get_overlays(data_dir, weights_path, capsys):
    assert run(data_dir, weights_path, "--faces-per-video", 2) == 0
    for video_id in ("a_real", "b_fake"):
        folder = data_dir / "train_sample_videos" / video_id
        record = record_of(data_dir, video_id)
        lines = sorted((x for x in lines_of(data_dir) if x["video_id"] == video_id), key=lambda line: line["score"])
        assert [face["file"] for face in record["faces"]] == [line["file"] for line in lines[:2]]
        assert [face["score"] for face in record["faces"]] == [line["score"] for line in lines[:2]]
        assert {path.name for path in (folder / "explained").iterdir()} == {
            "explained.json",
            *(line["file"] for line in lines[:2]),
        }
        for face in record["faces"]:
            crop, overlay = (read_image(folder / kind / face["file"]) for kind in ("faces", "explained"))
            assert crop.shape == overlay.shape and (crop != overlay).any()
        assert record["how_to_read"] == explain.HOW_TO_READ and record["model_digest"]
    assert not (data_dir / "train_sample_videos" / "c_empty").exists()
    assert "03b: 2 videos, 4 faces explained, 0 videos were complete, 0 failed" in capsys.readouterr().err


def test_overlays_do_not_depend_on_what_else_is_in_the_batch(data_dir, weights_path, monkeypatch):
    assert run(data_dir, weights_path) == 0
    before = {path: path.read_bytes() for path in data_dir.rglob("explained/*.png")}
    monkeypatch.setattr(explain, "BATCH", 2)  # fewer than a video's faces
    assert run(data_dir, weights_path, "--force") == 0
    after = {path: path.read_bytes() for path in data_dir.rglob("explained/*.png")}
    assert len(before) == 6 and before.keys() == after.keys()
    for path in before:
        pair = [cv2.imdecode(np.frombuffer(x[path], np.uint8), 1).astype(int) for x in (before, after)]
        assert np.abs(pair[0] - pair[1]).mean() < 0.5


def test_rerun_does_only_what_has_changed(data_dir, weights_path, capsys):
    videos_dir = data_dir / "train_sample_videos"
    assert run(data_dir, weights_path) == 0
    before = mtimes(videos_dir)
    assert run(data_dir, weights_path) == 0
    assert mtimes(videos_dir) == before
    assert "0 faces explained, 2 videos were complete" in capsys.readouterr().err

    def raise_a_little(line):
        line["score"] = line["score"] + 1e-3 if line["video_id"] == "b_fake" else line["score"]

    change_lines(data_dir, raise_a_little)
    assert run(data_dir, weights_path) == 0
    assert "3 faces explained, 1 videos were complete" in capsys.readouterr().err
    next((videos_dir / "a_real" / "explained").glob("*.png")).unlink()
    assert run(data_dir, weights_path) == 0
    assert "3 faces explained, 1 videos were complete" in capsys.readouterr().err
    faces_json = videos_dir / "a_real" / "faces" / "faces.json"
    faces_json.write_text(faces_json.read_text() + "\n")  # found again
    assert run(data_dir, weights_path) == 0
    assert "3 faces explained, 1 videos were complete" in capsys.readouterr().err
    assert run(data_dir, weights_path, "--faces-per-video", 1) == 0
    assert "2 faces explained, 0 videos were complete" in capsys.readouterr().err
    assert len(list((videos_dir / "a_real" / "explained").glob("*.png"))) == 1
    assert run(data_dir, weights_path, "--faces-per-video", 1, "--force", "--limit", 1) == 0
    assert "1 videos, 1 faces explained, 0 videos were complete" in capsys.readouterr().err


def test_scores_of_other_weights_are_refused_and_the_others_go_on(data_dir, weights_path, capsys):
    def shift(line):
        if line["video_id"] == "a_real":
            line["score"] += 0.1 if line["score"] < 0.5 else -0.1

    change_lines(data_dir, shift)
    assert run(data_dir, weights_path) == 1
    printed = capsys.readouterr().err
    assert "a_real" in printed and "in the predictions" in printed and "03a_load_model.py" in printed
    assert not (data_dir / "train_sample_videos" / "a_real" / "explained").exists()
    assert record_of(data_dir, "b_fake")["faces"]


def test_bad_inputs_cost_their_video_only(data_dir, weights_path, capsys):
    videos_dir = data_dir / "train_sample_videos"
    for path in (videos_dir / "a_real" / "faces").glob("*.png"):
        path.write_bytes(b"no picture")
    assert run(data_dir, weights_path) == 1
    assert "is not readable" in capsys.readouterr().err
    assert record_of(data_dir, "b_fake")["faces"] and not (videos_dir / "a_real" / "explained").exists()


def test_a_folder_of_the_user_is_never_replaced(data_dir, weights_path, capsys):
    own = data_dir / "train_sample_videos" / "a_real" / "explained"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    assert run(data_dir, weights_path) == 1
    assert "of your own" in capsys.readouterr().err
    assert [path.name for path in own.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "change", [{"file": "../../x.png"}, {"video_id": ".."}, {"score": "high"}, {"score": float("nan")}]
)
def test_names_that_leave_their_folder_and_broken_lines_cost_their_line_only(data_dir, weights_path, capsys, change):
    change_lines(data_dir, lambda line: line.update(change) if line["file"] == "a_real-000-00.png" else None)
    assert run(data_dir, weights_path) == 1
    printed = capsys.readouterr().err
    assert "cnn_preds_values.json: 1 lines are no predictions" in printed and "2 videos, 6 faces explained" in printed
    assert "a_real-000-00.png" not in [face["file"] for face in record_of(data_dir, "a_real")["faces"]]
    (data_dir / "cnn_preds_values.json").write_bytes(b"{")
    message = stopped(capsys, "--data-dir", data_dir, "--weights", weights_path)
    assert "cnn_preds_values.json holds no predictions" in message


def test_a_name_may_hold_what_unicode_calls_a_line_s_end(data_dir, weights_path):
    """JSON leaves U+2028 and U+0085 as they are; `splitlines` cuts there."""
    name = "a\u2028b\x85c"
    (data_dir / "train_sample_videos" / "a_real").rename(data_dir / "train_sample_videos" / name)
    change_lines(data_dir, lambda line: line.update(video_id=name) if line["video_id"] == "a_real" else None)
    assert run(data_dir, weights_path) == 0
    assert len(record_of(data_dir, name)["faces"]) == 3


def test_an_overlay_that_cannot_be_encoded_costs_its_video(data_dir, weights_path, capsys, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: (False, np.zeros(0, np.uint8)))
    assert run(data_dir, weights_path) == 1
    assert "cannot be written as PNG" in capsys.readouterr().err
    assert not list(data_dir.rglob("explained"))


def test_an_interrupted_run_is_one_line(data_dir, weights_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "explain_jobs", interrupt)
    with pytest.raises(SystemExit) as caught:
        run(data_dir, weights_path)
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted; run it again\n"


def test_halves_of_self_blended_pairs_are_no_files(data_dir, weights_path):
    change_lines(data_dir, lambda line: line.update(self_blended="blend") if line["video_id"] == "b_fake" else None)
    assert run(data_dir, weights_path) == 0
    assert not (data_dir / "train_sample_videos" / "b_fake" / "explained").exists()


def test_marked_faces_are_explained_where_the_network_saw_them(data_dir, weights_path, loaded, monkeypatch):
    record = {**loaded[1], "faces": "marked_faces"}
    monkeypatch.setattr(record_module, "read_model_record", lambda path: record)
    for path in list(data_dir.rglob("faces/*.png")):
        write_picture(path.parent.parent / "marked_faces" / path.name, read_image(path))
        write_json(path.parent.parent / "marked_faces" / "marked_faces.json", {"made_from": {}})
        path.unlink()
    assert run(data_dir, weights_path) == 0
    assert len(list(data_dir.rglob("explained/*.png"))) == 6


def test_missing_inputs_are_named(tmp_path, data_dir, weights_path, capsys):
    assert "03_train_cnn.py or 03a_load_model.py" in stopped(capsys, "--data-dir", tmp_path / "none")
    assert "best_model.h5 does not exist" in stopped(capsys, "--data-dir", data_dir)
    assert "does not exist" in stopped(capsys, "--data-dir", data_dir, "--weights", tmp_path / "x.h5")


def test_frames_elsewhere_and_missing_frames(data_dir, weights_path, capsys):
    (data_dir / "train_sample_videos").rename(data_dir / "frames")
    assert run(data_dir, weights_path) == 1
    assert "--frames-dir" in capsys.readouterr().err
    assert run(data_dir, weights_path, "--frames-dir", data_dir / "frames") == 0
    assert len(list(data_dir.rglob("explained/*.png"))) == 6


def test_help_is_instant_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "HiResCAM" in done.stdout and "--faces-per-video" in done.stdout


def test_squares_are_what_the_predictions_were_made_of(data_dir, loaded):
    """The crops go the same way to the network as in 03a, so that the scores agree."""
    line = lines_of(data_dir)[0]
    crop = read_image(data_dir / "train_sample_videos" / line["video_id"] / "faces" / line["file"])
    _, scores = grad_cam.build_explainer(loaded[0], grad_cam.FINER_LAYER)(to_square(crop, 32)[None])
    assert scores[0] == pytest.approx(line["score"], abs=1e-5)
