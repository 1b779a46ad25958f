"""Metrics of parts of the videos."""

import numpy as np
import pytest
from sklearn import metrics as reference

from deepfake.evaluation.intervals import BINS, subgroups


def some_rows(number):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(number):
        label = index % 2
        row = {"label": label, "score": float(rng.random() * 0.7 + 0.3 * label), "group": f"g{index // 2}"}
        row |= {"frame_px": float(rng.choice([480, 640, 1279, 1920])), "people": int(rng.integers(1, 6))}
        rows.append({**row, "face_px": 90.0, "brightness": None, "sharpness": 24.9 if label else 25.0})
    return rows


def test_every_bin_has_the_metrics_of_its_videos():
    rows = some_rows(200)
    parts = subgroups(rows, seed=0)
    assert list(parts) == ["resolution", "people", "face_size", "brightness", "sharpness"]
    assert [part["name"] for part in parts["resolution"]] == ["under 640 px", "640 to 1279 px", "1920 px and more"]
    for part, sizes in zip(parts["resolution"], ({480}, {640, 1279}, {1920}), strict=True):
        members = [row for row in rows if row["frame_px"] in sizes]
        labels, scores = (np.array([row[name] for row in members]) for name in ("label", "score"))
        assert (part["videos"], part["real"], part["fake"]) == (len(members), labels.sum(), len(members) - labels.sum())
        assert part["accuracy"]["value"] == pytest.approx(reference.accuracy_score(labels, scores >= 0.5))
        assert part["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(labels, scores))
        assert part["roc_auc"]["interval"][0] < part["roc_auc"]["value"] < part["roc_auc"]["interval"][1]
    assert [part["name"] for part in parts["people"]] == ["1 person", "2 people", "3 people and more"]
    assert [(part["name"], part["videos"]) for part in parts["face_size"]] == [("80 to 159 px", 200)]
    assert parts["brightness"] == [], "nothing is known of it"
    assert [(part["name"], part["real"], part["fake"]) for part in parts["sharpness"]] == [
        ("under 25", 100, 0),
        ("25 to 99", 0, 100),
    ]
    assert "roc_auc" not in parts["sharpness"][0] and parts["sharpness"][0]["accuracy"]["interval"]


def test_few_videos_are_too_few_to_bound():
    part = subgroups(some_rows(6), seed=0)["face_size"][0]
    assert part["roc_auc"]["method"] == "too few to bound" and part["accuracy"]["method"] == "exact binomial"


def test_every_bin_has_a_name():
    for column, bounds, names in BINS.values():
        assert len(names) == len(bounds) + 1 and list(bounds) == sorted(bounds) and column
    assert all(parts == [] for parts in subgroups([], seed=0).values())
