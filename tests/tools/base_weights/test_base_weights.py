"""The weights that ship with the project: there, described, and able to tell blends from faces that they never saw."""

import importlib
import json

import numpy as np
import pytest

from common.constants import REAL, SELF_BLENDED_FACES
from common.paths import REPOSITORY_DIR
from deepfake.evaluation.calibration import calibrate, read_parameters
from deepfake.evaluation.metrics import roc_auc
from deepfake.model.batches import blended_pairs, load_part, plain_batches
from deepfake.model.record import read_model_record, record_path
from deepfake.model.weights import BASE_WEIGHTS, load_model


def test_they_are_small_and_belong_to_their_record():
    assert BASE_WEIGHTS.stat().st_size <= 20e6
    record = read_model_record(BASE_WEIGHTS)  # checks the digest
    assert (record["backbone"], record["input_size"], record["faces"]) == ("B0", 224, "faces")
    assert record["weights_digest"] and record["fakes"] == SELF_BLENDED_FACES
    assert all(read_parameters(record, kind)["a"] > 0 for kind in ("faces", "videos"))


def test_the_record_says_where_they_come_from():
    record = read_model_record(BASE_WEIGHTS)
    provenance = record["provenance"]
    needed = {
        "data",
        "source",
        "people",
        "started_from",
        "settings",
        "seed",
        "images_seen",
        "hours",
        "machine",
        "backend",
    }
    assert needed <= provenance.keys() and provenance["limits"]
    assert provenance["people"] > 900 and provenance["images_seen"] > 0 and provenance["hours"] > 0
    results = record["held_out"]["results"]
    for found in results.values():
        low, high = found["metrics"]["roc_auc"]["interval"]
        assert low < found["metrics"]["roc_auc"]["value"] < high
    text = record_path(BASE_WEIGHTS).read_text(encoding="utf-8")
    assert "/root" not in text and "/home" not in text and "/work" not in text


def auc_text(found):
    return "{:.3f} ({:.3f} to {:.3f})".format(found["roc_auc"]["value"], *found["roc_auc"]["interval"])


def test_the_readmes_give_the_figures_of_the_record():
    record = read_model_record(BASE_WEIGHTS)
    assert record["held_out_exchanged"]["fakes"] == "exchanged"
    tables = (REPOSITORY_DIR / "weights" / "README.md").read_text(encoding="utf-8")
    summary = " ".join((REPOSITORY_DIR / "README.md").read_text(encoding="utf-8").split())
    for kind in ("held_out", "held_out_exchanged"):
        results = record[kind]["results"]
        for corruption, found in results.items():
            metrics = found["metrics"]
            line = f"{auc_text(metrics)} | {metrics['accuracy']['value']:.2f} | {found['mean_real_score']:.2f}"
            assert f"| {corruption} | {line} |" in tables
        worst = min(results, key=lambda name: results[name]["metrics"]["roc_auc"]["value"])
        for corruption in ("as they are", worst):
            metrics = results[corruption]["metrics"]
            assert f"{auc_text(metrics)}, {metrics['accuracy']['value'] * 100:.0f} of 100" in summary, corruption


def real_faces(sample_dir, tmp_path):
    """Run 00 and 01a on the sample; return the rows of the faces in its real clips, as split.csv has them."""
    place = ["--videos-dir", str(sample_dir), "--frames-dir", str(tmp_path / "frames"), "--data-dir", str(tmp_path)]
    for name in ("00_convert_video_to_image", "01a_crop_faces_mtcnn"):
        assert importlib.import_module(name).main(place) == 0
    rows = []
    for path in sorted(tmp_path.glob("frames/*_real/faces/faces.json")):
        for face in json.loads(path.read_text(encoding="utf-8"))["faces"]:
            left, top = face["crop_xywh"][:2]
            landmarks = json.dumps([[x - left, y - top] for x, y in face["landmarks"]])
            rows.append({"path": path.parent / face["file"], "landmarks": landmarks, "label": REAL})
    return rows


@pytest.mark.slow
def test_they_tell_self_blended_faces_of_the_sample_from_real_ones(sample_dir, tmp_path):
    """People they never saw, in video frames; from random weights this is 0.5."""
    model, record = load_model(BASE_WEIGHTS)
    part = load_part(real_faces(sample_dir, tmp_path), record["input_size"], None)
    pairs = [blended_pairs(part, (seed, 99)) for seed in range(2)]
    labels = np.concatenate([found.labels for found in pairs])
    datasets = [plain_batches(found.faces_rgb, found.labels, 64).as_dataset() for found in pairs]
    raw = np.concatenate([model.predict(dataset, verbose=0)[:, 0] for dataset in datasets])
    scores = calibrate(raw, read_parameters(record, "faces"))
    assert roc_auc(labels, scores) > 0.75
    assert scores[labels == REAL].mean() > 0.5
