"""Scores per face: their order, what cannot be read, and the file that hands them on."""

import importlib
import json

import cv2
import numpy as np
import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.dataset.table import read_split
from deepfake.evaluation import scoring
from deepfake.evaluation.calibration import calibrate
from deepfake.evaluation.predictions import (
    FIELDS,
    cannot_judge_line,
    prediction_line,
    read_predictions,
    self_blended_row,
    write_predictions,
)
from deepfake.evaluation.scoring import score_faces
from tests.trees import write_pairs


class RedMean:
    """Stands for a network: its score is the mean red of a face, 0 to 1."""

    def score(self, faces_rgb):
        return faces_rgb[..., 0].mean(axis=(1, 2)) / 255


def write_faces(folder, number):
    """Write `number` faces of rising redness; return their paths."""
    paths = [folder / f"{index}.png" for index in range(number)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((9, 7, 3), (0, 0, 10 * index), np.uint8))
    return paths


@pytest.mark.parametrize("size", [1, 3, 4, 512])
def test_scores_keep_their_order_and_what_is_unreadable_has_none(tmp_path, monkeypatch, size):
    monkeypatch.setattr(scoring, "BATCH_PIXELS", size * 16 * 16)
    paths = write_faces(tmp_path, 8)
    paths[2].write_bytes(b"not a picture")
    paths[5].unlink()
    scores = score_faces(RedMean(), paths, 16, "03a")
    assert scores[2] is None and scores[5] is None
    expected = [10 * index / 255 for index in (0, 1, 3, 4, 6, 7)]
    assert [score for score in scores if score is not None] == pytest.approx(expected, abs=1e-6)
    assert all(type(score) is float for score in scores if score is not None)


def test_a_batch_is_bounded_in_pixels(tmp_path, monkeypatch):
    """However large the faces: 64 of 600 px are 70 MB, and the next batch lies ready. One face always fits."""
    shapes = []

    class Noting(RedMean):
        def score(self, faces_rgb):
            shapes.append(faces_rgb.shape)
            return super().score(faces_rgb)

    paths = write_faces(tmp_path, 25)
    scores = score_faces(Noting(), paths, 600, "03a")
    assert None not in scores and len(shapes) == 3
    assert all(count * height * width <= scoring.BATCH_PIXELS for count, height, width, _ in shapes)
    monkeypatch.setattr(scoring, "BATCH_PIXELS", 10)
    assert score_faces(Noting(), paths[:2], 16, "03a") == pytest.approx(scores[:2], abs=1e-6)


def test_scores_are_calibrated_and_what_is_unreadable_still_has_none(tmp_path):
    paths = write_faces(tmp_path, 8)
    paths[3].write_bytes(b"not a picture")
    parameters = {"a": 0.5, "b": 1.0}
    plain, calibrated = score_faces(RedMean(), paths, 16, "03a"), score_faces(RedMean(), paths, 16, "03a", parameters)
    assert plain[3] is None and calibrated[3] is None
    readable = [index for index in range(8) if index != 3]
    expected = calibrate([plain[index] for index in readable], parameters)
    assert [calibrated[index] for index in readable] == pytest.approx(expected)
    assert all(type(calibrated[index]) is float for index in readable)
    assert all(calibrated[index] > plain[index] + 0.1 for index in readable[1:]), "black stays black"


def test_no_faces_have_no_scores():
    assert score_faces(RedMean(), [], 16, "03a") == []


def test_lines_have_the_documented_fields():
    assert FIELDS == (
        "video_id",
        "filename",
        "group",
        "split",
        "frame",
        "frame_s",
        "person",
        "file",
        "confidence",
        "face_px",
        "label",
        "score",
        "frame_px",
        "video_frames",
        "brightness",
        "sharpness",
        "weights",
    )
    row = {"video_id": "x", "filename": "x.mp4", "group": "g", "split": "test", "label": 1, "path": "not handed on"}
    line = prediction_line({**row, "frame": 3}, 0.25)
    assert tuple(line) == FIELDS and line["score"] == 0.25 and line["frame"] == 3 and line["face_px"] is None
    line = cannot_judge_line(row, "no face")
    assert tuple(line) == (*FIELDS, "reason") and line["score"] is None and line["reason"] == "no face"
    assert (line["video_id"], line["group"], line["label"], line["person"]) == ("x", "g", 1, None)


def test_a_self_blended_face_is_a_fake_of_a_video_of_its_own_and_its_line_says_so():
    row = {"video_id": "x", "filename": "x.mp4", "group": "g", "split": "val", "label": REAL, "file": "x-000-00.png"}
    row |= {"person": 0, "frame": 3, "path": "not handed on"}
    given = dict(row)
    blended = self_blended_row(row)
    assert row == given, "the row of the real face stays"
    names = {"video_id": "x (self-blended)", "filename": "x.mp4 (self-blended)"}
    assert blended == {**row, **names, "label": FAKE, "self_blended": "blend"}
    line = prediction_line(blended, 0.25)
    assert tuple(line) == (*FIELDS, "self_blended") and line["self_blended"] == "blend"
    assert (line["video_id"], line["label"], line["group"], line["score"]) == ("x (self-blended)", FAKE, "g", 0.25)
    assert prediction_line({**row, "self_blended": "target"}, 0.5)["self_blended"] == "target"
    assert tuple(prediction_line(row, 0.25)) == FIELDS


def test_file_is_one_json_object_per_line(tmp_path):
    lines = [{"video_id": "Zoë\n\u2028x", "score": 0.1}, {"video_id": "b", "score": None}]
    write_predictions(tmp_path / "new" / "p.json", lines)
    text = (tmp_path / "new" / "p.json").read_bytes().decode()
    assert text.endswith("\n") and [json.loads(line) for line in text[:-1].split("\n")] == lines
    write_predictions(tmp_path / "empty.json", [])
    assert (tmp_path / "empty.json").read_bytes() == b""


def test_lines_say_which_weights_made_them(tmp_path):
    lines = [prediction_line({"video_id": "x", "file": "x.png"}, 0.25), cannot_judge_line({"video_id": "y"}, "no face")]
    write_predictions(tmp_path / "p.json", lines, "0123456789abcdef")
    found, _ = read_predictions(tmp_path / "p.json")
    assert found == [{**line, "weights": "01234567"} for line in lines]
    write_predictions(tmp_path / "p.json", lines)
    assert [line["weights"] for line in read_predictions(tmp_path / "p.json")[0]] == [None, None]


def test_read_split_gives_numbers_and_paths(tmp_path):
    write_pairs(tmp_path)
    assert importlib.import_module("02_prepare_dataset").main(["--data-dir", str(tmp_path)]) == 0
    parts = read_split(tmp_path / "split_dataset")
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 64, "val": 8, "test": 8}
    for split, rows in parts.items():
        for row in rows:
            assert row["path"].is_file() and row["path"].name == row["file"] and row["split"] == split
            assert row["label"] == int("real" in row["file"])
            assert type(row["frame"]) is int and type(row["person"]) is int and type(row["label"]) is int
            assert (row["frame_s"], row["face_px"], row["confidence"]) == (0.5 * row["frame"], 4.0, 0.99)


FACE = {"video_id": "x", "file": "x-000-00.png", "frame": 0, "frame_s": 0.0, "person": 0, "label": 1, "score": 0.5}
BROKEN = [
    {"video_id": None},
    {"video_id": ["x"]},
    {"video_id": 1},
    {"video_id": ""},
    {"video_id": ".."},
    {"video_id": "../x"},
    {"file": 7},
    {"file": "../../x.png"},
    {"file": "/x.png"},
    {"file": "a/b.png"},
    {"file": "."},
    {"file": "x\0.png"},
    {"file": "\ud800.png"},
    {"score": 1.1},
    {"score": -0.1},
    {"score": "high"},
    {"score": float("nan")},
    {"score": float("inf")},
    {"group": 7},
    {"split": ["val"]},
    {"weights": [1]},
]


@pytest.mark.parametrize("change", BROKEN)
def test_a_line_with_no_name_or_score_to_use_is_passed_over_and_counted(tmp_path, change):
    lines = [FACE, FACE | change, FACE | {"file": "x-001-00.png"}]
    (tmp_path / "p.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, broken = read_predictions(tmp_path / "p.json")
    assert broken == 1 and [line["file"] for line in found] == ["x-000-00.png", "x-001-00.png"]


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 10**6, b'{"video_id": "\xff"}', b"{}"]
)
def test_what_is_no_object_is_passed_over_and_counted(tmp_path, text):
    (tmp_path / "p.json").write_bytes(b"\n" + text + b"\r\n \n" + json.dumps(FACE).encode())
    found, broken = read_predictions(tmp_path / "p.json")
    assert broken == 1 and found == [dict.fromkeys(FIELDS) | FACE]


def test_lines_are_read_as_they_were_written_and_only_a_line_feed_ends_one(tmp_path):
    rows = [
        {"video_id": "Zoe\u2028\x85x\x0b", "filename": "\x1c.mp4", "file": "a.png"},
        {"video_id": "b"},
        {"video_id": "\udcff"},
    ]
    lines = [prediction_line(row, 0.25) for row in rows] + [cannot_judge_line({"video_id": "c"}, "no face")]
    write_predictions(tmp_path / "p.json", lines)
    assert read_predictions(tmp_path / "p.json") == (lines, 0)
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path / "none.json")
