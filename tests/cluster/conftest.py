"""A small sample and what the pipeline makes of it on this machine alone, which every cluster has to give too."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY_DIR = Path(__file__).resolve().parent.parent.parent
TRAINING = ("--weights", "base", "--input-size", "48", "--epochs", "1", "--batch-size", "16")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


def run_script(name, *options, status=0):
    """Run a script of the pipeline as a user does; return what it says."""
    done = subprocess.run(
        [sys.executable, REPOSITORY_DIR / f"{name}.py", *map(str, options)], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def cluster_videos(tmp_path_factory):
    """Folder of 8 actors (16 clips), one clip without a face, metadata.json and a file that is no video."""
    folder = tmp_path_factory.mktemp("cluster sample") / "my videos"
    sample = importlib.import_module("tools.make_sample_videos")
    assert sample.main(["--out", str(folder), "--actors", "8", "--seed", "3"]) == 0
    (folder / "broken.mp4").write_bytes(b"this is not a video")
    return folder


@pytest.fixture(scope="session")
def local_run(cluster_videos, tmp_path_factory):
    """Data root of the pipeline run without a cluster. Treat it as read-only."""
    data_dir = tmp_path_factory.mktemp("local")
    place = ("--data-dir", data_dir)
    videos = ("--videos-dir", cluster_videos, "--frames-dir", data_dir / "frames")
    run_script("00_convert_video_to_image", *place, *videos, status=1)
    run_script("01a_crop_faces_mtcnn", *place, *videos)
    run_script("02_prepare_dataset", *place, *videos)
    run_script("03_train_cnn", *place, *TRAINING)
    run_script("04_mapreduce_video_preds", *place)
    return data_dir


def frame_files(data_dir):
    """Return {path: content} of all that 00 has written below the frames folder."""
    frames_dir = data_dir / "frames"
    return {
        path.relative_to(frames_dir): path.read_bytes() for path in sorted(frames_dir.glob("*/*")) if path.is_file()
    }


def face_records(data_dir):
    """Return {video_id: faces.json} of all that 01a has found."""
    return {
        path.parent.parent.name: json.loads(path.read_text()) for path in sorted(data_dir.glob("frames/*/faces/*.json"))
    }


def same_frames(data_dir, expected_dir):
    """Check that 00's output is the same byte for byte and that nothing unfinished lies about."""
    found, expected = frame_files(data_dir), frame_files(expected_dir)
    assert expected and sorted(found) == sorted(expected)
    assert [path for path in found if found[path] != expected[path]] == []
    assert [path for path in data_dir.rglob(".*") if path.name != ".failed"] == []


def same_faces(data_dir, expected_dir):
    """Check 01a's output: the same names, boxes within 1 px, confidences within 1e-3, and all crops there."""
    found, expected = face_records(data_dir), face_records(expected_dir)
    assert expected and sorted(found) == sorted(expected)
    for video_id, record in expected.items():
        faces = found[video_id]["faces"]
        assert [face["file"] for face in faces] == [face["file"] for face in record["faces"]]
        assert found[video_id]["reason"] == record["reason"]
        for face, other in zip(faces, record["faces"], strict=True):
            assert face["box_xywh"] == pytest.approx(other["box_xywh"], abs=1)
            assert face["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
            assert (data_dir / "frames" / video_id / "faces" / face["file"]).is_file()


def read_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same_failures(data_dir, expected_dir):
    """Check that failed.csv names the same inputs with the same reasons."""
    rows = read_rows(expected_dir / "failed.csv")
    assert [row["video"] for row in rows] == ["broken.mp4"]
    assert read_rows(data_dir / "failed.csv") == rows


def same_verdicts(data_dir, expected_dir, tolerance):
    """Check that the same videos are judged, with scores within `tolerance`."""
    found, expected = read_rows(data_dir / "video_preds.csv"), read_rows(expected_dir / "video_preds.csv")
    columns = ("video_id", "filename", "label", "faces", "people", "reason")
    assert expected and [[row[c] for c in columns] for row in found] == [[row[c] for c in columns] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert bool(row["score"]) == bool(other["score"])
        if row["score"]:
            assert float(row["score"]) == pytest.approx(float(other["score"]), abs=tolerance)
