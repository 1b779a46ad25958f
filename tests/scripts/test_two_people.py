"""A real clip of two people, one of them altered, from the frames to the verdict with the weights that ship with the project."""

import csv
import importlib
import json

import pytest

from deepfake.model.weights import BASE_WEIGHTS
from tools.make_sample_videos import make_actor

pytestmark = pytest.mark.slow
SEED, ACTOR = 1, 59  # strongly altered, with a companion


def run(name, data_dir, *options):
    assert importlib.import_module(name).main(["--data-dir", str(data_dir), *options]) == 0


def read_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_people_one_altered(tmp_path):
    videos_dir = tmp_path / "train_sample_videos"
    videos_dir.mkdir()
    _, facts = make_actor(videos_dir, SEED, ACTOR)
    altered, number = facts["altered_person"], f"actor_{ACTOR:03d}"
    run("00_convert_video_to_image", tmp_path)
    run("01a_crop_faces_mtcnn", tmp_path)
    run("03a_load_model", tmp_path, "--videos-dir", str(videos_dir), "--weights", str(BASE_WEIGHTS))
    lines = [json.loads(line) for line in (tmp_path / "cnn_preds_values.json").read_text().splitlines()]
    assert len(lines) == 44 and all(line["video_frames"] == 11 and line["frame_px"] == 480 for line in lines)
    assert all(line["score"] is not None and line["brightness"] > 40 and line["sharpness"] > 30 for line in lines)
    scores = {}
    for aggregate in ("mean", "lowest-person"):
        run("04_mapreduce_video_preds", tmp_path, "--spark-master", "local[2]", "--aggregate", aggregate)
        rows = {row["video_id"]: row for row in read_table(tmp_path / "video_preds.csv")}
        scores[aggregate] = float(rows[f"{number}_fake"]["score"])
    assert scores["lowest-person"] < 0.25 < scores["mean"], "the companion hides what was done"
    assert (rows[f"{number}_fake"]["verdict"], rows[f"{number}_real"]["verdict"]) == ("FAKE", "REAL")
    people = {(row["video_id"], int(row["person"])): row for row in read_table(tmp_path / "people_preds.csv")}
    assert people[f"{number}_fake", altered]["verdict"] == "FAKE"
    assert people[f"{number}_fake", 1 - altered]["verdict"] == "REAL"
    text = (tmp_path / "mapreduce_res.txt").read_text()
    named = next(line for line in text.splitlines() if line.startswith(f"{number}_fake.mp4"))
    assert f"least real: person {altered} (" in named
