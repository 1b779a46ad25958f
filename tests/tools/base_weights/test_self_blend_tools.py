"""The tools around self-blended faces: measuring, drawing, near-duplicates, starting weights, pooled seeds."""

import json
from argparse import Namespace

import cv2
import numpy as np
import pytest

from benchmarks import sample_seeds
from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.model.batches import Part
from deepfake.model.efficientnet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, backbone_of, build_model
from deepfake.model.weights import save_model
from deepfake.preprocessing.crops import to_square
from tests.datasets import face_bgr, lively_network, write_split_dataset
from tools import draw_self_blends
from tools.base_weights import evaluate, find_near_duplicates, import_lite0

SIZE = 32


@pytest.fixture
def data_dir(tmp_path):
    write_split_dataset(tmp_path, classes=(REAL,))
    return tmp_path


# --- evaluate.py


def test_evaluation_measures_every_corruption_and_repeats_itself(data_dir, capsys):
    weights = data_dir / "weights.h5"
    save_model(lively_network(), weights, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    options = ["--data-dir", str(data_dir), "--weights", str(weights), "--draws", "2"]
    for name in ("first.json", "second.json"):
        assert evaluate.main([*options, "--out", str(data_dir / name)]) == 0
    first = json.loads((data_dir / "first.json").read_text())
    assert first == json.loads((data_dir / "second.json").read_text())
    assert (first["faces"], first["groups"], first["draws"]) == (4, 2, 2)
    assert first["results"].keys() == evaluate.CORRUPTIONS.keys()
    aucs = [found["metrics"]["roc_auc"]["value"] for found in first["results"].values()]
    assert len(set(aucs)) > 1  # the corruptions do something
    printed = capsys.readouterr().out
    assert all(name in printed for name in evaluate.CORRUPTIONS)


def test_both_halves_of_a_pair_are_corrupted_alike():
    """Without a blend both halves stay identical, whatever is done to them."""
    faces = np.stack([to_square(face_bgr(REAL, number, 140), 128) for number in range(3)])
    part = Part(np.concatenate([faces, faces]), np.repeat([REAL, FAKE], 3), np.zeros((6, 5, 2)))
    for name, step in evaluate.CORRUPTIONS.items():
        found = evaluate.corrupted(part, step, 5).faces_rgb
        assert np.array_equal(found[:3], found[3:]), name
        assert np.array_equal(found, part.faces_rgb) == (name == "as they are"), name


def test_exchanged_faces_keep_their_surroundings_and_get_the_face_of_somebody_of_another_group():
    """With two groups, everybody gets a face of the other one; Poisson blending keeps its detail and drops its colour."""
    faces = np.stack([to_square(face_bgr(REAL, number, 140), 128)[..., ::-1] for number in range(4)])
    landmarks = np.tile(np.float64([(46, 52), (82, 52), (64, 72), (50, 92), (78, 92)]), (4, 1, 1))
    groups, alike = ["a", "a", "a", "b"], []
    pairs = evaluate.exchanged_pairs(Part(faces, np.repeat(REAL, 4), landmarks), groups, (1, 2))
    assert pairs.labels.tolist() == [REAL] * 4 + [FAKE] * 4 and pairs.faces_rgb.shape == (8, 128, 128, 3)
    assert np.array_equal(pairs.faces_rgb[:4], faces)
    for place, fake in enumerate(pairs.faces_rgb[4:]):
        change = cv2.absdiff(fake, faces[place]).max(axis=2)
        assert change[:8].max() <= 1 and change[48:96, 48:80].mean() > 3
        detail = [
            cv2.Laplacian(picture[48:96, 48:80].astype(np.float32), cv2.CV_32F).ravel() for picture in (fake, *faces)
        ]
        alike.append(int(np.argmax([np.corrcoef(detail[0], other)[0, 1] for other in detail[1:]])))
    assert alike[:3] == [3, 3, 3] and alike[3] in (0, 1, 2)


def test_evaluation_on_exchanged_faces_is_another_one(data_dir, capsys):
    weights = data_dir / "weights.h5"
    save_model(lively_network(), weights, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    options = ["--data-dir", str(data_dir), "--weights", str(weights), "--draws", "1", "--split", "val"]
    found = {}
    for fakes in ("blended", "exchanged"):
        assert evaluate.main([*options, "--fakes", fakes, "--out", str(data_dir / "found.json")]) == 0
        found[fakes] = json.loads((data_dir / "found.json").read_text())
        assert found[fakes]["fakes"] == fakes and f"fakes {fakes}" in capsys.readouterr().out
    assert found["blended"]["results"] != found["exchanged"]["results"]


def test_faces_of_one_group_cannot_be_exchanged():
    part = Part(np.zeros((2, SIZE, SIZE, 3), np.uint8), np.repeat(REAL, 2), np.zeros((2, 5, 2)))
    with pytest.raises(InputError, match="of one group"):
        evaluate.make_pairs(part, ["one", "one"], Namespace(draws=1, seed=1, fakes="exchanged"))


def test_a_quarter_of_the_light_is_a_quarter():
    face_rgb = np.full((64, 64, 3), 200, np.uint8)
    dark = evaluate.CORRUPTIONS["a quarter of the light, with noise"](face_rgb, np.random.default_rng(0))
    assert dark.mean() == pytest.approx(50, abs=0.5) and 2 < dark.std() < 4


def test_limits_are_measured_on_corrupted_pairs(data_dir, capsys, monkeypatch):
    weights = data_dir / "weights.h5"
    save_model(lively_network(), weights, {"backbone": "B0", "input_size": SIZE, "faces": "faces"})
    limits = {"LIGHTS": (0.1,), "NOISE_SIGMAS": (0,), "BLURS_PX": (16,), "SMEARS": (), "SIZES_PX": ()}
    for name, values in limits.items():
        monkeypatch.setattr(evaluate, name, values)
    options = ["--data-dir", str(data_dir), "--weights", str(weights), "--draws", "1", "--limits"]
    assert evaluate.main(options) == 0
    _, header, *rows = capsys.readouterr().out.splitlines()
    found = {row[:36].strip(): row[36:].split() for row in rows}
    assert list(found) == ["as they are", "light 0.1, noise 0", "out of focus, 16 px"] and header.startswith(
        "corruption"
    )
    assert all(0 <= float(auc) <= 1 for auc, *_ in found.values())
    brightness, sharpness = ({name: float(row[place]) for name, row in found.items()} for place in (-4, -2))
    assert brightness["light 0.1, noise 0"] == pytest.approx(0.1 * brightness["as they are"], abs=1)
    assert sharpness["out of focus, 16 px"] < 0.5 * sharpness["as they are"], (sharpness, found)


# --- draw_self_blends.py


def test_the_picture_has_a_column_per_face_and_repeats_itself(data_dir):
    for name, count in (("one.png", 1), ("two.png", 2), ("again.png", 2)):
        options = ["--data-dir", str(data_dir), "--out", str(data_dir / name), "--count", str(count)]
        assert draw_self_blends.main(options) == 0
    one, two = (cv2.imread(str(data_dir / name)) for name in ("one.png", "two.png"))
    assert two.shape[1] > one.shape[1] and two.std() > 20
    assert (data_dir / "two.png").read_bytes() == (data_dir / "again.png").read_bytes()


# --- find_near_duplicates.py


def test_planted_duplicates_are_found_and_strangers_are_not():
    rng = np.random.default_rng(0)
    strangers = [cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (32, 32)) for _ in range(6)]
    copy = cv2.imdecode(cv2.imencode(".jpg", strangers[0], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    mirrored = np.clip(strangers[1][:, ::-1] * 0.8 + 10, 0, 255).astype(np.uint8)
    faces = np.stack([*strangers, copy, mirrored, strangers[2], strangers[3]])
    parts = ["train"] * 6 + ["test", "val", "train", "test"]
    groups = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "d"]  # the last two: the same part, the same group
    pairs = find_near_duplicates.alike(faces, parts, groups, 0.95)
    assert {(first, second) for _, first, second in pairs} == {(0, 6), (1, 7)}
    assert pairs[0][0] >= pairs[1][0] > 0.95


def test_near_duplicates_are_counted(data_dir, capsys):
    assert find_near_duplicates.main(["--data-dir", str(data_dir), "--threshold", "1"]) == 0
    assert capsys.readouterr().out.startswith("0 pairs of 16 faces")
    assert find_near_duplicates.main(["--data-dir", str(data_dir), "--threshold", "0", "--count", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(".png")


# --- import_lite0.py


def lite0_arrays(backbone, rng):
    """Return random arrays of the names and shapes that the package holds."""
    arrays = {}

    def norm(name, layer):
        for suffix, value in zip(import_lite0.NORM, backbone.get_layer(layer).get_weights(), strict=True):
            arrays[name + suffix] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)

    def conv(name, layer, axes):
        shape = backbone.get_layer(layer).get_weights()[0].shape
        arrays[f"{name}.weight"] = rng.normal(size=[shape[axis] for axis in axes]).astype(np.float32)

    conv("_conv_stem", "stem_conv", (3, 2, 0, 1))
    norm("_bn0", "stem_bn")
    for number, block in enumerate(import_lite0.BLOCKS):
        if number:
            conv(f"_blocks.{number}._expand_conv", f"block{block}_expand_conv", (3, 2, 0, 1))
            norm(f"_blocks.{number}._bn0", f"block{block}_expand_bn")
        conv(f"_blocks.{number}._depthwise_conv", f"block{block}_dwconv", (2, 3, 0, 1))
        norm(f"_blocks.{number}._bn1", f"block{block}_bn")
        conv(f"_blocks.{number}._project_conv", f"block{block}_project_conv", (3, 2, 0, 1))
        norm(f"_blocks.{number}._bn2", f"block{block}_project_bn")
    conv("_conv_head", "top_conv", (3, 2, 0, 1))
    norm("_bn1", "top_bn")
    return arrays


def test_lite0_fills_every_kernel_and_opens_the_gates():
    backbone = backbone_of(build_model("B0", SIZE))
    arrays = lite0_arrays(backbone, np.random.default_rng(0))
    import_lite0.fill(backbone, arrays)
    np.testing.assert_array_equal(
        backbone.get_layer("block3a_dwconv").get_weights()[0][1, 4, 7, 0],
        arrays["_blocks.3._depthwise_conv.weight"][7, 0, 1, 4],
    )
    np.testing.assert_array_equal(
        backbone.get_layer("top_conv").get_weights()[0][0, 0, 5, 9], arrays["_conv_head.weight"][9, 5, 0, 0]
    )
    kernels = [layer for layer in backbone.layers if layer.weights and "se_" not in layer.name]
    assert sum(len(layer.weights) for layer in kernels) == len(arrays)
    assert (backbone.get_layer("block5b_se_expand").get_weights()[1] == import_lite0.OPEN_GATE_BIAS).all()


def test_the_stem_sees_what_lite0_saw():
    """Our normalised pixels give, after stem and normalisation, what (level - 127) / 128 gave in Lite0 (away from the border)."""
    backbone = backbone_of(build_model("B0", SIZE))
    arrays = lite0_arrays(backbone, np.random.default_rng(1))
    import_lite0.fill(backbone, arrays)
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 256, (3, 3, 3)).astype(np.float64)
    norm = [arrays["_bn0" + suffix].astype(np.float64) for suffix in import_lite0.NORM]

    def normed(sums, gamma, beta, mean, variance):
        return gamma * (sums - mean) / np.sqrt(variance + 1e-3) + beta

    lite0 = normed(np.einsum("ochw,hwc->o", arrays["_conv_stem.weight"], (levels - 127) / 128), *norm)
    ours = (levels / 255 - IMAGENET_MEAN_RGB) / IMAGENET_STD_RGB
    kernel = backbone.get_layer("stem_conv").get_weights()[0]
    found = normed(np.einsum("hwco,hwc->o", kernel, ours), *backbone.get_layer("stem_bn").get_weights())
    np.testing.assert_allclose(found, lite0, rtol=1e-4, atol=1e-4)


# --- benchmarks/sample_seeds.py


def test_pooled_seeds_keep_actors_apart_and_strengths_compare_with_their_originals():
    rows = []
    for seed in (1, 2):
        for actor in range(12):
            strength = sample_seeds.STRENGTHS[actor % 3]
            for label in (REAL, FAKE):
                score = 0.9 if label == REAL else {"strong": 0.1, "medium": 0.1, "subtle": 0.95}[strength]
                rows.append({"seed": seed, "actor": str(actor), "strength": strength, "label": label, "score": score})
    results = sample_seeds.summarise(rows)
    assert list(results) == ["pooled", "seed 1", "seed 2", "strong fakes", "medium fakes", "subtle fakes"]
    assert results["strong fakes"]["roc_auc"]["value"] == 1 and results["subtle fakes"]["roc_auc"]["value"] == 0
    assert results["pooled"]["roc_auc"]["value"] == pytest.approx(2 / 3)
    assert results["pooled"]["roc_auc"]["interval"]  # 24 actors; the 12 of one seed are too few
    assert results["seed 1"]["roc_auc"]["interval"] is None
